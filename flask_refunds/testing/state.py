"""A sandbox's objects as JSON, to keep them in a file and continue later, or in another process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, cast

from .account import Account
from .cards import CARDS
from .delayed_transitions import DelayedTransition
from .events import StoredEvent
from .http_server import Response
from .idempotency import IdempotencyKeys, KeyRecord
from .objects import JsonObject, copy_json

_OBJECTS = (
    "_intents",
    "_charges",
    "_refunds",
    "_releases_of",
    "_disputes_of",
    "_transfers",
    "_application_fees",
    "_sessions",
)
_SETS = ("hidden", "_stored_releases", "_unshown_intents")
_BEFORE_NEW_EVENTS = 2**40
"""Events are ordered by a number that counts up in each process. This makes loaded ones come first."""


def dump_account(account: Account) -> JsonObject:
    """Return an account with all its objects, and the accounts that are connected to it."""
    return {
        "objects": {name: copy_json(getattr(account, name)) for name in _OBJECTS},
        "sets": {name: sorted(getattr(account, name)) for name in _SETS},
        "origins": {refund: list(origin) for refund, origin in account._refund_origins.items()},
        "cards": {payment: card.number for payment, card in account._cards.items()},
        "events": [asdict(event) for event in account.events],
        "delayed": [asdict(transition) for transition in account._delayed_transitions],
        "connected": {
            account_id: dump_account(cast(Account, each))
            for account_id, each in account.connected_accounts.items()
        },
    }


def load_account(account: Account, state: JsonObject) -> None:
    """Give a new account the objects of another one; its connected accounts must exist."""
    vars(account).update(copy_json(state["objects"]))
    vars(account).update({name: set(values) for name, values in state["sets"].items()})
    account._refund_origins = {
        refund: (charge, amount) for refund, (charge, amount) in state["origins"].items()
    }
    account._cards = {payment: CARDS[number] for payment, number in state["cards"].items()}
    for refund in account._refunds.values():
        account._refunds_of.setdefault(refund["payment_intent"], []).append(refund)
    for each in (StoredEvent(**event) for event in state["events"]):
        account.events.by_id[each.id] = replace(each, sequence=each.sequence - _BEFORE_NEW_EVENTS)
    for transition in (DelayedTransition(**each) for each in state["delayed"]):
        account._delayed_transitions.add(
            transition.at,
            transition.refund_id,
            from_status=transition.from_status,
            to_status=transition.to_status,
        )
    for account_id, connected in state["connected"].items():
        load_account(cast(Account, account.connected_accounts[account_id]), connected)


def dump_keys(keys: IdempotencyKeys) -> list[JsonObject]:
    """Return the idempotency keys that have a response."""
    return [_dump_key(record) for record in keys if record.response is not None]


def load_keys(keys: IdempotencyKeys, state: Iterable[JsonObject]) -> None:
    """Add idempotency keys with their responses."""
    for each in state:
        answer = each["response"]
        headers = tuple((name, value) for name, value in answer["headers"])
        response = Response(**{**answer, "body": answer["body"].encode(), "headers": headers})
        keys.add(KeyRecord(**{**each, "response": response}))


def _dump_key(record: KeyRecord) -> JsonObject:
    dumped: dict[str, Any] = asdict(record)
    dumped["response"]["body"] = dumped["response"]["body"].decode()
    return dumped

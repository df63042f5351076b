"""The state that the actors of a schedule share: the ledger, the purchases, Stripe, and the sent signals.

Each part is an immutable value. A step creates a new value, and equal values are stored once, so that a whole
state is a tuple of small integers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from unittest import mock

import bson
import mongomock
import stripe
from bson import CodecOptions, ObjectId
from pymongo.errors import AutoReconnect, DuplicateKeyError

from flask_refunds.testing import objects, signatures
from flask_refunds.testing.account import FAILED_OR_CANCELED, Account
from flask_refunds.testing.api import Api, RateLimit, store_response
from flask_refunds.testing.cards import find_card
from flask_refunds.testing.http_server import Request
from flask_refunds.testing.idempotency import IdempotencyKeys

START = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)
CART = (ObjectId("65f424a80000000000000001"), ObjectId("65f424a80000000000000002"))
FIELD = "stripePaymentIntentId"
KEY = "sk_test_schedules"
AMOUNT = 1999

LEDGER, PURCHASES, STRIPE, SIGNALS, EVENTS = range(5)
PLACES = ("ledger", "purchases", "stripe", "signals", "events")

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Step:
    """One operation of an actor: a MongoDB operation, a Stripe request, or the call of a receiver."""

    place: int
    name: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{PLACES[self.place]}.{self.name}{self.arguments}"


@dataclass(frozen=True)
class Value:
    """An immutable copy of a document, a list of them or a number."""

    encoded: bytes

    @classmethod
    def of(cls, value: Any) -> Value:
        """Encode a value."""
        return cls(bson.encode({"value": value}))

    def replay(self) -> Any:
        """Return a new copy."""
        return bson.decode(self.encoded, _CODEC)["value"]


@dataclass(frozen=True)
class StripeResponse:
    """A response of Stripe."""

    status: int
    body: bytes

    def replay(self) -> Any:
        """Return the response as a transport returns it to stripe-python."""
        return self.body.decode(), self.status, {"Request-Id": "req_1"}


@dataclass(frozen=True)
class Raised:
    """An exception as the result of a step."""

    kind: type[Exception]

    def replay(self) -> Any:
        """Raise a new exception."""
        raise self.kind("in this schedule")


Result = Value | StripeResponse | Raised

RATE_LIMITED = StripeResponse(
    429,
    json.dumps({"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "x"}}).encode(),
)
NO_ANSWER = Raised(stripe.APIConnectionError)
NO_DATABASE = Raised(AutoReconnect)


class Interned:
    """Values that are stored once and identified by a number."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._values: list[Any] = []

    def number(self, value: Any, key: Hashable = None) -> int:
        """Return the number of a value.

        :param key: identifies the value if it isn't hashable itself.
        """
        found = self._numbers.setdefault(value if key is None else key, len(self._values))
        if found == len(self._values):
            self._values.append(value)
        return found

    def __getitem__(self, number: int) -> Any:
        return self._values[number]


@dataclass
class StripeState:
    """An account and its idempotency keys. Don't change it, but a copy."""

    account: Account
    keys: IdempotencyKeys

    def copy(self) -> StripeState:
        """Return a deep copy."""
        account, keys = copy.deepcopy((self.account, self.keys))
        return StripeState(account, keys)

    def key(self) -> str:
        """Return a key that is equal if no request can distinguish two states."""
        responses = {key: record.response for (_, key), record in self.keys._records.items()}
        events = [event.encoded for event in self.account.events]
        return repr((self.account.refunds_of(None), responses, events))

    def request(self, method: str, path: str, query: str, body: str, key: str | None) -> StripeResponse:
        """Execute a request."""
        limit = RateLimit(None, _stripe_now)
        api = Api(lambda livemode: self.account, keys=self.keys, limit=limit, now=_stripe_now)
        headers = {"authorization": f"Bearer {KEY}"} | ({"idempotency-key": key} if key else {})
        accepted = api.accept(Request(method, path, query, headers, body.encode()), "req_1")
        response = accepted.key_record.response if accepted.key_record else None
        if response is None:
            response = api.run(accepted, accepted.call)
            store_response(accepted, response)
        return StripeResponse(response.status, response.body)

    def refund_events(self) -> list[dict[str, Any]]:
        """Return the events about refunds, oldest first, and only one of several about the same change."""
        types = ("refund.created", "refund.updated", "refund.failed")
        events = [event.load() for event in self.account.events if event.type in types]
        return [event for event in events if not _repeats_failure(event)]

    def active_refunds(self) -> list[dict[str, Any]]:
        """Return the refunds that the library requested and that didn't fail."""
        created_here = [it for it in self.account.refunds_of(None) if it["metadata"].get("refund_id")]
        return [it for it in created_here if it["status"] not in FAILED_OR_CANCELED]


def _repeats_failure(event: Mapping[str, Any]) -> bool:
    return bool(event["type"] == "refund.updated" and event["data"]["object"]["status"] == "failed")


@dataclass
class _StripeClock:
    now: float = START.timestamp()


_stripe_clock = _StripeClock()


def _stripe_now() -> float:
    return _stripe_clock.now


class SharedState:
    """All values of every part so far, and the effect of each step on them.

    :param card: the card of the payment.
    :param limit: whether Stripe rejects refunds that exceed the payment.
    :param cart: the number of purchases of the payment.
    """

    def __init__(self, *, card: str, limit: bool, cart: int) -> None:
        self.parts = tuple(Interned() for _ in PLACES)
        self.steps = Interned()
        self.results = Interned()
        self._effects: dict[tuple[int, int, int], tuple[int, int]] = {}
        account = Account(now=_stripe_now, enforce_amount_limit=limit)
        intent = account.create_payment_intent(
            amount=AMOUNT, currency="usd", card=find_card(card), confirm=True
        )
        self.payment: str = intent["id"]
        purchases = [{"_id": each, FIELD: self.payment, "status": "completed"} for each in CART[:cart]]
        self.start = (
            self.parts[LEDGER].number(()),
            self.parts[PURCHASES].number(_encode(purchases)),
            self._number_stripe(StripeState(account, IdempotencyKeys(_stripe_now))),
            self.parts[SIGNALS].number(frozenset()),
        )

    def step(self, step: Step) -> int:
        """Return the number of a step."""
        return self.steps.number(step, (step.place, step.name, repr(step.arguments)))

    def take(self, step: int, part: int, seconds: int) -> tuple[int, int]:
        """Take a step.

        :param part: the current part of the state that the step uses.
        :param seconds: the time since the start.
        :return: the result, and the new part.
        """
        effect = self._effects.get((step, part, seconds))
        if effect is None:
            effect = self._effects[step, part, seconds] = self._take(self.steps[step], part, seconds)
        return effect

    def change_stripe(self, part: int, seconds: int, change: Callable[[Account], Any]) -> int:
        """Change the account at Stripe without a request."""
        with _at(seconds):
            changed = self.parts[STRIPE][part].copy()
            _count_ids_from(len(changed.account.events.by_id))
            change(changed.account)
            return self._number_stripe(changed)

    def records(self, part: int) -> list[dict[str, Any]]:
        """Return the refund records, as stored."""
        return _decode(self.parts[LEDGER][part])

    def purchases(self, part: int) -> list[dict[str, Any]]:
        """Return the purchases, as stored."""
        return _decode(self.parts[PURCHASES][part])

    def stripe(self, part: int) -> StripeState:
        """Return Stripe's state. Don't change it."""
        state: StripeState = self.parts[STRIPE][part]
        return state

    def _take(self, step: Step, part: int, seconds: int) -> tuple[int, int]:
        value = self.parts[step.place][part]
        if step.place == SIGNALS:
            signals = self.parts[SIGNALS].number(value | {step.arguments})
            return self.results.number(Value.of(None)), signals
        if step.place == STRIPE:
            return self._request_stripe(step, part, seconds)
        result, documents = _run_in_mongo(PLACES[step.place], step, value)
        return self.results.number(result), self.parts[step.place].number(documents)

    def _request_stripe(self, step: Step, part: int, seconds: int) -> tuple[int, int]:
        state = self.stripe(part)
        if step.name == "POST":
            state = state.copy()
        with _at(seconds):
            _count_ids_from(len(state.account.events.by_id))
            response = state.request(step.name, *step.arguments)
        after = self._number_stripe(state) if step.name == "POST" else part
        return self.results.number(response), after

    def _number_stripe(self, state: StripeState) -> int:
        return self.parts[STRIPE].number(state, state.key())


def _run_in_mongo(name: str, step: Step, documents: Sequence[bytes]) -> tuple[Result, tuple[bytes, ...]]:
    collection: Any = mongomock.MongoClient(tz_aware=True).shop[name]
    if documents:
        collection.insert_many(_decode(documents))
    try:
        result: Result = Value.of(_OPERATIONS[step.name](collection, *step.arguments))
    except DuplicateKeyError:
        result = Raised(DuplicateKeyError)
    return result, _encode(collection.find().sort("_id", 1))


def _insert(collection: Any, document: Mapping[str, Any]) -> None:
    collection.insert_one(copy.deepcopy(document))


def _find(collection: Any, criteria: Any, projection: Any, order: Any) -> list[Any]:
    found = collection.find(criteria, projection)
    return list(found.sort(order) if order else found)


_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "aggregate": lambda collection, pipeline: list(collection.aggregate(pipeline)),
    "find": _find,
    "find_one": lambda collection, criteria: collection.find_one(criteria),
    "find_one_and_update": lambda collection, criteria, update, returned: collection.find_one_and_update(
        criteria, update, return_document=returned
    ),
    "insert_one": _insert,
    "update_many": lambda collection, criteria, update: (
        collection.update_many(criteria, update).modified_count
    ),
    "update_one": lambda collection, criteria, update: collection.update_one(criteria, update).modified_count,
}

WRITES = frozenset({"find_one_and_update", "insert_one", "update_many", "update_one"})


def _encode(documents: Any) -> tuple[bytes, ...]:
    return tuple(bson.encode(document) for document in documents)


def _decode(documents: Sequence[bytes]) -> list[dict[str, Any]]:
    return [bson.decode(document, _CODEC) for document in documents]


@dataclass
class _Ids:
    """Generates deterministic IDs."""

    last: int = 0
    tokens: SimpleNamespace = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = SimpleNamespace(token_hex=self._next)

    def _next(self, _: int) -> str:
        self.last += 1
        return f"{self.last:04}"


_ids = _Ids()


def _count_ids_from(events: int) -> None:
    # Every change creates an event, and fewer than a hundred IDs.
    _ids.last = 100 * events


@contextmanager
def _at(seconds: int) -> Iterator[None]:
    _stripe_clock.now = (START + timedelta(seconds=seconds)).timestamp()
    yield


@contextmanager
def deterministic_ids() -> Iterator[None]:
    """Make the sandbox's generated IDs depend on its state alone."""
    with ExitStack() as patches:
        for module in (objects, signatures):
            patches.enter_context(mock.patch.object(module, "secrets", _ids.tokens))
        _count_ids_from(0)
        yield

"""The indexes that our queries need, on our collection and on the host's: which, why, and which are there.

Nothing builds one by itself: ``flask refunds init-db`` does. Without them everything works, and more slowly
with every purchase.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..config import Settings
from .connection import Database, durable, operation

Keys = Sequence[tuple[str, int]]

_MATTERS = ("sparse", "partialFilterExpression", "hidden")
"""Options that decide whether MongoDB can use an index for a query of ours."""
_WITH_BULK = {"partialFilterExpression": {"bulk": {"$exists": True}}}


@dataclass(frozen=True, slots=True)
class Index:
    """One index that should be there.

    :param why: what would be slow without it.
    :param options: as MongoDB knows them.
    """

    collection: str
    keys: Keys
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called where we build it."""
        return "flask_refunds_" + "_".join(f"{key}_{direction}" for key, direction in self.keys)

    def __str__(self) -> str:
        keys = ", ".join(f"{key}: {direction}" for key, direction in self.keys)
        return f"{self.collection} {{{keys}}}"


class State(str, Enum):
    """Whether an index is there."""

    THERE = "there"
    MISSING = "missing"
    TAKEN = "taken"
    """Its name is another index's, which is left alone."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found of one index.

    :param serving: the name of the index that serves, ours or the host's; or that has our name.
    :param beside: names of indexes on the same fields that do not serve, because they leave out documents or
        compare otherwise.
    """

    index: Index
    state: State
    serving: str | None
    beside: Sequence[str]


def wanted_indexes(settings: Settings) -> list[Index]:
    """Every index that should be there, the ledger's first."""
    ledger, purchases = settings.refunds_collection, settings.refunds_purchases_collection
    users, user_key = settings.refunds_users_collection, settings.refunds_user_key
    wanted = [
        Index(ledger, [("createdAt", -1), ("_id", -1)], "lists of refunds"),
        Index(ledger, [("status", 1), ("createdAt", -1), ("_id", -1)], "unfinished refunds, lists by status"),
        Index(ledger, [("announced", 1), ("updatedAt", 1)], "what is left unsaid", _only("announced")),
        Index(ledger, [("checked", 1), ("updatedAt", 1)], "what is left unchecked", _only("checked")),
        Index(ledger, [("attention.since", 1)], "refunds that need a person", {"sparse": True}),
        Index(ledger, [("settledAt", 1)], "figures"),
        Index(ledger, [("bulk", 1), ("createdAt", -1), ("_id", -1)], "refunds of a bulk run", _WITH_BULK),
        Index(purchases, [(settings.refunds_payment_intent_field, 1)], "every refund, event and status"),
        Index(purchases, [("status", 1), ("_id", -1)], "lists of purchases by status"),
        Index(purchases, [("user", 1), ("_id", -1)], "lists of purchases by user"),
        Index(purchases, [("content", 1), ("_id", -1)], "bulk runs by content"),
        Index(users, [("email", 1)], "lists of purchases by e-mail address"),
    ]
    if user_key not in ("_id", "email") and settings.refunds_user_loader is None:
        wanted.append(Index(users, [(user_key, 1)], "every call of a user"))
    return wanted


def survey(database: Database, wanted: Iterable[Index]) -> list[Survey]:
    """Look which indexes are there.

    :raises DatabaseUnavailable: 500.
    """
    there: dict[str, list[Mapping[str, Any]]] = {}
    found = []
    for index in wanted:
        if index.collection not in there:
            with operation():
                there[index.collection] = list(durable(database, index.collection).list_indexes())
        found.append(_compare(index, there[index.collection]))
    return found


def build(database: Database, index: Index) -> None:
    """Build an index, however long it takes. Reads and writes go on meanwhile (MongoDB 4.2 or later).

    :raises DatabaseUnavailable: 500; also where MongoDB refuses it.
    """
    with operation(None):
        durable(database, index.collection).create_index(index.keys, name=index.name, **index.options)


def _only(flag: str) -> dict[str, Any]:
    """The options of an index that holds only the rows whose flag is down, which are few."""
    return {"partialFilterExpression": {flag: False}}


def _compare(index: Index, there: Sequence[Mapping[str, Any]]) -> Survey:
    same_fields = [each for each in there if _covers(list(each["key"].items()), index.keys)]
    serving = next((each["name"] for each in same_fields if _serves(each, index)), None)
    beside = [each["name"] for each in same_fields if not _serves(each, index)]
    if serving is not None:
        return Survey(index, State.THERE, serving, beside)
    if any(each["name"] == index.name for each in there):
        return Survey(index, State.TAKEN, index.name, beside)
    return Survey(index, State.MISSING, None, beside)


def _covers(keys: Keys, wanted: Keys) -> bool:
    """Whether an index's keys begin with those wanted, forwards or backwards."""
    begin = list(keys[: len(wanted)])
    return begin == list(wanted) or begin == [(key, -direction) for key, direction in wanted]


def _serves(there: Mapping[str, Any], index: Index) -> bool:
    if any(there.get(option) != index.options.get(option) for option in _MATTERS):
        return False
    # Ours has the collection's own collation, and so have our queries.
    return "collation" not in there or there["name"] == index.name

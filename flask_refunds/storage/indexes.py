"""The indexes that the library's queries need, on the ledger and on the app's collections.

Only ``flask refunds init-db`` builds them. Everything works without them, and becomes slower as data grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pymongo.errors import OperationFailure

from ..config import Settings
from ..errors import DatabaseUnavailable
from .connection import Database, database_timeout, majority_collection
from .customers import IGNORING_CASE
from .refund_documents import UNSETTLED

Keys = Sequence[tuple[str, int]]

_NOT_ON_A_VIEW = 166
"""The error code of a command that views don't support."""
_RELEVANT_OPTIONS = ("sparse", "partialFilterExpression", "hidden")
"""Options that decide whether MongoDB can use an index for these queries."""
_UNSETTLED = {"partialFilterExpression": {"status": {"$in": UNSETTLED}}}
_WITH_BULK_RUN = {"partialFilterExpression": {"bulkRun": {"$exists": True}}}
_NEWEST = [("createdAt", -1), ("_id", -1)]


@dataclass(frozen=True, slots=True)
class Index:
    """A required index.

    :param purpose: what is slow without it.
    :param options: as in MongoDB's ``createIndexes``.
    """

    collection: str
    keys: Keys
    purpose: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the index when this library builds it."""
        suffix = "_ignoring_case" if "collation" in self.options else ""
        return "flask_refunds_" + "_".join(f"{key}_{direction}" for key, direction in self.keys) + suffix

    def __str__(self) -> str:
        keys = ", ".join(f"{key}: {direction}" for key, direction in self.keys)
        return f"{self.collection} {{{keys}}}"


class State(str, Enum):
    """Whether a required index exists."""

    PRESENT = "present"
    MISSING = "missing"
    NAME_CONFLICT = "name_conflict"
    """Another index has its name, and is left unchanged."""
    VIEW = "view"
    """The collection is a view, which uses the indexes of the collection below it."""


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The state of one required index.

    :param served_by: the name of the index that serves its queries, or that has its name.
    :param similar: names of indexes on the same fields that can't serve, because they omit documents or use
        another collation.
    :param creates_collection: whether the collection doesn't exist, so that building the index creates it.
    """

    index: Index
    state: State
    served_by: str | None
    similar: Sequence[str]
    creates_collection: bool = False


def required_indexes(settings: Settings) -> list[Index]:
    """Return every required index, the ledger's first."""
    ledger, purchases = settings.refunds_collection, settings.refunds_purchases_collection
    users, user_id = settings.refunds_users_collection, settings.user_id_field
    email = settings.refunds_user_fields["email"]
    fields = settings.purchase_fields
    newest = fields.newest_first
    required = [
        Index(ledger, _NEWEST, "lists of refunds"),
        Index(ledger, [("status", 1), *_NEWEST], "lists by status"),
        Index(ledger, [("reason", 1), *_NEWEST], "lists by reason", _with_text("reason")),
        Index(ledger, [("requestedBy", 1), *_NEWEST], "lists by requester", _with_text("requestedBy")),
        Index(ledger, [("status", 1), ("lookedAt", 1)], "unfinished refunds", _UNSETTLED),
        Index(ledger, [("signalsSent", 1), ("lookedAt", 1)], "signals to be sent", _only("signalsSent")),
        Index(
            ledger,
            [("purchasesVerified", 1), ("lookedAt", 1)],
            "purchases to be verified",
            _only("purchasesVerified"),
        ),
        Index(ledger, [("review.since", 1)], "refunds that need review", {"sparse": True}),
        Index(ledger, [("settledAt", 1)], "refund reports"),
        Index(ledger, [("changedAt", 1)], "stored days of reports"),
        Index(ledger, [("duplicateOf", 1)], "counts of refunds", {"sparse": True}),
        Index(ledger, [("bulkRun", 1), *_NEWEST], "refunds of a bulk run", _WITH_BULK_RUN),
        Index(f"{ledger}.references", [("payment", 1)], "payments of charges and Checkout sessions"),
        Index(purchases, [(fields.payment, 1)], "every refund, event and status request"),
        Index(purchases, [(fields.status, 1), *newest], "lists of purchases by status"),
        Index(purchases, [(fields.user, 1), *newest], "lists of purchases by user"),
        Index(purchases, [(fields.content, 1), *newest], "bulk runs by content"),
        Index(purchases, newest, "lists of purchases"),
        Index(users, [(email, 1)], "lists by e-mail address", {"collation": dict(IGNORING_CASE)}),
    ]
    if fields.stripe_account is not None:
        purpose = "events and sweeps of connected accounts"
        required += [
            Index(ledger, [("stripeAccount", 1)], purpose, {"sparse": True}),
            Index(purchases, [(fields.stripe_account, 1)], purpose),
        ]
    if settings.refunds_user_loader is None:
        required.append(Index(users, [(user_id, 1)], "every request of a user"))
    return [each for each in required if each.keys[0][0] != "_id"]  # MongoDB builds that one


def inspect_indexes(database: Database, required: Iterable[Index]) -> list[IndexStatus]:
    """Return the state of each required index.

    :raises DatabaseUnavailable: 500.
    """
    required = list(required)
    names = {index.collection for index in required}
    existing = {name: _list_indexes(database, name) for name in names}
    return [_compare(index, existing[index.collection]) for index in required]


def _list_indexes(database: Database, name: str) -> list[Mapping[str, Any]] | None:
    """Return a collection's indexes, or ``None`` for a view."""
    try:
        with database_timeout():
            return list(majority_collection(database, name).list_indexes())
    except DatabaseUnavailable as error:
        if isinstance(error.__cause__, OperationFailure) and error.__cause__.code == _NOT_ON_A_VIEW:
            return None
        raise


def build(database: Database, index: Index) -> None:
    """Build an index, without a time limit. Reads and writes continue meanwhile.

    :raises DatabaseUnavailable: 500; also if MongoDB rejects it.
    """
    with database_timeout(None):
        majority_collection(database, index.collection).create_index(
            index.keys, name=index.name, **index.options
        )


def _only(flag: str) -> dict[str, Any]:
    """Return the options of an index of the few records whose flag is false."""
    return {"partialFilterExpression": {flag: False}}


def _with_text(field: str) -> dict[str, Any]:
    """Return the options of an index of the records in which a field has a value."""
    return {"partialFilterExpression": {field: {"$gt": ""}}}


def _compare(index: Index, existing: Sequence[Mapping[str, Any]] | None) -> IndexStatus:
    if existing is None:
        return IndexStatus(index, State.VIEW, None, [])
    # The index that MongoDB builds has the collection's own collation, which queries and new indexes get.
    own = next((each.get("collation") for each in existing if dict(each["key"]) == {"_id": 1}), None)
    same_fields = [each for each in existing if _covers(list(each["key"].items()), index.keys)]
    served_by = next((each["name"] for each in same_fields if _serves(each, index, own)), None)
    similar = [each["name"] for each in same_fields if not _serves(each, index, own)]
    if served_by is not None:
        return IndexStatus(index, State.PRESENT, served_by, similar)
    if any(each["name"] == index.name for each in existing):
        return IndexStatus(index, State.NAME_CONFLICT, index.name, similar)
    return IndexStatus(index, State.MISSING, None, similar, creates_collection=not existing)


def _covers(keys: Keys, required: Keys) -> bool:
    """Return whether an index's keys begin with the required ones, in either direction."""
    begin = list(keys[: len(required)])
    return begin == list(required) or begin == [(key, -direction) for key, direction in required]


def _serves(existing: Mapping[str, Any], index: Index, own_collation: Mapping[str, Any] | None) -> bool:
    # Drivers and schemas also store an option that is off, as sparse: false.
    if any((existing.get(option) or None) != index.options.get(option) for option in _RELEVANT_OPTIONS):
        return False
    collation = index.options.get("collation")
    if collation is not None:
        return dict(collation).items() <= dict(existing.get("collation", {})).items()
    return existing.get("collation") == own_collation

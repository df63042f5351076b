"""Finding purchases and refunds for people: filtered, newest first, a page at a time.

A cursor names the last item that was seen, so a page costs the same wherever it lies; a page's number costs
what lies before it. Refunds are found by :attr:`Refund.created_at`, purchases by the time in their ``_id``:
what else a host stores is its own affair, and ``_id`` is always there and always indexed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from bson import ObjectId

from ..models import Reason, Refund, RefundStatus
from .connection import REPORT_SECONDS, Collection, operation, stored_ids
from .purchase_ids import PurchaseIds
from .refund_documents import ASKS_FOR_A_PERSON, log_span, read_row

STREAM_BATCH = 500
ID_BATCH = 5000

_T = TypeVar("_T")
_C = TypeVar("_C")
_NEWEST = [("createdAt", -1), ("_id", -1)]


@dataclass(frozen=True, slots=True)
class PurchaseFilter:
    """Which purchases are wanted; what is ``None`` does not matter.

    :param status: the host's word.
    :param user: a user's id, or an e-mail address.
    :param content: a content's id.
    :param since: made at this time or later.
    :param until: made before this time.
    """

    status: str | None = None
    user: str | None = None
    content: str | None = None
    payment_intent: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefundFilter:
    """Which refunds are wanted; what is ``None`` does not matter.

    :param attention: whether it asks for a person.
    :param bulk: the name of the bulk run that asked for it.
    :param since: asked for, or learnt of, at this time or later.
    :param until: before this time.
    """

    status: RefundStatus | None = None
    attention: bool | None = None
    reason: Reason | None = None
    requested_by: str | None = None
    bulk: str | None = None
    payment_intent: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefundCursor:
    """The refund after which a page begins."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Page(Generic[_T, _C]):
    """Some of what was found.

    :param total: how many were found in all.
    :param next: the cursor of the page that follows; ``None`` after the last.
    """

    items: Sequence[_T]
    total: int
    next: _C | None


PurchasePage = Page[Mapping[str, Any], ObjectId]
RefundPage = Page[Refund, RefundCursor]


class PurchaseSearch:
    """Finds the host's purchases.

    :param payment_intent_field: the host's field that holds the payment intent's id.
    """

    def __init__(
        self, purchases: Collection, users: Collection, contents: Collection, payment_intent_field: str
    ) -> None:
        self._purchases = purchases
        self._users = users
        self._contents = contents
        self._field = payment_intent_field

    def page(
        self, wanted: PurchaseFilter, limit: int, *, after: ObjectId | None = None, skip: int = 0
    ) -> PurchasePage:
        """The newest purchases, with their users and contents in place of the ids.

        :param limit: how many at most; at least 1.
        :param after: the cursor of the page before.
        :param skip: how many to pass over, at a cost that grows with them.
        :raises DatabaseUnavailable: 500.
        """
        query = self._query(wanted)
        span = _both(query, {"_id": {"$lt": after}}) if after is not None else query
        with operation(REPORT_SECONDS):
            total = self._count(query)
            found = list(self._purchases.find(span).sort("_id", -1).skip(skip).limit(limit + 1))
        items, more = found[:limit], len(found) > limit
        return Page(self._populate(items), total, items[-1]["_id"] if more else None)

    def find_ids(self, wanted: PurchaseFilter) -> PurchaseIds:
        """The ids of all that are wanted, however many there are; ObjectIds only.

        :raises DatabaseUnavailable: 500.
        """
        return PurchaseIds(self._stream_ids(wanted))

    def _stream_ids(self, wanted: PurchaseFilter) -> Iterator[ObjectId]:
        query: dict[str, Any] = {"$and": [self._query(wanted), {"_id": {"$type": "objectId"}}]}
        span = query
        while True:
            with operation(REPORT_SECONDS):
                found = list(self._purchases.find(span, {"_id": 1}).sort("_id", -1).limit(ID_BATCH))
            if not found:
                return
            yield from (each["_id"] for each in found)
            span = _both(query, {"_id": {"$lt": found[-1]["_id"]}})

    def find_own(self, payment_intent: str, owner: Sequence[Any]) -> Mapping[str, Any] | None:
        """The first purchase that this payment paid for this user, or ``None``.

        :param owner: the forms in which a purchase may hold the user's id.
        :raises DatabaseUnavailable: 500.
        """
        with operation():
            own = {self._field: payment_intent, "user": {"$in": list(owner)}}
            return self._purchases.find_one(own, sort=[("_id", 1)])

    def _query(self, wanted: PurchaseFilter) -> dict[str, Any]:
        query: dict[str, Any] = {}
        if wanted.status is not None:
            query["status"] = wanted.status
        if wanted.payment_intent is not None:
            query[self._field] = wanted.payment_intent
        if wanted.user is not None:
            query["user"] = {"$in": self._users_named(wanted.user)}
        if wanted.content is not None:
            query["content"] = {"$in": stored_ids(wanted.content)}
        made = _span(wanted.since, wanted.until, ObjectId.from_datetime)
        return query | ({"_id": made} if made else {})

    def _users_named(self, name: str) -> list[Any]:
        if "@" not in name:
            return stored_ids(name)
        with operation():
            found = list(self._users.find({"email": name}, {"_id": 1}))
        return [form for user in found for form in stored_ids(user["_id"])]

    def _count(self, query: Mapping[str, Any]) -> int:
        # Counting every purchase of a large shop takes longer than reading a page of them.
        return self._purchases.count_documents(query) if query else self._purchases.estimated_document_count()

    def _populate(self, purchases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        users = _find_all(self._users, (each.get("user") for each in purchases), ("name", "email"))
        contents = _find_all(self._contents, (each.get("content") for each in purchases), ("title", "type"))
        return [
            {
                **each,
                "user": users.get(str(each.get("user"))),
                "content": contents.get(str(each.get("content"))),
            }
            for each in purchases
        ]


class RefundSearch:
    """Finds refunds in the ledger."""

    def __init__(self, rows: Collection) -> None:
        self._rows = rows

    def page(self, wanted: RefundFilter, limit: int, *, after: RefundCursor | None = None) -> RefundPage:
        """The newest refunds.

        :param limit: how many at most; at least 1.
        :param after: the cursor of the page before.
        :raises DatabaseUnavailable: 500.
        """
        query = _refund_query(wanted)
        with operation(REPORT_SECONDS):
            total = self._rows.count_documents(query)
        found = self._find(query, limit + 1, after)
        items, more = found[:limit], len(found) > limit
        return Page(items, total, _cursor(items[-1]) if more else None)

    def stream(self, wanted: RefundFilter) -> Iterator[Refund]:
        """Every refund that is wanted, newest first, however many there are.

        :raises DatabaseUnavailable: 500; while it is iterated.
        """
        query, after = _refund_query(wanted), None
        while found := self._find(query, STREAM_BATCH, after):
            yield from found
            after = _cursor(found[-1])

    def _find(self, query: Mapping[str, Any], limit: int, after: RefundCursor | None) -> list[Refund]:
        span = _both(query, _older_than(after)) if after else query
        with operation(REPORT_SECONDS):
            return [read_row(row) for row in self._rows.find(span).sort(_NEWEST).limit(limit)]


def _find_all(
    collection: Collection, ids: Iterable[Any], fields: Sequence[str]
) -> dict[str, dict[str, Any] | None]:
    """The documents with these ids, by their id as text, in one query; what is gone has its id alone."""
    wanted = {str(each): each for each in ids if each is not None}
    nothing = dict.fromkeys(fields)
    found: dict[str, dict[str, Any] | None] = {key: {"_id": each, **nothing} for key, each in wanted.items()}
    if not wanted:
        return found
    stored = [form for each in wanted.values() for form in stored_ids(each)]
    with operation():
        for document in collection.find({"_id": {"$in": stored}}, dict.fromkeys(fields, 1)):
            found[str(document["_id"])] = {"_id": document["_id"], **nothing, **document}
    return found


def _refund_query(wanted: RefundFilter) -> dict[str, Any]:
    query: dict[str, Any] = {
        "status": wanted.status.value if wanted.status else None,
        "reason": wanted.reason,
        "requestedBy": wanted.requested_by,
        "bulk": wanted.bulk,
        "_id": log_span(wanted.payment_intent) if wanted.payment_intent is not None else None,
        "createdAt": _span(wanted.since, wanted.until, lambda moment: moment),
    }
    query = {field: value for field, value in query.items() if value is not None}
    if wanted.attention is not None:
        query |= ASKS_FOR_A_PERSON if wanted.attention else {"attention": None}
    return query


def _span(since: datetime | None, until: datetime | None, bound: Any) -> dict[str, Any] | None:
    span = {}
    if since is not None:
        span["$gte"] = bound(since)
    if until is not None:
        span["$lt"] = bound(until)
    return span or None


def _older_than(cursor: RefundCursor) -> dict[str, Any]:
    # The first condition bounds the index; the second tells apart what was written in one millisecond.
    same = [{"createdAt": {"$lt": cursor.created_at}}, {"_id": {"$lt": cursor.id}}]
    return {"$and": [{"createdAt": {"$lte": cursor.created_at}}, {"$or": same}]}


def _both(query: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {"$and": [query, more]} if query else dict(more)


def _cursor(refund: Refund) -> RefundCursor:
    return RefundCursor(refund.created_at, refund.id)

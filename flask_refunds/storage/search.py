"""Search purchases and refunds: filtered, newest first, page by page.

A cursor contains the last item of a page, so every page costs the same; the cost of a page number grows with
it. Refunds are sorted by :attr:`Refund.created_at`, purchases by their ``_id``, which begins with its time if
it is an ObjectId. Other types follow, in MongoDB's order of types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

from bson import ObjectId

from ..models import Reason, Refund, RefundStatus, id_text
from .connection import REPORT_SECONDS, Collection, database_timeout
from .purchase_ids import PurchaseIds, sort_key
from .references import References
from .refund_documents import DUPLICATE, NEEDS_REVIEW, NOT_DUPLICATE, payment_range, read_records
from .stored_ids import encodable_id, stored_ids

STREAM_BATCH = 500
ID_BATCH = 5000

_T = TypeVar("_T")
_C = TypeVar("_C")
_NEWEST = [("createdAt", -1), ("_id", -1)]
_FIRST, _LAST = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (1970, 2200))


@dataclass(frozen=True, slots=True)
class PurchaseFilter:
    """Which purchases to find; ``None`` matches all.

    :param status: the purchase's status.
    :param payment_intent: the payment's ID, or a known reference to it.
    :param user: a user's ID or e-mail address.
    :param content: a content's ID.
    :param since: created at this time or later.
    :param until: created before this time.
    """

    status: str | None = None
    user: str | None = None
    content: str | None = None
    payment_intent: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefundFilter:
    """Which refunds to find; ``None`` matches all.

    :param needs_review: whether a review is open.
    :param bulk_run: the name of the bulk run that requested it.
    :param payment_intent: the payment's ID, or a known reference to it.
    :param since: requested, or found at Stripe, at this time or later.
    :param until: before this time.
    """

    status: RefundStatus | None = None
    needs_review: bool | None = None
    reason: Reason | None = None
    requested_by: str | None = None
    bulk_run: str | None = None
    payment_intent: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefundCursor:
    """The refund after which a page starts."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Page(Generic[_T, _C]):
    """One page of a search.

    :param total: the number of matches in all pages.
    :param next: the cursor of the next page; ``None`` on the last.
    """

    items: Sequence[_T]
    total: int
    next: _C | None


PurchasePage = Page[Mapping[str, Any], Any]
RefundPage = Page[Refund, RefundCursor]


class PurchaseSearch:
    """Finds the app's purchases.

    :param references: what is known about charges and Checkout sessions.
    :param payment_field: the field that contains the payment's ID.
    """

    def __init__(
        self,
        purchases: Collection,
        users: Collection,
        contents: Collection,
        references: References,
        payment_field: str,
    ) -> None:
        self._purchases = purchases
        self._users = users
        self._contents = contents
        self._references = references
        self._field = payment_field

    def page(self, filters: PurchaseFilter, limit: int, *, after: Any = None, skip: int = 0) -> PurchasePage:
        """Return the newest purchases, with users and contents in place of their IDs.

        :param limit: the maximum number; at least 1.
        :param after: the last ID of the previous page.
        :param skip: how many to skip, at a cost that grows with the number.
        :raises DatabaseUnavailable: 500.
        """
        query = self._query(filters)
        span = query if after is None else _both(query, self._below(after))
        with database_timeout(REPORT_SECONDS):
            total = self._count(query)
            found = list(self._purchases.find(span).sort("_id", -1).skip(skip).limit(limit + 1))
        items, more = found[:limit], len(found) > limit
        return Page(self._populate(items), total, items[-1]["_id"] if more else None)

    def find_ids(self, filters: PurchaseFilter) -> PurchaseIds:
        """Return the IDs of all matches, however many.

        :raises InvalidRequest: 400; an ID is a document or a decimal.
        :raises ValueError: the filter matches everything.
        :raises DatabaseUnavailable: 500.
        """
        if filters == PurchaseFilter():
            raise ValueError("An empty filter would select every purchase.")
        return PurchaseIds(self._stream_ids(filters))

    def _stream_ids(self, filters: PurchaseFilter) -> Iterator[Any]:
        query = span = self._query(filters)
        while True:
            with database_timeout(REPORT_SECONDS):
                found = list(self._purchases.find(span, {"_id": 1}).sort("_id", -1).limit(ID_BATCH))
            if not found:
                return
            yield from (each["_id"] for each in found)
            span = _both(query, self._below(found[-1]["_id"]))

    def _below(self, purchase_id: Any) -> dict[str, Any]:
        """Match what is sorted after an ID. Unlike in a query, ``$lt`` in ``$expr`` compares across types."""
        return {"$expr": {"$lt": ["$_id", {"$literal": encodable_id(purchase_id, self._purchases)}]}}

    def find_own(self, payment_intent: str, owner: Sequence[Any]) -> Mapping[str, Any] | None:
        """Return this user's first purchase of this payment, or ``None``.

        :param payment_intent: the payment's ID, or a known reference to it.
        :param owner: the forms in which a purchase may store the user's ID.
        :raises DatabaseUnavailable: 500.
        """
        own = {self._field: payment_intent, "user": {"$in": list(owner)}}
        with database_timeout():
            found = self._purchases.find_one(own, sort=[("_id", 1)])
            if found is not None:
                return found
            others = {"$in": self._references.around(payment_intent)}
            return self._purchases.find_one({**own, self._field: others}, sort=[("_id", 1)])

    def _query(self, filters: PurchaseFilter) -> dict[str, Any]:
        query: dict[str, Any] = {}
        if filters.status is not None:
            query["status"] = filters.status
        if filters.payment_intent is not None:
            query[self._field] = {"$in": self._references.around(filters.payment_intent)}
        if filters.user is not None:
            query["user"] = {"$in": self._users_named(filters.user)}
        if filters.content is not None:
            query["content"] = {"$in": stored_ids(filters.content, self._purchases)}
        made = _span(filters.since, filters.until, ObjectId.from_datetime)
        return query | ({"_id": made} if made else {})

    def _users_named(self, name: str) -> list[Any]:
        forms = stored_ids(name, self._users)
        if "@" in name:
            with database_timeout():
                found = list(self._users.find({"email": name}, {"_id": 1}))
            forms += [form for user in found for form in stored_ids(user["_id"], self._users)]
        return forms

    def _count(self, query: Mapping[str, Any]) -> int:
        # Counting every purchase of a large app takes longer than reading a page.
        return self._purchases.count_documents(query) if query else self._purchases.estimated_document_count()

    def _populate(self, purchases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        users = _find_all(self._users, [each.get("user") for each in purchases], ("name", "email"))
        contents = _find_all(self._contents, [each.get("content") for each in purchases], ("title", "type"))
        found = zip(purchases, users, contents, strict=True)
        return [{**each, "user": user, "content": content} for each, user, content in found]


class RefundSearch:
    """Finds refunds in the ledger."""

    def __init__(self, records: Collection, references: References) -> None:
        self._records = records
        self._references = references

    def page(self, filters: RefundFilter, limit: int, *, after: RefundCursor | None = None) -> RefundPage:
        """Return the newest refunds.

        :param limit: the maximum number; at least 1.
        :param after: the cursor of the previous page.
        :raises DatabaseUnavailable: 500.
        """
        filters = self._with_payment(filters)
        query = _refund_query(filters)
        with database_timeout(REPORT_SECONDS):
            # "Not a duplicate" isn't in any index, so the few duplicates are counted apart.
            total = self._records.count_documents(query)
            if not filters.needs_review:
                total -= self._records.count_documents({**query, **DUPLICATE})
        found = self._find(_shown(filters), limit + 1, after)
        items, more = found[:limit], len(found) > limit
        return Page(list(read_records(items)), total, _cursor(items[-1]) if more else None)

    def stream(self, filters: RefundFilter) -> Iterator[Refund]:
        """Yield every match, newest first, however many.

        :raises DatabaseUnavailable: 500; while it is iterated.
        """
        query = _shown(self._with_payment(filters))
        after: RefundCursor | None = None
        while found := self._find(query, STREAM_BATCH, after):
            yield from read_records(found)
            after = _cursor(found[-1])

    def _with_payment(self, filters: RefundFilter) -> RefundFilter:
        """Return the filter with the payment of the reference that it names."""
        named = filters.payment_intent
        known = self._references.find([named]) if named else {}
        return replace(filters, payment_intent=known[named or ""]) if known else filters

    def _find(self, query: Mapping[str, Any], limit: int, after: RefundCursor | None) -> list[Any]:
        span = _both(query, _older_than(after)) if after else query
        with database_timeout(REPORT_SECONDS):
            return list(self._records.find(span).sort(_NEWEST).limit(limit))


def _find_all(collection: Collection, ids: Sequence[Any], fields: Sequence[str]) -> list[Any]:
    """Return the document of each ID, in one query; missing ones have only the ID.

    A purchase may store an ID as text. If two documents match, the one whose ID has the same type counts.
    """
    wanted = [form for each in ids if each is not None for form in stored_ids(each, collection)]
    found: dict[Any, Mapping[str, Any]] = {}
    if wanted:
        with database_timeout():
            for each in collection.find({"_id": {"$in": wanted}}, dict.fromkeys(fields, 1)):
                found[sort_key(each["_id"])] = found[id_text(each["_id"])] = each

    def populate(each: Any) -> dict[str, Any]:
        document = found.get(sort_key(each)) or found.get(id_text(each), {})
        return {"_id": each, **dict.fromkeys(fields), **document}

    return [None if each is None else populate(each) for each in ids]


def _refund_query(filters: RefundFilter) -> dict[str, Any]:
    query: dict[str, Any] = {
        "status": filters.status.value if filters.status else None,
        "reason": filters.reason,
        "requestedBy": filters.requested_by,
        "bulkRun": filters.bulk_run,
        "_id": payment_range(filters.payment_intent) if filters.payment_intent else {"$type": "string"},
        # Every refund record has a time and a text ID, so that each has one place in the list.
        "createdAt": {"$gte": filters.since or _FIRST, "$lt": filters.until or _LAST},
    }
    query = {field: value for field, value in query.items() if value is not None}
    if filters.needs_review is not None:
        query |= NEEDS_REVIEW if filters.needs_review else {"review": None}
    return query


def _shown(filters: RefundFilter) -> dict[str, Any]:
    """Return the query without duplicates; but a review that one of them had before stays visible."""
    query = _refund_query(filters)
    return query if filters.needs_review else {**query, **NOT_DUPLICATE}


def _span(since: datetime | None, until: datetime | None, bound: Any) -> dict[str, Any] | None:
    span = {}
    if since is not None:
        span["$gte"] = bound(since)
    if until is not None:
        span["$lt"] = bound(until)
    return span or None


def _older_than(cursor: RefundCursor) -> dict[str, Any]:
    # The first condition bounds the index; the second separates refunds of the same millisecond.
    same = [{"createdAt": {"$lt": cursor.created_at}}, {"_id": {"$lt": cursor.id}}]
    return {"$and": [{"createdAt": {"$lte": cursor.created_at}}, {"$or": same}]}


def _both(query: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {"$and": [query, more]} if query else dict(more)


def _cursor(document: Mapping[str, Any]) -> RefundCursor:
    return RefundCursor(document["createdAt"], document["_id"])

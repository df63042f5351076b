"""Search purchases and refunds: filtered, newest first, page by page.

A cursor contains the last item of a page, so every page costs the same; the cost of a page number grows with
it. Refunds are sorted by :attr:`Refund.created_at`. Purchases are sorted by their date, and those without one
follow. Within the same date, and where the app names no field with a date, the ``_id`` decides. An ObjectId
begins with its time. Other types follow, in MongoDB's order of types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Generic, NamedTuple, TypeVar

from bson.datetime_ms import DatetimeMS

from ..models import Reason, Refund, RefundStatus, id_text, is_payment, is_reference
from ..purchase_fields import PurchaseFields, one_of, read_field
from .connection import REPORT_SECONDS, Collection, database_timeout
from .customers import Customers
from .purchase_ids import PurchaseIds, sort_key
from .references import References
from .refund_documents import DUPLICATE, NEEDS_REVIEW, NOT_DUPLICATE, payment_range, read_records
from .stored_ids import encodable_id, stored_ids, stored_words

STREAM_BATCH = 500
ID_BATCH = 5000
MAX_COUNT = 10_000
"""Up to how many matches of a filter are counted."""
MAX_USER_PURCHASES = 1000
"""Of a user with more purchases, the refunds of the newest ones are found."""

_T = TypeVar("_T")
_C = TypeVar("_C")
_NEWEST = [("createdAt", -1), ("_id", -1)]
_YEAR_1, _FIRST, _LAST = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (1, 1970, 2200))
_DATES = (datetime, DatetimeMS)
_Conditions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PurchaseFilter:
    """Which purchases to find; ``None`` matches all.

    :param status: the purchase's status as the app stores it, or its text.
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
    :param user: the ID or e-mail address of the user whose purchases were paid.
    :param since: requested, or found at Stripe, at this time or later.
    :param until: before this time.
    """

    status: RefundStatus | None = None
    needs_review: bool | None = None
    reason: Reason | None = None
    requested_by: str | None = None
    bulk_run: str | None = None
    payment_intent: str | None = None
    user: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PurchaseCursor:
    """The purchase after which a page starts.

    :param created: its date; ``None`` if it has none, or the app names no field with it.
    """

    id: Any
    created: datetime | DatetimeMS | None = None


@dataclass(frozen=True, slots=True)
class FoundPurchase:
    """A purchase as stored, with what is shown of its user and its content.

    :param user: ``_id``, ``name`` and ``email``; a missing user has only an ID.
    :param content: ``_id``, ``title`` and ``type``, likewise.
    """

    document: Mapping[str, Any]
    user: Mapping[str, Any] | None
    content: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RefundCursor:
    """The refund after which a page starts."""

    created_at: datetime
    id: str


class Total(NamedTuple):
    """The number of matches in all pages.

    :param is_lower_bound: whether there are more, which weren't counted.
    """

    number: int
    is_lower_bound: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[_T, _C]):
    """One page of a search.

    :param total: ``None`` on a page that was found by a cursor: the first page has it.
    :param next: the cursor of the next page; ``None`` on the last.
    """

    items: Sequence[_T]
    total: Total | None
    next: _C | None


PurchasePage = Page[FoundPurchase, PurchaseCursor]
RefundPage = Page[Refund, RefundCursor]


class PurchaseSearch:
    """Finds the app's purchases.

    :param fields: the shape of a purchase.
    :param user_fields: the paths of a user's name and e-mail address.
    :param content_fields: the paths of a content's title and type.
    :param references: what is known about charges and Checkout sessions.
    :param customers: finds users by ID or e-mail address.
    """

    def __init__(
        self,
        purchases: Collection,
        users: Collection,
        contents: Collection,
        *,
        fields: PurchaseFields,
        user_fields: Mapping[str, str],
        content_fields: Mapping[str, str],
        references: References,
        customers: Customers,
    ) -> None:
        self._purchases = purchases
        self._users = users
        self._contents = contents
        self._fields = fields
        self._user_fields = {name: user_fields[name] for name in ("name", "email")}
        self._content_fields = content_fields
        self._references = references
        self._customers = customers

    def page(
        self, filters: PurchaseFilter, limit: int, *, after: PurchaseCursor | None = None, skip: int = 0
    ) -> PurchasePage:
        """Return the newest purchases.

        :param limit: the maximum number; at least 1.
        :param after: the cursor of the previous page.
        :param skip: how many to skip, at a cost that grows with the number.
        :raises DatabaseUnavailable: 500.
        """
        query = self._query(filters)
        with database_timeout(REPORT_SECONDS):
            total = None if after else self._count(query)
            found = self._find(query, limit + 1, after=after, skip=skip)
        items, more = found[:limit], len(found) > limit
        return Page(self._populate(items), total, self._cursor(items[-1]) if more else None)

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
        query, after = self._query(filters), None
        shown = {field: 1 for field, _ in self._fields.newest_first}
        while True:
            with database_timeout(REPORT_SECONDS):
                found = self._find(query, ID_BATCH, after=after, shown=shown)
            yield from (each["_id"] for each in found)
            if len(found) < ID_BATCH:
                return
            after = self._cursor(found[-1])

    def _find(
        self,
        query: _Conditions,
        limit: int,
        *,
        after: PurchaseCursor | None,
        skip: int = 0,
        shown: Mapping[str, int] | None = None,
    ) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for part, order in self._parts(after):
            matched = _all_of([*query, *part])
            page = list(self._purchases.find(matched, shown).sort(order).skip(skip).limit(limit - len(found)))
            found += page
            if len(found) == limit:
                break
            # All matches of this part were skipped, unless a page begins with some of them.
            skip = skip - self._purchases.count_documents(matched) if skip and not page else 0
        return found

    def _parts(self, after: PurchaseCursor | None) -> Iterator[tuple[_Conditions, list[tuple[str, int]]]]:
        """Yield the parts of a list that follow a cursor, each with its conditions and its order."""
        created = self._fields.created
        below = [self._below(after.id)] if after else []
        if created is None:
            yield below, self._fields.newest_first
            return
        # $not, because a list of dates is sorted by its latest one, and any of them satisfies $lt.
        if after is None or after.created is not None:
            earlier = [_not_after(created, after.created, below)] if after else []
            yield [{created: {"$gte": _YEAR_1}}, *earlier], self._fields.newest_first
            below = []
        yield [{created: {"$not": {"$gte": _YEAR_1}}}, *below], [("_id", -1)]

    def _cursor(self, purchase: Mapping[str, Any]) -> PurchaseCursor:
        path = self._fields.created
        return PurchaseCursor(purchase["_id"], _date(read_field(purchase, path)) if path else None)

    def _below(self, purchase_id: Any) -> dict[str, Any]:
        """Match what is sorted after an ID. Unlike in a query, ``$lt`` in ``$expr`` compares across types."""
        return {"$expr": {"$lt": ["$_id", {"$literal": encodable_id(purchase_id, self._purchases)}]}}

    def find_all(self, purchase_ids: Sequence[Any]) -> list[FoundPurchase | None]:
        """Return what a list of refunds shows of each of these purchases; ``None`` for missing ones.

        :param purchase_ids: some hundreds at most; ``None`` for no purchase.
        :raises DatabaseUnavailable: 500.
        """
        fields = self._fields
        shown = dict.fromkeys((fields.user, fields.content, fields.amount, fields.currency), 1)
        wanted = [each for each in purchase_ids if each is not None]
        with database_timeout(REPORT_SECONDS):
            documents = list(self._purchases.find({"_id": {"$in": wanted}}, shown)) if wanted else []
        found = {sort_key(each.document["_id"]): each for each in self._populate(documents)}
        return [found.get(sort_key(each)) for each in purchase_ids]

    def payments_of(self, user: str) -> list[str]:
        """Return the payments of a user's newest purchases, at most 1,000.

        :param user: the user's ID or e-mail address.
        :raises DatabaseUnavailable: 500.
        """
        query, path = self._query(PurchaseFilter(user=user)), self._fields.payment
        with database_timeout(REPORT_SECONDS):
            newest = self._purchases.find(_all_of(query), {path: 1}).sort(self._fields.newest_first)
            values = [read_field(each, path) for each in newest.limit(MAX_USER_PURCHASES)]
        held = [each for each in values if isinstance(each, str) and is_reference(each)]
        known = self._references.find([each for each in held if not each.startswith("pi_")])
        payments = dict.fromkeys(known.get(each, each) for each in held)
        return [each for each in payments if is_payment(each)]

    def find_own(self, payment_intent: str, owner: Sequence[Any]) -> Mapping[str, Any] | None:
        """Return this user's first purchase of this payment, or ``None``.

        :param payment_intent: the payment's ID, or a known reference to it.
        :param owner: the forms in which a purchase may store the user's ID.
        :raises DatabaseUnavailable: 500.
        """
        is_own, order = {self._fields.user: {"$in": list(owner)}}, [("_id", 1)]
        with database_timeout():
            found = self._purchases.find_one(
                _all_of([{self._fields.payment: payment_intent}, is_own]), sort=order
            )
            if found is not None:
                return found
            others = {"$in": self._references.around(payment_intent)}
            return self._purchases.find_one(_all_of([{self._fields.payment: others}, is_own]), sort=order)

    def _query(self, filters: PurchaseFilter) -> _Conditions:
        fields = self._fields
        query: list[Mapping[str, Any]] = []
        if filters.status is not None:
            query.append({fields.status: one_of(stored_words(filters.status))})
        if filters.payment_intent is not None:
            query.append({fields.payment: {"$in": self._references.around(filters.payment_intent)}})
        if filters.user is not None:
            query.append({fields.user: {"$in": self._customers.ids_named(filters.user)}})
        if filters.content is not None:
            query.append({fields.content: {"$in": stored_ids(filters.content, self._purchases)}})
        if made := fields.created_in(filters.since, filters.until):
            query.append(made)
        return query

    def _count(self, query: _Conditions) -> Total:
        if not query:
            return Total(self._purchases.estimated_document_count())
        return _count_some(self._purchases, _all_of(query))

    def _populate(self, purchases: Sequence[Mapping[str, Any]]) -> list[FoundPurchase]:
        users, contents = (
            _find_all(collection, [read_field(each, path) for each in purchases], fields)
            for collection, path, fields in (
                (self._users, self._fields.user, self._user_fields),
                (self._contents, self._fields.content, self._content_fields),
            )
        )
        return [FoundPurchase(*each) for each in zip(purchases, users, contents, strict=True)]


class RefundSearch:
    """Finds refunds in the ledger.

    :param payments_of: returns the payments of a user.
    """

    def __init__(
        self, records: Collection, references: References, payments_of: Callable[[str], Sequence[str]]
    ) -> None:
        self._records = records
        self._references = references
        self._payments_of = payments_of

    def page(self, filters: RefundFilter, limit: int, *, after: RefundCursor | None = None) -> RefundPage:
        """Return the newest refunds.

        :param limit: the maximum number; at least 1.
        :param after: the cursor of the previous page.
        :raises DatabaseUnavailable: 500.
        """
        query = self._query(filters)
        total = None if after else self._count(query, filters)
        found = self._find(_shown(query, filters), limit + 1, after)
        items, more = found[:limit], len(found) > limit
        return Page(list(read_records(items)), total, _cursor(items[-1]) if more else None)

    def stream(self, filters: RefundFilter) -> Iterator[Refund]:
        """Yield every match, newest first, however many.

        :raises DatabaseUnavailable: 500; while it is iterated.
        """
        query = _shown(self._query(filters), filters)
        after: RefundCursor | None = None
        while found := self._find(query, STREAM_BATCH, after):
            yield from read_records(found)
            after = _cursor(found[-1])

    def _count(self, query: Mapping[str, Any], filters: RefundFilter) -> Total:
        with database_timeout(REPORT_SECONDS):
            if filters.needs_review:
                return _count_some(self._records, query)
            # The lack of a field isn't in any index, so the few records that have it are counted apart.
            others = [DUPLICATE, NEEDS_REVIEW] if filters.needs_review is False else [DUPLICATE]
            every = {field: value for field, value in query.items() if field != "review"}
            omitted = self._records.count_documents({**every, "$or": others})
            if replace(filters, needs_review=None) == RefundFilter():
                return Total(max(0, self._records.estimated_document_count() - omitted))
            return _count_some(self._records, every, omitted)

    def _query(self, filters: RefundFilter) -> dict[str, Any]:
        """Return the query of a filter, with the payment of the reference, or the user, that it names."""
        named = filters.payment_intent
        known = self._references.find([named]) if named else {}
        query = _refund_query(replace(filters, payment_intent=known[named or ""]) if known else filters)
        if filters.user is not None:
            query["_id"] = {**query["_id"], "$in": self._ids_of(filters.user)}
        return query

    def _ids_of(self, user: str) -> list[str]:
        ranges = [{"_id": payment_range(each)} for each in self._payments_of(user)]
        if not ranges:
            return []
        with database_timeout(REPORT_SECONDS):
            return [each["_id"] for each in self._records.find({"$or": ranges}, {"_id": 1})]

    def _find(self, query: Mapping[str, Any], limit: int, after: RefundCursor | None) -> list[Any]:
        span = {"$and": [query, _older_than(after)]} if after else query
        with database_timeout(REPORT_SECONDS):
            return list(self._records.find(span).sort(_NEWEST).limit(limit))


def _count_some(collection: Collection, query: Mapping[str, Any], omitted: int = 0) -> Total:
    """Count up to :data:`MAX_COUNT` matches, without so many that aren't shown."""
    count = collection.count_documents(query, limit=MAX_COUNT + 1 + omitted) - omitted
    return Total(min(max(0, count), MAX_COUNT), count > MAX_COUNT)


def _find_all(collection: Collection, ids: Sequence[Any], fields: Mapping[str, str]) -> list[Any]:
    """Return the document of each ID, in one query; missing ones have only the ID.

    A purchase may store an ID as text. If two documents match, the one whose ID has the same type counts.

    :param fields: what to return of a document, and the paths to it.
    """
    wanted = [form for each in ids if each is not None for form in stored_ids(each, collection)]
    found: dict[Any, Mapping[str, Any]] = {}
    if wanted:
        with database_timeout():
            for each in collection.find({"_id": {"$in": wanted}}, dict.fromkeys(fields.values(), 1)):
                found[sort_key(each["_id"])] = found[id_text(each["_id"])] = each

    def populate(each: Any) -> dict[str, Any]:
        document = found.get(sort_key(each)) or found.get(id_text(each), {"_id": each})
        return {"_id": document["_id"], **{name: read_field(document, path) for name, path in fields.items()}}

    return [None if each is None else populate(each) for each in ids]


def _date(value: Any) -> datetime | DatetimeMS | None:
    """Return the date by which MongoDB sorts a value, if it has one: the latest of a list.

    One before the year 1 is none, as in :meth:`PurchaseSearch._parts`.
    """
    dates = [it for it in (value if isinstance(value, list) else [value]) if isinstance(it, _DATES)]
    latest = max(dates, default=None, key=_milliseconds)
    return None if latest is None or _milliseconds(latest) < _milliseconds(_YEAR_1) else latest


def _milliseconds(date: datetime | DatetimeMS) -> int:
    return int(DatetimeMS(date) if isinstance(date, datetime) else date)


def _refund_query(filters: RefundFilter) -> dict[str, Any]:
    query: dict[str, Any] = {
        "status": filters.status.value if filters.status else None,
        "reason": filters.reason,
        "requestedBy": filters.requested_by,
        "bulkRun": filters.bulk_run,
        # Every refund record has a time and a text ID, so that each has one place in the list. Unlike $type,
        # the comparison is answered by an index alone.
        "_id": {"$gte": ""} if filters.payment_intent is None else payment_range(filters.payment_intent),
        "createdAt": {"$gte": filters.since or _FIRST, "$lt": filters.until or _LAST},
    }
    query = {field: value for field, value in query.items() if value is not None}
    if filters.needs_review is not None:
        query |= NEEDS_REVIEW if filters.needs_review else {"review": None}
    return query


def _shown(query: Mapping[str, Any], filters: RefundFilter) -> Mapping[str, Any]:
    """Return the query without duplicates; but a review that one of them had before stays visible."""
    return query if filters.needs_review else {**query, **NOT_DUPLICATE}


def _not_after(field: str, created: Any, below: _Conditions) -> dict[str, Any]:
    """Match what is older, or equally old and sorted after the ID."""
    same = [{field: {"$not": {"$gte": created}}}, *below]
    return {"$and": [{field: {"$not": {"$gt": created}}}, {"$or": same}]}


def _older_than(cursor: RefundCursor) -> dict[str, Any]:
    # The first condition bounds the index; the second separates refunds of the same millisecond.
    same = [{"createdAt": {"$lt": cursor.created_at}}, {"_id": {"$lt": cursor.id}}]
    return {"$and": [{"createdAt": {"$lte": cursor.created_at}}, {"$or": same}]}


def _all_of(conditions: _Conditions) -> Mapping[str, Any]:
    if len(conditions) < 2:
        return conditions[0] if conditions else {}
    return {"$and": list(conditions)}


def _cursor(document: Mapping[str, Any]) -> RefundCursor:
    return RefundCursor(document["createdAt"], document["_id"])

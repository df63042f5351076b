"""The figures of each day, stored so that a report doesn't count all of its refunds and purchases again.

Refunds: stored days are exact up to a time of the replica set, which one document keeps for all of them.
Every change of a figure stores the server's time in the record (``changedAt``). A report reads the days and
the records that changed since in one snapshot. It counts the days of these records, and uses the other days.
Days and their time change in one transaction. A standalone has no snapshots, and no stored days.

Purchases are your app's, which changes them without a trace. The numbers of paid and refunded purchases are
kept with the time of their count, and counted again ever more rarely. This library leaves a trace of what it
writes to purchases: before it, the record isn't verified (``purchasesVerified``), and ``changedAt`` follows.
The days of the purchases of such records are counted for a report, until they are counted again.

Everything here can be deleted at any time: what isn't stored is counted.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import cached_property
from itertools import takewhile
from typing import Any

from bson import Timestamp
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from ..models import RefundStatus
from ..purchase_fields import PurchaseFields, read_field
from ..storage.connection import REPORT_SECONDS, Collection, database_timeout, is_server
from ..storage.refund_documents import NOT_DUPLICATE
from .report import MAX_RANGE, month_name

DAY = timedelta(days=1)
BUILT_AT_ONCE = 10
"""How many days a reconcile pass builds besides those with changes: missing ones, then the oldest ones."""
_BUILT_BY_INIT_DB = 400
_IN_FLIGHT_SECONDS = 60
"""How long MongoDB may take from the time that it stores in a record to the commit. It ends operations of
this library after 2 s."""
_RECOUNT_AFTER = (timedelta(hours=1), timedelta(days=7))
"""The shortest and the longest time after which purchases are counted again."""
_COUNT_SECONDS = 5.0
"""How long a pass counts purchases. Without their index, the count of each day reads all of them."""
_MOST_MARKED = 2000
"""With more changed records than this, all purchases are counted."""

_ALL_AT_ONCE = MAX_RANGE.days
_STATE = {"_id": "state"}
_ANY_DAY = {"_id": {"$gte": datetime(1, 1, 1, tzinfo=timezone.utc)}}
_SETTLED = [status.value for status in RefundStatus if status.is_settled]
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

Range = tuple[datetime, datetime]
Day = Mapping[str, Any]
Group = tuple[Any, ...]
"""What the refunds of a group have in common, their number, and a sum."""


class StoredDays:
    """The stored days of one app.

    :param days: their collection; all three with majority read and write concern.
    :param clock: returns the aware UTC time.
    """

    def __init__(
        self,
        days: Collection,
        records: Collection,
        purchases: Collection,
        fields: PurchaseFields,
        clock: Callable[[], datetime],
    ) -> None:
        self._days = days
        self._records = records
        self._purchases = purchases
        self._fields = fields
        self._clock = clock
        # A count by other fields or words is another figure.
        self._counted_as = repr((purchases.name, fields.created, fields.is_completed, fields.is_refunded))
        self._made = fields.created or "_id"

    @contextmanager
    def snapshot(self) -> Iterator[ClientSession | None]:
        """Provide a session whose reads show one moment, or ``None`` where MongoDB has no snapshots."""
        if not self._has_snapshots:
            yield None
            return
        with self._days.database.client.start_session(snapshot=True) as session:
            yield session

    def read(
        self, start: datetime, end: datetime, session: ClientSession | None
    ) -> tuple[list[Day], dict[datetime, Day]]:
        """Return the stored days of a range that are exact in this snapshot, and the counts of purchases by
        day that lack only what your app has changed since.

        :param session: of :meth:`snapshot`.
        """
        state = self._days.find_one(_STATE, session=session) if session else None
        if state is None:
            return [], {}
        query = {"_id": {"$gte": start, "$lte": end - DAY}}
        stored: list[Day] = list(self._days.find(query, session=session, batch_size=_ALL_AT_ONCE))
        changed = self._find_changed(state["asOf"], session)
        exact = [each for each in stored if "refunds" in each and each["_id"] not in changed]
        marked = self._find_marked(state["asOf"], session)
        kept = [each for each in stored if marked is not None and each["_id"] not in marked]
        return exact, self._select_counts(kept, state)

    def _select_counts(self, days: Iterable[Day], state: Day) -> dict[datetime, Day]:
        """Return the counts of purchases that were made with the present settings, and not before the library
        wrote to one of these purchases."""
        first = state["countedFrom"]
        return {
            day["_id"]: paid
            for day in days
            if (paid := day.get("paid")) is not None
            and paid["countedAs"] == self._counted_as
            and paid["asOf"] >= max(first, day.get("markedAt", first))
        }

    def refresh(self, at_once: int = BUILT_AT_ONCE, count_seconds: float = _COUNT_SECONDS) -> int:
        """Build the days whose records have changed, and some more, and count purchases that are due.

        :param at_once: how many more: missing ones, then the ones that were built first.
        :param count_seconds: after this time, further counts are left to the next call.
        :return: how many days are missing now.
        :raises DatabaseUnavailable: 500; the days are as before, or some counts are new.
        """
        if not self._has_snapshots:
            return 0
        with database_timeout(REPORT_SECONDS), self._days.database.client.start_session() as session:
            first = self._records.find_one(
                {"settledAt": {"$gte": _EPOCH}}, sort=[("settledAt", 1)], session=session
            )
            as_of = session.operation_time
            since = max(first["settledAt"], self._clock() - MAX_RANGE) if first else self._clock()
            missing: int = session.with_transaction(
                lambda session: self._build(session, since, as_of, at_once),
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern("majority"),
            )
        self._count_purchases(count_seconds)
        return missing

    def build_all(self) -> None:
        """Build every day.

        :raises DatabaseUnavailable: 500.
        """
        while self.refresh(_BUILT_BY_INIT_DB, math.inf):
            pass

    def discard(self) -> None:
        """Delete every stored day, as is needed after a restore of the ledger.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout(REPORT_SECONDS):
            self._days.delete_many({})

    @cached_property
    def _has_snapshots(self) -> bool:
        if not is_server(self._days.database):
            return False
        with database_timeout():
            hello = self._days.database.command("hello")
        return "setName" in hello or hello.get("msg") == "isdbgrid"

    def _build(self, session: ClientSession, since: datetime, as_of: Any, at_once: int) -> int:
        """Build days in a transaction, and return how many are missing then.

        :param since: the time of the first refund.
        :param as_of: an earlier time of the replica set than that of the transaction's snapshot.
        """
        state = self._days.find_one(_STATE, session=session)
        if state is None:
            self._days.delete_many(_ANY_DAY, session=session)
        changed = self._find_changed(state["asOf"], session) if state else set()
        marked = self._find_marked(state["asOf"], session) if state else None
        counted_from = as_of if state is None or marked is None else state["countedFrom"]
        query = {**_ANY_DAY, "refunds": {"$exists": True}}
        stored = {
            each["_id"]: each["builtAt"] for each in self._days.find(query, {"builtAt": 1}, session=session)
        }
        all_days = [day for day, _ in split_days(_midnight(since), self._clock())]
        missing = [day for day in reversed(all_days) if day not in stored]
        oldest = sorted(stored, key=lambda day: stored[day])
        days = changed | set([*missing, *oldest][:at_once])
        changes = [UpdateOne({"_id": day}, {"$set": it}, True) for day, it in self._count(days, session)]
        # Also without a count: a pass may just be about to store one that it made before.
        changes += [UpdateOne({"_id": day}, {"$set": {"markedAt": as_of}}, True) for day in marked or ()]
        if changes:
            self._days.bulk_write(changes, session=session)
        new_state = {"asOf": as_of, "countedFrom": counted_from}
        self._days.update_one(_STATE, {"$set": new_state}, upsert=True, session=session)
        return len(set(missing) - days)

    def _count(self, days: Iterable[datetime], session: ClientSession) -> Iterator[tuple[datetime, Day]]:
        """Yield the content of each of these days."""
        counted: dict[str, dict[str, Any]] = {
            f"{day:%Y-%m-%d}": {"refunds": [], "durations": [], "builtAt": self._clock()} for day in days
        }
        ranges = merge((day, day + DAY) for day in sorted(days))
        for day, *group in group_refunds(self._records, ranges, "%Y-%m-%d", session):
            counted[day]["refunds"].append(group)
        for day, *group in group_durations(self._records, ranges, "%Y-%m-%d", session):
            counted[day]["durations"].append(group)
        for name, content in counted.items():
            yield datetime.fromisoformat(name).replace(tzinfo=timezone.utc), content

    def _find_changed(self, as_of: Timestamp, session: ClientSession | None) -> set[datetime]:
        """Return the days in which records that changed since then are counted, or ever were.

        A record counts on the day of ``settledAt``. Each earlier such day is that of an entry of its history.
        """
        settled = {"$filter": {"input": "$history", "cond": {"$in": ["$$this.status", _SETTLED]}}}
        earlier = {"$map": {"input": settled, "in": "$$this.at"}}
        stages: list[Mapping[str, Any]] = [
            {"$match": {"changedAt": {"$gte": _look_from(as_of)}}},
            {"$project": {"times": {"$concatArrays": [["$settledAt"], earlier]}}},
            {"$unwind": "$times"},
            {"$group": {"_id": {"$dateTrunc": {"date": "$times", "unit": "day"}}}},
        ]
        found = self._records.aggregate(stages, session=session)
        return {each["_id"] for each in found if each["_id"] is not None}

    def _find_marked(self, as_of: Timestamp, session: ClientSession | None) -> set[datetime] | None:
        """Return the days of all purchases that this library may have written since then; ``None`` for any.

        Which purchases the sum of a payment's refunds marks doesn't depend on the changed record alone.
        """
        path = self._fields.payment
        changed = {"$or": [{"changedAt": {"$gte": _look_from(as_of)}}, {"purchasesVerified": False}]}
        shown = {"purchaseIds": 1, "paymentIntent": 1, "references": 1, "charge": 1}
        records = list(self._records.find(changed, shown, session=session).limit(_MOST_MARKED + 1))
        if not records or len(records) > _MOST_MARKED:
            return None if records else set()
        ids = [each for record in records for each in record.get("purchaseIds", ())]
        held = {
            each
            for it in records
            for each in (it["paymentIntent"], it.get("charge"), *it.get("references", ()))
        }
        query = {"$or": [{"_id": {"$in": ids}}, {path: {"$in": [each for each in held if each]}}]}
        days = set()
        for purchase in self._purchases.find(query, {self._made: 1}):
            made = read_field(purchase, self._made)
            for each in made if isinstance(made, list) else [made]:
                moment = getattr(each, "generation_time", each)
                if isinstance(moment, datetime):
                    days.add(_midnight(moment))
        return days

    def _count_purchases(self, seconds: float) -> None:
        """Count the purchases of days that are over and whose count is missing or due, the latest first.

        :param seconds: no count starts later than this.
        """
        now = self._clock()
        # Its reads show everything up to the time that the days have.
        with self._days.database.client.start_session(causal_consistency=True) as session:
            with database_timeout(REPORT_SECONDS):
                state = self._days.find_one(_STATE, session=session)
                if state is None:
                    return
                first = self._first_purchase(now - MAX_RANGE)
                shown = {"paid": 1, "markedAt": 1}
                found = self._days.find({**_ANY_DAY, "paid": {"$exists": True}}, shown, session=session)
                kept = self._select_counts(found, state)
            due = [
                (day, end)
                for day, end in split_days(_midnight(first), now)
                if end - day == DAY and (day not in kept or kept[day]["dueAt"] <= now)
            ]
            stop_at = time.monotonic() + seconds
            changes = [
                UpdateOne(
                    {"_id": day}, {"$set": {"paid": self._count_day(day, end, state["asOf"], session)}}, True
                )
                for day, end in takewhile(lambda _: time.monotonic() < stop_at, reversed(due))
            ]
        if changes:
            with database_timeout(REPORT_SECONDS):
                self._days.bulk_write(changes, ordered=False)

    def _count_day(self, day: datetime, end: datetime, as_of: Timestamp, session: ClientSession) -> Day:
        counted_at = self._clock()
        with database_timeout(REPORT_SECONDS):
            completed, refunded = count_purchases(self._purchases, self._fields, day, end, session)
        shortest, longest = _RECOUNT_AFTER
        return {
            "count": completed + refunded,
            "refunded": refunded,
            "countedAt": counted_at,
            "dueAt": counted_at + min(max(counted_at - end, shortest), longest),
            "asOf": as_of,
            "countedAs": self._counted_as,
        }

    def _first_purchase(self, since: datetime) -> datetime:
        """Return the day of the first paid purchase, or an earlier one."""
        fields, found = self._fields, []
        for status in (fields.is_completed, fields.is_refunded):
            query = {**status, **fields.created_in(since, None)}
            if (first := self._purchases.find_one(query, sort=[(self._made, 1)])) is not None:
                found.append(read_field(first, self._made))
        times = [getattr(each, "generation_time", each) for each in found]
        if not all(isinstance(each, datetime) for each in times):
            return since  # a list of dates counts on each of its days
        return min(times, default=self._clock())


def _look_from(as_of: Timestamp) -> Timestamp:
    """Return the earliest ``changedAt`` of a change that days of this time may lack."""
    return Timestamp(max(0, as_of.time - _IN_FLIGHT_SECONDS), 0)


def count_purchases(
    purchases: Collection,
    fields: PurchaseFields,
    start: datetime,
    end: datetime,
    session: ClientSession | None = None,
) -> tuple[int, int]:
    """Return how many purchases of a range are completed, and how many are refunded.

    Counts are read from the index alone; grouping the IDs by month took 15 times as long.
    """
    made = fields.created_in(start, end)
    completed, refunded = (
        purchases.count_documents({**status, **made}, session=session)
        for status in (fields.is_completed, fields.is_refunded)
    )
    return completed, refunded


def _midnight(moment: datetime) -> datetime:
    """Return the start of a moment's day (UTC)."""
    return moment.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def split_days(start: datetime, end: datetime) -> Iterator[Range]:
    """Yield the parts of a range by day (UTC)."""
    while start < end:
        yield start, (stop := min(_midnight(start) + DAY, end))
        start = stop


def merge(ranges: Iterable[Range]) -> list[Range]:
    """Join ranges, given in order, that follow each other without a gap."""
    merged: list[Range] = []
    for start, end in ranges:
        if merged and merged[-1][1] == start:
            merged[-1] = merged[-1][0], end
        else:
            merged.append((start, end))
    return merged


def without_days(start: datetime, end: datetime, days: Container[datetime]) -> list[Range]:
    """Return what remains of a range without these whole days."""
    return merge(
        (begin, stop) for begin, stop in split_days(start, end) if stop - begin < DAY or begin not in days
    )


def sum_days(days: Iterable[Day], name: str) -> Iterator[Group]:
    """Yield the groups of these days by month.

    :param name: ``refunds`` or ``durations``.
    """
    sums = defaultdict[Group, list[int]](lambda: [0, 0])
    for day in days:
        month = month_name(day["_id"])
        for *key, count, amount in day[name]:
            group = (month, *key)
            sums[group][0] += count
            sums[group][1] += amount
    return ((*key, *total) for key, total in sums.items())


def group_refunds(
    records: Collection, ranges: Sequence[Range], unit: str, session: ClientSession | None
) -> Iterator[Group]:
    """Yield the refunds that settled in these ranges: unit, status, currency, reason, count and amount.

    :param unit: by which part of the time to group, as in ``$dateToString``.
    """
    key = {
        "unit": {"$dateToString": {"format": unit, "date": "$settledAt"}},
        "status": "$status",
        "currency": {"$ifNull": ["$currency", "none"]},
        "reason": {"$ifNull": ["$reason", "none"]},
    }
    # With a condition on the status, MongoDB can choose its index, and read all refunds of all times.
    for it in _group(records, ranges, NOT_DUPLICATE, key, {"amount": {"$sum": "$amount"}}, session):
        of = it["_id"]
        yield of["unit"], of["status"], of["currency"], of["reason"], it["count"], it["amount"]


def group_durations(
    records: Collection, ranges: Sequence[Range], unit: str, session: ClientSession | None
) -> Iterator[Group]:
    """Yield how long refunds that succeeded in these ranges took: unit, seconds, count and milliseconds.

    External refunds are left out, because it isn't known when they were requested.
    """
    duration = {"$subtract": ["$settledAt", "$createdAt"]}
    key = {
        "unit": {"$dateToString": {"format": unit, "date": "$settledAt"}},
        "seconds": {"$floor": {"$divide": [duration, 1000]}},
        "isSucceeded": {"$eq": ["$status", RefundStatus.SUCCEEDED.value]},
    }
    sums = {"milliseconds": {"$sum": duration}}
    for it in _group(records, ranges, {"source": {"$ne": "external"}}, key, sums, session):
        of = it["_id"]
        if of["isSucceeded"]:
            yield of["unit"], int(of["seconds"]), it["count"], it["milliseconds"]


def _group(
    records: Collection,
    ranges: Sequence[Range],
    match: Mapping[str, Any],
    key: Mapping[str, Any],
    sums: Mapping[str, Any],
    session: ClientSession | None,
) -> Iterator[Mapping[str, Any]]:
    if not ranges:
        return iter(())
    settled: list[dict[str, Any]] = [{"settledAt": {"$gte": start, "$lt": end}} for start, end in ranges]
    in_ranges = settled[0] if len(settled) == 1 else {"$or": settled}
    stages = [{"$match": {**in_ranges, **match}}, {"$group": {"_id": key, "count": {"$sum": 1}, **sums}}]
    return records.aggregate(stages, session=session)

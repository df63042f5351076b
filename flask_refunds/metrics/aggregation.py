"""Compute refund reports in MongoDB, from stored days and a few aggregations and counts.

Amounts are from the ledger, in Stripe's minor units, never from the app. mongomock has all operators used.

The indexes of :mod:`~flask_refunds.storage.indexes` make the queries cheap: those of the ledger that start
with ``settledAt``, ``changedAt``, ``status`` and ``review.since``, and that of the purchases on ``status``
and ``_id``, from which the refund rate is counted alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from ..errors import DatabaseUnavailable
from ..models import RefundStatus
from ..purchase_fields import PurchaseFields
from ..storage.connection import REPORT_SECONDS, Collection, database_timeout
from .days import (
    DAY,
    Day,
    Group,
    StoredDays,
    count_purchases,
    group_durations,
    group_refunds,
    split_days,
    sum_days,
    without_days,
)
from .report import AGES, OLDER, Backlog, MetricsReport, month_name, resolve_range

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OPEN = [status.value for status in RefundStatus if not status.is_settled]


class MetricsQuery:
    """Counts the refunds and purchases of one app.

    :param records: the ledger's collection, with majority read concern.
    :param purchases: the app's collection, likewise.
    :param clock: returns the aware UTC time.
    :param fields: the shape of a purchase.
    :param days: what is stored of a report; ``None`` to count everything.
    """

    def __init__(
        self,
        records: Collection,
        purchases: Collection,
        clock: Callable[[], datetime],
        fields: PurchaseFields,
        days: StoredDays | None = None,
    ) -> None:
        self._records = records
        self._purchases = purchases
        self._clock = clock
        self._fields = fields
        self._days = days

    def report(
        self, start: datetime | None = None, end: datetime | None = None, *, fresh: bool = False
    ) -> MetricsReport:
        """Return the report of a range, per month and in total.

        A refund counts in the month in which it was settled, by its current status: a refund that failed
        after it had succeeded counts as failed. A purchase counts in the month in which it was
        created.

        :param start: the start of the range; by default, twelve months before the end.
        :param end: the end, which isn't part of the range; by default, the end of the current month.
        :param fresh: count everything now, also the purchases of earlier days.
        :raises InvalidRequest: 400; the range ends before it starts, or is longer than ten years.
        :raises DatabaseUnavailable: 500; the report took longer than 15 s.
        """
        start, end = resolve_range(start, end, self._clock())
        with database_timeout(REPORT_SECONDS):
            if self._days is None or fresh:
                return self._count(start, end)
            try:
                with self._days.snapshot() as session, database_timeout(REPORT_SECONDS):
                    exact, counts = self._days.read(start, end, session)
                    return self._count(start, end, exact, counts, session)
            except DatabaseUnavailable as error:
                cause = error.__cause__
                if not isinstance(cause, OperationFailure) or cause.timeout:
                    raise
            # MongoDB refused, for example because the days were dropped after the snapshot.
            return self._count(start, end)

    def current_backlog(self) -> Backlog:
        """Return the open refunds and the open reviews, by age.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            return self._current_backlog()

    def _count(
        self,
        start: datetime,
        end: datetime,
        exact: Sequence[Day] = (),
        counts: Mapping[datetime, Day] = MappingProxyType({}),
        session: ClientSession | None = None,
    ) -> MetricsReport:
        """Make a report.

        :param exact: the days whose refunds needn't be counted.
        :param counts: stored counts of purchases by day.
        """
        report = MetricsReport(start, end, self._current_backlog(session))
        _add_refunds(report, sum_days(exact, "refunds"))
        _add_durations(report, sum_days(exact, "durations"))
        rest = without_days(start, end, {day["_id"] for day in exact})
        _add_refunds(report, group_refunds(self._records, rest, "%Y-%m", session))
        _add_durations(report, group_durations(self._records, rest, "%Y-%m", session))
        self._count_purchases(report, counts)
        return report

    def _count_purchases(self, report: MetricsReport, kept: Mapping[datetime, Day]) -> None:
        for start, end in pairwise([*report.month_starts, report.end]):
            rest = without_days(start, end, kept)
            counts = [count_purchases(self._purchases, self._fields, *each) for each in rest]
            used = [kept[day] for day, stop in split_days(start, end) if stop - day == DAY and day in kept]
            paid = sum(map(sum, counts)) + sum(each["count"] for each in used)
            refunded = sum(each for _, each in counts) + sum(each["refunded"] for each in used)
            as_of = min((each["countedAt"] for each in used), default=None)
            for period in report.periods_of(month_name(start)):
                period.add_purchases(paid, refunded, as_of)

    def _current_backlog(self, session: ClientSession | None = None) -> Backlog:
        now = self._clock()
        oldest = now - max(AGES.values())
        # The index has no duplicateOf. To read no record, count all that are open, then the few duplicates.
        is_open, is_duplicate = {"status": {"$in": _OPEN}}, {"duplicateOf": {"$gt": ""}}
        by_status = _by_age("$status", "$createdAt", now)
        # MongoDB counts index keys at eight times the speed at which it groups them.
        old = {"createdAt": {"$lte": oldest}}
        every = Counter(
            {
                (status, OLDER): self._records.count_documents({"status": status, **old}, session=session)
                for status in _OPEN
            }
        )
        every += self._count_groups({**is_open, "createdAt": {"$gt": oldest}}, by_status, session)
        duplicates = self._count_groups({**is_open, **is_duplicate}, by_status, session)
        # A date range, rather than "not null", can use the partial index.
        in_review = {"review.since": {"$gte": _EPOCH}}
        reviews = self._count_groups(in_review, _by_age("$review.code", "$review.since", now), session)
        return Backlog(every - duplicates, reviews)

    def _count_groups(
        self, match: Mapping[str, Any], key: Mapping[str, Any], session: ClientSession | None
    ) -> Counter[tuple[str, str]]:
        stages: list[Any] = [{"$match": match}, {"$group": {"_id": key, "count": {"$sum": 1}}}]
        groups = self._records.aggregate(stages, session=session)
        return Counter({(group["_id"]["value"], group["_id"]["age"]): group["count"] for group in groups})


def _by_age(field: str, since: str, now: datetime) -> Mapping[str, Any]:
    """Return the key of groups by a field's value, and by the age of a time."""
    cases = [{"case": {"$gt": [since, now - age]}, "then": name} for name, age in AGES.items()]
    return {"value": field, "age": {"$switch": {"branches": cases, "default": OLDER}}}


def _add_refunds(report: MetricsReport, groups: Iterable[Group]) -> None:
    for month, status, currency, reason, count, amount in groups:
        for period in report.periods_of(month):
            if status == RefundStatus.SUCCEEDED.value:
                period.add_refunds(currency, reason, count, amount)
            elif status == RefundStatus.FAILED.value:
                period.failed += count
            elif status == RefundStatus.CANCELED.value:
                period.canceled += count


def _add_durations(report: MetricsReport, groups: Iterable[Group]) -> None:
    for month, seconds, count, milliseconds in groups:
        for period in report.periods_of(month):
            period.add_durations(seconds, count, milliseconds)

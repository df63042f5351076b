"""The figures that an owner wants, counted by MongoDB: a few aggregations and two counts a month.

Amounts are Stripe's minor units from the ledger, never the host's. Only operators that mongomock has, too.

Cheap by the indexes of :mod:`~flask_refunds.storage.indexes`: the ledger's that begin with ``settledAt``,
``status`` and ``review.since``, and the purchases' on ``status`` and ``_id``, which holds all that the rate
needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from bson import ObjectId

from ..models import RefundStatus
from ..storage.connection import REPORT_SECONDS, Collection, database_timeout
from ..storage.purchases import COMPLETED, REFUNDED
from .report import AGES, OLDER, Backlog, MetricsReport, Period, name_month, parse_bounds

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_SECOND = 2**32 - 1
_OPEN = [status.value for status in RefundStatus if not status.is_settled]


class MetricsQuery:
    """Counts, for one app.

    :param rows: the ledger's collection, majority read concern.
    :param purchases: the host's, likewise.
    :param clock: the aware UTC time.
    """

    def __init__(self, records: Collection, purchases: Collection, clock: Callable[[], datetime]) -> None:
        self._records = records
        self._purchases = purchases
        self._clock = clock

    def report(self, start: datetime | None = None, end: datetime | None = None) -> MetricsReport:
        """Every figure of a range, per month and in total.

        A refund counts in the month in which it was settled, by its present status: one that failed after it
        had succeeded is failed. A purchase counts in the month of its ``ObjectId``.

        :param start: the first moment; without it, twelve months up to the end.
        :param end: the moment after the last; without it, the end of the present month.
        :raises InvalidRequest: 400; the range ends before it begins, or is longer than ten years.
        :raises DatabaseUnavailable: 500; all of it has 15 s.
        """
        start, end = parse_bounds(start, end, self._clock())
        with database_timeout(REPORT_SECONDS):
            report = MetricsReport(start, end, self._current_backlog())
            self._count_refunds(report)
            self._count_durations(report)
            self._count_purchases(report)
        return report

    def current_backlog(self) -> Backlog:
        """What is open and what asks for a person now, by age.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            return self._current_backlog()

    def _count_refunds(self, report: MetricsReport) -> None:
        ended = [status.value for status in RefundStatus if status.is_settled]
        key = {
            "month": _month_of("$settledAt"),
            "status": "$status",
            "currency": {"$ifNull": ["$currency", "none"]},
            "reason": {"$ifNull": ["$reason", "none"]},
        }
        wanted = {"settledAt": _within(report), "status": {"$in": ended}}
        for group in _grouped(self._records, wanted, key, amount={"$sum": "$amount"}):
            for period in report.periods_of(group["_id"]["month"]):
                _add_refunds(period, group)

    def _count_durations(self, report: MetricsReport) -> None:
        took = {"$subtract": ["$settledAt", "$createdAt"]}
        key = {"month": _month_of("$settledAt"), "seconds": {"$floor": {"$divide": [took, 1000]}}}
        wanted = {
            "settledAt": _within(report),
            "status": RefundStatus.SUCCEEDED.value,
            # When a refund of the Dashboard's was asked for, nobody told us.
            "source": {"$ne": "external"},
        }
        for group in _grouped(self._records, wanted, key, milliseconds={"$sum": took}):
            for period in report.periods_of(group["_id"]["month"]):
                period.add_durations(int(group["_id"]["seconds"]), group["count"], group["milliseconds"])

    def _count_purchases(self, report: MetricsReport) -> None:
        # Counts are read from the index alone; sorting ids into the months' buckets took 15 times as long.
        borders = [*report.month_starts, report.end]
        for start, end in pairwise(borders):
            made = {"$gte": _first_id(start), "$lt": _first_id(end)}
            completed, refunded = (
                self._purchases.count_documents({"status": status, "_id": made})
                for status in (COMPLETED, REFUNDED)
            )
            for period in report.periods_of(name_month(start)):
                period.add_purchases(completed + refunded, refunded)

    def _current_backlog(self) -> Backlog:
        # A date's range, rather than "not null": an index without the rows that have none serves it.
        asking = {"review.since": {"$gte": _EPOCH}}
        return Backlog(
            open=self._count_by_age({"status": {"$in": _OPEN}}, "$status", "$createdAt"),
            reviews=self._count_by_age(asking, "$review.code", "$review.since"),
        )

    def _count_by_age(self, wanted: Mapping[str, Any], word: str, since: str) -> Counter[tuple[str, str]]:
        now = self._clock()
        cases = [{"case": {"$gt": [since, now - age]}, "then": name} for name, age in AGES.items()]
        key = {"word": word, "age": {"$switch": {"branches": cases, "default": OLDER}}}
        groups = _grouped(self._records, wanted, key)
        return Counter({(group["_id"]["word"], group["_id"]["age"]): group["count"] for group in groups})


def _grouped(
    records: Collection, wanted: Mapping[str, Any], key: Mapping[str, Any], **sums: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    return records.aggregate([{"$match": wanted}, {"$group": {"_id": key, "count": {"$sum": 1}, **sums}}])


def _add_refunds(period: Period, group: Mapping[str, Any]) -> None:
    key, count = group["_id"], group["count"]
    if key["status"] == RefundStatus.SUCCEEDED.value:
        period.add_refunds(key["currency"], key["reason"], count, group["amount"])
    elif key["status"] == RefundStatus.FAILED.value:
        period.failed += count
    else:
        period.canceled += count


def _within(report: MetricsReport) -> dict[str, datetime]:
    return {"$gte": report.start, "$lt": report.end}


def _month_of(field: str) -> dict[str, Any]:
    return {"$dateToString": {"format": "%Y-%m", "date": field}}


def _first_id(moment: datetime) -> ObjectId:
    """The smallest id of the first whole second that is not before a moment; an id knows seconds only."""
    seconds = -((_EPOCH - moment) // timedelta(seconds=1))
    return ObjectId(f"{min(max(seconds, 0), _LAST_SECOND):08x}{'0' * 16}")

"""Compute refund reports in MongoDB, with a few aggregations and two counts a month.

Amounts are from the ledger, in Stripe's minor units, never from the app. mongomock has all operators used.

The indexes of :mod:`~flask_refunds.storage.indexes` make the queries cheap: those of the ledger that start
with ``settledAt``, ``status`` and ``review.since``, and that of the purchases on ``status`` and ``_id``, from
which the refund rate is counted alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

from ..models import RefundStatus
from ..purchase_fields import PurchaseFields
from ..storage.connection import REPORT_SECONDS, Collection, database_timeout
from ..storage.refund_documents import NOT_DUPLICATE
from .report import AGES, OLDER, Backlog, MetricsReport, Period, month_name, resolve_range

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OPEN = [status.value for status in RefundStatus if not status.is_settled]


class MetricsQuery:
    """Counts the refunds and purchases of one app.

    :param records: the ledger's collection, with majority read concern.
    :param purchases: the app's collection, likewise.
    :param clock: returns the aware UTC time.
    :param fields: the shape of a purchase.
    """

    def __init__(
        self,
        records: Collection,
        purchases: Collection,
        clock: Callable[[], datetime],
        fields: PurchaseFields,
    ) -> None:
        self._records = records
        self._purchases = purchases
        self._clock = clock
        self._fields = fields

    def report(self, start: datetime | None = None, end: datetime | None = None) -> MetricsReport:
        """Return the report of a range, per month and in total.

        A refund counts in the month in which it was settled, by its current status: a refund that failed
        after it had succeeded counts as failed. A purchase counts in the month in which it was
        created.

        :param start: the start of the range; by default, twelve months before the end.
        :param end: the end, which isn't part of the range; by default, the end of the current month.
        :raises InvalidRequest: 400; the range ends before it starts, or is longer than ten years.
        :raises DatabaseUnavailable: 500; the report took longer than 15 s.
        """
        start, end = resolve_range(start, end, self._clock())
        with database_timeout(REPORT_SECONDS):
            report = MetricsReport(start, end, self._current_backlog())
            self._count_refunds(report)
            self._count_durations(report)
            self._count_purchases(report)
        return report

    def current_backlog(self) -> Backlog:
        """Return the open refunds and the open reviews, by age.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            return self._current_backlog()

    def _count_refunds(self, report: MetricsReport) -> None:
        key = {
            "month": _month_of("$settledAt"),
            "status": "$status",
            "currency": {"$ifNull": ["$currency", "none"]},
            "reason": {"$ifNull": ["$reason", "none"]},
        }
        # With a condition on the status, MongoDB can choose its index, and read all refunds of all times.
        match = {"settledAt": _in_range(report), **NOT_DUPLICATE}
        for group in _group(self._records, match, key, amount={"$sum": "$amount"}):
            for period in report.periods_of(group["_id"]["month"]):
                _add_refunds(period, group)

    def _count_durations(self, report: MetricsReport) -> None:
        duration = {"$subtract": ["$settledAt", "$createdAt"]}
        key = {"month": _month_of("$settledAt"), "seconds": {"$floor": {"$divide": [duration, 1000]}}}
        key["is_succeeded"] = {"$eq": ["$status", RefundStatus.SUCCEEDED.value]}
        # It isn't known when an external refund was requested.
        match = {"settledAt": _in_range(report), "source": {"$ne": "external"}}
        for group in _group(self._records, match, key, milliseconds={"$sum": duration}):
            if group["_id"]["is_succeeded"]:
                for period in report.periods_of(group["_id"]["month"]):
                    period.add_durations(int(group["_id"]["seconds"]), group["count"], group["milliseconds"])

    def _count_purchases(self, report: MetricsReport) -> None:
        # Counts are read from the index alone; grouping the IDs by month took 15 times as long.
        fields = self._fields
        for start, end in pairwise([*report.month_starts, report.end]):
            made = fields.created_in(start, end)
            completed, refunded = (
                self._purchases.count_documents({**status, **made})
                for status in (fields.is_completed, fields.is_refunded)
            )
            for period in report.periods_of(month_name(start)):
                period.add_purchases(completed + refunded, refunded)

    def _current_backlog(self) -> Backlog:
        # A date range, rather than "not null", can use the partial index.
        in_review = {"review.since": {"$gte": _EPOCH}}
        return Backlog(
            open=self._count_by_age({"status": {"$in": _OPEN}, **NOT_DUPLICATE}, "$status", "$createdAt"),
            reviews=self._count_by_age(in_review, "$review.code", "$review.since"),
        )

    def _count_by_age(self, match: Mapping[str, Any], field: str, since: str) -> Counter[tuple[str, str]]:
        now = self._clock()
        cases = [{"case": {"$gt": [since, now - age]}, "then": name} for name, age in AGES.items()]
        key = {"value": field, "age": {"$switch": {"branches": cases, "default": OLDER}}}
        groups = _group(self._records, match, key)
        return Counter({(group["_id"]["value"], group["_id"]["age"]): group["count"] for group in groups})


def _group(
    records: Collection, match: Mapping[str, Any], key: Mapping[str, Any], **sums: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    return records.aggregate([{"$match": match}, {"$group": {"_id": key, "count": {"$sum": 1}, **sums}}])


def _add_refunds(period: Period, group: Mapping[str, Any]) -> None:
    key, count = group["_id"], group["count"]
    if key["status"] == RefundStatus.SUCCEEDED.value:
        period.add_refunds(key["currency"], key["reason"], count, group["amount"])
    elif key["status"] == RefundStatus.FAILED.value:
        period.failed += count
    elif key["status"] == RefundStatus.CANCELED.value:
        period.canceled += count


def _in_range(report: MetricsReport) -> dict[str, datetime]:
    return {"$gte": report.start, "$lt": report.end}


def _month_of(field: str) -> dict[str, Any]:
    return {"$dateToString": {"format": "%Y-%m", "date": field}}

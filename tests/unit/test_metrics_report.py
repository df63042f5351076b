"""Reports on mongomock against the oracle, and their arithmetic at the edges."""

from __future__ import annotations

from datetime import datetime, timezone

import mongomock
import pytest
from hypothesis import given, settings

from flask_refunds.errors import InvalidRequest
from flask_refunds.metrics.aggregation import MetricsQuery
from flask_refunds.metrics.report import Durations, resolve_range
from flask_refunds.purchase_fields import PurchaseFields
from flask_refunds.schemas.rendering import render_report
from tests.metrics_oracle import NOW, Documents, compute_report, documents


def day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=timezone.utc)


@given(documents())
@settings(max_examples=50, deadline=None)
def test_report_equals_the_oracles(documents: Documents) -> None:
    database = mongomock.MongoClient(tz_aware=True).shop
    documents.insert_into(database)
    query = MetricsQuery(database.flask_refunds, database.purchases, lambda: NOW, PurchaseFields())
    assert render_report(query.report(documents.start, documents.end)) == compute_report(documents)


@pytest.mark.parametrize(
    ("start", "end", "now", "resolved"),
    [
        (None, None, NOW, (day(2023, 4, 1), day(2024, 4, 1))),
        (None, None, day(2024, 12, 31), (day(2024, 1, 1), day(2025, 1, 1))),
        (None, day(2024, 1, 1), NOW, (day(2023, 1, 1), day(2024, 1, 1))),
        (None, day(2024, 1, 2), NOW, (day(2023, 2, 1), day(2024, 1, 2))),
        (day(2024, 3, 1), None, NOW, (day(2024, 3, 1), day(2024, 4, 1))),
        (day(2014, 1, 1), day(2024, 1, 1), NOW, (day(2014, 1, 1), day(2024, 1, 1))),  # ten years, the maximum
    ],
)
def test_range_defaults_to_twelve_months_with_the_current_one(
    start: datetime | None, end: datetime | None, now: datetime, resolved: tuple[datetime, datetime]
) -> None:
    assert resolve_range(start, end, now) == resolved


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (day(2024, 1, 2), day(2024, 1, 2), "from must be before to"),
        (day(2024, 5, 1), None, "from must be before to"),
        (day(2014, 1, 1), day(2024, 1, 3), "ten years"),
    ],
)
def test_empty_or_too_long_range_is_rejected(start: datetime, end: datetime | None, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        resolve_range(start, end, NOW)


@pytest.mark.parametrize(("count", "p95"), [(1, 1), (19, 19), (20, 19), (21, 20), (100, 95), (101, 96)])
def test_p95_is_the_duration_that_95_percent_did_not_exceed(count: int, p95: int) -> None:
    durations = Durations()
    durations.by_second.update(range(1, count + 1))
    assert durations.p95 == p95

"""MetricsQuery on mongomock against a recount, and the arithmetic at its edges."""

from __future__ import annotations

from datetime import datetime, timezone

import mongomock
import pytest
from hypothesis import given, settings

from flask_refunds.errors import InvalidRequest
from flask_refunds.metrics.aggregation import MetricsQuery
from flask_refunds.metrics.report import Durations, parse_bounds
from flask_refunds.schemas.rendering import render_report
from tests.metrics_oracle import NOW, RefundTransitions, recount, transitions


def day(*date: int) -> datetime:
    return datetime(*date, tzinfo=timezone.utc)  # type: ignore[misc, arg-type]


@given(transitions())
@settings(max_examples=50, deadline=None)
def test_figures_equal_a_recount(transitions: RefundTransitions) -> None:
    database = mongomock.MongoClient(tz_aware=True).shop
    if transitions.rows:
        database.flask_refunds.insert_many(transitions.rows)
    if transitions.purchases:
        database.purchases.insert_many(transitions.purchases)
    report = MetricsQuery(database.refunds, database.purchases, lambda: NOW).compute(
        transitions.start, transitions.end
    )
    assert render_report(report) == recount(transitions)


def test_a_range_that_nobody_names_is_twelve_months_with_the_present_one() -> None:
    assert parse_bounds(None, None, NOW) == (day(2023, 4, 1), day(2024, 4, 1))
    assert parse_bounds(None, None, day(2024, 12, 31)) == (day(2024, 1, 1), day(2025, 1, 1))
    assert parse_bounds(None, day(2024, 1, 1), NOW) == (day(2023, 1, 1), day(2024, 1, 1))
    assert parse_bounds(None, day(2024, 1, 2), NOW) == (day(2023, 2, 1), day(2024, 1, 2))
    assert parse_bounds(day(2024, 3, 1), None, NOW) == (day(2024, 3, 1), day(2024, 4, 1))


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (day(2024, 1, 2), day(2024, 1, 2), "from must be before to"),
        (day(2024, 5, 1), None, "from must be before to"),
        (day(2014, 1, 1), day(2024, 1, 3), "ten years"),
    ],
)
def test_a_range_that_cannot_be(start: datetime, end: datetime | None, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse_bounds(start, end, NOW)


def test_ten_years_can_be() -> None:
    assert parse_bounds(day(2014, 1, 1), day(2024, 1, 1), NOW)


@pytest.mark.parametrize(("count", "p95"), [(1, 1), (19, 19), (20, 19), (21, 20), (100, 95), (101, 96)])
def test_the_95th_percentile_is_what_95_of_100_did_not_exceed(count: int, p95: int) -> None:
    durations = Durations()
    durations.by_second.update(range(1, count + 1))
    assert durations.p95 == p95

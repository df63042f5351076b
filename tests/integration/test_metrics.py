"""MetricsQuery on a real MongoDB against a recount, and over HTTP."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from flask_refunds.metrics.aggregation import MetricsQuery
from flask_refunds.schemas.rendering import render_report
from flask_refunds.storage.connection import majority_collection
from flask_refunds.testing import StripeSandbox
from tests.metrics_oracle import NOW, RefundTransitions, recount, transitions
from tests.shop import Shop

PATH = "/api/payments/admin/refunds/metrics"


def get(shop: Shop, caller: Any = None, **query: str) -> Any:
    return shop.client.get(PATH, query_string=query, headers=shop.headers(caller))


@given(transitions())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_figures_equal_a_recount(database: Any, transitions: RefundTransitions) -> None:
    for name, documents in (("refunds", transitions.rows), ("purchases", transitions.purchases)):
        database[name].delete_many({})
        if documents:
            database[name].insert_many(documents)
    figures = MetricsQuery(
        majority_collection(database, "refunds"), majority_collection(database, "purchases"), lambda: NOW
    )
    assert render_report(figures.compute(transitions.start, transitions.end)) == recount(transitions)


@pytest.fixture(params=["shop", "mock_shop"])
def any_shop(request: pytest.FixtureRequest) -> Shop:
    """On a real MongoDB, and embedded."""
    shop: Shop = request.getfixturevalue(request.param)
    return shop


def test_the_figures_of_what_was_really_refunded(any_shop: Shop, sandbox: StripeSandbox) -> None:
    shop = any_shop
    prices = [(1999, "usd"), (1, "usd"), (500, "jpy"), (1000, "eur")]
    payments = [sandbox.create_payment(amount, currency) for amount, currency in prices]
    bought = [shop.add_purchase(payment) for payment in payments]
    shop.refund(bought[0], json={"reason": "duplicate"})
    shop.refund(bought[1])
    shop.refund(bought[2])
    sandbox.inject("drop_before", times=2)
    shop.refund(bought[3])

    response = get(shop)

    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    total = response.json["total"]
    processing = total.pop("processingSeconds")
    assert total == {
        "refunds": 3,
        "failed": 0,
        "canceled": 0,
        "reasons": {"duplicate": 1, "none": 2},
        "currencies": {
            "jpy": {"refunds": 1, "amount": 500, "averageAmount": 500, "reasons": {"none": 1}},
            "usd": {
                "refunds": 2,
                "amount": 2000,
                "averageAmount": 1000,
                "reasons": {"duplicate": 1, "none": 1},
            },
        },
        "purchases": {"paid": 4, "refunded": 3},
        "refundRate": 0.75,
    }
    assert 0 < processing["mean"] < 20
    month = response.json["months"][-1]
    assert month == {"month": f"{datetime.now(timezone.utc):%Y-%m}", "processingSeconds": processing, **total}
    assert len(response.json["months"]) == 12
    assert response.json["open"]["byStatus"] == {"processing": 1}
    assert response.json["open"]["byAge"]["under_1h"] == 1
    assert response.json["review"]["refunds"] == 0


def test_a_range_by_days_has_its_last_day(shop: Shop) -> None:
    response = get(shop, **{"from": "2024-01-31", "to": "2024-02-01"})
    assert response.json["from"] == "2024-01-31T00:00:00.000Z"
    assert response.json["to"] == "2024-02-02T00:00:00.000Z"
    assert [month["month"] for month in response.json["months"]] == ["2024-01", "2024-02"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"from": "yesterday"}, "from must be a day like 2024-03-15"),
        ({"to": "2024-02-30"}, "to must be a day or a time that there is"),
        ({"from": "2024-03-02", "to": "2024-03-01"}, "from must be before to"),
        ({"from": "2014-01-01", "to": "2024-03-01"}, "at most ten years"),
        ({"currency": "usd"}, "Unknown parameter"),
    ],
)
def test_a_range_that_cannot_be(mock_shop: Shop, query: dict[str, str], words: str) -> None:
    response = get(mock_shop, **query)
    assert response.status_code == 400
    assert response.json["code"] == "invalid_request"
    assert words in response.json["error"]


def test_figures_are_for_admins(mock_shop: Shop) -> None:
    assert get(mock_shop, mock_shop.add_user()).status_code == 403
    assert mock_shop.client.get(PATH).status_code == 401

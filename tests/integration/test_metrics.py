"""Reports on a real MongoDB against the oracle, and over HTTP."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from flask_refunds.metrics.aggregation import MetricsQuery
from flask_refunds.purchase_fields import PurchaseFields
from flask_refunds.schemas.rendering import render_report
from flask_refunds.storage.connection import majority_collection
from flask_refunds.testing import StripeSandbox
from tests.metrics_oracle import NOW, Documents, compute_report, documents
from tests.shop import Shop

PATH = "/api/payments/admin/refunds/metrics"


def get(shop: Shop, caller: Any = None, **query: str) -> Any:
    return shop.client.get(PATH, query_string=query, headers=shop.headers(caller))


@given(documents())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_report_equals_the_oracles(database: Any, documents: Documents) -> None:
    documents.insert_into(database)
    collections = (majority_collection(database, name) for name in ("flask_refunds", "purchases"))
    report = MetricsQuery(*collections, lambda: NOW, PurchaseFields()).report(documents.start, documents.end)
    assert render_report(report) == compute_report(documents)


@pytest.fixture(params=["shop", "mock_shop"])
def any_shop(request: pytest.FixtureRequest) -> Shop:
    """A shop on a real MongoDB, and an embedded one."""
    shop: Shop = request.getfixturevalue(request.param)
    return shop


def test_report_shows_the_refunds_that_were_made(any_shop: Shop, sandbox: StripeSandbox) -> None:
    shop = any_shop
    prices = [(1999, "usd"), (1, "usd"), (500, "jpy"), (1000, "eur")]
    payments = [sandbox.create_payment(amount, currency) for amount, currency in prices]
    purchases = [shop.add_purchase(payment) for payment in payments]
    shop.refund(purchases[0], json={"reason": "duplicate"})
    shop.refund(purchases[1])
    shop.refund(purchases[2])
    sandbox.inject("request_lost", times=2)
    shop.refund(purchases[3])

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
        "purchases": {"paid": 4, "refunded": 3, "asOf": None},
        "refundRate": 0.75,
    }
    assert 0 < processing["mean"] < 20
    month = response.json["months"][-1]
    assert month == {"month": f"{datetime.now(timezone.utc):%Y-%m}", "processingSeconds": processing, **total}
    assert len(response.json["months"]) == 12
    assert response.json["open"]["byStatus"] == {"processing": 1}
    assert response.json["open"]["byAge"]["under_1h"] == 1
    assert response.json["reviews"]["refunds"] == 0


def test_range_of_days_includes_its_last_day(shop: Shop) -> None:
    response = get(shop, **{"from": "2024-01-31", "to": "2024-02-01"})
    assert response.json["from"] == "2024-01-31T00:00:00.000Z"
    assert response.json["to"] == "2024-02-02T00:00:00.000Z"
    assert [month["month"] for month in response.json["months"]] == ["2024-01", "2024-02"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"from": "yesterday"}, "from must be a day like 2024-03-15"),
        ({"to": "2024-02-30"}, "to must be an existing day or time"),
        ({"from": "2024-03-02", "to": "2024-03-01"}, "from must be before to"),
        ({"from": "2014-01-01", "to": "2024-03-01"}, "at most ten years"),
        ({"currency": "usd"}, "Unknown query parameter"),
    ],
)
def test_invalid_range_is_rejected(mock_shop: Shop, query: dict[str, str], message: str) -> None:
    response = get(mock_shop, **query)
    assert response.status_code == 400
    assert response.json["code"] == "invalid_request"
    assert message in response.json["error"]


def test_report_is_for_admins_only(mock_shop: Shop) -> None:
    assert get(mock_shop, mock_shop.add_user()).status_code == 403
    assert mock_shop.client.get(PATH).status_code == 401

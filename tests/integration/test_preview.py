"""``GET /admin/refund/<purchaseId>``: previews, which never refund anything."""

from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId
from werkzeug.test import TestResponse

from flask_refunds.testing import StripeSandbox
from tests.integration.webhooks import PENDING_CARD
from tests.shop import Shop, make_app


def preview(shop: Shop, purchase: Any, **headers: str) -> TestResponse:
    return shop.client.get(f"/api/payments/admin/refund/{purchase}", headers=headers or shop.headers())


def assert_error(response: TestResponse, status: int, code: str) -> None:
    assert (response.status_code, response.json["code"]) == (status, code), response.text


def assert_nothing_refunded(shop: Shop, sandbox: StripeSandbox) -> None:
    assert shop.records() == []
    assert sandbox.refunds() == []


def test_preview_shows_payment_card_and_purchases(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4800, "eur", card="5555555555554444")
    ann = shop.add_user(name="Ann", email="ann@example.org")
    purchases = [shop.add_purchase(payment, user=ann) for _ in range(2)]
    shop.add_purchase(sandbox.create_payment(100))

    response = preview(shop, purchases[0])

    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json["payment"] == {
        "id": payment,
        "amount": 4800,
        "refunded": 0,
        "refundable": 4800,
        "currency": "eur",
        "card": {"brand": "mastercard", "last4": "4444"},
        "livemode": False,
        "disputed": False,
        "dispute": None,
        "method": "card",
        "needsEmail": False,
        "customerEmail": "ann@example.org",
        "goesTo": "The money goes back to the Mastercard ending in 4444.",
    }
    assert [each["_id"] for each in response.json["purchases"]] == [str(each) for each in purchases[::-1]]
    assert response.json["purchases"][0]["user"]["email"] == "ann@example.org"
    assert response.json["refunds"] == []
    assert_nothing_refunded(shop, sandbox)


def test_preview_shows_a_pending_refund(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(4800, card=PENDING_CARD))
    shop.refund(purchase)

    response = preview(shop, purchase)

    assert response.json["payment"]["refundable"] == 0
    assert [refund["status"] for refund in response.json["refunds"]] == ["pending"]


def test_partial_dashboard_refund_reduces_the_refundable_amount(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4800)
    sandbox.dashboard_refund(payment, 1800)
    shown = preview(shop, shop.add_purchase(payment)).json["payment"]
    assert (shown["amount"], shown["refunded"], shown["refundable"]) == (4800, 1800, 3000)


def test_nothing_is_refundable_after_too_much_was_refunded(database: Any, generous: StripeSandbox) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=generous.url), database)
    payment = generous.create_payment(4800)
    generous.dashboard_refund(payment, 4800)
    generous.dashboard_refund(payment, 500)
    shown = preview(shop, shop.add_purchase(payment)).json["payment"]
    assert (shown["refunded"], shown["refundable"]) == (5300, 0)


@pytest.mark.parametrize("status", ["pending", "failed", "refunded"])
def test_purchase_that_is_not_completed_is_rejected(shop: Shop, sandbox: StripeSandbox, status: str) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(100), status=status)
    assert_error(preview(shop, purchase), 400, "purchase_not_refundable")
    assert sandbox.requests == []


@pytest.mark.parametrize("purchase", [ObjectId(), "not-an-id"])
def test_unknown_or_invalid_purchase_id_is_not_found(shop: Shop, purchase: Any) -> None:
    assert_error(preview(shop, purchase), 404, "purchase_not_found")


def test_purchase_without_payment_intent_is_rejected(shop: Shop) -> None:
    assert_error(preview(shop, shop.add_purchase(None)), 400, "payment_intent_missing")


def test_unknown_payment_is_rejected(shop: Shop) -> None:
    assert_error(preview(shop, shop.add_purchase("pi_of_another_account")), 400, "payment_unknown")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("request_lost", 503, "stripe_unavailable"),
        ("server_error_before", 503, "stripe_unavailable"),
        ("unreadable_response", 503, "stripe_unavailable"),
        ("rate_limited", 503, "stripe_rate_limited"),
        ("lock_timeout", 503, "stripe_rate_limited"),
        ("key_rejected", 500, "stripe_key_rejected"),
    ],
)
def test_stripe_error_fails_the_preview(
    shop: Shop, sandbox: StripeSandbox, fault: str, status: int, code: str
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(100))
    sandbox.inject(fault, method="GET", path="/v1/payment_intents")
    response = preview(shop, purchase)
    assert_error(response, status, code)
    assert "Nothing was refunded" in response.json["error"]
    assert ("Another request is changing" in response.json["error"]) is (fault == "lock_timeout")
    assert_nothing_refunded(shop, sandbox)


def test_preview_requires_an_admin(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(100))
    assert preview(shop, purchase, Accept="*/*").status_code == 401
    assert preview(shop, purchase, **shop.headers(shop.add_user())).status_code == 403
    assert sandbox.requests == []

"""The shop's purchases, refunds, webhook and sign-in, in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId
from shop import demo
from shop.database import db
from shop.settings import WEBHOOK_PATH

from flask_refunds.testing import make_event, signed_event
from tests.examples.shop_harness import (
    CARD_PENDING_REFUND,
    CARD_REFUND_FAILS,
    WEBHOOK_SECRET,
    ShopHarness,
    open_shop,
)
from tests.examples.storefront import CARD_SUCCEEDS, SETTLED_WITHIN_SECONDS


@pytest.fixture
def shop() -> Iterator[ShopHarness]:
    with open_shop() as shop:
        yield shop


@pytest.fixture(scope="module")
def unchanged_shop() -> Iterator[ShopHarness]:
    """A shop for tests that don't change it."""
    with open_shop() as shop:
        yield shop


def test_pending_refund_is_completed_by_event(shop: ShopHarness) -> None:
    purchase_id = shop.buy_and_complete(CARD_PENDING_REFUND)
    status, body = shop.refund(purchase_id)
    assert (status, body["refund"]["status"]) == (202, "pending")
    purchase = shop.purchase(purchase_id)
    assert (purchase["status"], purchase["refundStatus"]) == ("completed", "pending")
    assert shop.has_access()

    shop.settle_refunds()
    purchase = shop.purchase(purchase_id)
    assert (purchase["status"], purchase["refundStatus"]) == ("refunded", "succeeded")
    assert not shop.has_access()


def test_second_request_updates_pending_refund(shop: ShopHarness) -> None:
    purchase_id = shop.buy_and_complete(CARD_PENDING_REFUND)
    shop.refund(purchase_id)
    [refund] = shop.sandbox.refunds(shop.purchase(purchase_id)["paymentIntent"])
    shop.sandbox.settle(refund["id"], "succeeded")
    status, body = shop.refund(purchase_id)
    # Stripe's event may have arrived first.
    assert (status, body.get("code")) in [(200, None), (400, "purchase_not_refundable")]
    assert not shop.has_access()


def test_refund_that_fails_later_restores_access(shop: ShopHarness) -> None:
    purchase_id = shop.buy_and_complete(CARD_REFUND_FAILS)
    assert shop.refund(purchase_id)[0] == 200
    assert not shop.has_access()

    shop.settle_refunds()
    purchase = shop.purchase(purchase_id)
    assert (purchase["status"], purchase["refundStatus"]) == ("completed", "failed")
    assert shop.has_access()


def test_lost_response_from_stripe_charges_once(shop: ShopHarness) -> None:
    fault = shop.sandbox.inject("response_lost", path="/v1/payment_intents/*/confirm")
    response = shop.buy(CARD_SUCCEEDS)
    assert (response.status_code, fault.hits) == (201, 1)
    shop.sandbox.wait_delivered(SETTLED_WITHIN_SECONDS)
    [purchase] = response.json["purchases"]
    assert shop.purchase(purchase["id"])["status"] == "completed"
    paid = [
        event
        for event in shop.sandbox.events
        if event["type"] == "payment_intent.succeeded"
        and event["data"]["object"]["id"] == purchase["paymentIntent"]
    ]
    assert len(paid) == 1


def test_only_correctly_signed_event_completes_purchase(shop: ShopHarness) -> None:
    with shop.app.app_context():
        pending: Any = db().purchases.find_one({"status": "pending"})
    intent = shop.sandbox.payment_intent(pending["stripePaymentIntentId"])
    for secret, status, purchase_status in [
        ("whsec_other", 400, "pending"),
        (WEBHOOK_SECRET, 204, "completed"),
    ]:
        body, headers = signed_event(make_event("payment_intent.succeeded", intent), secret)
        assert shop.client.post(WEBHOOK_PATH, data=body, headers=headers).status_code == status
        assert shop.purchase(str(pending["_id"]))["status"] == purchase_status


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_malformed_event_is_400(unchanged_shop: ShopHarness, body: bytes) -> None:
    headers = {"Stripe-Signature": "t=1,v1=00"}
    assert unchanged_shop.client.post(WEBHOOK_PATH, data=body, headers=headers).status_code == 400


def test_event_of_other_mode_is_ignored(
    unchanged_shop: ShopHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flask_refunds")
    event = make_event("refund.updated", {"id": "re_1", "object": "refund"}, livemode=True)
    body, headers = signed_event(event, WEBHOOK_SECRET)
    assert unchanged_shop.client.post(WEBHOOK_PATH, data=body, headers=headers).status_code == 204
    [record] = [record for record in caplog.records if record.name == "flask_refunds"]
    assert record.__dict__["refunds"]["event"] == "webhook_ignored"


def test_order_with_two_currencies_is_400(unchanged_shop: ShopHarness) -> None:
    with unchanged_shop.app.app_context():
        ids = [str(content["_id"]) for content in db().contents.find()]
    order = {"contents": ids, "card": CARD_SUCCEEDS}
    headers = {**unchanged_shop.ben, "Idempotency-Key": "two-currencies-at-once"}
    response = unchanged_shop.client.post("/api/purchases", json=order, headers=headers)
    assert (response.status_code, "different currencies" in response.get_json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("order", "key"),
    [
        (None, "a-key-that-is-long-enough"),
        ({"contents": [], "card": CARD_SUCCEEDS}, "a-key-that-is-long-enough"),
        ({"contents": [{"$ne": None}], "card": CARD_SUCCEEDS}, "a-key-that-is-long-enough"),
        ({"contents": [str(ObjectId())], "card": CARD_SUCCEEDS}, "a-key-that-is-long-enough"),
        ({"contents": "known", "card": {"$ne": None}}, "a-key-that-is-long-enough"),
        ({"contents": "known", "card": CARD_SUCCEEDS}, "short"),
        ({"contents": "known", "card": CARD_SUCCEEDS}, ""),
    ],
)
def test_invalid_order_is_400_without_stripe_request(
    unchanged_shop: ShopHarness, order: Any, key: str
) -> None:
    if order and order["contents"] == "known":
        order = {**order, "contents": [unchanged_shop.content]}
    before = len(unchanged_shop.sandbox.requests)
    response = unchanged_shop.client.post(
        "/api/purchases", json=order, headers={**unchanged_shop.ben, "Idempotency-Key": key}
    )
    assert response.status_code == 400
    assert len(unchanged_shop.sandbox.requests) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": demo.ADMIN.email, "password": "wrong"}, 401),
        ({"email": "unknown@shop.example", "password": demo.ADMIN.password}, 401),
        ({"email": {"$ne": None}, "password": demo.ADMIN.password}, 400),
        ([], 400),
    ],
)
def test_wrong_credentials_are_rejected(unchanged_shop: ShopHarness, body: Any, status: int) -> None:
    assert unchanged_shop.client.post("/api/sign-in", json=body).status_code == status


def test_database_with_users_is_not_seeded(unchanged_shop: ShopHarness) -> None:
    with unchanged_shop.app.app_context():
        before = [list(db()[name].find()) for name in ("users", "contents", "purchases")]
        assert demo.seed() is False
        assert [list(db()[name].find()) for name in ("users", "contents", "purchases")] == before

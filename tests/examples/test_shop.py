"""The shop's purchases, refunds, webhook and sign-in, in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId
from shop import demo
from shop.settings import WEBHOOK_PATH

from flask_refunds.testing import Cards, make_event, signed_event
from tests.examples.shop_harness import ShopHarness, open_shop


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
    purchase_id = shop.buy_and_complete(Cards.REFUND_PENDING)
    response: Any = shop.refunds.refund(purchase_id)
    assert (response.status_code, response.json["refund"]["status"]) == (202, "pending")
    purchase = shop.purchase(purchase_id)
    assert (purchase["status"], purchase["refundStatus"]) == ("completed", "pending")
    assert shop.has_access()

    shop.refunds.travel(hours=1)
    purchase = shop.purchase(purchase_id)
    assert (purchase["status"], purchase["refundStatus"]) == ("refunded", "succeeded")
    assert not shop.has_access()


def test_second_request_updates_pending_refund(shop: ShopHarness) -> None:
    purchase_id = shop.buy_and_complete(Cards.REFUND_PENDING)
    with shop.refunds.webhooks.held():
        shop.refunds.refund(purchase_id)
        [refund] = shop.refunds.stripe.refunds(shop.purchase(purchase_id)["paymentIntent"])
        shop.refunds.stripe.settle(refund["id"], "succeeded")
        assert shop.refunds.refund(purchase_id).status_code == 200
        assert not shop.has_access()


def test_refund_that_fails_later_restores_access(shop: ShopHarness) -> None:
    purchase_id = shop.buy_and_complete(Cards.REFUND_FAILS)
    assert shop.refunds.refund(purchase_id).status_code == 200
    assert not shop.has_access()

    shop.refunds.travel(hours=1)
    purchase = shop.purchase(purchase_id)
    assert (purchase["status"], purchase["refundStatus"]) == ("completed", "failed")
    assert shop.has_access()


def test_lost_response_from_stripe_charges_once(shop: ShopHarness) -> None:
    with shop.refunds.stripe.fault("response_lost", path="/v1/payment_intents/*/confirm", times=1):
        response = shop.buy(Cards.SUCCEEDS)
    assert response.status_code == 201
    [purchase] = response.json["purchases"]
    assert shop.purchase(purchase["id"])["status"] == "completed"
    paid = [
        event
        for event in shop.refunds.stripe.events
        if event["type"] == "payment_intent.succeeded"
        and event["data"]["object"]["id"] == purchase["paymentIntent"]
    ]
    assert len(paid) == 1


def test_only_correctly_signed_event_completes_purchase(shop: ShopHarness) -> None:
    pending = shop.find("purchases", status="pending")
    intent = shop.refunds.stripe.payment_intent(pending["stripePaymentIntentId"])
    for secret, status, purchase_status in [
        ("whsec_other", 400, "pending"),
        (shop.refunds.app.config["STRIPE_WEBHOOK_SECRET"], 204, "completed"),
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
    body, headers = signed_event(event, unchanged_shop.refunds.app.config["STRIPE_WEBHOOK_SECRET"])
    assert unchanged_shop.client.post(WEBHOOK_PATH, data=body, headers=headers).status_code == 204
    [record] = [record for record in caplog.records if record.name == "flask_refunds"]
    assert record.__dict__["refunds"]["event"] == "webhook_ignored"


def test_order_with_two_currencies_is_400(unchanged_shop: ShopHarness) -> None:
    ids = [str(content["_id"]) for content in unchanged_shop.db.contents.find()]
    order = {"contents": ids, "card": Cards.SUCCEEDS}
    headers = {**unchanged_shop.ben, "Idempotency-Key": "two-currencies-at-once"}
    response = unchanged_shop.client.post("/api/purchases", json=order, headers=headers)
    assert (response.status_code, "different currencies" in response.get_json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("order", "key"),
    [
        (None, "a-key-that-is-long-enough"),
        ({"contents": [], "card": Cards.SUCCEEDS}, "a-key-that-is-long-enough"),
        ({"contents": [{"$ne": None}], "card": Cards.SUCCEEDS}, "a-key-that-is-long-enough"),
        ({"contents": [str(ObjectId())], "card": Cards.SUCCEEDS}, "a-key-that-is-long-enough"),
        ({"contents": "known", "card": {"$ne": None}}, "a-key-that-is-long-enough"),
        ({"contents": "known", "card": Cards.SUCCEEDS}, "short"),
        ({"contents": "known", "card": Cards.SUCCEEDS}, ""),
    ],
)
def test_invalid_order_is_400_without_stripe_request(
    unchanged_shop: ShopHarness, order: Any, key: str
) -> None:
    if order and order["contents"] == "known":
        order = {**order, "contents": [unchanged_shop.content]}
    before = len(unchanged_shop.refunds.stripe.requests)
    response = unchanged_shop.client.post(
        "/api/purchases", json=order, headers={**unchanged_shop.ben, "Idempotency-Key": key}
    )
    assert response.status_code == 400
    assert len(unchanged_shop.refunds.stripe.requests) == before


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
    collections = [unchanged_shop.db[name] for name in ("users", "contents", "purchases")]
    before = [list(collection.find()) for collection in collections]
    with unchanged_shop.refunds.app.app_context():
        assert demo.seed() is False
    assert [list(collection.find()) for collection in collections] == before

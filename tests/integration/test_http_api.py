"""The refund endpoint, case by case, with the sandbox over HTTP and a real MongoDB."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from prometheus_client import CollectorRegistry
from werkzeug.test import TestResponse

from flask_refunds.prometheus import instrument
from flask_refunds.schemas.rendering import render
from flask_refunds.testing import StripeSandbox
from tests.integration.webhooks import PENDING_CARD
from tests.mongod import failing
from tests.shop import Shop, make_app


def assert_error(response: TestResponse, status: int, error: str, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json["error"] == error
    assert response.json["code"] == code
    assert set(response.json) <= {"error", "code", "refund", "hint", "stripeCode"}


def test_successful_refund_returns_the_purchase_and_the_refund(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, "eur")
    user, content = ObjectId(), ObjectId()
    purchase = shop.add_purchase(payment, user=user, content=content)

    response = shop.refund(purchase, json={"reason": "duplicate", "note": "bought it twice"})

    assert response.status_code == 200
    assert response.json["message"] == "Refund successful"
    assert response.json["purchase"] == {
        "_id": str(purchase),
        "user": str(user),
        "content": str(content),
        "amount": 19.99,
        "stripePaymentIntentId": payment,
        "status": "refunded",
        "createdAt": "2024-03-15T10:30:00.000Z",
        "_refunds": {
            "id": str(purchase),
            "status": "refunded",
            "refundable": False,
            "paymentIntent": payment,
            "payment": payment,
            "user": {"id": str(user)},
            "content": {"id": str(content)},
            "amountText": "19.99",
            "createdAt": render(purchase.generation_time),
        },
    }
    refund = response.json["refund"]
    times = [refund.pop(name) for name in ("createdAt", "settledAt", "updatedAt")]
    assert times == sorted(times)
    assert all(datetime.fromisoformat(time.replace("Z", "+00:00")) for time in times)
    assert refund == {
        "id": f"{payment}:1",
        "paymentIntent": payment,
        "purchaseIds": [str(purchase)],
        "status": "succeeded",
        "amount": 1999,
        "currency": "eur",
        "reason": "duplicate",
        "note": "bought it twice",
        "requestedBy": str(shop.admin_id),
        "source": "api",
        "bulkRun": None,
        "part": None,
        "stripeRefundId": sandbox.refunds(payment)[0]["id"],
        "charge": sandbox.charge(payment)["id"],
        "stripeAccount": None,
        "livemode": False,
        "isFull": True,
        "failure": None,
        "details": refund["details"],
        "advice": refund["advice"],
        "customerMessage": refund["customerMessage"],
        "review": None,
    }
    assert shop.status_of(purchase) == "refunded"
    assert sandbox.money_refunded(payment) == 1999


def test_request_to_stripe_has_the_idempotency_key_and_no_note(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    shop.refund(shop.add_purchase(payment), json={"reason": "duplicate", "note": "not for the customer"})

    [made] = sandbox.refunds(payment)
    [record] = shop.records()
    assert made["metadata"] == record["request"]["metadata"]
    assert re.fullmatch(rf"{payment}:1:[0-9a-f]{{16}}", made["metadata"]["refund_id"])
    assert made["reason"] == "duplicate"
    [request] = [request for request in sandbox.requests if request.method == "POST"]
    assert request.idempotency_key == made["metadata"]["refund_id"]
    assert "not for the customer" not in str(request)


def test_refunded_purchase_is_not_refunded_again(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1999))
    shop.refund(purchase)
    requests = len(sandbox.requests)

    response = shop.refund(purchase)

    assert_error(response, 400, "Only completed purchases can be refunded", "purchase_not_refundable")
    assert response.json["refund"]["status"] == "succeeded"
    assert len(sandbox.requests) == requests


@pytest.mark.parametrize("status", ["pending", "failed", "refunded", "disputed", None, 1, ["completed"]])
def test_purchase_that_is_not_completed_is_rejected(shop: Shop, sandbox: StripeSandbox, status: Any) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1999), status=status)
    assert_error(
        shop.refund(purchase), 400, "Only completed purchases can be refunded", "purchase_not_refundable"
    )
    assert sandbox.requests == []
    assert shop.records() == []


def test_pending_refund_settles_at_a_later_call(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, card=PENDING_CARD)
    purchase = shop.add_purchase(payment)

    for _ in range(2):
        response = shop.refund(purchase)
        assert response.status_code == 202
        assert response.json["message"] == "Refund pending"
        assert response.json["purchase"]["status"] == "completed"
        assert response.json["refund"]["status"] == "pending"
    assert shop.status_of(purchase) == "completed"

    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    response = shop.refund(purchase)
    assert response.status_code == 200
    assert response.json["purchase"]["status"] == "refunded"
    assert shop.status_of(purchase) == "refunded"
    assert len(sandbox.refunds(payment)) == 1


def test_refund_that_requires_action_is_pending(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    sandbox.inject("requires_action")
    response = shop.refund(shop.add_purchase(payment))
    assert (response.status_code, response.json["message"]) == (202, "Refund pending")
    assert response.json["refund"]["status"] == "requires_action"


UNKNOWN = [
    "request_lost",
    "response_lost",
    "server_error_before",
    "server_error_after",
    "bad_gateway",
    "service_unavailable",
    "conflict",
    "unreadable_response",
    "truncated_response",
    "empty_response",
    "wrong_object",
]


@pytest.mark.parametrize("fault", UNKNOWN)
def test_unknown_outcome_is_resumed_at_the_next_call(shop: Shop, sandbox: StripeSandbox, fault: str) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    sandbox.inject(fault, times=2)

    response = shop.refund(purchase)
    assert response.status_code == 202, response.text
    assert response.json["message"] == "Refund submitted"
    assert response.json["refund"]["status"] == "processing"
    assert response.json["purchase"]["status"] == "completed"

    if fault == "server_error_before":
        # Stripe replays a stored 500 until it forgets the key.
        sandbox.advance(25 * 3600)
        return
    response = shop.refund(purchase)
    assert (response.status_code, response.json["message"]) == (200, "Refund successful")
    assert sandbox.money_refunded(payment) == 1999
    assert len(sandbox.refunds(payment)) == len(shop.records()) == 1


def test_one_lost_response_is_retried_within_the_call(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    sandbox.inject("response_lost")
    assert shop.refund(shop.add_purchase(payment)).status_code == 200
    assert sandbox.money_refunded(payment) == 1999


def test_refund_is_resumed_after_stripe_timed_out(database: Any, sandbox: StripeSandbox) -> None:
    app = make_app(
        REFUNDS_MONGO=database,
        STRIPE_API_BASE=sandbox.url,
        REFUNDS_STRIPE_TIMEOUT=0.2,
        REFUNDS_STRIPE_RETRIES=0,
    )
    shop = Shop(app, database)
    for fault in ("timeout_before_refund", "timeout_after_refund", "endless_response"):
        payment = sandbox.create_payment(1999)
        purchase = shop.add_purchase(payment)
        sandbox.inject(fault)
        assert shop.refund(purchase).json["message"] == "Refund submitted", fault
        sandbox.clear_faults()
        assert shop.refund(purchase).status_code == 200, fault
        assert sandbox.money_refunded(payment) == 1999


def test_refund_is_resumed_after_a_failed_purchase_write(
    shop: Shop, sandbox: StripeSandbox, database: Any
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    with failing(database, "update"):
        response = shop.refund(purchase)
    assert (response.status_code, response.json["message"]) == (202, "Refund submitted")
    assert sandbox.money_refunded(payment) == 1999

    shop.db.flask_refunds.update_one({}, [{"$set": {"leaseExpiresAt": "$createdAt"}}])
    response = shop.refund(purchase)
    assert (response.status_code, response.json["message"]) == (200, "Refund successful")
    assert sandbox.money_refunded(payment) == 1999


def test_refund_is_resumed_after_a_failed_record_write(
    shop: Shop, sandbox: StripeSandbox, database: Any
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    with failing(database, "findAndModify"):
        assert shop.refund(purchase).status_code == 202
    assert shop.status_of(purchase) == "refunded"

    shop.db.flask_refunds.update_one({}, [{"$set": {"leaseExpiresAt": "$createdAt"}}])
    response = shop.refund(purchase)
    assert (response.status_code, response.json["message"]) == (200, "Refund successful")
    assert response.json["purchase"]["status"] == "refunded"


def test_database_error_before_the_request_refunds_nothing(
    shop: Shop, sandbox: StripeSandbox, database: Any
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1999))
    for command in ("find", "aggregate", "insert"):
        with failing(database, command):
            response = shop.refund(purchase)
        assert response.status_code == 500, command
        assert response.json["code"] == "database_unavailable"
        assert "This call refunded nothing" in response.json["error"]
    assert sandbox.requests == []


def test_refund_with_an_active_lease_is_in_progress(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    sandbox.inject("response_lost", times=2)
    shop.refund(purchase)
    in_a_minute = datetime.now(timezone.utc) + timedelta(minutes=1)
    shop.db.flask_refunds.update_one({}, {"$set": {"leaseExpiresAt": in_a_minute}})

    response = shop.refund(purchase)

    assert_error(response, 409, "Refund already in progress", "refund_in_progress")
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    "purchase_id",
    ["0" * 24, "x" * 24, "%00" * 24],
)
def test_unknown_or_invalid_purchase_id_is_not_found(
    shop: Shop, sandbox: StripeSandbox, purchase_id: str
) -> None:
    assert_error(shop.refund(purchase_id), 404, "Purchase not found", "purchase_not_found")
    assert sandbox.requests == []


REJECTIONS = {"card_error": "card_declined", "insufficient_balance": "balance_insufficient"}


@pytest.mark.parametrize("fault", REJECTIONS)
def test_rejected_refund_fails_and_can_be_tried_again(shop: Shop, sandbox: StripeSandbox, fault: str) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    sandbox.inject(fault)

    response = shop.refund(purchase)
    assert_error(response, 400, "Refund failed", "refund_failed")
    assert response.json["refund"]["status"] == "failed"
    assert response.json["refund"]["failure"]["code"] == REJECTIONS[fault]
    assert shop.status_of(purchase) == "completed"

    response = shop.refund(purchase)
    assert response.status_code == 200
    assert response.json["refund"]["id"] == f"{payment}:2"
    assert sandbox.money_refunded(payment) == 1999


@pytest.mark.parametrize("fault", ["failed", "canceled"])
def test_failed_or_canceled_refund_can_be_tried_again(shop: Shop, sandbox: StripeSandbox, fault: str) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    sandbox.inject(fault)
    response = shop.refund(purchase)
    assert_error(response, 400, "Refund failed", "refund_failed")
    assert response.json["refund"]["status"] == fault
    assert shop.status_of(purchase) == "completed"
    assert shop.refund(purchase).status_code == 200


def test_rejection_has_the_code_of_stripe(shop: Shop, sandbox: StripeSandbox) -> None:
    disputed = sandbox.create_payment(1999, card="4000000000000259")
    for payment, code in ((disputed, "charge_disputed"), ("pi_unknown", "resource_missing")):
        response = shop.refund(shop.add_purchase(payment))
        own = "payment_unknown" if code == "resource_missing" else "refund_failed"
        assert_error(response, 400, "Refund failed", own)
        assert (response.json["refund"]["failure"]["code"], response.json["stripeCode"]) == (code, code)
        assert ("stripe_account" in response.json.get("hint", "")) is (code == "resource_missing")


@pytest.mark.parametrize("payment", [None, "", 42, "free", "ch_", "pi_1:1", "pi_", "pi_\0"])
def test_purchase_without_payment_intent_is_rejected(
    shop: Shop, sandbox: StripeSandbox, payment: Any
) -> None:
    shop.add_purchase(payment)
    assert_error(shop.refund(shop.add_purchase(payment)), 400, "Refund failed", "payment_intent_missing")
    assert sandbox.requests == []


@pytest.mark.parametrize("payment", [None, "free"])
def test_many_purchases_without_payment_intent_are_not_loaded(shop: Shop, payment: str | None) -> None:
    purchases = [shop.add_purchase(payment, notes="x" * 500_000) for _ in range(40)]
    assert_error(shop.refund(purchases[0]), 400, "Refund failed", "payment_intent_missing")


def test_rate_limited_refund_can_be_tried_again(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    sandbox.inject("rate_limited", times=2)
    response = shop.refund(purchase)
    assert (response.status_code, response.json["code"]) == (503, "stripe_rate_limited")
    assert int(response.headers["Retry-After"]) > 0
    assert "Nothing was refunded" in response.json["error"]
    assert sandbox.money_refunded(payment) == 0
    assert shop.refund(purchase).status_code == 200
    assert sandbox.money_refunded(payment) == 1999


@pytest.mark.parametrize("fault", ["key_rejected", "key_forbidden"])
def test_rejected_stripe_key_refunds_nothing(shop: Shop, sandbox: StripeSandbox, fault: str) -> None:
    payment = sandbox.create_payment(1999)
    sandbox.inject(fault)
    response = shop.refund(shop.add_purchase(payment))
    assert (response.status_code, response.json["code"]) == (500, "stripe_key_rejected")
    assert "Nothing was refunded" in response.json["error"]
    assert "sk_" not in response.text
    assert sandbox.money_refunded(payment) == 0


@pytest.mark.parametrize("later", ["rate_limited", "key_rejected", "key_forbidden"])
def test_rejected_retry_after_a_lost_response_is_unknown(
    shop: Shop, sandbox: StripeSandbox, later: str
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    sandbox.inject("response_lost")
    sandbox.inject(later, after=1)
    response = shop.refund(purchase)
    assert (response.status_code, response.json["message"]) == (202, "Refund submitted")
    sandbox.clear_faults()
    assert shop.refund(purchase).status_code == 200
    assert sandbox.money_refunded(payment) == 1999


def test_all_completed_purchases_of_a_payment_are_refunded(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4000)
    cart = [shop.add_purchase(payment) for _ in range(2)]
    unpaid = shop.add_purchase(payment, status="pending")
    other = shop.add_purchase(sandbox.create_payment(1))

    response = shop.refund(cart[0])

    assert response.status_code == 200
    assert set(response.json["refund"]["purchaseIds"]) == {str(each) for each in [*cart, unpaid]}
    assert [shop.status_of(each) for each in cart] == ["refunded", "refunded"]
    assert (shop.status_of(unpaid), shop.status_of(other)) == ("pending", "completed")
    assert shop.refund(cart[1]).status_code == 400
    assert sandbox.money_refunded(payment) == 4000


def test_payment_refunded_in_the_dashboard_is_not_refunded_again(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    made = [sandbox.dashboard_refund(payment, amount) for amount in (1000, 3000)]

    response = shop.refund(purchase)

    assert_error(response, 400, "Only completed purchases can be refunded", "purchase_not_refundable")
    assert shop.status_of(purchase) == "refunded"
    own, *external = shop.records()
    external.sort(key=lambda record: int(record["amount"]))
    assert (own["status"], own["failure"]["code"]) == ("failed", "charge_already_refunded")
    assert [(record["source"], record["status"], record["amount"]) for record in external] == [
        ("external", "succeeded", 1000),
        ("external", "succeeded", 3000),
    ]
    assert [record["stripeRefundId"] for record in external] == [each["id"] for each in made]
    assert shop.refund(purchase).status_code == 400
    assert len(shop.records()) == 3


def test_partial_dashboard_refund_reduces_the_amount(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    sandbox.dashboard_refund(payment, 1000)
    response = shop.refund(purchase)
    assert response.status_code == 200
    assert response.json["refund"]["amount"] == 3000
    assert sandbox.money_refunded(payment) == 4000


def test_record_older_than_23_hours_needs_review_and_is_not_sent(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    sandbox.inject("request_lost", times=2)
    shop.refund(purchase)
    a_day_ago = datetime.now(timezone.utc) - timedelta(hours=23, minutes=1)
    shop.db.flask_refunds.update_one({}, {"$set": {"createdAt": a_day_ago}})
    sandbox.advance(25 * 3600)

    for _ in range(2):
        response = shop.refund(purchase)
        assert (response.status_code, response.json["message"]) == (202, "Refund submitted")
        assert response.json["refund"]["review"]["code"] == "unknown_too_long"
        assert response.json["refund"]["status"] == "processing"
    assert sandbox.money_refunded(payment) == 0


def test_old_record_adopts_the_refund_that_stripe_lists(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    sandbox.inject("response_lost", times=2)
    shop.refund(purchase)
    a_week_ago = datetime.now(timezone.utc) - timedelta(days=7)
    shop.db.flask_refunds.update_one({}, {"$set": {"createdAt": a_week_ago}})
    sandbox.advance(7 * 24 * 3600)
    assert shop.refund(purchase).status_code == 200
    assert sandbox.money_refunded(payment) == 1999


def test_refund_takes_five_database_round_trips(mongo_uri: str, sandbox: StripeSandbox) -> None:
    seen: list[str] = []

    class Listener(pymongo.monitoring.CommandListener):
        def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
            seen.append(event.command_name)

        def succeeded(self, event: pymongo.monitoring.CommandSucceededEvent) -> None: ...

        def failed(self, event: pymongo.monitoring.CommandFailedEvent) -> None: ...

    with pymongo.MongoClient(mongo_uri, event_listeners=[Listener()]) as client:
        database = client.get_default_database()
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
        instrument(shop.app, CollectorRegistry())  # metrics cause no more commands
        for _ in range(3):  # the first one also reads MongoDB's clock, and whether the app has receivers
            purchase = shop.add_purchase(sandbox.create_payment(1999))
            requests = len(sandbox.requests)
            seen.clear()
            assert shop.refund(purchase).status_code == 200
            assert len(sandbox.requests) == requests + 1
        assert seen == ["find", "aggregate", "insert", "update", "findAndModify"]

"""Stripe's events, over HTTP, on a real MongoDB: who is believed, and what becomes of the ledger."""

from __future__ import annotations

import json
import re
import time
from types import MappingProxyType
from typing import Any

import pytest
import stripe
from werkzeug.test import TestResponse

from flask_refunds import InvalidRequest, handle_event
from flask_refunds.testing import StripeSandbox, make_event, signed_event
from tests.mongod import failing
from tests.shop import Shop, make_app
from tests.told import Told

SECRET = "whsec_of_the_tests_0123456789"
OLD_SECRET = "whsec_that_is_being_rotated_out"
PENDING = "4000000000007726"
PATH = "/api/payments/webhook/refunds"


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(
        REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=[SECRET, OLD_SECRET]
    )
    return Shop(app, database)


def send(shop: Shop, event: Any, secret: str = SECRET, *, at: float | None = None) -> TestResponse:
    body, headers = signed_event(event, secret, timestamp=int(time.time() if at is None else at))
    return shop.client.post(PATH, data=body, headers=headers)


def events_of(sandbox: StripeSandbox, *types: str) -> list[dict[str, Any]]:
    return [event for event in sandbox.events if event["type"] in types]


def pending_refund(shop: Shop, sandbox: StripeSandbox) -> tuple[str, Any]:
    payment = sandbox.create_payment(1999, card=PENDING)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 202
    return payment, purchase


def test_a_pending_refund_succeeds_by_an_event(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = pending_refund(shop, sandbox)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    for event in sandbox.events:
        assert send(shop, event).json == {"received": True}
    assert shop.status_of(purchase) == "refunded"
    [row] = shop.records()
    assert (row["status"], row["history"][-1]["actor"]) == ("succeeded", "webhook")


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_each_secret_serves_while_rotating(shop: Shop, sandbox: StripeSandbox, secret: str) -> None:
    assert send(shop, make_event("ping", {}), secret).status_code == 200


@pytest.mark.parametrize("seconds", [-299, 299])
def test_a_clock_that_is_a_little_off(shop: Shop, seconds: int) -> None:
    assert send(shop, make_event("ping", {}), at=time.time() + seconds).status_code == 200


EVENT = make_event("ping", {})
BODY, HEADERS = signed_event(EVENT, SECRET)
NOW = int(time.time())


def forged(body: bytes = BODY, **headers: str) -> tuple[bytes, dict[str, str]]:
    return body, {**signed_event(EVENT, SECRET)[1], **{k.replace("_", "-"): v for k, v in headers.items()}}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, {}),
        forged(Stripe_Signature=""),
        forged(Stripe_Signature="nonsense"),
        forged(Stripe_Signature=f"t={NOW},v1="),
        forged(Stripe_Signature=f"t={NOW},v1=é"),
        forged(Stripe_Signature=f"t=-{NOW}," + HEADERS["Stripe-Signature"].split(",")[1]),
        forged(Stripe_Signature=HEADERS["Stripe-Signature"] + f",t={NOW}"),
        forged(Stripe_Signature=HEADERS["Stripe-Signature"].replace("v1=", "v0=")),
        forged(Stripe_Signature="t=" + "9" * 5000),
        forged(body=BODY + b" "),
        signed_event(EVENT, "whsec_of_somebody_else_entirely"),
        signed_event(EVENT, ""),
        signed_event(EVENT, SECRET, timestamp=NOW - 3600),
        signed_event(EVENT, SECRET, timestamp=NOW + 3600),
    ],
)
def test_what_stripe_did_not_sign_just_now(shop: Shop, body: bytes, headers: dict[str, str]) -> None:
    response = shop.client.post(PATH, data=body, headers=headers)
    words = "The event is not signed by Stripe, or not just now."
    assert (response.status_code, response.json) == (400, {"error": words, "code": "invalid_request"})


def sign(body: bytes) -> dict[str, str]:
    """Sign a body that is no event."""
    import hashlib
    import hmac

    signature = hmac.new(SECRET.encode(), f"{NOW}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={NOW},v1={signature}"}


NO_JSON = "The event is no JSON."
NO_EVENT = "The event is not as Stripe sends them."


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", NO_JSON),
        (b"\xff\xfe", NO_JSON),
        (b"{", NO_JSON),
        (b"[]", "The event is no JSON object."),
        (b"null", "The event is no JSON object."),
        (b"{}", NO_EVENT),
        (b"[" * 100_000, NO_JSON),
        (b'{"type": "refund.updated"}', NO_EVENT),
        (json.dumps({**EVENT, "livemode": "false"}).encode(), NO_EVENT),
        (
            json.dumps({**EVENT, "livemode": True}).encode(),
            "The event is of live mode, and this server's key is not.",
        ),
        (json.dumps({**EVENT, "data": {"object": []}}).encode(), NO_EVENT),
        (
            json.dumps(make_event("refund.updated", {"object": "refund", "payment_intent": "pi_1"})).encode(),
            "The event's refund is not as Stripe documents it.",
        ),
    ],
)
def test_what_is_signed_and_no_event_of_ours(shop: Shop, body: bytes, words: str, told: Told) -> None:
    response = shop.client.post(PATH, data=body, headers=sign(body))
    assert (response.status_code, response.json) == (400, {"error": words, "code": "invalid_request"})
    assert shop.records() == []
    [facts] = told()
    assert facts["why"] == ("mode" if "mode" in words else "malformed")
    assert (facts["event_id"] is not None) == (b"evt_" in body)
    assert (facts["event_type"] is not None) == (b'"type"' in body)


def test_no_secret_no_webhook(database: Any, sandbox: StripeSandbox) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
    response = send(shop, EVENT)
    assert (response.status_code, response.json["code"]) == (404, "webhook_not_configured")


def test_events_of_nobody_and_of_other_shops(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.refund_in_dashboard(sandbox.create_payment(500))
    of_a_charge = {**sandbox.refunds()[0], "payment_intent": None}
    events = [*sandbox.events, make_event("refund.updated", of_a_charge), make_event("x.y", {})]
    events += [make_event("charge.refunded", {"payment_intent": strange}) for strange in (None, 7, {})]
    sandbox.inject("drop_before", times=99)  # Stripe is not asked about them
    for event in events:
        assert send(shop, event).status_code == 200
    assert shop.records() == []


@pytest.mark.parametrize("kind", ["refund.created", "charge.refunded"])
def test_a_refund_of_the_dashboard(shop: Shop, sandbox: StripeSandbox, kind: str) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    for amount, left in ((1000, "completed"), (3000, "refunded")):
        sandbox.refund_in_dashboard(payment, amount)
        for event in events_of(sandbox, kind) * 2:
            assert send(shop, event).status_code == 200
        assert shop.status_of(purchase) == left
    assert [(row["source"], row["amount"], row["status"]) for row in shop.records()] == [
        ("dashboard", 1000, "succeeded"),
        ("dashboard", 3000, "succeeded"),
    ]
    assert [row["purchaseIds"] for row in shop.records()] == [[purchase], [purchase]]


def test_an_event_of_a_charge_brings_its_own_payment_s_refunds(shop: Shop, sandbox: StripeSandbox) -> None:
    payments = [sandbox.create_payment(4000) for _ in range(2)]
    for payment in payments:
        shop.add_purchase(payment)
        sandbox.refund_in_dashboard(payment)
    assert send(shop, events_of(sandbox, "charge.refunded")[0]).status_code == 200
    assert [row["paymentIntent"] for row in shop.records()] == [payments[0]]


@pytest.mark.parametrize(
    ("request_of", "told"),
    [({"id": "req_1"}, "req_1"), ({"id": None}, None), ({"id": 1}, None), ("req_1", None), (None, None)],
)
def test_the_request_that_an_event_names(
    shop: Shop, sandbox: StripeSandbox, request_of: Any, told: str | None
) -> None:
    """It was a string once (https://docs.stripe.com/upgrades#2017-05-25)."""
    payment = sandbox.create_payment(4000)
    shop.add_purchase(payment)
    made = sandbox.refund_in_dashboard(payment)
    assert send(shop, {**make_event("refund.created", made), "request": request_of}).status_code == 200
    assert shop.records()[0]["history"][0]["stripeRequestId"] == told


def test_a_partial_refund_lowers_what_is_left(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    sandbox.refund_in_dashboard(payment, 1000)
    for event in sandbox.events:
        send(shop, event)
    response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["amount"]) == (200, 3000)
    assert response.json["refund"]["id"] == f"{payment}:2"


def test_a_dashboard_refund_that_fails_later(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    made = sandbox.refund_in_dashboard(payment)
    for event in events_of(sandbox, "refund.created"):
        send(shop, event)
    assert shop.status_of(purchase) == "refunded"
    sandbox.settle(made["id"], "failed", "lost_or_stolen_card")
    for event in events_of(sandbox, "refund.failed", "refund.updated"):
        send(shop, event)
    assert shop.status_of(purchase) == "completed"
    [row] = shop.records()
    assert (row["status"], row["review"]["code"]) == ("failed", "failed_after_success")
    assert shop.refund(purchase).status_code == 200


def test_a_success_that_fails_later(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed", "lost_or_stolen_card")
    for event in events_of(sandbox, "refund.failed"):
        send(shop, event)
    assert shop.status_of(purchase) == "completed"
    [row] = shop.records()
    assert (row["status"], row["failure"]["code"]) == ("failed", "lost_or_stolen_card")
    assert row["review"]["code"] == "failed_after_success"


def test_an_event_whose_row_is_not_there(shop: Shop, sandbox: StripeSandbox) -> None:
    """As after a restore of the database from yesterday's backup."""
    payment, purchase = pending_refund(shop, sandbox)
    shop.db.flask_refunds.delete_many({})
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    for event in sandbox.events * 2:
        assert send(shop, event).status_code == 200
    assert shop.status_of(purchase) == "refunded"
    assert [row["status"] for row in shop.records()] == ["succeeded"]
    assert shop.refund(purchase).status_code == 400
    assert sandbox.money_refunded(payment) == 1999


def five_events(sandbox: StripeSandbox, payment: str) -> list[dict[str, Any]]:
    refund = sandbox.refunds(payment)[0]
    stages = [("refund.created", "pending"), ("refund.updated", "pending"), ("refund.updated", "succeeded")]
    stages += [("refund.updated", "failed"), ("refund.failed", "failed")]
    return [make_event(kind, {**refund, "status": status}) for kind, status in stages]


def test_five_events_in_every_order_however_often_each(shop: Shop, sandbox: StripeSandbox) -> None:
    """Every state that any deliveries lead to is met, and each event is delivered in each of them."""
    payment, purchase = pending_refund(shop, sandbox)
    events = five_events(sandbox, payment)

    def standing() -> Any:
        [row] = shop.records()
        review = row["review"] and row["review"]["code"]
        return row["status"], row["stripeRefundId"], row["amount"], review, shop.status_of(purchase)

    start = (frozenset[int](), standing())
    met = {start: (shop.records(), list(shop.db.purchases.find()))}
    to_visit = [start]
    while to_visit:
        delivered, stood = to_visit.pop()
        for number, event in enumerate(events):
            for collection, documents in zip(
                (shop.db.flask_refunds, shop.db.purchases), met[delivered, stood], strict=True
            ):
                collection.delete_many({})
                collection.insert_many(documents)
            assert send(shop, event).status_code == 200
            then = (delivered | {number}, standing())
            if then not in met:
                met[then] = (shop.records(), list(shop.db.purchases.find()))
                to_visit.append(then)
    assert len(met) > 32
    ends = {(stood[0], stood[-1]) for delivered, stood in met if len(delivered) == 5}
    assert ends == {("failed", "completed")}
    # Only who had seen the success asks for a person when it fails.
    assert {stood[3] for delivered, stood in met if len(delivered) == 5} == {None, "failed_after_success"}


@pytest.mark.parametrize("command", ["find", "update", "findAndModify"])
def test_the_database_is_down(shop: Shop, sandbox: StripeSandbox, database: Any, command: str) -> None:
    payment, purchase = pending_refund(shop, sandbox)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    [event] = events_of(sandbox, "refund.updated")
    with failing(database, command):
        assert send(shop, event).status_code == 500
    assert send(shop, event).status_code == 200
    assert shop.status_of(purchase) == "refunded"
    assert shop.records()[0]["status"] == "succeeded"


def test_stripe_cannot_be_asked(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    sandbox.refund_in_dashboard(payment)
    for path in ("/v1/payment_intents/*", "/v1/refunds"):
        sandbox.inject("drop_before", method="GET", path=path, times=9)
        for event in events_of(sandbox, "charge.refunded"):
            response = send(shop, event)
            assert (response.status_code, response.json["code"]) == (503, "stripe_unavailable")
        sandbox.clear_faults()
    for event in events_of(sandbox, "charge.refunded"):
        assert send(shop, event).status_code == 200
    assert shop.status_of(purchase) == "refunded"


@pytest.mark.parametrize("as_object", [False, True])
def test_the_hosts_own_webhook(shop: Shop, sandbox: StripeSandbox, as_object: bool) -> None:
    payment, purchase = pending_refund(shop, sandbox)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    [news] = events_of(sandbox, "refund.updated")
    event: Any = news
    if as_object:
        body, headers = signed_event(news, SECRET)
        event = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)  # type: ignore[no-untyped-call]
    with shop.app.app_context():
        assert handle_event(event) is True
        assert handle_event(MappingProxyType(news)) is True
        assert handle_event(make_event("ping", {})) is False
    assert shop.status_of(purchase) == "refunded"


def test_the_hosts_own_webhook_hears_of_other_shops(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.refund_in_dashboard(sandbox.create_payment(500))
    with shop.app.app_context():
        for event in events_of(sandbox, "refund.created", "charge.refunded"):
            assert handle_event(event) is False


@pytest.mark.parametrize("event", [None, "refund.created", 7, [EVENT]])
def test_the_hosts_own_webhook_gives_what_is_no_event(shop: Shop, event: Any, told: Told) -> None:
    with (
        shop.app.app_context(),
        pytest.raises(InvalidRequest, match=f"^{re.escape(NO_EVENT)}$"),
    ):
        handle_event(event)
    [facts] = told()
    assert facts["why"] == "malformed"

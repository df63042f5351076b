"""Stripe events over HTTP on a real MongoDB: which are accepted, and how they change the ledger."""

from __future__ import annotations

import json
import time
from types import MappingProxyType
from typing import Any

import pytest
import stripe

from flask_refunds import InvalidRequest, handle_event
from flask_refunds.testing import StripeSandbox, make_event, signed_event
from tests.integration.webhooks import PATH, PENDING_CARD, SECRET, send
from tests.log_records import LogRecords
from tests.mongod import failing
from tests.shop import Shop, make_app

OLD_SECRET = "whsec_during_the_rotation_0123"


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(
        REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=[SECRET, OLD_SECRET]
    )
    return Shop(app, database)


def events_of(sandbox: StripeSandbox, *types: str) -> list[dict[str, Any]]:
    return [event for event in sandbox.events if event["type"] in types]


def pending_refund(shop: Shop, sandbox: StripeSandbox) -> tuple[str, Any]:
    payment = sandbox.create_payment(1999, card=PENDING_CARD)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 202
    return payment, purchase


def test_event_settles_a_pending_refund(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = pending_refund(shop, sandbox)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    for event in sandbox.events:
        assert send(shop, event).json == {"received": True}
    assert shop.status_of(purchase) == "refunded"
    [record] = shop.records()
    assert (record["status"], record["history"][-1]["actor"]) == ("succeeded", "webhook")


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_both_secrets_are_valid_during_rotation(shop: Shop, sandbox: StripeSandbox, secret: str) -> None:
    assert send(shop, make_event("ping", {}), secret).status_code == 200


@pytest.mark.parametrize("seconds", [-299, 299])
def test_signature_within_five_minutes_is_valid(shop: Shop, seconds: int) -> None:
    assert send(shop, make_event("ping", {}), at=time.time() + seconds).status_code == 200


EVENT = make_event("ping", {})
BODY, HEADERS = signed_event(EVENT, SECRET)
NOW = int(time.time())


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, {}),
        (BODY + b" ", HEADERS),
        (BODY, {"Stripe-Signature": f"t={NOW},v1=é"}),
        signed_event(EVENT, "whsec_of_another_endpoint"),
        signed_event(EVENT, SECRET, timestamp=NOW - 3600),
    ],
)
def test_invalid_signature_is_rejected(shop: Shop, body: bytes, headers: dict[str, str]) -> None:
    response = shop.client.post(PATH, data=body, headers=headers)
    assert (response.status_code, response.json["code"]) == (400, "invalid_request")
    assert "STRIPE_WEBHOOK_SECRET" in response.json["error"]


def sign(body: bytes) -> dict[str, str]:
    """Sign a body that isn't an event."""
    import hashlib
    import hmac

    signature = hmac.new(SECRET.encode(), f"{NOW}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={NOW},v1={signature}"}


NOT_JSON = "The body isn't valid JSON."
NOT_AN_OBJECT = "The body must be a JSON object."
NOT_AN_EVENT = "The body isn't a Stripe event."


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", NOT_JSON),
        (b"\xff\xfe", NOT_JSON),
        (b"{", NOT_JSON),
        (b"[]", NOT_AN_OBJECT),
        (b"null", NOT_AN_OBJECT),
        (b"{}", NOT_AN_EVENT),
        (b"[" * 100_000, NOT_JSON),
        (b'{"type": "refund.updated"}', NOT_AN_EVENT),
        (json.dumps({**EVENT, "livemode": "false"}).encode(), NOT_AN_EVENT),
        (
            json.dumps({**EVENT, "livemode": True}).encode(),
            "This is a live-mode event, and this server's key isn't.",
        ),
        (json.dumps({**EVENT, "data": {"object": []}}).encode(), NOT_AN_EVENT),
        (
            json.dumps(make_event("refund.updated", {"object": "refund", "payment_intent": "pi_1"})).encode(),
            "The event's refund isn't as Stripe documents it.",
        ),
    ],
)
def test_signed_body_that_is_not_an_event_is_rejected_and_logged(
    shop: Shop, body: bytes, error: str, log_records: LogRecords
) -> None:
    response = shop.client.post(PATH, data=body, headers=sign(body))
    assert (response.status_code, response.json) == (400, {"error": error, "code": "invalid_request"})
    assert shop.records() == []
    [record] = log_records()
    assert record["reason"] == ("mode" if "live-mode" in error else "malformed")
    assert (record["event_id"] is not None) == (b"evt_" in body)
    assert (record["event_type"] is not None) == (b'"type"' in body)


def test_webhook_without_secret_is_disabled(database: Any, sandbox: StripeSandbox) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
    response = send(shop, EVENT)
    assert (response.status_code, response.json["code"]) == (404, "webhook_not_configured")


def test_events_of_other_apps_are_ignored_without_stripe_requests(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.refund_in_dashboard(sandbox.create_payment(500))
    without_intent = {**sandbox.refunds()[0], "payment_intent": None}
    events = [*sandbox.events, make_event("refund.updated", without_intent), make_event("x.y", {})]
    events += [make_event("charge.refunded", {"payment_intent": invalid}) for invalid in (None, 7, {})]
    sandbox.inject("drop_before", times=99)  # these events cause no requests to Stripe
    for event in events:
        assert send(shop, event).status_code == 200
    assert shop.records() == []


@pytest.mark.parametrize("kind", ["refund.created", "charge.refunded"])
def test_dashboard_refund_is_recorded_and_marks_the_purchase(
    shop: Shop, sandbox: StripeSandbox, kind: str
) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    for amount, status in ((1000, "completed"), (3000, "refunded")):
        sandbox.refund_in_dashboard(payment, amount)
        for event in events_of(sandbox, kind) * 2:
            assert send(shop, event).status_code == 200
        assert shop.status_of(purchase) == status
    assert [(record["source"], record["amount"], record["status"]) for record in shop.records()] == [
        ("external", 1000, "succeeded"),
        ("external", 3000, "succeeded"),
    ]
    assert [record["purchaseIds"] for record in shop.records()] == [[purchase], [purchase]]


def test_charge_event_records_refunds_of_its_payment_only(shop: Shop, sandbox: StripeSandbox) -> None:
    payments = [sandbox.create_payment(4000) for _ in range(2)]
    for payment in payments:
        shop.add_purchase(payment)
        sandbox.refund_in_dashboard(payment)
    assert send(shop, events_of(sandbox, "charge.refunded")[0]).status_code == 200
    assert [record["paymentIntent"] for record in shop.records()] == [payments[0]]


@pytest.mark.parametrize(
    ("request_of", "stored"),
    [({"id": "req_1"}, "req_1"), ({"id": None}, None), ({"id": 1}, None), ("req_1", None), (None, None)],
)
def test_request_id_of_the_event_is_stored_in_the_history(
    shop: Shop, sandbox: StripeSandbox, request_of: Any, stored: str | None
) -> None:
    """Old API versions have a string here (https://docs.stripe.com/upgrades#2017-05-25)."""
    payment = sandbox.create_payment(4000)
    shop.add_purchase(payment)
    made = sandbox.refund_in_dashboard(payment)
    assert send(shop, {**make_event("refund.created", made), "request": request_of}).status_code == 200
    assert shop.records()[0]["history"][0]["stripeRequestId"] == stored


def test_partial_dashboard_refund_reduces_the_next_amount(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    sandbox.refund_in_dashboard(payment, 1000)
    for event in sandbox.events:
        send(shop, event)
    response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["amount"]) == (200, 3000)
    assert response.json["refund"]["id"] == f"{payment}:2"


def test_dashboard_refund_that_fails_later_needs_review(shop: Shop, sandbox: StripeSandbox) -> None:
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
    [record] = shop.records()
    assert (record["status"], record["review"]["code"]) == ("failed", "failed_after_success")
    assert shop.refund(purchase).status_code == 200


def test_refund_that_fails_after_success_needs_review(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed", "lost_or_stolen_card")
    for event in events_of(sandbox, "refund.failed"):
        send(shop, event)
    assert shop.status_of(purchase) == "completed"
    [record] = shop.records()
    assert (record["status"], record["failure"]["code"]) == ("failed", "lost_or_stolen_card")
    assert record["review"]["code"] == "failed_after_success"


def test_event_of_a_missing_record_recreates_it(shop: Shop, sandbox: StripeSandbox) -> None:
    """The database was restored from an older backup."""
    payment, purchase = pending_refund(shop, sandbox)
    shop.db.flask_refunds.delete_many({})
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    for event in sandbox.events * 2:
        assert send(shop, event).status_code == 200
    assert shop.status_of(purchase) == "refunded"
    assert [record["status"] for record in shop.records()] == ["succeeded"]
    assert shop.refund(purchase).status_code == 400
    assert sandbox.money_refunded(payment) == 1999


def five_events(sandbox: StripeSandbox, payment: str) -> list[dict[str, Any]]:
    refund = sandbox.refunds(payment)[0]
    stages = [("refund.created", "pending"), ("refund.updated", "pending"), ("refund.updated", "succeeded")]
    stages += [("refund.updated", "failed"), ("refund.failed", "failed")]
    return [make_event(kind, {**refund, "status": status}) for kind, status in stages]


def test_five_events_in_any_order_and_number_lead_to_one_state(shop: Shop, sandbox: StripeSandbox) -> None:
    """Every reachable state is visited, and each event is delivered in each state."""
    payment, purchase = pending_refund(shop, sandbox)
    events = five_events(sandbox, payment)

    def state() -> Any:
        [record] = shop.records()
        review = record["review"] and record["review"]["code"]
        return record["status"], record["stripeRefundId"], record["amount"], review, shop.status_of(purchase)

    start = (frozenset[int](), state())
    visited = {start: (shop.records(), list(shop.db.purchases.find()))}
    to_visit = [start]
    while to_visit:
        delivered, before = to_visit.pop()
        for number, event in enumerate(events):
            for collection, documents in zip(
                (shop.db.flask_refunds, shop.db.purchases), visited[delivered, before], strict=True
            ):
                collection.delete_many({})
                collection.insert_many(documents)
            assert send(shop, event).status_code == 200
            after = (delivered | {number}, state())
            if after not in visited:
                visited[after] = (shop.records(), list(shop.db.purchases.find()))
                to_visit.append(after)
    assert len(visited) > 32
    ends = {(end[0], end[-1]) for delivered, end in visited if len(delivered) == 5}
    assert ends == {("failed", "completed")}
    # A failure needs review only if the success was processed before.
    assert {end[3] for delivered, end in visited if len(delivered) == 5} == {None, "failed_after_success"}


@pytest.mark.parametrize("command", ["find", "update", "findAndModify"])
def test_event_can_be_resent_after_a_database_error(
    shop: Shop, sandbox: StripeSandbox, database: Any, command: str
) -> None:
    payment, purchase = pending_refund(shop, sandbox)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    [event] = events_of(sandbox, "refund.updated")
    with failing(database, command):
        assert send(shop, event).status_code == 500
    assert send(shop, event).status_code == 200
    assert shop.status_of(purchase) == "refunded"
    assert shop.records()[0]["status"] == "succeeded"


def test_event_can_be_resent_after_stripe_was_unavailable(shop: Shop, sandbox: StripeSandbox) -> None:
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
def test_handle_event_processes_dicts_mappings_and_stripe_objects(
    shop: Shop, sandbox: StripeSandbox, as_object: bool
) -> None:
    payment, purchase = pending_refund(shop, sandbox)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    [updated] = events_of(sandbox, "refund.updated")
    event: Any = updated
    if as_object:
        body, headers = signed_event(updated, SECRET)
        event = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)  # type: ignore[no-untyped-call]
    with shop.app.app_context():
        assert handle_event(event) is True
        assert handle_event(MappingProxyType(updated)) is True
        assert handle_event(make_event("ping", {})) is False
    assert shop.status_of(purchase) == "refunded"


def test_handle_event_ignores_events_of_other_apps(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.refund_in_dashboard(sandbox.create_payment(500))
    with shop.app.app_context():
        for event in events_of(sandbox, "refund.created", "charge.refunded"):
            assert handle_event(event) is False


@pytest.mark.parametrize("event", [None, "refund.created", 7, [EVENT]])
def test_handle_event_rejects_what_is_not_an_event(shop: Shop, event: Any, log_records: LogRecords) -> None:
    with (
        shop.app.app_context(),
        pytest.raises(InvalidRequest, match="isn't a Stripe event"),
    ):
        handle_event(event)
    [record] = log_records()
    assert record["reason"] == "malformed"

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
from tests.shop import STRIPE_KEY, Shop, make_app

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

    now = int(time.time())
    signature = hmac.new(SECRET.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={now},v1={signature}"}


NOT_JSON = "The body isn't valid JSON."
NOT_AN_OBJECT = "The body must be a JSON object."
NOT_AN_EVENT = "The body isn't a Stripe event."
UPDATED = make_event("refund.updated", {"id": "re_1", "object": "refund"})
THIN = make_event("v1.refund.updated", {"id": "re_1", "object": "refund"})


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
        (json.dumps({**UPDATED, "livemode": "false"}).encode(), NOT_AN_EVENT),
        (json.dumps({**UPDATED, "data": {"object": []}}).encode(), NOT_AN_EVENT),
        (json.dumps({**THIN, "related_object": {}}).encode(), "The thin event has no related object."),
    ],
)
def test_signed_body_that_is_not_an_event_is_rejected_and_logged(
    shop: Shop, body: bytes, error: str, log_records: LogRecords
) -> None:
    response = shop.client.post(PATH, data=body, headers=sign(body))
    assert (response.status_code, response.json) == (400, {"error": error, "code": "invalid_request"})
    assert shop.records() == []
    [record] = log_records()
    assert record["reason"] == "malformed"
    assert (record["event_id"] is not None) == (b"evt_" in body)
    assert (record["event_type"] is not None) == (b'"type"' in body)


def test_webhook_without_secret_is_disabled(database: Any, sandbox: StripeSandbox) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
    response = send(shop, EVENT)
    assert (response.status_code, response.json["code"]) == (404, "webhook_not_configured")


def test_events_of_other_apps_are_ignored_without_stripe_requests(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.dashboard_refund(sandbox.create_payment(500))
    without_intent = {**sandbox.refunds()[0], "payment_intent": None}
    events = [*sandbox.events, make_event("refund.updated", without_intent), make_event("x.y", {})]
    events += [make_event("charge.refunded", {"payment_intent": invalid}) for invalid in (None, 7, {})]
    sandbox.inject("request_lost", times=99)  # these events cause no requests to Stripe
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
        sandbox.dashboard_refund(payment, amount)
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
        sandbox.dashboard_refund(payment)
    assert send(shop, events_of(sandbox, "charge.refunded")[0]).status_code == 200
    assert [record["paymentIntent"] for record in shop.records()] == [payments[0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 1, "currency": "jpy", "status": "failed", "failure_reason": "\ud800"},
        {"amount": "4000", "created": float("inf"), "metadata": None, "status": None},
        {"amount": 10**30, "charge": {"amount_captured": 1}, "status": "a_new_word"},
    ],
)
def test_refund_is_read_at_stripe_and_not_taken_from_the_event(
    shop: Shop, sandbox: StripeSandbox, changes: dict[str, Any]
) -> None:
    purchase = shop.add_purchase(payment := sandbox.create_payment(4000))
    made = sandbox.dashboard_refund(payment)
    assert (
        send(shop, make_event("refund.created", {**made, **changes}, request_id="req_1")).status_code == 200
    )
    [record] = shop.records()
    assert (record["status"], record["amount"], record["currency"]) == ("succeeded", 4000, "usd")
    assert [entry["stripeRequestId"] for entry in record["history"]] == [sandbox.requests[-1].request_id]
    assert shop.status_of(purchase) == "refunded"


@pytest.mark.parametrize(
    "event",
    [
        {"livemode": True},
        {"account": "acct_9"},
        {"type": "customer.created", "livemode": True},
        {"type": "refund.unheard_of"},
        {"data": {"object": {"object": "charge"}}},
        {"data": {"object": {"id": "re_1/../re_2"}}},
        {"data": {"object": {"id": None}}},
    ],
)
def test_signed_event_that_cannot_be_used_is_logged_and_changes_nothing(
    shop: Shop, sandbox: StripeSandbox, event: dict[str, Any], log_records: LogRecords
) -> None:
    purchase = shop.add_purchase(payment := sandbox.create_payment(4000))
    made = sandbox.dashboard_refund(payment)
    obj = {**made, **event.get("data", {}).get("object", {})}
    response = send(shop, {**make_event("refund.created", obj), **event, "data": {"object": obj}})
    assert (response.status_code, response.json) == (200, {"received": True})
    assert (shop.records(), shop.status_of(purchase), sandbox.requests) == ([], "completed", [])
    assert [record["event"] for record in log_records()] == ["webhook_ignored"]


@pytest.mark.parametrize("kind", ["v1.refund.created", "v1.refund.updated", "v1.charge.refunded"])
def test_thin_event_records_a_dashboard_refund(shop: Shop, sandbox: StripeSandbox, kind: str) -> None:
    purchase = shop.add_purchase(payment := sandbox.create_payment(4000))
    made = sandbox.dashboard_refund(payment)
    obj = {"id": made["charge"], "object": "charge"} if "charge" in kind else made
    for _ in range(2):
        assert send(shop, make_event(kind, obj)).json == {"received": True}
    assert [(record["source"], record["status"]) for record in shop.records()] == [("external", "succeeded")]
    assert shop.status_of(purchase) == "refunded"


def test_thin_event_of_a_failure_takes_the_purchase_back(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(payment := sandbox.create_payment(1999))
    assert shop.refund(purchase).status_code == 200
    [made] = sandbox.refunds(payment)
    sandbox.settle(made["id"], "failed", "lost_or_stolen_card")
    assert send(shop, make_event("v1.refund.failed", made)).status_code == 200
    [record] = shop.records()
    assert (record["status"], record["review"]["code"]) == ("failed", "failed_after_success")
    assert shop.status_of(purchase) == "completed"


def test_thin_events_of_others_and_pings_are_ignored(shop: Shop, sandbox: StripeSandbox) -> None:
    made = sandbox.dashboard_refund(sandbox.create_payment(500))
    charge = {"id": made["charge"], "object": "charge"}
    unknown = {"id": "re_unknown", "object": "refund"}
    ping = {"id": "ed_1", "object": "v2.core.event_destination"}
    for event in (
        make_event("v1.refund.created", made),
        make_event("v1.charge.refunded", charge),
        make_event("v1.refund.updated", unknown),
        make_event("v1.refund.updated", made, account="acct_9"),
        make_event("v1.refund.updated", made, livemode=True),
        make_event("v2.core.event_destination.ping", ping),
    ):
        assert send(shop, event).status_code == 200
    assert shop.records() == []


def test_partial_dashboard_refund_reduces_the_next_amount(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    sandbox.dashboard_refund(payment, 1000)
    for event in sandbox.events:
        send(shop, event)
    response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["amount"]) == (200, 3000)
    assert response.json["refund"]["id"] == f"{payment}:1"


def test_dashboard_refund_that_fails_later_needs_review(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4000)
    purchase = shop.add_purchase(payment)
    made = sandbox.dashboard_refund(payment)
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


Documents = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def test_five_events_in_any_order_and_number_lead_to_stripes_state(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    """Late and early events are delivered in every reachable state, whatever Stripe shows by then."""
    payment, purchase = pending_refund(shop, sandbox)
    events = five_events(sandbox, payment)

    def state() -> tuple[Any, ...]:
        [record] = shop.records()
        review = record["review"] and record["review"]["code"]
        return record["status"], record["stripeRefundId"], record["amount"], review, shop.status_of(purchase)

    def read() -> Documents:
        return shop.records(), list(shop.db.purchases.find())

    def write(documents: Documents) -> None:
        for collection, stored in zip((shop.db.flask_refunds, shop.db.purchases), documents, strict=True):
            collection.delete_many({})
            collection.insert_many(stored)

    starts, reviews = {state(): read()}, set()
    for shown, expected in (("pending", "completed"), ("succeeded", "refunded"), ("failed", "completed")):
        if shown != "pending":
            sandbox.settle(sandbox.refunds(payment)[0]["id"], shown)
        visited = {(frozenset[int](), start): documents for start, documents in starts.items()}
        to_visit = list(visited)
        while to_visit:
            delivered, before = to_visit.pop()
            for number, event in enumerate(events):
                write(visited[delivered, before])
                assert send(shop, event).status_code == 200
                after = (delivered | {number}, state())
                if after not in visited:
                    visited[after] = read()
                    to_visit.append(after)
        ends = [end for delivered, end in visited if len(delivered) == 5]
        assert {(end[0], end[-1]) for end in ends} == {(shown, expected)}
        reviews = {end[3] for end in ends}
        starts |= {start: documents for (_, start), documents in visited.items()}
    assert len(starts) == 4
    # A failure needs review only if the success was processed before.
    assert reviews == {None, "failed_after_success"}


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
    sandbox.dashboard_refund(payment)
    for path in ("/v1/refunds", "/v1/refunds/*"):
        sandbox.inject("request_lost", method="GET", path=path, times=9)
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


def test_handle_event_processes_event_notifications(shop: Shop, sandbox: StripeSandbox) -> None:
    client = stripe.StripeClient(STRIPE_KEY)

    def notification(kind: str, obj: Any, **options: Any) -> Any:
        body, headers = signed_event(make_event(kind, obj, **options), SECRET)
        return client.parse_event_notification(body, headers["Stripe-Signature"], SECRET)

    payment, purchase = pending_refund(shop, sandbox)
    [refund] = sandbox.refunds(payment)
    sandbox.settle(refund["id"], "succeeded")
    with shop.app.app_context():
        before = sandbox.requests
        assert handle_event(notification("v1.refund.updated", refund, account="acct_9")) is False
        assert handle_event(notification("v1.refund.updated", refund, livemode=True)) is False
        ping = {"id": "ed_1", "object": "v2.core.event_destination"}
        assert handle_event(notification("v2.core.event_destination.ping", ping)) is False
        assert sandbox.requests == before
        assert handle_event(notification("v1.refund.updated", refund, request_id="req_1")) is True
    assert shop.status_of(purchase) == "refunded"
    assert shop.records()[0]["status"] == "succeeded"


def test_handle_event_processes_late_events_from_a_queue(shop: Shop, sandbox: StripeSandbox) -> None:
    """A queue delivers text, outside of a request, in any order, and some events twice."""
    payment, purchase = pending_refund(shop, sandbox)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed", "lost_or_stolen_card")
    events = [*events_of(sandbox, "refund.created", "refund.updated", "refund.failed")]
    queue = [json.dumps(event) for event in events[::-1] + events]
    with shop.app.app_context():
        assert {handle_event(json.loads(message)) for message in queue} == {True}
    assert (shop.records()[0]["status"], shop.status_of(purchase)) == ("failed", "completed")


def test_handle_event_ignores_events_of_other_apps(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.dashboard_refund(sandbox.create_payment(500))
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

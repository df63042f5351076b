"""Events, signatures and webhook delivery."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time

import pytest
import stripe

from flask_refunds.testing import StripeSandbox, make_event, signed_event
from tests.testing.http_client import HttpClient
from tests.testing.webhook_server import SECRET, WebhookServer

PAYMENT_EVENTS = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


def event_types(sandbox: StripeSandbox) -> list[str]:
    return [event["type"] for event in sandbox.events]


class TestEmittedEvents:
    def test_successful_payment_emits_created_charged_and_succeeded(
        self, sandbox: StripeSandbox, payment: str
    ) -> None:
        assert event_types(sandbox) == PAYMENT_EVENTS

    def test_declined_payment_emits_failure_events(self, sandbox: StripeSandbox) -> None:
        sandbox.create_payment(5, card="4000000000000002")

        assert event_types(sandbox) == [
            "payment_intent.created",
            "charge.failed",
            "payment_intent.payment_failed",
        ]

    def test_disputed_payment_emits_dispute_event(self, sandbox: StripeSandbox) -> None:
        payment = sandbox.create_payment(5, card="4000000000000259")

        assert event_types(sandbox) == [*PAYMENT_EVENTS, "charge.dispute.created"]
        dispute = sandbox.events[-1]["data"]["object"]
        assert (dispute["payment_intent"], dispute["amount"]) == (payment, 5)

    def test_refund_emits_events_with_object_and_request(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        response = stripe_api.post("/v1/refunds", {"payment_intent": payment}, key="k")

        assert event_types(sandbox) == [*PAYMENT_EVENTS, "refund.created", "charge.refunded"]
        created, refunded = sandbox.events[3:]
        assert created["id"].startswith("evt_")
        assert created["data"] == {"object": response.json}
        assert created["request"] == {"id": response.headers["Request-Id"], "idempotency_key": "k"}
        assert (created["livemode"], created["api_version"]) == (False, "2026-10-28.endive")
        assert refunded["data"]["object"]["amount_refunded"] == 2000

    def test_pending_refund_that_succeeds_emits_update_with_previous_attributes(
        self, sandbox: StripeSandbox
    ) -> None:
        sandbox.dashboard_refund(sandbox.create_payment(5, card="pm_card_pendingRefund"))
        sandbox.advance(3600)

        assert event_types(sandbox)[5:] == ["refund.updated", "charge.refund.updated"]
        updated = sandbox.events[-1]
        assert updated["data"]["object"]["status"] == "succeeded"
        assert updated["data"]["previous_attributes"] == {"pending_reason": "processing", "status": "pending"}
        assert updated["request"] == {"id": None, "idempotency_key": None}

    def test_refund_that_fails_emits_update_and_failed(self, sandbox: StripeSandbox) -> None:
        sandbox.dashboard_refund(sandbox.create_payment(5, card="pm_card_refundFail"))
        sandbox.advance(3600)

        assert event_types(sandbox)[5:] == ["refund.updated", "charge.refund.updated", "refund.failed"]
        assert sandbox.events[-1]["data"]["object"]["status"] == "failed"

    def test_canceled_refund_emits_update(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        sandbox.inject("requires_action")
        refund = stripe_api.post("/v1/refunds", {"payment_intent": payment}).json
        stripe_api.post(f"/v1/refunds/{refund['id']}/cancel")

        assert event_types(sandbox)[5:] == ["refund.updated", "charge.refund.updated"]
        assert sandbox.events[-1]["data"]["object"]["status"] == "canceled"

    def test_event_keeps_object_as_it_was_when_emitted(self, sandbox: StripeSandbox, payment: str) -> None:
        sandbox.settle(sandbox.dashboard_refund(payment)["id"], "failed")

        created = next(event for event in sandbox.events if event["type"] == "refund.created")
        assert created["data"]["object"]["status"] == "succeeded"

    def test_replayed_request_emits_no_event(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        for _ in range(2):
            stripe_api.post("/v1/refunds", {"payment_intent": payment}, key="k")

        assert event_types(sandbox).count("refund.created") == 1

    def test_events_endpoint_returns_one_or_filters_by_type(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        sandbox.dashboard_refund(payment)
        event = sandbox.events[-1]

        assert stripe_api.get(f"/v1/events/{event['id']}").json == event
        assert stripe_api.get("/v1/events", {"limit": 1}).json["data"] == [event]
        assert stripe_api.get("/v1/events", {"type": "charge.refunded"}).json["data"] == [event]
        filtered = stripe_api.get("/v1/events", {"types[]": "refund.created", "limit": 2}).json["data"]
        assert [each["type"] for each in filtered] == ["refund.created"]


class TestSignedEvent:
    def test_signature_is_hmac_of_timestamp_and_body(self) -> None:
        body, headers = signed_event({"id": "evt_1"}, SECRET, timestamp=12345)

        signature = hmac.new(SECRET.encode(), b"12345." + body, hashlib.sha256).hexdigest()
        assert headers == {"Stripe-Signature": f"t=12345,v1={signature}", "Content-Type": "application/json"}
        assert json.loads(body) == {"id": "evt_1"}

    def test_stripe_library_accepts_signature(self) -> None:
        event = make_event("refund.updated", {"id": "re_1", "object": "refund"}, livemode=True)
        body, headers = signed_event(event, SECRET)

        verified = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
        assert verified.to_dict() == event

    @pytest.mark.parametrize(("secret", "timestamp"), [("whsec_other", None), (SECRET, 1_000_000)])
    def test_stripe_library_rejects_other_secret_or_old_timestamp(
        self, secret: str, timestamp: int | None
    ) -> None:
        body, headers = signed_event(make_event("x", {}), secret, timestamp=timestamp)

        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)

    def test_make_event_sets_every_field(self) -> None:
        event = make_event(
            "refund.updated",
            {"id": "re_1"},
            previous_attributes={"status": "pending"},
            event_id="evt_1",
            created=5,
            request_id="req_1",
            idempotency_key="k",
        )

        assert event == {
            "id": "evt_1",
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": 5,
            "data": {"object": {"id": "re_1"}, "previous_attributes": {"status": "pending"}},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": "req_1", "idempotency_key": "k"},
            "type": "refund.updated",
        }


class TestDelivery:
    def test_webhook_receives_all_events_in_order_and_signed(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET)
        sandbox.dashboard_refund(sandbox.create_payment(5))

        sandbox.wait_delivered()

        assert webhook.events() == sandbox.events
        body, headers = webhook.received[-1]
        verified = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
        assert verified.type == "charge.refunded"
        assert headers["Content-Type"] == "application/json"

    def test_webhook_receives_only_its_event_types(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET, events=["refund.created", "refund.failed"])
        sandbox.dashboard_refund(sandbox.create_payment(5, card="pm_card_refundFail"))
        sandbox.advance(3600)
        sandbox.wait_delivered()

        assert [event["type"] for event in webhook.events()] == ["refund.created", "refund.failed"]

    def test_delivery_is_retried_until_2xx(
        self, sandbox: StripeSandbox, webhook: WebhookServer, payment: str
    ) -> None:
        webhook.statuses = [500, 301]
        sandbox.add_webhook(webhook.url, SECRET, events=["refund.created"])
        sandbox.dashboard_refund(payment)
        sandbox.wait_delivered()

        assert len({event["id"] for event in webhook.events()}) == 1
        assert [(each.type, each.attempts, each.status) for each in sandbox.deliveries] == [
            ("refund.created", 3, 200)
        ]

    def test_delivery_stops_after_three_attempts(
        self, sandbox: StripeSandbox, webhook: WebhookServer, payment: str
    ) -> None:
        webhook.statuses = [500] * 10
        sandbox.add_webhook(webhook.url, SECRET, events=["refund.created"])
        sandbox.dashboard_refund(payment)
        sandbox.wait_delivered()

        assert [(each.attempts, each.status) for each in sandbox.deliveries] == [(3, 500)]

    def test_unreachable_webhook_gets_three_attempts_without_status(
        self, sandbox: StripeSandbox, payment: str
    ) -> None:
        sandbox.add_webhook("http://127.0.0.1:1/", SECRET, events=["refund.created"])
        sandbox.dashboard_refund(payment)
        sandbox.wait_delivered()

        assert [(each.attempts, each.status) for each in sandbox.deliveries] == [(3, None)]

    def test_deliver_sends_one_event_and_returns_status(
        self, sandbox: StripeSandbox, webhook: WebhookServer, payment: str
    ) -> None:
        webhook.statuses = [418, 200]
        event = sandbox.events[0]

        assert sandbox.deliver(event, webhook.url, SECRET) == 418
        assert sandbox.deliver(event, webhook.url, SECRET, timestamp=5) == 200
        assert webhook.events() == [event, event]
        assert webhook.received[1][1]["Stripe-Signature"].startswith("t=5,v1=")

    def test_stop_does_not_wait_for_slow_webhook(self, webhook: WebhookServer) -> None:
        webhook.may_respond.clear()
        with StripeSandbox() as sandbox:
            sandbox.add_webhook(webhook.url, SECRET)
            sandbox.create_payment(5)
            assert webhook.arrived.wait(5)
            with pytest.raises(TimeoutError):
                sandbox.wait_delivered(timeout=0.01)
            began = time.monotonic()

        assert time.monotonic() - began < 5
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("stripe-")]

    def test_reset_removes_webhooks_and_deliveries(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET)
        sandbox.create_payment(5)
        sandbox.wait_delivered()
        webhook.received.clear()

        sandbox.reset()
        sandbox.create_payment(5)
        sandbox.wait_delivered()

        assert (webhook.received, sandbox.deliveries) == ([], [])

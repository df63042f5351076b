"""Thin events: https://docs.stripe.com/event-destinations and the event classes of stripe-python 16.1."""

from __future__ import annotations

import pytest
import stripe
from stripe.events import (
    V1ChargeRefundedEventNotification,
    V1RefundCreatedEventNotification,
    V1RefundFailedEventNotification,
    V1RefundUpdatedEventNotification,
    V2CoreEventDestinationPingEventNotification,
)

from flask_refunds.testing import StripeSandbox, make_event, signed_event
from tests.testing.http_client import HttpClient
from tests.testing.webhook_server import SECRET, WebhookServer

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # stripe-python never closes its pool

SELLER = "acct_seller"


@pytest.fixture
def client(sandbox: StripeSandbox) -> stripe.StripeClient:
    http = stripe.RequestsClient(timeout=1)
    return stripe.StripeClient("sk_test_1", base_addresses={"api": sandbox.url}, http_client=http)


class TestMakeEvent:
    def test_thin_event_names_the_object_without_its_content(self) -> None:
        event = make_event(
            "v1.refund.updated",
            {"id": "re_1", "object": "refund", "amount": 5},
            event_id="evt_1",
            created=1_700_000_000,
            livemode=True,
            request_id="req_1",
            idempotency_key="k",
            account=SELLER,
        )

        assert event == {
            "id": "evt_1",
            "object": "v2.core.event",
            "context": SELLER,
            "created": "2023-11-14T22:13:20.000Z",
            "livemode": True,
            "reason": {"type": "request", "request": {"id": "req_1", "idempotency_key": "k"}},
            "related_object": {"id": "re_1", "type": "refund", "url": "/v1/refunds/re_1"},
            "type": "v1.refund.updated",
        }

    def test_thin_event_without_request_has_no_reason_and_no_context(self) -> None:
        event = make_event("v1.charge.refunded", {"id": "ch_1", "object": "charge"})

        assert (event["reason"], event["context"]) == (None, None)
        assert event["related_object"]["url"] == "/v1/charges/ch_1"

    def test_snapshot_event_of_connected_account_has_account(self) -> None:
        event = make_event("refund.updated", {"id": "re_1"}, account=SELLER)

        assert (event["object"], event["account"]) == ("event", SELLER)

    @pytest.mark.parametrize(
        ("event_type", "subject", "expected"),
        [
            ("v1.refund.created", {"id": "re_1", "object": "refund"}, V1RefundCreatedEventNotification),
            ("v1.refund.updated", {"id": "re_1", "object": "refund"}, V1RefundUpdatedEventNotification),
            ("v1.refund.failed", {"id": "re_1", "object": "refund"}, V1RefundFailedEventNotification),
            ("v1.charge.refunded", {"id": "ch_1", "object": "charge"}, V1ChargeRefundedEventNotification),
            (
                "v2.core.event_destination.ping",
                {"id": "ed_1", "object": "v2.core.event_destination"},
                V2CoreEventDestinationPingEventNotification,
            ),
        ],
    )
    def test_stripe_library_parses_signed_thin_event(
        self, client: stripe.StripeClient, event_type: str, subject: dict[str, str], expected: type
    ) -> None:
        body, headers = signed_event(make_event(event_type, subject), SECRET)

        parsed = client.parse_event_notification(body, headers["Stripe-Signature"], SECRET)

        assert type(parsed) is expected
        assert parsed.related_object.id == subject["id"]


class TestDelivery:
    def test_destination_receives_thin_events_about_the_same_changes(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET, thin=True)
        refund = sandbox.dashboard_refund(sandbox.create_payment(5, card="pm_card_refundFail"))
        sandbox.advance(3600)
        sandbox.wait_delivered()

        received = webhook.events()
        assert received == sandbox.thin_events
        assert [event["type"] for event in received] == [f"v1.{event['type']}" for event in sandbox.events]
        assert {event["object"] for event in received} == {"v2.core.event"}
        failed = received[-1]
        assert (failed["type"], failed["related_object"]["id"]) == ("v1.refund.failed", refund["id"])

    def test_destination_receives_only_its_event_types(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET, ["v1.charge.refunded"], thin=True)
        sandbox.dashboard_refund(sandbox.create_payment(5))
        sandbox.wait_delivered()

        assert [event["type"] for event in webhook.events()] == ["v1.charge.refunded"]

    def test_thin_event_of_connected_account_has_context(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET, ["v1.charge.succeeded"], thin=True, connect=True)
        sandbox.create_payment(5, account=SELLER)
        sandbox.wait_delivered()

        assert [event["context"] for event in webhook.events()] == [SELLER]

    def test_thin_event_of_api_request_has_reason(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        stripe_api.post("/v1/refunds", {"payment_intent": payment}, key="k")

        request = {"id": sandbox.requests[-1].request_id, "idempotency_key": "k"}
        assert sandbox.thin_events[-1]["reason"] == {"type": "request", "request": request}

    def test_released_authorization_sends_no_thin_event_about_a_refund(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET, thin=True, api_version="2024-06-20")
        sandbox.cancel_payment(sandbox.create_payment(500, capture="manual"))
        sandbox.wait_delivered()

        types = {event["type"] for event in webhook.events()}
        assert "v1.payment_intent.canceled" in types
        assert not types & {"v1.refund.created", "v1.charge.refunded"}

    def test_ping_is_sent_to_thin_destination_only(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET)
        sandbox.add_webhook(webhook.url, SECRET, thin=True)

        sandbox.ping(webhook.url)
        sandbox.wait_delivered()

        [ping] = webhook.events()
        assert ping["type"] == "v2.core.event_destination.ping"
        related = ping["related_object"]
        destination = stripe_api.get(related["url"]).json
        assert (destination["id"], destination["object"]) == (related["id"], related["type"])


class TestRetrieval:
    def test_stripe_library_fetches_event_and_related_object(
        self, sandbox: StripeSandbox, client: stripe.StripeClient
    ) -> None:
        refund = sandbox.dashboard_refund(sandbox.create_payment(5, account=SELLER))
        body, headers = signed_event(sandbox.thin_events[-2], SECRET)
        parsed = client.parse_event_notification(body, headers["Stripe-Signature"], SECRET)
        assert isinstance(parsed, V1RefundCreatedEventNotification)

        assert parsed.fetch_related_object().id == refund["id"]
        event = parsed.fetch_event()
        assert (event.type, event.context) == ("v1.refund.created", SELLER)
        assert event.to_dict()["snapshot_event"] == sandbox.events[-2]["id"]

    def test_unknown_thin_event_or_destination_is_404(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        snapshot = sandbox.create_payment(5) and sandbox.events[-1]["id"]

        for identifier in ("evt_65unknown", snapshot):
            assert stripe_api.get(f"/v2/core/events/{identifier}").status == 404
        assert stripe_api.get("/v2/core/event_destinations/ed_unknown").status == 404

    def test_destinations_are_listed_apart_from_webhook_endpoints(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        sandbox.add_webhook("https://shop.example/snapshot", SECRET)
        sandbox.add_webhook("https://shop.example/thin", SECRET, ["v1.refund.updated"], thin=True)

        [destination] = stripe_api.get("/v2/core/event_destinations").json["data"]
        [endpoint] = stripe_api.get("/v1/webhook_endpoints").json["data"]
        assert (destination["event_payload"], destination["enabled_events"]) == (
            "thin",
            ["v1.refund.updated"],
        )
        assert destination["webhook_endpoint"]["url"] == "https://shop.example/thin"
        assert endpoint["url"] == "https://shop.example/snapshot"

"""Released authorizations before and since API version 2025-03-31.basil.

Source: https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.testing.http_client import HttpClient
from tests.testing.webhook_server import SECRET, WebhookServer

OLD, NEW = "2024-06-20", "2025-03-31.basil"


@pytest.fixture
def captured(sandbox: StripeSandbox) -> str:
    """The ID of a payment intent with 100 USD authorized and 40 USD captured."""
    payment = sandbox.create_payment(10_000, capture="manual")
    sandbox.capture(payment, 4000)
    return payment


def list_amounts(stripe_api: HttpClient, version: str, **filters: str) -> list[tuple[int, str]]:
    page = stripe_api.get("/v1/refunds", filters, stripe_version=version).json
    return [(refund["amount"], refund["status"]) for refund in page["data"]]


def get_charge(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str, version: str) -> dict[str, Any]:
    identifier = sandbox.payment_intent(payment)["latest_charge"]
    return stripe_api.get(f"/v1/charges/{identifier}", stripe_version=version).json


class TestPartialCapture:
    def test_old_version_lists_released_rest_as_refund(self, stripe_api: HttpClient, captured: str) -> None:
        assert list_amounts(stripe_api, OLD, payment_intent=captured) == [(6000, "succeeded")]
        assert list_amounts(stripe_api, OLD) == [(6000, "succeeded")]
        assert list_amounts(stripe_api, NEW, payment_intent=captured) == list_amounts(stripe_api, NEW) == []

    def test_old_version_counts_released_rest_as_refunded(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, captured: str
    ) -> None:
        old, new = (get_charge(sandbox, stripe_api, captured, version) for version in (OLD, NEW))

        assert (old["amount_refunded"], new["amount_refunded"]) == (6000, 0)
        assert old["amount_captured"] == new["amount_captured"] == 4000

    def test_old_version_calls_charge_refunded_once_everything_went_back(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, captured: str
    ) -> None:
        sandbox.dashboard_refund(captured)
        old, new = (get_charge(sandbox, stripe_api, captured, version) for version in (OLD, NEW))

        assert (old["amount_refunded"], old["refunded"]) == (10_000, True)
        assert (new["amount_refunded"], new["refunded"]) == (4000, True)

    def test_refundable_amount_is_the_same_in_both_versions(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, captured: str
    ) -> None:
        params = {"payment_intent": captured, "amount": 4001}
        refused = stripe_api.post("/v1/refunds", params, stripe_version=OLD)
        full = stripe_api.post("/v1/refunds", {"payment_intent": captured}, stripe_version=OLD)

        assert (refused.status, full.json["amount"]) == (400, 4000)
        assert sandbox.money_refunded(captured) == 4000

    def test_expanded_charge_has_the_version_of_the_request(
        self, stripe_api: HttpClient, captured: str
    ) -> None:
        params = {"payment_intent": captured, "amount": 100, "expand[]": "charge"}
        created = stripe_api.post("/v1/refunds", params, stripe_version=OLD).json
        read = stripe_api.get(f"/v1/refunds/{created['id']}", {"expand[]": "charge"}, stripe_version=NEW).json

        assert created["charge"]["amount_refunded"] == 6100
        assert read["charge"]["amount_refunded"] == 100

    def test_released_rest_is_retrieved_by_old_version_only(
        self, stripe_api: HttpClient, captured: str
    ) -> None:
        [release] = stripe_api.get("/v1/refunds", stripe_version=OLD).json["data"]
        url = f"/v1/refunds/{release['id']}"

        assert stripe_api.get(url, stripe_version=OLD).json == release
        assert stripe_api.get(url, stripe_version=NEW).status == 404

    def test_capture_with_old_version_stores_a_refund_that_every_version_sees(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        """Since basil, captures "no longer result in a Refund object created and linked to the payment"; a
        capture with an older version did create one.
        """
        payment = sandbox.create_payment(10_000, capture="manual")
        url = f"/v1/payment_intents/{payment}/capture"

        stripe_api.post(url, {"amount_to_capture": 4000}, stripe_version=OLD)

        assert list_amounts(stripe_api, NEW, payment_intent=payment) == [(6000, "succeeded")]
        assert get_charge(sandbox, stripe_api, payment, NEW)["amount_refunded"] == 6000
        assert [event["type"] for event in sandbox.events].count("charge.refunded") == 1
        assert sandbox.money_refunded(payment) == 0

    def test_full_capture_releases_nothing(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        sandbox.capture(sandbox.create_payment(500, capture="manual"))

        assert list_amounts(stripe_api, OLD) == []


class TestCanceledAuthorization:
    def test_old_version_shows_a_succeeded_refund(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        payment = sandbox.create_payment(5000, capture="manual")
        sandbox.cancel_payment(payment)
        old, new = (get_charge(sandbox, stripe_api, payment, version) for version in (OLD, NEW))

        assert list_amounts(stripe_api, OLD, payment_intent=payment) == [(5000, "succeeded")]
        assert (old["amount_captured"], old["amount_refunded"], old["refunded"]) == (None, 5000, True)
        assert (new["amount_captured"], new["amount_refunded"], new["refunded"]) == (0, 0, False)
        assert (sandbox.refunds(payment), sandbox.money_refunded(payment)) == ([], 0)

    def test_expired_authorization_has_other_reasons_in_old_version(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        payment = sandbox.create_payment(5000, capture="manual")
        sandbox.cancel_payment(payment, reason="expired")
        url = f"/v1/payment_intents/{payment}"

        reasons = [
            stripe_api.get(url, stripe_version=version).json["cancellation_reason"] for version in (OLD, NEW)
        ]
        [release] = stripe_api.get("/v1/refunds", stripe_version=OLD).json["data"]
        assert (reasons, release["reason"]) == (["automatic", "expired"], "expired_uncaptured_charge")


class TestVersionsOfEvents:
    def test_endpoint_with_old_version_hears_of_released_rest(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET, api_version=OLD)
        payment = sandbox.create_payment(10_000, capture="manual")
        sandbox.capture(payment, 4000)
        sandbox.wait_delivered()

        received = {event["type"]: event for event in webhook.events()}
        assert {event["api_version"] for event in received.values()} == {OLD}
        assert received["refund.created"]["data"]["object"]["amount"] == 6000
        assert received["charge.refunded"]["data"]["object"]["amount_refunded"] == 6000

    def test_endpoint_with_new_version_does_not_hear_of_released_rest(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET, api_version=NEW)
        payment = sandbox.create_payment(10_000, capture="manual")
        sandbox.capture(payment, 4000)
        sandbox.wait_delivered()

        received = {event["type"]: event for event in webhook.events()}
        assert not received.keys() & {"refund.created", "charge.refunded"}
        assert received["charge.captured"]["data"]["object"]["amount_refunded"] == 0

    def test_events_api_uses_the_version_of_the_account(self) -> None:
        with StripeSandbox(api_version=OLD) as sandbox, contextlib.closing(HttpClient(sandbox.url)) as client:
            payment = sandbox.create_payment(10_000, capture="manual")
            sandbox.capture(payment, 4000)

            events = client.get("/v1/events", {"type": "charge.refunded"}, stripe_version=NEW).json["data"]

            assert [event["api_version"] for event in events] == [OLD]
            assert events == [event for event in sandbox.events if event["type"] == "charge.refunded"]
            assert [refund["amount"] for refund in sandbox.refunds(payment)] == [6000]


class TestVersionHeader:
    @pytest.mark.parametrize("version", [OLD, NEW, "2026-10-28.endive", "2025-03-31.basil; some_preview=v1"])
    def test_version_is_echoed(self, stripe_api: HttpClient, version: str) -> None:
        response = stripe_api.get("/v1/balance", stripe_version=version)

        assert (response.status, response.headers["Stripe-Version"]) == (200, version)

    def test_request_without_version_uses_the_version_of_the_account(self) -> None:
        with StripeSandbox(api_version=OLD) as sandbox, contextlib.closing(HttpClient(sandbox.url)) as client:
            assert client.get("/v1/balance").headers["Stripe-Version"] == OLD

    def test_malformed_version_is_rejected(self, stripe_api: HttpClient) -> None:
        response = stripe_api.get("/v1/balance", stripe_version="latest")

        assert (response.status, response.error["type"]) == (400, "invalid_request_error")
        assert "code" not in response.error

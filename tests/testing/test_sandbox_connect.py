"""Connected accounts, transfers and application fees.

Sources: https://docs.stripe.com/connect/authentication, https://docs.stripe.com/connect/direct-charges,
https://docs.stripe.com/connect/destination-charges and https://docs.stripe.com/connect/webhooks
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from flask_refunds.testing import ApiError, StripeSandbox
from tests.testing.http_client import HttpClient, HttpResponse
from tests.testing.webhook_server import SECRET, WebhookServer

SELLER, OTHER = "acct_seller", "acct_other"


@pytest.fixture
def direct(sandbox: StripeSandbox) -> str:
    """The ID of a payment intent of 20 USD on the seller's account."""
    sandbox.connect_account(OTHER)
    return sandbox.create_payment(2000, account=SELLER)


@pytest.fixture
def destination(sandbox: StripeSandbox) -> str:
    """The ID of a payment intent of 20 USD whose money goes to the seller, with a fee of 2 USD."""
    return sandbox.create_payment(2000, transfer_to=SELLER, application_fee_amount=200)


def refund(stripe_api: HttpClient, payment: str, **params: object) -> HttpResponse:
    return stripe_api.post("/v1/refunds", {"payment_intent": payment, **params})


class TestAccountHeader:
    @pytest.mark.parametrize("header", ["stripe_account", "stripe_context"])
    def test_object_exists_in_its_account_only(
        self, stripe_api: HttpClient, direct: str, header: str
    ) -> None:
        url = f"/v1/payment_intents/{direct}"

        assert stripe_api.get(url, **{header: SELLER}).json["id"] == direct
        for headers in ({}, {header: OTHER}):
            response = stripe_api.get(url, **headers)
            assert (response.status, response.error["code"]) == (404, "resource_missing")

    def test_refund_is_made_and_listed_in_its_account(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, direct: str
    ) -> None:
        body = {"payment_intent": direct}

        assert stripe_api.post("/v1/refunds", body).status == 404
        made = stripe_api.post("/v1/refunds", body, stripe_account=SELLER).json

        assert stripe_api.get("/v1/refunds", stripe_account=SELLER).json["data"] == [made]
        assert stripe_api.get("/v1/refunds").json["data"] == []
        assert stripe_api.get("/v1/refunds", stripe_account=OTHER).json["data"] == []
        assert sandbox.refunds(direct) == [made]

    def test_idempotency_keys_belong_to_the_account(self, sandbox: StripeSandbox, direct: str) -> None:
        second = sandbox.create_payment(2000, account=OTHER)
        with contextlib.closing(HttpClient(sandbox.url)) as client:
            for account, payment in ((SELLER, direct), (OTHER, second)):
                body = {"payment_intent": payment}
                response = client.post("/v1/refunds", body, key="k", stripe_account=account)
                assert (response.status, "Idempotent-Replayed" in response.headers) == (200, False)

    def test_account_that_is_not_connected_is_403(self, stripe_api: HttpClient) -> None:
        response = stripe_api.get("/v1/refunds", stripe_account="acct_unknown")

        assert (response.status, response.error["code"]) == (403, "account_invalid")
        assert "acct_unknown" in response.error["message"]
        assert "sk_test_123" not in response.error["message"]

    def test_new_account_has_an_id_and_both_modes(self, sandbox: StripeSandbox) -> None:
        account = sandbox.connect_account()

        assert account.startswith("acct_")
        for key in ("sk_test_1", "sk_live_1"):
            with contextlib.closing(HttpClient(sandbox.url, key)) as client:
                assert client.get("/v1/refunds", stripe_account=account).status == 200


class TestConnectEvents:
    def test_event_of_connected_account_names_it(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, direct: str
    ) -> None:
        event = sandbox.events[-1]

        assert event["account"] == SELLER
        assert stripe_api.get(f"/v1/events/{event['id']}", stripe_account=SELLER).json == event
        assert stripe_api.get(f"/v1/events/{event['id']}").status == 404
        sandbox.create_payment(5)
        assert "account" not in sandbox.events[-1]

    def test_endpoint_receives_events_of_the_platform_or_of_connected_accounts(
        self, sandbox: StripeSandbox, webhook: WebhookServer
    ) -> None:
        sandbox.add_webhook(webhook.url, SECRET, ["charge.succeeded"])
        sandbox.add_webhook(webhook.url, SECRET, ["charge.succeeded"], connect=True)
        sandbox.create_payment(5, account=SELLER)
        sandbox.create_payment(6)
        sandbox.wait_delivered()

        received = [(event.get("account"), event["data"]["object"]["amount"]) for event in webhook.events()]
        assert received == [(SELLER, 5), (None, 6)]

    @pytest.mark.parametrize(
        ("endpoint", "connect", "received"),
        [(True, True, [False, True]), (False, True, [False]), (True, False, [True])],
    )
    def test_live_endpoint_of_a_platform_also_receives_test_events(
        self,
        sandbox: StripeSandbox,
        webhook: WebhookServer,
        endpoint: bool,
        connect: bool,
        received: list[bool],
    ) -> None:
        """Production URLs of platforms receive live and test events (connect/webhooks)."""
        sandbox.add_webhook(webhook.url, SECRET, ["charge.succeeded"], livemode=endpoint, connect=connect)
        for livemode in (False, True):
            sandbox.create_payment(5, livemode=livemode, account=SELLER if connect else None)
        sandbox.wait_delivered()

        assert [event["livemode"] for event in webhook.events()] == received


class TestDestinationCharges:
    def test_payment_is_transferred_and_fee_is_taken(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, destination: str
    ) -> None:
        charge, transfer, fee = (
            sandbox.charge(destination),
            sandbox.transfer(destination),
            sandbox.application_fee(destination),
        )

        assert (transfer["amount"], transfer["destination"]) == (2000, SELLER)
        assert (fee["amount"], fee["account"], fee["charge"]) == (200, SELLER, charge["id"])
        assert charge["transfer_data"]["destination"] == SELLER
        assert stripe_api.get(f"/v1/transfers/{charge['transfer']}").json == transfer
        assert stripe_api.get(f"/v1/application_fees/{charge['application_fee']}").json == fee
        assert stripe_api.get("/v1/balance").json["available"][0]["amount"] == 200

    def test_refund_without_flags_is_paid_by_the_platform(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, destination: str
    ) -> None:
        made = refund(stripe_api, destination).json

        assert made["transfer_reversal"] is None
        assert sandbox.transfer(destination)["amount_reversed"] == 0
        assert stripe_api.get("/v1/balance").json["available"][0]["amount"] == 200 - 2000

    @pytest.mark.parametrize(("amount", "reversed_", "fee"), [(2000, 2000, 200), (500, 500, 50)])
    def test_flags_reverse_transfer_and_fee_in_proportion(
        self,
        sandbox: StripeSandbox,
        stripe_api: HttpClient,
        destination: str,
        amount: int,
        reversed_: int,
        fee: int,
    ) -> None:
        """Both are proportional to the refund (https://docs.stripe.com/api/refunds/create)."""
        flags = {"reverse_transfer": "true", "refund_application_fee": "true"}
        made = refund(stripe_api, destination, amount=amount, **flags).json

        transfer, taken = sandbox.transfer(destination), sandbox.application_fee(destination)
        assert made["transfer_reversal"] == transfer["reversals"]["data"][0]["id"]
        assert (transfer["amount_reversed"], transfer["reversed"]) == (reversed_, amount == 2000)
        assert (taken["amount_refunded"], taken["refunded"]) == (fee, amount == 2000)
        types = [event["type"] for event in sandbox.events]
        assert {"transfer.reversed", "application_fee.refunded"} <= set(types)

    @pytest.mark.parametrize("flag", ["reverse_transfer", "refund_application_fee"])
    def test_flag_without_transfer_or_fee_is_rejected(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str, flag: str
    ) -> None:
        """The message is Stripe's: "Attempting to refund_application_fee on ch_…, but it has no application
        fee" (https://github.com/alfio-event/alf.io/issues/739).
        """
        response = refund(stripe_api, payment, **{flag: "true"})

        assert (response.status, response.error.get("code")) == (400, None)
        assert response.error["message"].startswith(f"Attempting to {flag} on ch_")
        assert sandbox.refunds(payment) == []
        assert refund(stripe_api, payment, **{flag: "false"}).status == 200

    def test_partial_refund_between_captures_does_not_support_flags(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        """https://docs.stripe.com/payments/multicapture#connect"""
        payment = sandbox.create_payment(2000, capture="manual", transfer_to=SELLER)
        sandbox.capture(payment, 1000, final=False)

        assert refund(stripe_api, payment, amount=1, reverse_transfer="true").status == 400
        assert refund(stripe_api, payment, reverse_transfer="true").status == 200

    def test_transfer_and_fee_are_at_most_what_was_captured(self, sandbox: StripeSandbox) -> None:
        payment = sandbox.create_payment(
            2000, capture="manual", transfer_to=SELLER, application_fee_amount=900
        )
        sandbox.capture(payment, 500)

        assert sandbox.transfer(payment)["amount"] == sandbox.application_fee(payment)["amount"] == 500

    def test_capture_overrides_fee_and_transferred_amount(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        """https://docs.stripe.com/api/payment_intents/capture"""
        payment = sandbox.create_payment(
            2000, capture="manual", transfer_to=SELLER, application_fee_amount=900
        )
        params = {"application_fee_amount": 100, "transfer_data[amount]": 1200}

        intent = stripe_api.post(f"/v1/payment_intents/{payment}/capture", params).json

        assert intent["application_fee_amount"] == sandbox.application_fee(payment)["amount"] == 100
        assert intent["transfer_data"] == {"amount": 1200, "destination": SELLER}
        assert sandbox.transfer(payment)["amount"] == 1200

    def test_part_of_a_payment_is_transferred(self, sandbox: StripeSandbox) -> None:
        payment = sandbox.create_payment(2000, transfer_to=SELLER, transfer_amount=1500)

        assert sandbox.transfer(payment)["amount"] == 1500

    def test_payment_by_api_is_transferred_to_connected_account_only(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        params: dict[str, Any] = {
            "amount": 2000,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": "true",
            "application_fee_amount": 200,
            "transfer_data[destination]": SELLER,
            "expand[]": "latest_charge.transfer",
        }
        unknown = stripe_api.post("/v1/payment_intents", params)
        sandbox.connect_account(SELLER)
        intent = stripe_api.post("/v1/payment_intents", params).json

        assert (unknown.status, unknown.error["code"]) == (400, "resource_missing")
        assert intent["latest_charge"]["transfer"]["destination"] == SELLER

    def test_fee_of_platform_payment_is_rejected(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        params = {"amount": 2000, "currency": "usd", "application_fee_amount": 200}

        response = stripe_api.post("/v1/payment_intents", params)

        assert (response.status, response.error["param"]) == (400, "application_fee_amount")
        with pytest.raises(ApiError, match="application_fee_amount"):
            sandbox.create_payment(2000, application_fee_amount=200)

    def test_payment_without_transfer_or_fee_has_none_to_read(
        self, sandbox: StripeSandbox, payment: str
    ) -> None:
        for read in (sandbox.transfer, sandbox.application_fee):
            with pytest.raises(LookupError):
                read(payment)


class TestDirectCharges:
    def test_fee_goes_to_the_platform_and_is_refunded_by_flag(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        payment = sandbox.create_payment(2000, account=SELLER, application_fee_amount=200)
        body = {"payment_intent": payment, "refund_application_fee": "true", "amount": 1000}

        assert stripe_api.post("/v1/refunds", body, stripe_account=SELLER).status == 200

        fee = sandbox.application_fee(payment)
        assert (fee["account"], fee["amount"], fee["amount_refunded"]) == (SELLER, 200, 100)
        assert stripe_api.get(f"/v1/application_fees/{fee['id']}").json == fee
        assert stripe_api.get("/v1/balance").json["available"][0]["amount"] == 100

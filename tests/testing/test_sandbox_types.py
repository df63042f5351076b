"""The sandbox's objects and parameters against Stripe's own types, and its documented test cards.

Required fields are those without a question mark in the types of stripe-node 22.5 (``Refunds.ts``,
``Charges.ts``, …). Parameters are those of stripe-python 16.1, which is installed.
"""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from stripe import params as stripe_params

from flask_refunds.testing import StripeSandbox
from flask_refunds.testing.cards import CARDS, PAYMENT_METHODS
from tests.testing.http_client import HttpClient

SELLER = "acct_seller"
REQUIRED = {
    "refund": """id object amount balance_transaction charge created currency customer customer_account
        metadata payment_intent payment_method reason receipt_number source_transfer_reversal status
        transfer_reversal""",
    "charge": """id object amount amount_captured amount_refunded application application_fee
        application_fee_amount balance_transaction billing_details calculated_statement_descriptor captured
        created currency customer description disputed failure_balance_transaction failure_code
        failure_message fraud_details livemode metadata on_behalf_of outcome paid payment_intent
        payment_method payment_method_details receipt_email receipt_number receipt_url refunded review
        shipping source source_transfer statement_descriptor statement_descriptor_suffix status
        transfer_data transfer_group""",
    "payment_intent": """id object amount amount_capturable amount_received application
        application_fee_amount automatic_payment_methods canceled_at cancellation_reason capture_method
        client_secret confirmation_method created currency customer customer_account description
        excluded_payment_method_types last_payment_error latest_charge livemode managed_payments metadata
        next_action on_behalf_of payment_method payment_method_configuration_details payment_method_options
        payment_method_types processing receipt_email review setup_future_usage shipping source
        statement_descriptor statement_descriptor_suffix status transfer_group""",
    "dispute": """id object amount balance_transactions charge created currency enhanced_eligibility_types
        evidence evidence_details is_charge_refundable livemode metadata payment_intent reason status""",
    "transfer": """id object amount amount_reversed balance_transaction created currency description
        destination livemode metadata reversals reversed source_transaction transfer_group""",
    "application_fee": """id object account amount amount_refunded application balance_transaction charge
        created currency fee_source livemode originating_transaction refunded refunds""",
}
CARD = {"amount": 500, "currency": "usd", "confirm": "true", "payment_method_data[type]": "card"}


def objects(sandbox: StripeSandbox) -> dict[str, dict[str, Any]]:
    payment = sandbox.create_payment(2000, transfer_to=SELLER, application_fee_amount=200)
    return {
        "refund": sandbox.dashboard_refund(payment, 500),
        "charge": sandbox.charge(payment),
        "payment_intent": sandbox.payment_intent(payment),
        "dispute": sandbox.dispute(payment),
        "transfer": sandbox.transfer(payment),
        "application_fee": sandbox.application_fee(payment),
    }


@pytest.mark.parametrize("kind", REQUIRED)
def test_object_has_the_fields_that_its_type_requires_and_no_unknown_one(
    sandbox: StripeSandbox, kind: str
) -> None:
    item = objects(sandbox)[kind]
    name = "".join(word.title() for word in kind.split("_"))

    assert set(REQUIRED[kind].split()) <= item.keys()
    assert item.keys() <= getattr(stripe, name).__annotations__.keys()
    assert item["object"] == kind


@pytest.mark.parametrize(
    ("path", "types"),
    [
        ("/v1/refunds", "RefundCreateParams"),
        ("/v1/refunds/re_x", "RefundModifyParams"),
        ("/v1/refunds/re_x/cancel", "RefundCancelParams"),
        ("/v1/payment_intents", "PaymentIntentCreateParams"),
        ("/v1/payment_intents/pi_x/confirm", "PaymentIntentConfirmParams"),
        ("/v1/payment_intents/pi_x/capture", "PaymentIntentCaptureParams"),
        ("/v1/payment_intents/pi_x/cancel", "PaymentIntentCancelParams"),
    ],
)
def test_every_documented_parameter_is_known(stripe_api: HttpClient, path: str, types: str) -> None:
    options = stripe.RequestOptions.__annotations__.keys()
    for name in getattr(stripe_params, types).__annotations__.keys() - options:
        response = stripe_api.post(path, {name: "true"})

        assert response.status == 200 or response.error.get("code") != "parameter_unknown", name


@pytest.mark.parametrize(
    "path",
    ["/v1/refunds", "/v1/payment_intents", "/v1/payment_intents/pi_x/capture", "/v1/refunds/re_x/cancel"],
)
def test_unknown_parameter_is_rejected(stripe_api: HttpClient, path: str) -> None:
    response = stripe_api.post(path, {"colour": "red"})

    assert (response.status, response.error["code"], response.error["param"]) == (
        400,
        "parameter_unknown",
        "colour",
    )


def test_unknown_nested_parameter_is_rejected(stripe_api: HttpClient) -> None:
    params = {"amount": 500, "currency": "usd", "transfer_data[account]": SELLER}

    assert stripe_api.post("/v1/payment_intents", params).error["code"] == "parameter_unknown"


def test_payment_intent_keeps_what_was_sent(stripe_api: HttpClient) -> None:
    sent = {
        "description": "A book",
        "receipt_email": "a@example.com",
        "setup_future_usage": "off_session",
        "statement_descriptor_suffix": "NOVEL",
        "transfer_group": "order-7",
        "customer": "cus_1",
    }
    params = {"amount": 500, "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true", **sent}
    intent = stripe_api.post("/v1/payment_intents", {**params, "expand[]": "latest_charge"}).json

    assert {name: intent[name] for name in sent} == sent
    kept = sent.keys() - {"setup_future_usage"}
    assert {name: intent["latest_charge"][name] for name in kept} == {name: sent[name] for name in kept}


class TestTestCards:
    """https://docs.stripe.com/testing"""

    @pytest.mark.parametrize("name", [*PAYMENT_METHODS, *CARDS])
    def test_documented_card_pays_declines_or_needs_authentication(
        self, sandbox: StripeSandbox, name: str
    ) -> None:
        payment = sandbox.payment_intent(sandbox.create_payment(500, card=name))

        assert payment["status"] in ("succeeded", "requires_payment_method", "requires_action")

    @pytest.mark.parametrize(
        ("name", "code", "decline_code"),
        [
            ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
            ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
            ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", "card_declined", "card_velocity_exceeded"),
            ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
            ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
            ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
        ],
    )
    def test_declined_card_has_documented_code(
        self, stripe_api: HttpClient, name: str, code: str, decline_code: str
    ) -> None:
        params = {"amount": 500, "currency": "usd", "confirm": "true", "payment_method": name}
        error = stripe_api.post("/v1/payment_intents", params).error

        assert (error["code"], error["decline_code"]) == (code, decline_code)
        assert error["payment_intent"]["last_payment_error"]["code"] == code

    @pytest.mark.parametrize(
        ("name", "brand"),
        [("pm_card_amex", "amex"), ("pm_card_jcb", "jcb"), ("pm_card_de", "visa"), ("tok_diners", "diners")],
    )
    def test_charge_has_brand_and_last_digits(self, sandbox: StripeSandbox, name: str, brand: str) -> None:
        details = sandbox.charge(sandbox.create_payment(500, card=name))["payment_method_details"]["card"]

        assert (details["brand"], len(details["last4"])) == (brand, 4)

    def test_card_token_pays(self, stripe_api: HttpClient) -> None:
        response = stripe_api.post(
            "/v1/payment_intents", {**CARD, "payment_method_data[card][token]": "tok_visa"}
        )

        assert response.json["status"] == "succeeded"

    def test_card_with_3d_secure_leaves_payment_unpaid(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        payment = sandbox.create_payment(500, card="pm_card_authenticationRequired")

        assert sandbox.payment_intent(payment)["latest_charge"] is None
        assert stripe_api.post("/v1/refunds", {"payment_intent": payment}).status == 400

    def test_unknown_payment_method_says_that_the_sandbox_does_not_know_it(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        params = {"amount": 500, "currency": "usd", "payment_method": "pm_card_unknown"}
        response = stripe_api.post("/v1/payment_intents", params)

        assert (response.status, response.error["code"]) == (404, "resource_missing")
        assert "pm_card_unknown" in response.error["message"]
        assert "https://docs.stripe.com/testing" in response.error["message"]

    def test_unknown_card_number_says_that_the_sandbox_does_not_know_it(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        number = "5500000000000004"
        response = stripe_api.post(
            "/v1/payment_intents", {**CARD, "payment_method_data[card][number]": number}
        )

        assert (response.status, response.error["param"]) == (400, "payment_method_data[card]")
        assert number in response.error["message"]
        assert "https://docs.stripe.com/testing" in response.error["message"]
        with pytest.raises(
            ValueError, match=r"Unknown test card '5500000000000004'.*docs\.stripe\.com/testing"
        ):
            sandbox.create_payment(500, card=number)

    def test_number_with_wrong_check_digit_is_incorrect(self, stripe_api: HttpClient) -> None:
        """https://docs.stripe.com/testing#invalid-data"""
        params = {**CARD, "payment_method_data[card][number]": "4242424242424241"}

        assert stripe_api.post("/v1/payment_intents", params).error["code"] == "incorrect_number"

"""Payment intents and test cards."""

from __future__ import annotations

import pytest

from flask_refunds.testing import StripeSandbox
from tests.testing.http_client import HttpClient


def test_payment_intent_confirmed_on_creation_succeeds(
    sandbox: StripeSandbox, stripe_api: HttpClient
) -> None:
    params = {
        "amount": 2000,
        "currency": "EUR",
        "payment_method": "pm_card_visa",
        "confirm": "true",
        "metadata[order]": "7",
        "description": "A book",
        "receipt_email": "a@example.com",
        "return_url": "https://example.com/",
        "off_session": "true",
        "capture_method": "automatic",
        "automatic_payment_methods[enabled]": "true",
        "expand[]": "latest_charge",
    }

    intent = stripe_api.post("/v1/payment_intents", params).json

    assert intent["status"] == "succeeded"
    assert intent["currency"] == "eur"
    assert intent["latest_charge"]["metadata"] == {"order": "7"}
    assert intent["latest_charge"]["payment_intent"] == intent["id"]
    assert sandbox.payment_intent(intent["id"])["latest_charge"] == intent["latest_charge"]["id"]


def test_payment_intent_confirmed_later_needs_payment_method(stripe_api: HttpClient) -> None:
    params = {"amount": 2000, "currency": "usd", "payment_method_types[]": "card"}
    intent = stripe_api.post("/v1/payment_intents", params).json
    confirm = f"/v1/payment_intents/{intent['id']}/confirm"

    without_card = stripe_api.post(confirm)
    confirmed = stripe_api.post(confirm, {"payment_method": "pm_card_visa"})
    again = stripe_api.post(confirm)

    assert intent["status"] == "requires_payment_method"
    assert without_card.error["code"] == "payment_intent_unexpected_state"
    assert confirmed.json["status"] == "succeeded"
    assert again.error["code"] == "payment_intent_unexpected_state"


def test_declined_payment_intent_accepts_another_card(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    declined = sandbox.create_payment(2000, card="4000000000000002")

    confirm = f"/v1/payment_intents/{declined}/confirm"
    assert stripe_api.post(confirm, {"payment_method": "pm_card_visa"}).status == 200
    assert stripe_api.post("/v1/refunds", {"payment_intent": declined}).status == 200


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"currency": "usd"}, "amount"),
        ({"amount": "5"}, "currency"),
        ({"amount": "5", "currency": "usd", "payment_method": "pm_unknown"}, "payment_method"),
        ({"amount": "5", "currency": "usd", "capture_method": "later"}, "capture_method"),
        ({"amount": "5", "currency": "usd", "payment_method_data": "x"}, "payment_method_data"),
        ({"amount": "5", "currency": "usd", "payment_method_data[type]": "card"}, "number"),
    ],
)
def test_invalid_parameter_is_rejected(stripe_api: HttpClient, params: dict[str, str], param: str) -> None:
    response = stripe_api.post("/v1/payment_intents", params)

    assert response.status in (400, 402, 404)
    assert response.error["param"] == param


@pytest.mark.parametrize(
    ("card", "decline_code"),
    [
        ("4000000000000002", "generic_decline"),
        ("4000000000009995", "insufficient_funds"),
        ("4000000000009987", "lost_card"),
        ("4100000000000019", "fraudulent"),
    ],
)
def test_declined_card_is_402(stripe_api: HttpClient, card: str, decline_code: str) -> None:
    params = {
        "amount": 2000,
        "currency": "usd",
        "confirm": "true",
        "payment_method_data[type]": "card",
        "payment_method_data[card][number]": card,
        "payment_method_data[card][exp_month]": 12,
        "payment_method_data[card][exp_year]": 2040,
        "payment_method_data[card][cvc]": "123",
    }

    response = stripe_api.post("/v1/payment_intents", params)

    assert response.status == 402
    assert response.error["type"] == "card_error"
    assert (response.error["code"], response.error["decline_code"]) == ("card_declined", decline_code)
    assert response.error["payment_intent"]["status"] == "requires_payment_method"

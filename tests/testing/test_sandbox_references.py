"""Charges without a payment intent, and Checkout sessions."""

from __future__ import annotations

import json

import pytest

from flask_refunds.testing import StripeSandbox
from tests.testing.http_client import HttpClient


@pytest.mark.parametrize(("method", "prefix"), [("card", "ch_"), ("us_bank_account", "py_")])
def test_charge_without_a_payment_intent_names_none(
    sandbox: StripeSandbox, stripe_api: HttpClient, method: str, prefix: str
) -> None:
    charge = sandbox.create_payment(1999, method=method, intent=False)
    assert charge.startswith(prefix)

    read = stripe_api.get(f"/v1/charges/{charge}", {"expand[]": "payment_intent"}).json
    refund = stripe_api.post("/v1/refunds", {"charge": charge, "amount": 500, "expand[]": "charge"}).json
    [listed] = stripe_api.get("/v1/refunds", {"charge": charge}).json["data"]

    assert [each["payment_intent"] for each in (read, refund, refund["charge"], listed)] == [None] * 4
    assert sandbox.dashboard_refund(charge)["payment_intent"] is None
    assert [each["payment_intent"] for each in sandbox.refunds(charge)] == [None, None]
    assert sandbox.money_refunded(charge) == sandbox.charge(charge)["amount_refunded"] == 1999
    assert '"pi_' not in json.dumps([*sandbox.events, *sandbox.thin_events])
    assert {each["type"] for each in sandbox.events} == {
        "charge.succeeded",
        "refund.created",
        "charge.refunded",
    }


def test_checkout_session_names_its_payment_intent(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    payment = sandbox.create_payment(1999, "eur")
    session = sandbox.create_checkout_session(payment)
    path = f"/v1/checkout/sessions/{session}"

    read = stripe_api.get(path).json
    assert read | {"id": session, "payment_intent": payment, "status": "complete"} == read
    assert (read["amount_total"], read["currency"], read["payment_status"]) == (1999, "eur", "paid")
    assert stripe_api.get(path, {"expand[]": "payment_intent"}).json["payment_intent"]["id"] == payment
    listed = stripe_api.get("/v1/checkout/sessions", {"payment_intent": payment}).json["data"]
    assert [each["id"] for each in listed] == [session]
    assert stripe_api.get("/v1/checkout/sessions", {"payment_intent": "pi_other"}).json["data"] == []
    sandbox.dashboard_refund(session)
    assert sandbox.money_refunded(session) == sandbox.money_refunded(payment) == 1999


@pytest.mark.parametrize("mode", ["payment", "subscription", "setup"])
def test_session_without_a_payment_is_open(sandbox: StripeSandbox, stripe_api: HttpClient, mode: str) -> None:
    read = stripe_api.get(f"/v1/checkout/sessions/{sandbox.create_checkout_session(mode=mode)}").json
    assert (read["payment_intent"], read["status"], read["mode"]) == (None, "open", mode)


def test_hidden_session_is_a_404(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    session = sandbox.create_checkout_session(sandbox.create_payment(1999))
    sandbox.hide(session)
    answer = stripe_api.get(f"/v1/checkout/sessions/{session}")
    assert (answer.status, answer.json["error"]["code"]) == (404, "resource_missing")
    with pytest.raises(LookupError):
        sandbox.create_checkout_session("pi_unknown")

"""The sandbox's own routes, which change what happens at Stripe from another process."""

from __future__ import annotations

import pytest

from flask_refunds.testing import Cards, StripeSandbox
from tests.testing.http_client import HttpClient
from tests.testing.webhook_server import WebhookServer

BROWSER_HEADERS = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example:80"},
    {"Host": "evil.example@127.0.0.1x"},
    {"Host": ""},
)


def test_refund_is_settled(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    payment = sandbox.create_payment(900, card=Cards.REFUND_PENDING)
    first, second = (sandbox.dashboard_refund(payment, amount)["id"] for amount in (500, 400))
    assert stripe_api.post("/_sandbox/settle", {"refund": first}).json["status"] == "succeeded"
    params = {"refund": second, "status": "failed", "failure_reason": "declined"}
    assert stripe_api.post("/_sandbox/settle", params).json["failure_reason"] == "declined"
    assert [refund["status"] for refund in sandbox.refunds(payment)] == ["succeeded", "failed"]


def test_time_moves(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    payment = sandbox.create_payment(900, card=Cards.REFUND_PENDING)
    sandbox.dashboard_refund(payment)
    before = sandbox.now()
    assert stripe_api.post("/_sandbox/advance", {"seconds": 3599}).json["now"] - before >= 3598
    assert sandbox.refunds(payment)[0]["status"] == "pending"
    stripe_api.post("/_sandbox/advance", {"seconds": 2})
    assert sandbox.refunds(payment)[0]["status"] == "succeeded"


def test_dashboard_user_refunds(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    refund = stripe_api.post("/_sandbox/dashboard_refund", {"payment_intent": payment, "amount": 700}).json
    assert (refund["amount"], refund["metadata"]) == (700, {})
    pending = stripe_api.post("/_sandbox/dashboard_refund", {"payment_intent": payment, "status": "pending"})
    assert (pending.json["amount"], pending.json["status"]) == (1300, "pending")
    assert sandbox.money_refunded(payment) == 2000


def test_event_is_delivered_again(
    sandbox: StripeSandbox, stripe_api: HttpClient, webhook: WebhookServer, payment: str
) -> None:
    sandbox.add_webhook(webhook.url, "whsec_1")
    sandbox.dashboard_refund(payment)
    sandbox.wait_delivered()
    created = sandbox.events[-2]["id"]
    assert stripe_api.post("/_sandbox/deliver", {"event": created}).json == {"event": created}
    sandbox.wait_delivered()
    assert [delivery.event_id for delivery in sandbox.deliveries].count(created) == 2


def test_checkout_session_is_made_with_its_payment(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    params = {"amount": 1100, "currency": "eur", "checkout": "true", "account": "acct_tailor", "count": 2}
    first, second = stripe_api.post("/_sandbox/payments", params).json["ids"]
    assert first.startswith("cs_")
    assert second.startswith("cs_")
    refund = sandbox.dashboard_refund(first)
    assert (refund["amount"], refund["currency"]) == (1100, "eur")
    assert sandbox.money_refunded(second) == 0


def test_payments_for_connected_accounts_are_made(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    destination = {"transfer_to": "acct_tailor", "transfer_amount": 700}
    direct = {"account": "acct_tailor", "application_fee_amount": 80}
    first, second = (
        sandbox.charge(stripe_api.post("/_sandbox/payments", {"amount": 900, **options}).json["ids"][0])
        for options in (destination, direct)
    )
    assert first["transfer_data"] == {"destination": "acct_tailor", "amount": 700}
    assert (second["transfer_data"], second["application_fee_amount"]) == (None, 80)


def test_charge_without_payment_intent_is_made(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    [charge] = stripe_api.post("/_sandbox/payments", {"amount": 900, "intent": "false"}).json["ids"]
    assert charge.startswith("ch_")
    assert sandbox.dashboard_refund(charge)["payment_intent"] is None


@pytest.mark.parametrize(
    ("route", "params", "status"),
    [
        ("settle", {}, 400),
        ("settle", {"refund": "re_none"}, 404),
        ("advance", {"seconds": "-1"}, 400),
        ("advance", {"seconds": "soon"}, 400),
        ("advance", {}, 400),
        ("payments", {"amount": 5, "checkout": "true", "intent": "false"}, 400),
        ("payments", {"amount": 5, "application_fee_amount": 1}, 400),
        ("dashboard_refund", {"payment_intent": "pi_none"}, 404),
        ("dashboard_refund", {"payment": "pi_none"}, 400),
        ("deliver", {"event": "evt_none"}, 404),
        ("restart", {}, 404),
    ],
)
def test_invalid_request_is_refused(
    stripe_api: HttpClient, route: str, params: dict[str, str], status: int
) -> None:
    response = stripe_api.post(f"/_sandbox/{route}", params)
    assert response.status == status
    assert response.error["message"]


def test_impossible_status_is_refused(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    refund = sandbox.dashboard_refund(payment)["id"]
    response = stripe_api.post("/_sandbox/settle", {"refund": refund, "status": "pending"})
    assert (response.status, response.error["message"]) == (
        400,
        "A refund can't change from succeeded to pending.",
    )


@pytest.mark.parametrize("headers", BROWSER_HEADERS, ids=str)
def test_web_page_cannot_use_the_routes(
    sandbox: StripeSandbox, stripe_api: HttpClient, headers: dict[str, str]
) -> None:
    response = stripe_api.post("/_sandbox/payments", {"amount": 5}, **headers)
    assert (response.status, sandbox.events) == (403, [])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:12111", "[::1]", "[::1]:80"])
def test_names_of_this_machine_are_accepted(stripe_api: HttpClient, host: str) -> None:
    assert stripe_api.get("/_sandbox/health", Host=host).status == 200

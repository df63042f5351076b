"""What Stripe tells about a refund besides its status is stored and shown, without another status signal."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone
from typing import Any

import pytest

from flask_refunds import refund_failed, refund_needs_review, refund_pending, refund_succeeded
from flask_refunds.testing import Cards, StripeSandbox
from tests.integration.webhooks import SECRET, send
from tests.shop import Shop, make_app

TRACE = "74920011234567890123456"
EMAIL = "ann@example.com"


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=SECRET)
    return Shop(app, database)


@pytest.fixture
def signals(shop: Shop) -> Any:
    """The refunds of which a signal was sent."""
    heard: list[tuple[str, str]] = []

    def hear(sender: Any, refund: Any, **extra: Any) -> None:
        heard.append((refund.id, refund.status.value))

    every = (refund_failed, refund_needs_review, refund_pending, refund_succeeded)
    for signal in every:
        signal.connect(hear, sender=shop.app)
    yield heard
    for signal in every:
        signal.disconnect(hear, sender=shop.app)


def make_refund(shop: Shop, sandbox: StripeSandbox, **payment: Any) -> dict[str, Any]:
    made = sandbox.create_payment(1999, **payment)
    response = shop.refund(shop.add_purchase(made))
    assert response.status_code in (200, 202), response.json
    refund: dict[str, Any] = response.json["refund"]
    return refund


def show(shop: Shop, refund: dict[str, Any]) -> dict[str, Any]:
    path = f"/api/payments/admin/refunds/{refund['id']}"
    shown: dict[str, Any] = shop.client.get(path, headers=shop.headers()).json["refund"]
    return shown


def by_webhook(shop: Shop, sandbox: StripeSandbox) -> None:
    """Without ``charge.refunded``, for which the payment's refunds are listed."""
    for event in sandbox.events:
        if event["data"]["object"]["object"] == "refund":
            assert send(shop, event).status_code == 200


def by_thin_webhook(shop: Shop, sandbox: StripeSandbox) -> None:
    for event in sandbox.thin_events:
        assert send(shop, event).status_code == 200


def by_sweep(shop: Shop, sandbox: StripeSandbox) -> None:
    assert shop.flask("reconcile", "--full").exit_code == 0


WAYS = pytest.mark.parametrize("learn", [by_webhook, by_thin_webhook, by_sweep])


def test_answer_has_the_details_that_stripe_told(shop: Shop, sandbox: StripeSandbox) -> None:
    refund = make_refund(shop, sandbox)
    at_stripe = sandbox.refund(refund["stripeRefundId"])
    assert refund["details"] == {
        "destination": "card",
        "isReversal": False,
        "reference": None,
        "referenceType": "acquirer_reference_number",
        "referenceStatus": "pending",
        "pendingReason": None,
        "instructionsEmail": None,
        "actionEmail": None,
        "actionEmailSentAt": None,
        "actionExpiresAt": None,
        "receiptNumber": None,
        "balanceTransaction": at_stripe["balance_transaction"],
        "failureBalanceTransaction": None,
        "presentmentAmount": None,
        "presentmentCurrency": None,
    }


@WAYS
def test_reference_that_arrives_days_later_is_stored_once_and_sends_no_signal(
    shop: Shop, sandbox: StripeSandbox, signals: list[Any], learn: Any
) -> None:
    refund = make_refund(shop, sandbox)
    heard = list(signals)
    sandbox.assign_reference(refund["stripeRefundId"], TRACE)
    for _ in range(2):
        learn(shop, sandbox)
    shown = show(shop, refund)
    assert (shown["details"]["reference"], shown["details"]["referenceStatus"]) == (TRACE, "available")
    news = [each["details"] for each in shown["history"] if "details" in each]
    assert news == [{"reference": TRACE, "referenceStatus": "available"}]
    assert signals == heard
    [record] = shop.records()
    assert record["signalsSent"]


def test_old_event_does_not_take_a_reference_back(shop: Shop, sandbox: StripeSandbox) -> None:
    refund = make_refund(shop, sandbox)
    sandbox.assign_reference(refund["stripeRefundId"], TRACE)
    for event in reversed(sandbox.events):
        assert send(shop, event).status_code == 200
    assert show(shop, refund)["details"]["reference"] == TRACE


@pytest.mark.parametrize("learn", [by_webhook, by_sweep])
def test_pending_reason_that_changes_is_stored(shop: Shop, sandbox: StripeSandbox, learn: Any) -> None:
    refund = make_refund(shop, sandbox, card=Cards.REFUND_PENDING)
    assert refund["details"]["pendingReason"] == "processing"
    sandbox.set_refund(refund["stripeRefundId"], pending_reason="charge_pending", receipt_number="1234-5678")
    learn(shop, sandbox)
    details = show(shop, refund)["details"]
    assert (details["pendingReason"], details["receiptNumber"]) == ("charge_pending", "1234-5678")


def test_return_by_the_bank_shows_what_the_customer_must_do(shop: Shop, sandbox: StripeSandbox) -> None:
    refund = make_refund(shop, sandbox)
    returned = sandbox.return_refund(refund["stripeRefundId"])
    by_webhook(shop, sandbox)
    asked = returned["next_action"]["display_details"]
    details = show(shop, refund)["details"]
    assert details["actionEmail"] == asked["email_sent"]["email_sent_to"]
    expires = datetime.fromtimestamp(asked["expires_at"], timezone.utc)
    assert details["actionExpiresAt"] == f"{expires:%Y-%m-%dT%H:%M:%S}.000Z"


def test_failed_refund_shows_both_balance_transactions(shop: Shop, sandbox: StripeSandbox) -> None:
    refund = make_refund(shop, sandbox)
    failed = sandbox.settle(refund["stripeRefundId"], "failed", "lost_or_stolen_card")
    by_webhook(shop, sandbox)
    details = show(shop, refund)["details"]
    assert details["balanceTransaction"] == refund["details"]["balanceTransaction"]
    assert details["failureBalanceTransaction"] == failed["failure_balance_transaction"]


def test_refund_made_elsewhere_has_its_details(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    shop.add_purchase(payment)
    made = sandbox.dashboard_refund(payment)
    presented = {"presentment_amount": 2150, "presentment_currency": "cad"}
    sandbox.set_refund(
        made["id"],
        presentment_details=presented,
        destination_details={"card": {"type": "reversal"}, "type": "card"},
    )
    by_sweep(shop, sandbox)
    details = show(shop, {"id": f"{payment}:{made['id']}"})["details"]
    assert (details["presentmentAmount"], details["presentmentCurrency"]) == (2150, "cad")
    assert details["isReversal"] is True


@pytest.mark.parametrize(
    "fields",
    [
        {"destination_details": {"type": "card", "card": None}},
        {"destination_details": {"type": "card", "card": {"reference": 7, "type": ["reversal"]}}},
        {"destination_details": [], "next_action": "soon", "presentment_details": 1},
        {"next_action": {"display_details": {"expires_at": 10**30, "email_sent": {"email_sent_at": True}}}},
        {"receipt_number": "half of a pair: \ud83d", "presentment_details": {"presentment_amount": 2**70}},
        {"failure_balance_transaction": {"object": "balance_transaction"}},
    ],
)
def test_details_that_are_not_as_documented_count_as_not_told(
    shop: Shop, sandbox: StripeSandbox, fields: dict[str, Any]
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    made = sandbox.dashboard_refund(payment)
    sandbox.set_refund(made["id"], **fields)
    by_sweep(shop, sandbox)
    assert shop.status_of(purchase) == "refunded"
    details = show(shop, {"id": f"{payment}:{made['id']}"})["details"]
    assert details["reference"] is None
    assert details["receiptNumber"] is None


def test_commands_show_and_export_the_details(shop: Shop, sandbox: StripeSandbox) -> None:
    refund = make_refund(shop, sandbox)
    sandbox.assign_reference(refund["stripeRefundId"], TRACE)
    by_sweep(shop, sandbox)
    shown = shop.flask("show", refund["id"]).output
    assert f"{TRACE} (acquirer_reference_number)" in shown
    assert f"reference: {TRACE}" in shown
    [row] = csv.DictReader(io.StringIO(shop.flask("export").output))
    assert (row["reference"], row["referenceStatus"]) == (TRACE, "available")
    assert row["balanceTransaction"] == refund["details"]["balanceTransaction"]
    [line] = shop.flask("export", "--format", "jsonl").output.splitlines()
    assert json.loads(line)["details"]["reference"] == TRACE

"""Events that are delivered to an app's test client."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_refunds.testing import Cards, RefundsClient, StripeSandbox
from tests.shop import make_app


def types(refunds: RefundsClient) -> list[str]:
    return [event["type"] for event, _ in refunds.webhooks.delivered if event["type"].startswith("refund")]


def test_events_are_delivered_at_once_to_any_client(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(1999, card=Cards.REFUND_PENDING)
    path = f"/api/payments/admin/refund/{purchase.id}"
    refunds.app.test_client().post(path, headers=refunds.headers(refunds.admin_id))
    assert types(refunds) == ["refund.created"]
    [refund] = refunds.stripe.refunds()
    refunds.stripe.settle(refund["id"], "failed", "declined")
    assert types(refunds) == ["refund.created", "refund.updated", "refund.failed"]
    assert {status for _, status in refunds.webhooks.delivered} == {200}
    assert refunds.ledger[0]["status"] == "failed"


def test_held_events_can_be_reordered_and_are_delivered_after_the_block(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(1999, card=Cards.REFUND_FAILS)
    with refunds.webhooks.held() as events:
        refunds.refund(purchase)
        refunds.travel(hours=1)
        assert types(refunds) == []
        assert refunds.reload(purchase)["status"] == "refunded"
        held = [event["type"] for event in events if event["type"].startswith("refund")]
        events.reverse()
    assert types(refunds) == held[::-1]
    assert refunds.reload(purchase)["status"] == "completed"


def test_dropped_events_are_not_delivered(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(1999)
    with refunds.webhooks.held() as events:
        refunds.stripe.dashboard_refund(purchase.payment)
        refunds.webhooks.drop("refund.created")
        assert "refund.created" not in [event["type"] for event in events]
        assert events
        refunds.webhooks.drop()
        assert events == []
    assert refunds.reload(purchase)["status"] == "completed"


def test_redelivered_events_change_nothing(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(1999)
    refunds.refund(purchase)
    before = len(refunds.webhooks.delivered)
    refunds.webhooks.redeliver("refund.created")
    assert len(refunds.webhooks.delivered) == before + 1
    refunds.webhooks.redeliver()
    assert len(refunds.webhooks.delivered) == 2 * (before + 1)
    assert len(refunds.ledger) == len(refunds.signals) == 1
    refunds.stripe.assert_refunded_once(purchase.payment)


def test_event_is_delivered_by_hand(refunds: RefundsClient) -> None:
    refunds.webhooks.automatic = False
    purchase = refunds.purchase(1999)
    refunds.stripe.dashboard_refund(purchase.payment)
    assert refunds.reload(purchase)["status"] == "completed"
    refunds.webhooks.deliver()
    assert (refunds.reload(purchase)["status"], refunds.webhooks.pending) == ("refunded", [])


def test_event_that_the_app_cannot_process_is_delivered_again(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(1999, card=Cards.REFUND_PENDING)
    refunds.refund(purchase)
    with refunds.stripe.fault("service_unavailable", method="GET", path="/v1/"):
        refunds.travel(hours=1)
    statuses = [status for event, status in refunds.webhooks.delivered if event["type"] == "refund.updated"]
    assert statuses[0] == 503
    assert refunds.reload(purchase)["status"] == "completed"
    refunds.webhooks.deliver()
    assert (refunds.reload(purchase)["status"], refunds.webhooks.pending) == ("refunded", [])


def test_event_that_the_app_rejects_fails_the_test(refunds: RefundsClient) -> None:
    refunds.webhooks.path = "/elsewhere"
    with pytest.raises(AssertionError, match=r"/elsewhere answered 404 to payment_intent\.created"):
        refunds.purchase(1999)


def test_app_without_webhook_secret_gets_no_events(
    refunds_config: dict[str, Any], stripe_sandbox: StripeSandbox
) -> None:
    app = make_app(**{**refunds_config, "STRIPE_WEBHOOK_SECRET": None})
    with RefundsClient(app, stripe_sandbox) as refunds:
        purchase = refunds.purchase(1999)
        refunds.stripe.dashboard_refund(purchase.payment)
        assert (refunds.webhooks.delivered, refunds.reload(purchase)["status"]) == ([], "completed")


def test_event_caused_by_an_event_is_delivered_after_it(app: Flask, stripe_sandbox: StripeSandbox) -> None:
    other = stripe_sandbox.create_payment(200)

    @app.after_request
    def refund_the_other(response: Any) -> Any:
        if not stripe_sandbox.refunds(other):
            stripe_sandbox.dashboard_refund(other)
        return response

    with RefundsClient(app, stripe_sandbox) as refunds:
        stripe_sandbox.create_payment(100)
        delivered = [event["data"]["object"].get("payment_intent") for event, _ in refunds.webhooks.delivered]
        assert delivered[-1] == other
        assert refunds.webhooks.pending == []

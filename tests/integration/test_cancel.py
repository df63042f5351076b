"""Refunds that wait for the customer are canceled: over HTTP and by ``flask refunds cancel``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
from werkzeug.test import TestResponse

from flask_refunds import refund_failed
from flask_refunds.errors import DatabaseUnavailable
from flask_refunds.models import ReviewCode
from flask_refunds.storage.ledger import Ledger
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.testing import StripeSandbox
from tests.integration.unfinished import reconcile
from tests.integration.webhooks import SECRET, send
from tests.log_records import LogRecords
from tests.shop import Shop, make_app

COMMENT = "The customer doesn't answer."
SELLER = "acct_1Seller00000000"


def cancel(shop: Shop, refund_id: str, **options: Any) -> TestResponse:
    """Call the endpoint, by default as the admin with a comment."""
    options.setdefault("headers", shop.headers())
    if "data" not in options:
        options.setdefault("json", {"comment": COMMENT})
    return shop.client.post(f"/api/payments/admin/refunds/{refund_id}/cancel", **options)


def waiting(shop: Shop, sandbox: StripeSandbox, **purchase: Any) -> tuple[str, Any]:
    """Make a refund that waits for the customer, and return its payment and its purchase."""
    payment = sandbox.create_payment(1999)
    purchase_id = shop.add_purchase(payment, **purchase)
    sandbox.inject("requires_action")
    assert shop.refund(purchase_id).json["message"] == "Refund pending"
    return payment, purchase_id


def at_stripe(sandbox: StripeSandbox, payment: str) -> str:
    return str(sandbox.refunds(payment)[0]["id"])


def statuses(shop: Shop) -> list[str]:
    return [each["status"] for each in shop.records()]


def requests(sandbox: StripeSandbox) -> list[tuple[str, str]]:
    return [(each.method, each.path.rpartition("/")[2]) for each in sandbox.requests]


def test_refund_is_canceled_with_the_admin_and_the_comment(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = waiting(shop, sandbox)
    response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["message"]) == (200, "Refund canceled")
    refund = response.json["refund"]
    assert (refund["status"], refund["failure"]["code"]) == ("canceled", "merchant_request")
    decision, result = refund["history"][-2:]
    actor = f"api:{shop.admin_id}"
    assert (decision["decision"], decision["comment"], decision["actor"]) == ("cancel", COMMENT, actor)
    assert (decision["status"], result["status"], result["actor"]) == ("requires_action", "canceled", actor)
    assert sandbox.refunds(payment)[0]["status"] == "canceled"
    assert (statuses(shop), shop.status_of(purchase)) == (["canceled"], "completed")


def test_canceled_purchase_can_be_refunded_again(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = waiting(shop, sandbox)
    cancel(shop, f"{payment}:1")
    response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["id"]) == (200, f"{payment}:2")
    assert (shop.status_of(purchase), sandbox.money_refunded(payment)) == ("refunded", 1999)


def test_receivers_hear_that_it_failed_once(shop: Shop, sandbox: StripeSandbox) -> None:
    heard: list[tuple[str, str]] = []

    def hear(sender: Any, refund: Any, **extra: Any) -> None:
        heard.append((refund.id, refund.status.value))

    with refund_failed.connected_to(hear, sender=shop.app):
        payment, _ = waiting(shop, sandbox)
        cancel(shop, f"{payment}:1")
        reconcile(shop, "--full")
    assert heard == [(f"{payment}:1", "canceled")]


def test_refund_that_the_bank_returned_is_canceled_and_its_review_closes(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    shop.refund(purchase)
    sandbox.return_refund(at_stripe(sandbox, payment))
    reconcile(shop, "--full")
    assert shop.records()[0]["review"]["code"] == "action_required_again"
    response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["refund"]["review"]) == (200, None)
    assert (statuses(shop), shop.status_of(purchase)) == (["canceled"], "completed")


def test_refund_made_elsewhere_is_canceled(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    shop.add_purchase(payment)
    external = sandbox.dashboard_refund(payment)
    sandbox.return_refund(external["id"])
    reconcile(shop, "--full")
    assert cancel(shop, f"{payment}:{external['id']}").status_code == 200
    assert statuses(shop) == ["canceled"]


def test_refund_of_a_connected_account_is_canceled_there(database: Any, sandbox: StripeSandbox) -> None:
    fields = {"stripe_account": "seller"}
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_PURCHASE_FIELDS=fields)
    shop = Shop(app, database)
    payment = sandbox.create_payment(1999, account=SELLER)
    sandbox.inject("requires_action")
    shop.refund(shop.add_purchase(payment, seller=SELLER))
    assert cancel(shop, f"{payment}:1").status_code == 200
    assert {each.account for each in sandbox.requests} == {SELLER}
    assert sandbox.refunds(payment)[0]["status"] == "canceled"


@pytest.mark.parametrize("status", ["succeeded", "pending", "failed", "processing", "canceled"])
def test_only_a_refund_that_waits_for_the_customer_is_canceled(
    shop: Shop, sandbox: StripeSandbox, status: str
) -> None:
    payment, _ = waiting(shop, sandbox)
    shop.db.flask_refunds.update_one({}, {"$set": {"status": status}})
    before = shop.records()
    count = len(sandbox.requests)
    response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["code"]) == (400, "nothing_to_resolve")
    assert f"is {status}" in response.json["error"]
    assert "waits for the customer (requires_action) can be canceled." in response.json["error"]
    assert (shop.records(), len(sandbox.requests)) == (before, count)


# Races


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("response_lost", "connection_failed"),
        ("unreadable_response", "unreadable_answer"),
        ("server_error_after", "api_error"),
        ("wrong_object", "unreadable_answer"),
    ],
)
def test_lost_answer_is_read_at_stripe(
    shop: Shop, sandbox: StripeSandbox, log_records: LogRecords, fault: str, code: str
) -> None:
    payment, purchase = waiting(shop, sandbox)
    sandbox.inject(fault, method="POST", path="*/cancel")
    response = cancel(shop, f"{payment}:1")
    logged = {"event": "stripe_request_failed", "refund_id": f"{payment}:1", "code": code}
    assert [each for each in log_records() if each["event"] == "stripe_request_failed"] == [logged]
    assert (response.status_code, response.json["refund"]["status"]) == (200, "canceled")
    assert requests(sandbox)[-2:] == [("POST", "cancel"), ("GET", at_stripe(sandbox, payment))]
    assert shop.status_of(purchase) == "completed"


@pytest.mark.parametrize("fault", ["request_lost", "service_unavailable", "bad_gateway", "conflict"])
def test_request_that_did_not_arrive_is_sent_again(shop: Shop, sandbox: StripeSandbox, fault: str) -> None:
    payment, _ = waiting(shop, sandbox)
    sandbox.inject(fault, method="POST", path="*/cancel")
    assert cancel(shop, f"{payment}:1").status_code == 200
    assert [each for each in requests(sandbox) if each[1] == "cancel"] == [("POST", "cancel")] * 2


def test_unreachable_stripe_leaves_the_refund_waiting(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = waiting(shop, sandbox)
    sandbox.inject("service_unavailable", method="POST", path="*/cancel", times=2)
    response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["code"]) == (503, "stripe_unavailable")
    assert f"whether it canceled {payment}:1. Try again" in response.json["error"]
    assert statuses(shop) == ["requires_action"]
    assert cancel(shop, f"{payment}:1").status_code == 200


def test_cancellation_that_stripe_does_not_show_is_found_by_reconcile(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _ = waiting(shop, sandbox)
    sandbox.inject("response_lost", method="POST", path="*/cancel")
    with sandbox.inject("service_unavailable", method="GET", times=None):
        response = cancel(shop, f"{payment}:1")
        assert (response.status_code, response.json["code"]) == (503, "stripe_unavailable")
    assert statuses(shop) == ["requires_action"]
    reconcile(shop)
    [record] = shop.records()
    assert record["status"] == "canceled"
    assert record["history"][-2]["comment"] == COMMENT


@pytest.mark.parametrize("status", ["pending", "succeeded", "failed"])
def test_customer_who_acted_meanwhile_wins(shop: Shop, sandbox: StripeSandbox, status: str) -> None:
    payment, purchase = waiting(shop, sandbox)
    sandbox.settle(at_stripe(sandbox, payment), status)
    response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["code"]) == (400, "nothing_to_resolve")
    assert f"is {status} at Stripe now" in response.json["error"]
    assert statuses(shop) == [status]
    assert shop.status_of(purchase) == ("refunded" if status == "succeeded" else "completed")


def test_refund_that_was_canceled_in_the_dashboard_takes_its_status(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _ = waiting(shop, sandbox)
    sandbox.settle(at_stripe(sandbox, payment), "canceled", "merchant_request")
    response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["code"]) == (400, "nothing_to_resolve")
    assert statuses(shop) == ["canceled"]


def test_refund_that_stripe_does_not_cancel_keeps_waiting(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = waiting(shop, sandbox)
    sandbox.inject("insufficient_balance", method="POST", path="*/cancel")
    response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["code"]) == (400, "nothing_to_resolve")
    assert f"Stripe doesn't cancel {payment}:1: " in response.json["error"]
    assert statuses(shop) == ["requires_action"]


@pytest.mark.parametrize(
    ("fault", "status", "code", "stripe_code"),
    [
        ("rate_limited", 503, "stripe_rate_limited", "rate_limit"),
        ("lock_timeout", 503, "stripe_rate_limited", "lock_timeout"),
        ("key_rejected", 500, "stripe_key_rejected", "authentication_failed"),
        ("key_expired", 500, "stripe_key_rejected", "api_key_expired"),
        ("key_forbidden", 500, "stripe_key_rejected", "permission_denied"),
    ],
)
def test_request_that_was_not_executed_leaves_the_refund_waiting(
    shop: Shop, sandbox: StripeSandbox, fault: str, status: int, code: str, stripe_code: str
) -> None:
    payment, _ = waiting(shop, sandbox)
    sandbox.inject(fault, method="POST", path="*/cancel", times=None)
    response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["code"]) == (status, code)
    assert response.json["stripeCode"] == stripe_code
    assert ("hint" in response.json) == (status == 500)
    assert statuses(shop) == ["requires_action"]


def test_calls_at_once_cancel_once(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = waiting(shop, sandbox)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: cancel(shop, f"{payment}:1"), range(8)))
    codes = [answer.status_code for answer in answers]
    assert codes.count(200) == 1
    assert set(codes) == {200, 400}
    [record] = shop.records()
    assert [each["status"] for each in record["history"]].count("canceled") == 1


def test_event_that_is_faster_than_the_answer_brings_no_second_change(
    database: Any, sandbox: StripeSandbox
) -> None:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=SECRET)
    shop = Shop(app, database)
    payment, _ = waiting(shop, sandbox)
    request = Gateway.cancel_refund

    def cancel_slowly(*arguments: Any) -> None:
        request(*arguments)
        for event in sandbox.events:
            assert send(shop, event).status_code == 200

    with mock.patch.object(Gateway, "cancel_refund", cancel_slowly):
        response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["refund"]["status"]) == (200, "canceled")
    [record] = shop.records()
    assert [each["status"] for each in record["history"]].count("canceled") == 1


def test_refund_that_changed_since_it_was_read_is_not_canceled(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = waiting(shop, sandbox)
    note = Ledger.note_cancellation

    def note_late(ledger: Ledger, *arguments: Any, **options: Any) -> Any:
        shop.db.flask_refunds.update_one({}, {"$push": {"history": {"status": "requires_action"}}})
        return note(ledger, *arguments, **options)

    with mock.patch.object(Ledger, "note_cancellation", note_late):
        response = cancel(shop, f"{payment}:1")
    assert (response.status_code, response.json["code"]) == (400, "nothing_to_resolve")
    assert response.json["error"] == f"{payment}:1 has just changed. Look at it again."
    assert sandbox.refunds(payment)[0]["status"] == "requires_action"


def test_decision_is_stored_before_stripe_is_asked(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = waiting(shop, sandbox)
    with mock.patch.object(Ledger, "note_cancellation", side_effect=DatabaseUnavailable):
        assert cancel(shop, f"{payment}:1").status_code == 500
    assert sandbox.refunds(payment)[0]["status"] == "requires_action"
    with mock.patch.object(Ledger, "advance", side_effect=DatabaseUnavailable):
        assert cancel(shop, f"{payment}:1").status_code == 500
    [record] = shop.records()
    assert (record["status"], record["history"][-1]["comment"]) == ("requires_action", COMMENT)
    reconcile(shop)
    assert statuses(shop) == ["canceled"]


def test_attempt_to_cancel_does_not_count_as_closing_a_review(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    shop.refund(shop.add_purchase(payment))
    sandbox.return_refund(at_stripe(sandbox, payment))
    reconcile(shop, "--full")
    sandbox.inject("insufficient_balance", method="POST", path="*/cancel")
    assert cancel(shop, f"{payment}:1").status_code == 400
    shop.db.flask_refunds.update_one({}, {"$set": {"review": None}})
    refunds = shop.app.extensions["refunds"].refunds
    [record] = refunds.ledger.list_for_payment(payment)
    code = ReviewCode.ACTION_REQUIRED_AGAIN
    assert refunds.transitions.request_review(record, code, actor="reconcile").review.code is code


# Input and access


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"comment": ""}',
        '{"comment": " \\t"}',
        '{"comment": null}',
        '{"comment": ["x"]}',
        '{"comment": "\\udfff"}',
        '{"comment": "x", "comment": "y"}',
        '{"comment": "x", "decision": "cancel"}',
        '{"comment": "' + "x" * 501 + '"}',
    ],
)
def test_invalid_body_cancels_nothing(shop: Shop, sandbox: StripeSandbox, body: str) -> None:
    payment, _ = waiting(shop, sandbox)
    response = cancel(shop, f"{payment}:1", data=body)
    assert (response.status_code, response.json["code"]) == (400, "invalid_request")
    assert len(shop.records()[0]["history"]) == 2


def test_only_an_admin_cancels(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = waiting(shop, sandbox)
    anonymous = cancel(shop, f"{payment}:1", headers={})
    assert (anonymous.status_code, anonymous.json["code"]) == (401, "not_authenticated")
    customer = cancel(shop, f"{payment}:1", headers=shop.headers(shop.add_user()))
    assert (customer.status_code, customer.json["code"]) == (403, "admin_required")
    missing = cancel(shop, f"{payment}:2")
    assert (missing.status_code, missing.json["code"]) == (404, "refund_not_found")
    assert sandbox.refunds(payment)[0]["status"] == "requires_action"


def test_command_cancels_and_refuses(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = waiting(shop, sandbox)
    result = shop.flask("cancel", f"{payment}:1", "--comment", COMMENT, "--actor", "ann")
    assert (result.exit_code, f"{payment}:1 is canceled." in result.output) == (0, True)
    assert shop.records()[0]["history"][-1]["actor"] == "cli:ann"
    for refund_id, comment, reason in (
        (f"{payment}:1", "x", f"{payment}:1 is canceled."),
        ("pi_1:1", "x", "There is no refund pi_1:1."),
        (f"{payment}:1", " ", "comment"),
    ):
        refused = shop.flask("cancel", refund_id, "--comment", comment)
        assert (refused.exit_code, reason in refused.output) == (2, True), refused.output
    assert COMMENT in shop.flask("show", f"{payment}:1").output

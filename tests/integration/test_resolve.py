"""``POST /admin/refunds/<refundId>/resolve``: a person resolves a review over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock

import pytest
from werkzeug.test import TestResponse

from flask_refunds.errors import DatabaseUnavailable
from flask_refunds.extension import get_refunds
from flask_refunds.storage.ledger import Ledger
from flask_refunds.testing import StripeSandbox
from tests.integration.unfinished import age, reconcile, unknown
from tests.integration.webhooks import PENDING_CARD
from tests.shop import Shop


def resolve(shop: Shop, refund_id: str, **options: Any) -> TestResponse:
    """Call the endpoint, by default as the admin."""
    options.setdefault("headers", shop.headers())
    return shop.client.post(f"/api/payments/admin/refunds/{refund_id}/resolve", **options)


def decide(shop: Shop, refund_id: str, decision: str, **fields: Any) -> TestResponse:
    body = {"decision": decision, "comment": "The customer called.", **fields}
    return resolve(shop, refund_id, json=body)


def returned(shop: Shop, sandbox: StripeSandbox, card: str = "4242424242424242") -> tuple[str, Any]:
    """Make a refund that the bank returned, and return its payment and its purchase."""
    payment = sandbox.create_payment(1999, card=card)
    purchase = shop.add_purchase(payment)
    shop.refund(purchase)
    if card == PENDING_CARD:
        sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
        reconcile(shop)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    reconcile(shop, "--full")
    assert shop.records()[0]["review"]["code"] == "failed_after_success"
    return payment, purchase


@pytest.mark.parametrize("decision", ["dismiss", "failed"])
def test_review_is_closed_with_the_admin_and_the_comment(
    shop: Shop, sandbox: StripeSandbox, decision: str
) -> None:
    payment, purchase = returned(shop, sandbox)
    response = decide(shop, f"{payment}:1", decision)
    assert (response.status_code, response.json["message"]) == (200, "Review closed")
    assert (response.json["refund"]["status"], response.json["refund"]["review"]) == ("failed", None)
    [record] = shop.records()
    last = record["history"][-1]
    assert (last["actor"], last["comment"]) == (f"api:{shop.admin_id}", "The customer called.")
    assert shop.status_of(purchase) == "completed"
    assert len(sandbox.refunds(payment)) == 1


def test_retry_refunds_again_and_closes_the_review(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = returned(shop, sandbox)
    response = decide(shop, f"{payment}:1", "retry")
    assert (response.status_code, response.json["message"]) == (200, "Refund successful")
    refund = response.json["refund"]
    assert (refund["id"], refund["source"], refund["requestedBy"], refund["note"]) == (
        f"{payment}:2",
        "api",
        str(shop.admin_id),
        "The customer called.",
    )
    first, _ = shop.records()
    assert first["review"] is None
    assert shop.status_of(purchase) == "refunded"
    assert sandbox.money_refunded(payment) == 1999


def test_retry_of_a_slow_payment_is_pending(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = returned(shop, sandbox, PENDING_CARD)
    response = decide(shop, f"{payment}:1", "retry")
    assert (response.status_code, response.json["message"]) == (202, "Refund pending")


def test_review_stays_open_while_the_outcome_of_a_retry_is_unknown(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _ = returned(shop, sandbox)
    sandbox.inject("response_lost", times=2)
    response = decide(shop, f"{payment}:1", "retry")
    assert (response.status_code, response.json["message"]) == (202, "Refund submitted")
    first, second = shop.records()
    assert (first["review"]["code"], second["status"]) == ("failed_after_success", "processing")


def test_unknown_outcome_is_marked_as_failed_if_stripe_does_not_show_it(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _ = unknown(shop, sandbox, "request_lost")
    age(shop, hours=30)
    reconcile(shop)
    age(shop, minutes=2)
    not_decided = decide(shop, f"{payment}:1", "dismiss")
    assert (not_decided.status_code, not_decided.json["code"]) == (400, "nothing_to_resolve")
    response = decide(shop, f"{payment}:1", "failed")
    assert (response.status_code, response.json["refund"]["status"]) == (200, "failed")
    assert sandbox.refunds(payment) == []


def test_unreadable_stripe_requires_a_look_at_its_dashboard(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = unknown(shop, sandbox, "request_lost")
    age(shop, hours=30)
    reconcile(shop)
    age(shop, minutes=2)
    sandbox.inject("service_unavailable", method="GET", path="/v1/refunds", times=None)
    response = decide(shop, f"{payment}:1", "failed")
    assert (response.status_code, response.json["code"]) == (400, "nothing_to_resolve")
    assert '"checked": true' in response.json["error"]
    assert decide(shop, f"{payment}:1", "failed", checked=True).status_code == 200


def test_calls_at_once_refund_again_once(shop: Shop, generous: StripeSandbox) -> None:
    shop.app.config["STRIPE_API_BASE"] = generous.url
    payment, _ = returned(shop, generous)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: decide(shop, f"{payment}:1", "retry"), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 400, 409}
    assert [each["status"] for each in generous.refunds(payment)].count("succeeded") == 1
    assert generous.money_refunded(payment) == 1999


def test_refund_without_a_review_has_nothing_to_resolve(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    shop.refund(shop.add_purchase(payment))
    for decision in ("retry", "failed", "dismiss"):
        response = decide(shop, f"{payment}:1", decision)
        assert (response.status_code, response.json["code"]) == (400, "nothing_to_resolve")
    missing = decide(shop, f"{payment}:2", "dismiss")
    assert (missing.status_code, missing.json["code"]) == (404, "refund_not_found")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"decision": "dismiss"}',
        '{"comment": "x"}',
        '{"decision": "fail", "comment": "x"}',
        '{"decision": ["retry"], "comment": "x"}',
        '{"decision": "dismiss", "comment": " \\n"}',
        '{"decision": "dismiss", "comment": 7}',
        '{"decision": "dismiss", "comment": null}',
        '{"decision": "dismiss", "comment": "\\ud800"}',
        '{"decision": "failed", "comment": "x", "checked": 1}',
        '{"decision": "failed", "comment": "x", "checked": null}',
        '{"decision": "dismiss", "comment": "x", "reason": "duplicate"}',
        '{"decision": "dismiss", "decision": "retry", "comment": "x"}',
        '{"decision": "dismiss", "comment": "' + "x" * 501 + '"}',
    ],
)
def test_invalid_body_decides_nothing(shop: Shop, sandbox: StripeSandbox, body: str) -> None:
    payment, _ = returned(shop, sandbox)
    response = resolve(shop, f"{payment}:1", data=body)
    assert (response.status_code, response.json["code"]) == (400, "invalid_request")
    assert shop.records()[0]["review"]["code"] == "failed_after_success"


@pytest.mark.parametrize("comment", ["", " \t", "x" * 501, "\udcff"])
@pytest.mark.parametrize("decision", ["--dismiss", "--retry"])
def test_command_requires_a_comment_as_the_endpoint_does(
    shop: Shop, sandbox: StripeSandbox, decision: str, comment: str
) -> None:
    payment, _ = returned(shop, sandbox)
    before = shop.records()
    result = shop.flask("resolve", f"{payment}:1", decision, "--comment", comment)
    assert (result.exit_code, "comment must say what you found" in result.stderr) == (2, True)
    assert shop.records() == before
    assert len(sandbox.refunds(payment)) == 1


def test_only_an_admin_decides(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = returned(shop, sandbox)
    body = {"decision": "dismiss", "comment": "Mine."}
    anonymous = resolve(shop, f"{payment}:1", json=body, headers={})
    assert (anonymous.status_code, anonymous.json["code"]) == (401, "not_authenticated")
    customer = resolve(shop, f"{payment}:1", json=body, headers=shop.headers(shop.add_user()))
    assert (customer.status_code, customer.json["code"]) == (403, "admin_required")
    assert shop.records()[0]["review"] is not None


def test_retry_that_moved_money_answers_200_even_if_mongodb_fails_then(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _ = returned(shop, sandbox)
    with mock.patch.object(Ledger, "get", side_effect=DatabaseUnavailable) as get:
        response = decide(shop, f"{payment}:1", "retry")
    assert (response.status_code, response.json["message"]) == (200, "Refund successful")
    assert get.called
    assert sandbox.money_refunded(payment) == 1999


def test_marks_stay_while_a_call_works_on_a_refund_in_review(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = unknown(shop, sandbox, "request_lost")
    age(shop, hours=30)
    reconcile(shop)
    other = sandbox.dashboard_refund(payment)
    reconcile(shop, "--full")
    assert shop.status_of(purchase) == "refunded"
    sandbox.settle(other["id"], "failed")
    in_a_minute = datetime.now(timezone.utc) + timedelta(minutes=1)
    shop.db.flask_refunds.update_one({"_id": f"{payment}:1"}, {"$set": {"leaseExpiresAt": in_a_minute}})
    reconcile(shop, "--full")
    assert shop.status_of(purchase) == "refunded"
    age(shop, minutes=3)
    reconcile(shop, "--full")
    assert shop.status_of(purchase) == "completed"


def test_marks_of_another_refund_are_undone_before_they_are_forgotten(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, purchase = unknown(shop, sandbox, "request_lost")
    age(shop, hours=30)
    reconcile(shop)
    other = sandbox.dashboard_refund(payment)
    reconcile(shop, "--full")
    sandbox.settle(other["id"], "failed")
    in_a_minute = datetime.now(timezone.utc) + timedelta(minutes=1)
    shop.db.flask_refunds.update_one({"_id": f"{payment}:1"}, {"$set": {"leaseExpiresAt": in_a_minute}})
    reconcile(shop, "--full")
    age(shop, minutes=3)
    refunds = get_refunds(shop.app)
    refunds.transitions.verify_purchases(refunds.ledger.get(f"{payment}:1"))
    reconcile(shop, "--full")
    assert shop.status_of(purchase) == "completed"

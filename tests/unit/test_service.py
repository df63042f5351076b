"""A call from its asking to its end, step by step."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flask_refunds.clock import Deadline
from flask_refunds.errors import (
    PaymentIntentMissing,
    PurchaseNotRefundable,
    RefundFailed,
    RefundInProgress,
    StripeKeyRejected,
    StripeRateLimited,
)
from flask_refunds.models import Failure, Refund, RefundStatus
from flask_refunds.storage.ledger import Ledger
from tests.unit.refund_harness import (
    ASK,
    CAPTURED,
    CREATE,
    LIST,
    RETRIEVE,
    START,
    WHOLE,
    RefundHarness,
    create_record,
    fact,
    freeze_after_opening,
    listed,
)
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, error_object, lost, refund_object


def test_the_whole_row(harness: RefundHarness) -> None:
    """As it is before Stripe is asked, and at the end. Its names are a contract: shops query them."""
    seen: list[dict[str, Any]] = []
    harness.stripe.before = lambda sent: seen.extend(harness.db.flask_refunds.find())
    harness.stripe.script[:] = [(*CREATE, (200, refund_object(status="pending")))]
    harness.service.refund(harness.cart[0], WHOLE)
    harness.now += timedelta(hours=1)
    harness.transitions.apply(
        harness.record(), fact("succeeded", reason="fraudulent", request_id="req_2"), actor="webhook"
    )

    [asked] = seen
    owner, by = asked["leaseToken"], "api:admin"
    assert re.fullmatch("[0-9a-f]{32}", owner)
    assert asked == {
        "_id": REFUND_ID,
        "paymentIntent": PAYMENT,
        "number": 1,
        "source": "api",
        "status": "processing",
        "createdAt": START,
        "updatedAt": START,
        "leaseExpiresAt": START + timedelta(seconds=60),
        "signals_sent": True,
        "purchasesVerified": True,
        "purchaseIds": harness.cart,
        "reason": "duplicate",
        "note": "paid twice",
        "requestedBy": "admin",
        "request": {
            "payment_intent": PAYMENT,
            "metadata": {"refund_id": REFUND_ID},
            "reason": "duplicate",
        },
        "leaseToken": owner,
        "attempts": 1,
        "history": [{"at": START, "status": "processing", "actor": by}],
    }
    pending = {"at": START, "status": "pending", "actor": by, "stripeRequestId": "req_1"}
    succeeded = {"at": harness.now, "status": "succeeded", "actor": "webhook", "stripeRequestId": "req_2"}
    assert harness.db.flask_refunds.find_one() == asked | {
        "status": "succeeded",
        "updatedAt": harness.now,
        "leaseExpiresAt": harness.now,
        "settledAt": harness.now,
        "purchasesVerified": False,
        "reason": "fraudulent",
        "stripeRefundId": "re_1",
        "amount": 1999,
        "currency": "usd",
        "failure": None,
        "review": None,
        "history": asked["history"] + [{**each, "review": None} for each in (pending, succeeded)],
    }
    assert harness.stripe.sent[0].params["reason"] == "duplicate"


def test_a_row_without_a_reason(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    row = harness.db.flask_refunds.find_one()
    assert (row["reason"], row["note"]) == (None, None)
    assert row["request"] == {"payment_intent": PAYMENT, "metadata": {"refund_id": REFUND_ID}}
    assert "reason" not in harness.stripe.sent[0].params


@pytest.mark.parametrize(
    ("answer", "error", "code", "message"),
    [
        ((400, error_object("charge_disputed")), RefundFailed, "charge_disputed", "No."),
        ((429, error_object("rate_limit")), StripeRateLimited, "rate_limited", "No."),
        ((401, error_object("")), StripeKeyRejected, "key_rejected", "Stripe does not accept the key."),
    ],
)
def test_the_whole_refusal(harness: RefundHarness, answer: Any, error: Any, code: str, message: str) -> None:
    with pytest.raises(error) as refusal:
        harness.refund((*CREATE, answer))
    row = harness.record()
    assert refusal.value.refund == row
    assert (row.status, row.settled_at, row.failure) == (RefundStatus.FAILED, START, Failure(code, message))
    assert row.history[1:] == [
        {"at": START, "status": "failed", "actor": "api:admin", "stripeRequestId": "req_1"}
    ]
    assert harness.statuses() == {"completed"}


@pytest.mark.parametrize(("status", "then"), [("succeeded", "refunded"), ("pending", "completed")])
def test_the_answer_shows_the_purchase_as_it_now_is(harness: RefundHarness, status: str, then: str) -> None:
    before = harness.db.purchases.find_one({"_id": harness.cart[0]})
    outcome = harness.refund((*CREATE, (200, refund_object(status=status))))
    assert outcome.purchase == {**before, "status": then}
    assert outcome.refund == harness.record()


@pytest.mark.parametrize(
    ("status", "error"), [("completed", PaymentIntentMissing), ("refunded", PurchaseNotRefundable)]
)
def test_a_purchase_without_a_payment(harness: RefundHarness, status: str, error: type[Exception]) -> None:
    harness.db.purchases.update_one(
        {"_id": harness.cart[0]}, {"$set": {"status": status}, "$unset": {"stripePaymentIntentId": 1}}
    )
    with pytest.raises(error) as refusal:
        harness.refund()
    assert type(refusal.value) is error


def test_a_refund_at_work_is_shown_to_who_must_wait(harness: RefundHarness) -> None:
    create_record(harness)
    with pytest.raises(RefundInProgress) as waiting:
        harness.refund()
    assert waiting.value.refund == harness.record()


def test_a_refund_that_is_made_is_shown_to_who_asks_again(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    with pytest.raises(PurchaseNotRefundable) as again:
        harness.refund()
    assert again.value.refund == harness.record()
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable) as left_behind:
        harness.refund((*RETRIEVE, (200, refund_object())))
    assert left_behind.value.refund == harness.record()


def test_a_purchase_that_the_host_marked_while_its_refund_was_unknown(harness: RefundHarness) -> None:
    """Its log is read all the same, and the refund goes on."""
    harness.refund((*CREATE, lost()))
    harness.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    outcome = harness.refund(listed(refund_object()))
    assert (outcome.refund.status, outcome.purchase["status"]) == (RefundStatus.SUCCEEDED, "refunded")


def test_a_purchase_that_the_host_refunded_himself(harness: RefundHarness) -> None:
    harness.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    with pytest.raises(PurchaseNotRefundable):
        harness.refund()
    assert harness.db.flask_refunds.count_documents({}) == 0


def test_a_row_keeps_the_bulk_run_that_opened_it(harness: RefundHarness) -> None:
    run = replace(ASK, bulk="recall-2024")
    harness.stripe.script[:] = [(*CREATE, (200, refund_object(status="pending")))]
    harness.service.refund(harness.cart[0], run)
    harness.stripe.script[:] = [(*RETRIEVE, (200, refund_object(status="pending")))]
    harness.service.refund(harness.cart[1], replace(run, bulk="another"))
    assert (harness.record().bulk, harness.db.flask_refunds.count_documents({})) == ("recall-2024", 1)


def test_a_row_of_no_bulk_run_has_no_such_field(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    assert ("bulk" in harness.db.flask_refunds.find_one(), harness.record().bulk) == (False, None)


def test_a_row_that_a_restore_left_out_keeps_nobody_waiting(harness: RefundHarness) -> None:
    refusal = (*CREATE, (400, error_object("charge_disputed")))
    for _ in range(3):
        with pytest.raises(RefundFailed):
            harness.refund(refusal)
    harness.db.flask_refunds.delete_one({"number": 2})
    with pytest.raises(RefundFailed):
        harness.refund(refusal)
    assert [row["number"] for row in harness.db.flask_refunds.find().sort("number", 1)] == [1, 3, 4]


def test_an_unknown_outcome_frees_the_row_at_once(harness: RefundHarness) -> None:
    assert harness.refund((*CREATE, lost())).refund.status is RefundStatus.PROCESSING
    outcome = harness.refund(
        (*LIST, (200, {"object": "list", "data": [], "has_more": False})),
        (*CREATE, (200, refund_object())),
    )
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert {sent.headers["Idempotency-Key"] for sent in harness.stripe.sent if sent.method == "POST"} == {
        REFUND_ID
    }


def test_a_row_that_stripe_has_already_is_adopted_and_not_sent(harness: RefundHarness) -> None:
    harness.refund((*CREATE, lost()))
    outcome = harness.refund(listed(refund_object()))
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert harness.stripe.sent[-1].params["payment_intent"] == PAYMENT
    assert outcome.refund.history[-1]["actor"] == "api:admin"


def test_nothing_is_sent_while_stripe_cannot_say_what_it_has(harness: RefundHarness) -> None:
    harness.refund((*CREATE, lost()))
    assert harness.refund((*LIST, lost())).refund.status is RefundStatus.PROCESSING
    assert harness.refund((*LIST, (401, error_object("")))).refund.status is RefundStatus.PROCESSING


ALREADY = (*CREATE, (400, error_object("charge_already_refunded")))


def test_a_row_whose_refund_stripe_made_and_whose_key_it_forgot(harness: RefundHarness) -> None:
    outcome = harness.refund(ALREADY, listed(refund_object()))
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert harness.stripe.sent[-1].params["payment_intent"] == PAYMENT
    [row] = harness.ledger.list_for_payment(PAYMENT)
    assert (row.source, row.stripe_refund_id, row.history[-1]["actor"]) == ("endpoint", "re_1", "api:admin")
    assert harness.statuses() == {"refunded"}


def test_a_row_for_which_nothing_was_left(harness: RefundHarness) -> None:
    with pytest.raises(PurchaseNotRefundable):
        harness.refund(ALREADY, listed(refund_object(metadata={})), CAPTURED)
    ours, elsewhere = harness.ledger.list_for_payment(PAYMENT)
    assert (ours.status, ours.history[-1]["actor"]) == (RefundStatus.FAILED, "api:admin")
    assert (elsewhere.source, elsewhere.purchase_ids) == ("dashboard", harness.cart)
    assert harness.statuses() == {"refunded"}


def test_a_refund_of_the_dashboard_that_fails_while_a_call_learns_of_it(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its event leaves the purchases to the call, whose row is not settled yet."""
    refuse = Ledger.mark_rejected

    def fail_first(*args: Any, **kwargs: Any) -> Refund | None:
        harness.stripe_sync.upsert_from_stripe(
            fact("failed", refund_id=None), Deadline.after(10), actor="webhook"
        )
        return refuse(*args, **kwargs)

    monkeypatch.setattr(Ledger, "refuse", fail_first)
    with pytest.raises(PurchaseNotRefundable):
        harness.refund(ALREADY, listed(refund_object(metadata={})), CAPTURED)
    assert harness.statuses() == {"completed"}


def test_a_purchase_that_a_rival_refunds_after_it_was_read(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe is not asked about it again."""
    opened = Ledger.create

    def rival_first(*args: Any, **kwargs: Any) -> Refund:
        monkeypatch.setattr(Ledger, "open", opened)
        harness.service.refund(harness.cart[1], ASK)
        return opened(*args, **kwargs)

    monkeypatch.setattr(Ledger, "open", rival_first)
    with pytest.raises(PurchaseNotRefundable):
        harness.refund((*CREATE, (200, refund_object())))
    assert len(harness.ledger.list_for_payment(PAYMENT)) == 1


def test_a_key_rejected_while_in_doubt_is_no_failure(harness: RefundHarness) -> None:
    harness.refund((*CREATE, lost()))
    nothing = (200, {"object": "list", "data": [], "has_more": False})
    outcome = harness.refund((*LIST, nothing), (*CREATE, (401, error_object(""))))
    assert outcome.refund.status is RefundStatus.PROCESSING


def test_a_key_rejected_at_the_first_try_is(harness: RefundHarness) -> None:
    with pytest.raises(StripeKeyRejected):
        harness.refund((*CREATE, (401, error_object(""))))
    assert harness.record().status is RefundStatus.FAILED


@pytest.mark.parametrize(("seconds", "allowed"), [(59, False), (60, True)])
def test_the_lease(harness: RefundHarness, seconds: int, allowed: bool) -> None:
    create_record(harness)
    harness.now += timedelta(seconds=seconds)
    if not allowed:
        with pytest.raises(RefundInProgress):
            harness.refund()
        return
    found = (200, {"object": "list", "data": [refund_object()], "has_more": False})
    assert harness.refund((*LIST, found)).refund.status is RefundStatus.SUCCEEDED


def test_a_call_that_was_frozen_past_its_lease_sends_nothing(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_after_opening(harness, monkeypatch, timedelta(hours=25))
    assert harness.refund().refund.status is RefundStatus.PROCESSING


def test_only_the_owner_concludes_a_failure(harness: RefundHarness) -> None:
    """A call whose lease ran out while it waited for Stripe must not fail the row under its successor."""

    def retry_while_unavailable(sent: Any) -> None:
        harness.now += timedelta(seconds=61)
        assert harness.ledger.acquire_lease(harness.record()) is not None

    harness.stripe.before = retry_while_unavailable
    outcome = harness.refund((*CREATE, (400, error_object("charge_disputed"))))
    assert outcome.refund.status is RefundStatus.PROCESSING
    assert harness.record().status is RefundStatus.PROCESSING


@pytest.mark.parametrize(
    ("age", "sent"), [(timedelta(hours=23), True), (timedelta(hours=23, milliseconds=1), False)]
)
def test_the_23_hours(harness: RefundHarness, age: timedelta, sent: bool) -> None:
    harness.listen()
    harness.refund((*CREATE, lost()))
    harness.now += age
    nothing = (*LIST, (200, {"object": "list", "data": [], "has_more": False}))
    if sent:
        assert (
            harness.refund(nothing, (*CREATE, (200, refund_object()))).refund.status is RefundStatus.SUCCEEDED
        )
        return
    for _ in range(3):  # the lease is given up each time
        outcome = harness.refund(nothing)
        assert outcome.refund.status is RefundStatus.PROCESSING
        assert outcome.refund.review is not None
        assert outcome.refund.review.since == harness.now
    assert harness.heard == [("refund-review", "processing")]
    assert harness.record().history[1:] == [
        {"at": harness.now, "status": "processing", "actor": "api:admin", "review": "unknown_too_long"}
    ]


def test_a_succeeded_row_whose_purchases_were_left_behind(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable):
        harness.refund((*RETRIEVE, (200, refund_object())))
    assert harness.statuses() == {"refunded"}


def test_a_pending_row_of_which_stripe_has_no_news_leaves_the_purchases_to_the_host(
    harness: RefundHarness,
) -> None:
    pending = (200, refund_object(status="pending"))
    harness.refund((*CREATE, pending))
    harness.db.purchases.update_one({"_id": harness.cart[1]}, {"$set": {"status": "refunded"}})
    harness.refund((*RETRIEVE, pending))
    assert harness.statuses() == {"completed", "refunded"}


def test_a_call_that_finds_the_news_signs_it(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.refund((*RETRIEVE, (200, refund_object())))
    assert (harness.record().status.value, harness.record().history[-1]["actor"]) == (
        "succeeded",
        "api:admin",
    )


def test_a_succeeded_row_that_stripe_calls_failed_by_now(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(RefundFailed):
        harness.refund((*RETRIEVE, (200, refund_object(status="failed"))))
    assert harness.statuses() == {"completed"}


def test_a_reconciler_that_comes_too_late_finds_nothing_wrong(harness: RefundHarness) -> None:
    stale = create_record(harness)
    harness.transitions.apply(stale, fact("succeeded"), actor="webhook")
    harness.stripe.script[:] = [(*RETRIEVE, (200, refund_object()))]
    assert harness.service.resume(stale, actor="reconcile").status is RefundStatus.SUCCEEDED

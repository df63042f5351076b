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
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, error_object, lost, refund_object
from tests.unit.world import (
    ASK,
    CAPTURED,
    CREATE,
    LIST,
    RETRIEVE,
    START,
    WHOLE,
    World,
    fact,
    freeze_after_opening,
    listed,
    open_row,
)


def test_the_whole_row(world: World) -> None:
    """As it is before Stripe is asked, and at the end. Its names are a contract: shops query them."""
    seen: list[dict[str, Any]] = []
    world.stripe.before = lambda sent: seen.extend(world.db.refunds.find())
    world.stripe.script[:] = [(*CREATE, (200, refund_object(status="pending")))]
    world.service.refund(world.cart[0], WHOLE)
    world.now += timedelta(hours=1)
    world.books.apply(world.row(), fact("succeeded", reason="fraudulent", request_id="req_2"), by="webhook")

    [asked] = seen
    owner, by = asked["owner"], "endpoint:admin"
    assert re.fullmatch("[0-9a-f]{32}", owner)
    assert asked == {
        "_id": REFUND_ID,
        "paymentIntent": PAYMENT,
        "number": 1,
        "source": "endpoint",
        "status": "processing",
        "createdAt": START,
        "updatedAt": START,
        "leasedUntil": START + timedelta(seconds=60),
        "announced": True,
        "checked": True,
        "purchaseIds": world.cart,
        "reason": "duplicate",
        "note": "paid twice",
        "requestedBy": "admin",
        "request": {
            "payment_intent": PAYMENT,
            "metadata": {"refund_id": REFUND_ID},
            "reason": "duplicate",
        },
        "owner": owner,
        "calls": 1,
        "history": [{"at": START, "status": "processing", "by": by}],
    }
    pending = {"at": START, "status": "pending", "by": by, "stripeRequestId": "req_1"}
    succeeded = {"at": world.now, "status": "succeeded", "by": "webhook", "stripeRequestId": "req_2"}
    assert world.db.refunds.find_one() == asked | {
        "status": "succeeded",
        "updatedAt": world.now,
        "leasedUntil": world.now,
        "settledAt": world.now,
        "checked": False,
        "reason": "fraudulent",
        "stripeRefundId": "re_1",
        "amount": 1999,
        "currency": "usd",
        "failure": None,
        "attention": None,
        "history": asked["history"] + [{**each, "attention": None} for each in (pending, succeeded)],
    }
    assert world.stripe.sent[0].params["reason"] == "duplicate"


def test_a_row_without_a_reason(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    row = world.db.refunds.find_one()
    assert (row["reason"], row["note"]) == (None, None)
    assert row["request"] == {"payment_intent": PAYMENT, "metadata": {"refund_id": REFUND_ID}}
    assert "reason" not in world.stripe.sent[0].params


@pytest.mark.parametrize(
    ("answer", "error", "code", "message"),
    [
        ((400, error_object("charge_disputed")), RefundFailed, "charge_disputed", "No."),
        ((429, error_object("rate_limit")), StripeRateLimited, "rate_limited", "No."),
        ((401, error_object("")), StripeKeyRejected, "key_rejected", "Stripe does not accept the key."),
    ],
)
def test_the_whole_refusal(world: World, answer: Any, error: Any, code: str, message: str) -> None:
    with pytest.raises(error) as refusal:
        world.refund((*CREATE, answer))
    row = world.row()
    assert refusal.value.refund == row
    assert (row.status, row.settled_at, row.failure) == (RefundStatus.FAILED, START, Failure(code, message))
    assert row.history[1:] == [
        {"at": START, "status": "failed", "by": "endpoint:admin", "stripeRequestId": "req_1"}
    ]
    assert world.statuses() == {"completed"}


@pytest.mark.parametrize(("status", "then"), [("succeeded", "refunded"), ("pending", "completed")])
def test_the_answer_shows_the_purchase_as_it_now_is(world: World, status: str, then: str) -> None:
    before = world.db.purchases.find_one({"_id": world.cart[0]})
    outcome = world.refund((*CREATE, (200, refund_object(status=status))))
    assert outcome.purchase == {**before, "status": then}
    assert outcome.refund == world.row()


@pytest.mark.parametrize(
    ("status", "error"), [("completed", PaymentIntentMissing), ("refunded", PurchaseNotRefundable)]
)
def test_a_purchase_without_a_payment(world: World, status: str, error: type[Exception]) -> None:
    world.db.purchases.update_one(
        {"_id": world.cart[0]}, {"$set": {"status": status}, "$unset": {"stripePaymentIntentId": 1}}
    )
    with pytest.raises(error) as refusal:
        world.refund()
    assert type(refusal.value) is error


def test_a_refund_at_work_is_shown_to_who_must_wait(world: World) -> None:
    open_row(world)
    with pytest.raises(RefundInProgress) as waiting:
        world.refund()
    assert waiting.value.refund == world.row()


def test_a_refund_that_is_made_is_shown_to_who_asks_again(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    with pytest.raises(PurchaseNotRefundable) as again:
        world.refund()
    assert again.value.refund == world.row()
    world.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable) as left_behind:
        world.refund((*RETRIEVE, (200, refund_object())))
    assert left_behind.value.refund == world.row()


def test_a_purchase_that_the_host_marked_while_its_refund_was_unknown(world: World) -> None:
    """Its log is read all the same, and the refund goes on."""
    world.refund((*CREATE, lost()))
    world.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    outcome = world.refund(listed(refund_object()))
    assert (outcome.refund.status, outcome.purchase["status"]) == (RefundStatus.SUCCEEDED, "refunded")


def test_a_purchase_that_the_host_refunded_himself(world: World) -> None:
    world.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    with pytest.raises(PurchaseNotRefundable):
        world.refund()
    assert world.db.refunds.count_documents({}) == 0


def test_a_row_keeps_the_bulk_run_that_opened_it(world: World) -> None:
    run = replace(ASK, bulk="recall-2024")
    world.stripe.script[:] = [(*CREATE, (200, refund_object(status="pending")))]
    world.service.refund(world.cart[0], run)
    world.stripe.script[:] = [(*RETRIEVE, (200, refund_object(status="pending")))]
    world.service.refund(world.cart[1], replace(run, bulk="another"))
    assert (world.row().bulk, world.db.refunds.count_documents({})) == ("recall-2024", 1)


def test_a_row_of_no_bulk_run_has_no_such_field(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    assert ("bulk" in world.db.refunds.find_one(), world.row().bulk) == (False, None)


def test_a_row_that_a_restore_left_out_keeps_nobody_waiting(world: World) -> None:
    refusal = (*CREATE, (400, error_object("charge_disputed")))
    for _ in range(3):
        with pytest.raises(RefundFailed):
            world.refund(refusal)
    world.db.refunds.delete_one({"number": 2})
    with pytest.raises(RefundFailed):
        world.refund(refusal)
    assert [row["number"] for row in world.db.refunds.find().sort("number", 1)] == [1, 3, 4]


def test_an_unknown_outcome_frees_the_row_at_once(world: World) -> None:
    assert world.refund((*CREATE, lost())).refund.status is RefundStatus.PROCESSING
    outcome = world.refund(
        (*LIST, (200, {"object": "list", "data": [], "has_more": False})),
        (*CREATE, (200, refund_object())),
    )
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert {sent.headers["Idempotency-Key"] for sent in world.stripe.sent if sent.method == "POST"} == {
        REFUND_ID
    }


def test_a_row_that_stripe_has_already_is_adopted_and_not_sent(world: World) -> None:
    world.refund((*CREATE, lost()))
    outcome = world.refund(listed(refund_object()))
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert world.stripe.sent[-1].params["payment_intent"] == PAYMENT
    assert outcome.refund.history[-1]["by"] == "endpoint:admin"


def test_nothing_is_sent_while_stripe_cannot_say_what_it_has(world: World) -> None:
    world.refund((*CREATE, lost()))
    assert world.refund((*LIST, lost())).refund.status is RefundStatus.PROCESSING
    assert world.refund((*LIST, (401, error_object("")))).refund.status is RefundStatus.PROCESSING


ALREADY = (*CREATE, (400, error_object("charge_already_refunded")))


def test_a_row_whose_refund_stripe_made_and_whose_key_it_forgot(world: World) -> None:
    outcome = world.refund(ALREADY, listed(refund_object()))
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert world.stripe.sent[-1].params["payment_intent"] == PAYMENT
    [row] = world.ledger.read_log(PAYMENT)
    assert (row.source, row.stripe_refund_id, row.history[-1]["by"]) == ("endpoint", "re_1", "endpoint:admin")
    assert world.statuses() == {"refunded"}


def test_a_row_for_which_nothing_was_left(world: World) -> None:
    with pytest.raises(PurchaseNotRefundable):
        world.refund(ALREADY, listed(refund_object(metadata={})), CAPTURED)
    ours, elsewhere = world.ledger.read_log(PAYMENT)
    assert (ours.status, ours.history[-1]["by"]) == (RefundStatus.FAILED, "endpoint:admin")
    assert (elsewhere.source, elsewhere.purchase_ids) == ("dashboard", world.cart)
    assert world.statuses() == {"refunded"}


def test_a_refund_of_the_dashboard_that_fails_while_a_call_learns_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its event leaves the purchases to the call, whose row is not settled yet."""
    refuse = Ledger.refuse

    def fail_first(*args: Any, **kwargs: Any) -> Refund | None:
        world.intake.take_in(fact("failed", refund_id=None), Deadline.after(10), by="webhook")
        return refuse(*args, **kwargs)

    monkeypatch.setattr(Ledger, "refuse", fail_first)
    with pytest.raises(PurchaseNotRefundable):
        world.refund(ALREADY, listed(refund_object(metadata={})), CAPTURED)
    assert world.statuses() == {"completed"}


def test_a_purchase_that_a_rival_refunds_after_it_was_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe is not asked about it again."""
    opened = Ledger.open

    def rival_first(*args: Any, **kwargs: Any) -> Refund:
        monkeypatch.setattr(Ledger, "open", opened)
        world.service.refund(world.cart[1], ASK)
        return opened(*args, **kwargs)

    monkeypatch.setattr(Ledger, "open", rival_first)
    with pytest.raises(PurchaseNotRefundable):
        world.refund((*CREATE, (200, refund_object())))
    assert len(world.ledger.read_log(PAYMENT)) == 1


def test_a_key_rejected_while_in_doubt_is_no_failure(world: World) -> None:
    world.refund((*CREATE, lost()))
    nothing = (200, {"object": "list", "data": [], "has_more": False})
    outcome = world.refund((*LIST, nothing), (*CREATE, (401, error_object(""))))
    assert outcome.refund.status is RefundStatus.PROCESSING


def test_a_key_rejected_at_the_first_try_is(world: World) -> None:
    with pytest.raises(StripeKeyRejected):
        world.refund((*CREATE, (401, error_object(""))))
    assert world.row().status is RefundStatus.FAILED


@pytest.mark.parametrize(("seconds", "allowed"), [(59, False), (60, True)])
def test_the_lease(world: World, seconds: int, allowed: bool) -> None:
    open_row(world)
    world.now += timedelta(seconds=seconds)
    if not allowed:
        with pytest.raises(RefundInProgress):
            world.refund()
        return
    found = (200, {"object": "list", "data": [refund_object()], "has_more": False})
    assert world.refund((*LIST, found)).refund.status is RefundStatus.SUCCEEDED


def test_a_call_that_was_frozen_past_its_lease_sends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_after_opening(world, monkeypatch, timedelta(hours=25))
    assert world.refund().refund.status is RefundStatus.PROCESSING


def test_only_the_owner_concludes_a_failure(world: World) -> None:
    """A call whose lease ran out while it waited for Stripe must not fail the row under its successor."""

    def outlast(sent: Any) -> None:
        world.now += timedelta(seconds=61)
        assert world.ledger.take(world.row()) is not None

    world.stripe.before = outlast
    outcome = world.refund((*CREATE, (400, error_object("charge_disputed"))))
    assert outcome.refund.status is RefundStatus.PROCESSING
    assert world.row().status is RefundStatus.PROCESSING


@pytest.mark.parametrize(
    ("age", "sent"), [(timedelta(hours=23), True), (timedelta(hours=23, milliseconds=1), False)]
)
def test_the_23_hours(world: World, age: timedelta, sent: bool) -> None:
    world.listen()
    world.refund((*CREATE, lost()))
    world.now += age
    nothing = (*LIST, (200, {"object": "list", "data": [], "has_more": False}))
    if sent:
        assert (
            world.refund(nothing, (*CREATE, (200, refund_object()))).refund.status is RefundStatus.SUCCEEDED
        )
        return
    for _ in range(3):  # the lease is given up each time
        outcome = world.refund(nothing)
        assert outcome.refund.status is RefundStatus.PROCESSING
        assert outcome.refund.attention is not None
        assert outcome.refund.attention.since == world.now
    assert world.heard == [("refund-attention", "processing")]
    assert world.row().history[1:] == [
        {"at": world.now, "status": "processing", "by": "endpoint:admin", "attention": "unknown_too_long"}
    ]


def test_a_succeeded_row_whose_purchases_were_left_behind(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    world.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable):
        world.refund((*RETRIEVE, (200, refund_object())))
    assert world.statuses() == {"refunded"}


def test_a_pending_row_of_which_stripe_has_no_news_leaves_the_purchases_to_the_host(world: World) -> None:
    pending = (200, refund_object(status="pending"))
    world.refund((*CREATE, pending))
    world.db.purchases.update_one({"_id": world.cart[1]}, {"$set": {"status": "refunded"}})
    world.refund((*RETRIEVE, pending))
    assert world.statuses() == {"completed", "refunded"}


def test_a_call_that_finds_the_news_signs_it(world: World) -> None:
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    world.refund((*RETRIEVE, (200, refund_object())))
    assert (world.row().status.value, world.row().history[-1]["by"]) == ("succeeded", "endpoint:admin")


def test_a_succeeded_row_that_stripe_calls_failed_by_now(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    world.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(RefundFailed):
        world.refund((*RETRIEVE, (200, refund_object(status="failed"))))
    assert world.statuses() == {"completed"}


def test_a_reconciler_that_comes_too_late_finds_nothing_wrong(world: World) -> None:
    stale = open_row(world)
    world.books.apply(stale, fact("succeeded"), by="webhook")
    world.stripe.script[:] = [(*RETRIEVE, (200, refund_object()))]
    assert world.service.resume(stale, by="reconcile").status is RefundStatus.SUCCEEDED

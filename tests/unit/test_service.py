"""RefundService: each step of a refund call."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import Timestamp

from flask_refunds.errors import (
    PaymentIntentMissing,
    PurchaseNotRefundable,
    RefundFailed,
    RefundInProgress,
    RefundsError,
    StripeKeyRejected,
    StripeRateLimited,
)
from flask_refunds.models import Failure, RefundRecord, RefundStatus
from flask_refunds.storage.ledger import Ledger
from tests.unit.refund_harness import (
    CREATE,
    FULL_REQUEST,
    LIST,
    REQUEST,
    RETRIEVE,
    START,
    RefundHarness,
    create_record,
    listed,
    store,
    stripe_refund,
    suspend_after_creating,
)
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, error_object, lost, refund_key, refund_object

READ = (*RETRIEVE, (200, refund_object()))
EXTERNAL = refund_object(metadata={})


def test_refund_record_has_every_documented_field_before_and_after_stripe_answers(
    harness: RefundHarness,
) -> None:
    """Field names are public: apps query the ledger."""
    seen: list[dict[str, Any]] = []
    harness.stripe.before = lambda sent: seen.extend(harness.db.flask_refunds.find())
    harness.stripe.script[:] = [(*CREATE, (200, refund_object(status="pending")))]
    harness.service.refund(harness.cart[0], FULL_REQUEST)
    harness.now += timedelta(hours=1)
    harness.transitions.apply(
        harness.record(), stripe_refund("succeeded", reason="fraudulent", request_id="req_2"), actor="webhook"
    )

    [asked] = seen
    owner, by = asked["leaseToken"], "api:admin"
    assert re.fullmatch("[0-9a-f]{32}", owner)
    assert isinstance(asked.pop("changedAt"), Timestamp)
    assert asked == {
        "_id": REFUND_ID,
        "paymentIntent": PAYMENT,
        "number": 1,
        "source": "api",
        "status": "processing",
        "createdAt": START,
        "updatedAt": START,
        "lookedAt": START,
        "leaseExpiresAt": START + timedelta(seconds=60),
        "signalsSent": True,
        "purchasesVerified": True,
        "purchaseIds": harness.cart,
        "marks": [{"purchaseId": each, "status": "completed"} for each in harness.cart],
        "reason": "duplicate",
        "note": "paid twice",
        "requestedBy": "admin",
        "request": {
            "payment_intent": PAYMENT,
            "metadata": {"refund_id": refund_key()},
            "expand": ["charge"],
            "reason": "duplicate",
        },
        "leaseToken": owner,
        "attempts": 1,
        "history": [{"at": START, "status": "processing", "actor": by}],
    }
    pending = {"at": START, "status": "pending", "actor": by, "stripeRequestId": "req_1"}
    succeeded = {"at": harness.now, "status": "succeeded", "actor": "webhook", "stripeRequestId": "req_2"}
    assert harness.db.flask_refunds.find_one({}, {"changedAt": 0}) == asked | {
        "status": "succeeded",
        "updatedAt": harness.now,
        "leaseExpiresAt": harness.now,
        "settledAt": harness.now,
        "purchasesVerified": False,
        "reason": "fraudulent",
        "stripeRefundId": "re_1",
        "amount": 1999,
        "amountCaptured": 1999,
        "charge": "ch_1",
        "livemode": False,
        "currency": "usd",
        "failure": None,
        "details": {},
        "review": None,
        "history": asked["history"] + [{**each, "review": None} for each in (pending, succeeded)],
    }
    assert harness.stripe.sent[0].params["reason"] == "duplicate"


def test_refund_without_reason_sends_no_reason_to_stripe(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    record = harness.db.flask_refunds.find_one()
    assert (record["reason"], record["note"]) == (None, None)
    assert record["request"].keys() == {"payment_intent", "metadata", "expand"}
    assert "reason" not in harness.stripe.sent[0].params


@pytest.mark.parametrize(
    ("status", "error", "code", "outcome"),
    [
        (400, RefundFailed, "charge_disputed", "rejected"),
        (404, RefundFailed, "rate_limited", "rejected"),
        (429, StripeRateLimited, "rate_limit", "rate_limited"),
        (429, StripeRateLimited, "lock_timeout", "rate_limited"),
        (401, StripeKeyRejected, "api_key_expired", "key_rejected"),
    ],
)
def test_rejected_refund_is_failed_with_stripes_code_and_message(
    harness: RefundHarness, status: int, error: type[RefundsError], code: str, outcome: str
) -> None:
    message = "Stripe doesn't accept the key." if status == 401 else "No."
    with pytest.raises(error) as refusal:
        harness.refund((*CREATE, (status, error_object(code))))
    record = harness.record()
    assert (type(refusal.value), refusal.value.refund) == (error, record)
    assert ("Another request is changing" in refusal.value.message) is (code == "lock_timeout")
    assert (record.status, record.settled_at, record.failure) == (
        RefundStatus.FAILED,
        START,
        Failure(code, message, outcome),
    )
    assert record.history[1:] == [
        {
            "at": START,
            "status": "failed",
            "actor": "api:admin",
            "stripeRequestId": "req_1",
            "failureCode": code,
        }
    ]
    assert harness.statuses() == {"completed"}


@pytest.mark.parametrize(("status", "then"), [("succeeded", "refunded"), ("pending", "completed")])
def test_result_contains_the_purchase_with_its_current_status(
    harness: RefundHarness, status: str, then: str
) -> None:
    before = harness.db.purchases.find_one({"_id": harness.cart[0]})
    result = harness.refund((*CREATE, (200, refund_object(status=status))))
    assert result.purchase == {**before, "status": then}
    assert result.refund == harness.record()


@pytest.mark.parametrize(
    ("status", "error"), [("completed", PaymentIntentMissing), ("refunded", PurchaseNotRefundable)]
)
def test_purchase_without_payment_intent_raises_by_its_status(
    harness: RefundHarness, status: str, error: type[Exception]
) -> None:
    harness.db.purchases.update_one(
        {"_id": harness.cart[0]}, {"$set": {"status": status}, "$unset": {"stripePaymentIntentId": 1}}
    )
    with pytest.raises(error) as refusal:
        harness.refund()
    assert type(refusal.value) is error


def test_refund_in_progress_error_contains_the_refund(harness: RefundHarness) -> None:
    create_record(harness)
    with pytest.raises(RefundInProgress) as waiting:
        harness.refund()
    assert waiting.value.refund == harness.record()


def test_second_refund_of_a_purchase_raises_with_the_first_refund(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    with pytest.raises(PurchaseNotRefundable) as again:
        harness.refund()
    assert again.value.refund == harness.record()
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable) as left_behind:
        harness.refund(READ, listed(refund_object()))
    assert left_behind.value.refund == harness.record()


def test_unknown_refund_resumes_although_the_app_marked_the_purchase(harness: RefundHarness) -> None:
    """Its refunds are read although the purchase isn't completed."""
    harness.refund((*CREATE, lost()))
    harness.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    result = harness.refund(listed(refund_object()), READ)
    assert (result.refund.status, result.purchase["status"]) == (RefundStatus.SUCCEEDED, "refunded")


def test_purchase_marked_refunded_by_the_app_is_not_refunded(harness: RefundHarness) -> None:
    harness.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    with pytest.raises(PurchaseNotRefundable):
        harness.refund()
    assert harness.db.flask_refunds.count_documents({}) == 0


def test_refund_keeps_the_bulk_run_that_created_it(harness: RefundHarness) -> None:
    run = replace(REQUEST, bulk_run="recall-2024")
    harness.stripe.script[:] = [(*CREATE, (200, refund_object(status="pending")))]
    harness.service.refund(harness.cart[0], run)
    harness.stripe.script[:] = [(*RETRIEVE, (200, refund_object(status="pending")))]
    harness.service.refund(harness.cart[1], replace(run, bulk_run="another"))
    assert (harness.record().bulk_run, harness.db.flask_refunds.count_documents({})) == ("recall-2024", 1)


def test_refund_outside_a_bulk_run_stores_no_bulk_run(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    assert ("bulkRun" in harness.db.flask_refunds.find_one(), harness.record().bulk_run) == (False, None)


def test_number_missing_after_a_restore_is_not_reused(harness: RefundHarness) -> None:
    refusal = (*CREATE, (400, error_object("charge_disputed")))
    for _ in range(3):
        with pytest.raises(RefundFailed):
            harness.refund(refusal)
    harness.db.flask_refunds.delete_one({"number": 2})
    with pytest.raises(RefundFailed):
        harness.refund(refusal)
    assert [record["number"] for record in harness.db.flask_refunds.find().sort("number", 1)] == [1, 3, 4]


def test_unknown_outcome_releases_the_lease_and_resumes_with_the_same_key(harness: RefundHarness) -> None:
    assert harness.refund((*CREATE, lost())).refund.status is RefundStatus.PROCESSING
    result = harness.refund(
        (*LIST, (200, {"object": "list", "data": [], "has_more": False})),
        (*CREATE, (200, refund_object())),
        READ,
    )
    assert result.refund.status is RefundStatus.SUCCEEDED
    assert {sent.headers["Idempotency-Key"] for sent in harness.stripe.sent if sent.method == "POST"} == {
        refund_key()
    }


@pytest.mark.parametrize(("lost_number", "expected"), [(1, 3), (2, 2)])
def test_refund_beside_a_number_that_a_restore_lost_follows_the_last_one(
    harness: RefundHarness, lost_number: int, expected: int
) -> None:
    for number in (1, 2):
        again = refund_object(id=f"re_{number}", metadata={"refund_id": refund_key(number)})
        harness.refund((*CREATE, (200, again)))
        store(harness, "failed", id=f"re_{number}", metadata={"refund_id": refund_key(number)})
    harness.db.flask_refunds.delete_one({"number": lost_number})
    again = refund_object(id="re_3", metadata={"refund_id": refund_key(expected)})
    assert harness.refund((*CREATE, (200, again))).refund.number == expected


@pytest.mark.parametrize("answer", [(200, refund_object(id="re_2")), lost()], ids=["answered", "lost"])
def test_refund_whose_predecessor_a_restore_lost_is_not_made_again(
    harness: RefundHarness, answer: Any
) -> None:
    """The purchase is older than the ledger, so it's completed. The first request to Stripe is a read."""
    create_record(harness)
    second = {"number": 2, "_id": f"{PAYMENT}:2", "status": "succeeded", "stripeRefundId": "re_2"}
    amounts = {"amount": 1999, "amountCaptured": 1999, "currency": "usd"}
    harness.db.flask_refunds.insert_one({**harness.db.flask_refunds.find_one(), **second, **amounts})
    harness.db.flask_refunds.delete_one({"number": 1})
    shown = [listed(refund_object(id="re_2"))] if isinstance(answer, tuple) else []
    with pytest.raises(PurchaseNotRefundable):
        harness.refund(("GET", "/v1/refunds/re_2", answer), *shown)
    assert [each["number"] for each in harness.db.flask_refunds.find()] == [2]


def test_keys_of_two_records_with_one_id_differ(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the fixture's known ends
    keys = set()
    for _ in range(2):
        keys.add(create_record(harness).idempotency_key)
        harness.db.flask_refunds.delete_many({})
    assert len(keys) == 2
    assert all(key and key.startswith(f"{REFUND_ID}:") and len(key) > len(REFUND_ID) + 8 for key in keys)


def test_refund_that_stripe_lists_is_adopted_without_another_request(harness: RefundHarness) -> None:
    harness.refund((*CREATE, lost()))
    result = harness.refund(listed(refund_object()), READ)
    assert result.refund.status is RefundStatus.SUCCEEDED
    assert harness.stripe.sent[-2].params["payment_intent"] == PAYMENT
    assert result.refund.history[-1]["actor"] == "api:admin"


def test_unknown_refund_is_not_sent_again_while_the_list_is_unavailable(harness: RefundHarness) -> None:
    harness.refund((*CREATE, lost()))
    assert harness.refund((*LIST, lost())).refund.status is RefundStatus.PROCESSING
    assert harness.refund((*LIST, (401, error_object("")))).refund.status is RefundStatus.PROCESSING


ALREADY = (*CREATE, (400, error_object("charge_already_refunded")))


def test_already_refunded_rejection_adopts_the_refund_of_a_forgotten_key(harness: RefundHarness) -> None:
    result = harness.refund(ALREADY, listed(refund_object()), READ)
    assert result.refund.status is RefundStatus.SUCCEEDED
    assert harness.stripe.sent[-2].params["payment_intent"] == PAYMENT
    [record] = harness.ledger.list_for_payment(PAYMENT)
    assert (record.source, record.stripe_refund_id, record.history[-1]["actor"]) == (
        "api",
        "re_1",
        "api:admin",
    )
    assert harness.statuses() == {"refunded"}


def test_already_refunded_rejection_records_the_external_refund(harness: RefundHarness) -> None:
    with pytest.raises(PurchaseNotRefundable):
        harness.refund(ALREADY, listed(EXTERNAL), (*RETRIEVE, (200, EXTERNAL)))
    ours, elsewhere = harness.ledger.list_for_payment(PAYMENT)
    assert (ours.status, ours.history[-1]["actor"]) == (RefundStatus.FAILED, "api:admin")
    assert (elsewhere.source, elsewhere.purchase_ids) == ("external", harness.cart)
    assert harness.statuses() == {"refunded"}


def test_external_refund_that_fails_during_a_call_leaves_purchases_completed(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event leaves the purchases to the call, whose record isn't settled yet."""
    mark_rejected = Ledger.mark_rejected

    def fail_first(*args: Any, **kwargs: Any) -> RefundRecord | None:
        store(harness, "failed", metadata={})
        return mark_rejected(*args, **kwargs)

    monkeypatch.setattr(Ledger, "mark_rejected", fail_first)
    with pytest.raises(PurchaseNotRefundable):
        harness.refund(ALREADY, listed(EXTERNAL), (*RETRIEVE, (200, EXTERNAL)))
    assert harness.statuses() == {"completed"}


def test_purchase_refunded_by_another_call_after_it_was_read_is_not_sent_to_stripe(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe receives one request."""
    opened = Ledger.create

    def rival_first(*args: Any, **kwargs: Any) -> RefundRecord:
        monkeypatch.setattr(Ledger, "create", opened)
        harness.service.refund(harness.cart[1], REQUEST)
        return opened(*args, **kwargs)

    monkeypatch.setattr(Ledger, "create", rival_first)
    with pytest.raises(PurchaseNotRefundable):
        harness.refund((*CREATE, (200, refund_object())))
    assert len(harness.ledger.list_for_payment(PAYMENT)) == 1


def test_key_rejected_while_in_doubt_leaves_the_outcome_unknown(harness: RefundHarness) -> None:
    harness.refund((*CREATE, lost()))
    nothing = (200, {"object": "list", "data": [], "has_more": False})
    result = harness.refund((*LIST, nothing), (*CREATE, (401, error_object(""))))
    assert result.refund.status is RefundStatus.PROCESSING


def test_key_rejected_at_the_first_attempt_fails_the_refund(harness: RefundHarness) -> None:
    with pytest.raises(StripeKeyRejected):
        harness.refund((*CREATE, (401, error_object(""))))
    assert harness.record().status is RefundStatus.FAILED


@pytest.mark.parametrize(("seconds", "allowed"), [(59, False), (60, True)])
def test_processing_refund_can_be_resumed_only_after_its_lease(
    harness: RefundHarness, seconds: int, allowed: bool
) -> None:
    create_record(harness)
    harness.now += timedelta(seconds=seconds)
    if not allowed:
        with pytest.raises(RefundInProgress):
            harness.refund()
        return
    found = (200, {"object": "list", "data": [refund_object()], "has_more": False})
    assert harness.refund((*LIST, found), READ).refund.status is RefundStatus.SUCCEEDED


def test_call_suspended_past_its_lease_sends_nothing(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend_after_creating(harness, monkeypatch, timedelta(hours=25))
    assert harness.refund().refund.status is RefundStatus.PROCESSING


def test_call_that_lost_its_lease_does_not_fail_the_refund(harness: RefundHarness) -> None:
    """A call whose lease expired during its request must not fail a refund that another call works on."""

    def take_over(sent: Any) -> None:
        harness.now += timedelta(seconds=61)
        assert harness.ledger.acquire_lease(harness.record()) is not None

    harness.stripe.before = take_over
    result = harness.refund((*CREATE, (400, error_object("charge_disputed"))))
    assert result.refund.status is RefundStatus.PROCESSING
    assert harness.record().status is RefundStatus.PROCESSING


@pytest.mark.parametrize(
    ("age", "sent"), [(timedelta(hours=23), True), (timedelta(hours=23, milliseconds=1), False)]
)
def test_unknown_refund_is_resent_within_23_hours_and_needs_review_after(
    harness: RefundHarness, age: timedelta, sent: bool
) -> None:
    harness.connect_receivers()
    harness.refund((*CREATE, lost()))
    harness.now += age
    nothing = (*LIST, (200, {"object": "list", "data": [], "has_more": False}))
    if sent:
        assert (
            harness.refund(nothing, (*CREATE, (200, refund_object())), READ).refund.status
            is RefundStatus.SUCCEEDED
        )
        return
    for _ in range(3):  # the lease is released each time
        result = harness.refund(nothing)
        assert result.refund.status is RefundStatus.PROCESSING
        assert result.refund.review is not None
        assert result.refund.review.since == harness.now
    assert harness.signals == [("refund-needs-review", "processing")]
    assert harness.record().history[1:] == [
        {"at": harness.now, "status": "processing", "actor": "api:admin", "review": "unknown_too_long"}
    ]


@pytest.mark.parametrize(("minutes", "sent"), [(-6, False), (-4, True), (4, True), (6, False)])
def test_request_is_not_sent_again_while_the_clocks_differ(
    harness: RefundHarness, minutes: int, sent: bool
) -> None:
    harness.refund((*CREATE, lost()))
    harness.stripe.clock = lambda: harness.now + timedelta(minutes=minutes)
    again = [(*CREATE, (200, refund_object())), READ] if sent else []
    result = harness.refund(listed(), *again)
    assert result.refund.status is (RefundStatus.SUCCEEDED if sent else RefundStatus.PROCESSING)


def test_repeated_call_marks_purchases_that_a_crash_left_completed(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable):
        harness.refund(READ, listed(refund_object()))
    assert harness.statuses() == {"refunded"}


def test_unchanged_pending_refund_leaves_the_apps_marks_alone(
    harness: RefundHarness,
) -> None:
    pending = (200, refund_object(status="pending"))
    harness.refund((*CREATE, pending))
    harness.db.purchases.update_one({"_id": harness.cart[1]}, {"$set": {"status": "refunded"}})
    harness.refund((*RETRIEVE, pending))
    assert harness.statuses() == {"completed", "refunded"}


def test_history_names_the_caller_whose_call_brought_the_status(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.refund((*RETRIEVE, (200, refund_object())))
    assert (harness.record().status.value, harness.record().history[-1]["actor"]) == (
        "succeeded",
        "api:admin",
    )


def test_refund_that_failed_since_is_refunded_again(harness: RefundHarness) -> None:
    """The purchase is completed, and a fresh view shows that the customer received nothing."""
    harness.refund((*CREATE, (200, refund_object())))
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    failed = refund_object(status="failed")
    second = refund_object(id="re_2", metadata={"refund_id": refund_key(2)})
    result = harness.refund((*RETRIEVE, (200, failed)), listed(failed), (*CREATE, (200, second)))
    assert (result.refund.id, harness.record().status) == (f"{PAYMENT}:2", RefundStatus.FAILED)
    assert harness.statuses() == {"refunded"}


@pytest.mark.parametrize("answer", [lost(), (500, error_object("", "api_error"))])
def test_refunded_payment_is_not_refunded_again_without_a_fresh_view(
    harness: RefundHarness, answer: Any
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable):
        harness.refund((*RETRIEVE, answer))
    with pytest.raises(PurchaseNotRefundable):
        harness.refund(READ, (*LIST, answer))


def test_missing_permission_fails_the_refund_only_if_stripe_lists_none(harness: RefundHarness) -> None:
    """The permission may be missing for the expanded charge only."""
    forbidden = (*CREATE, (403, error_object("")))
    assert harness.refund(forbidden, listed(refund_object())).refund.status is RefundStatus.SUCCEEDED
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    harness.db.flask_refunds.delete_many({})
    assert (
        harness.refund(forbidden, (*LIST, (403, error_object("")))).refund.status is RefundStatus.PROCESSING
    )
    harness.db.flask_refunds.delete_many({})
    with pytest.raises(StripeKeyRejected):
        harness.refund(forbidden, listed())


def test_resuming_a_refund_that_succeeded_since_returns_it(harness: RefundHarness) -> None:
    stale = create_record(harness)
    harness.transitions.apply(stale, stripe_refund("succeeded"), actor="webhook")
    harness.stripe.script[:] = [(*RETRIEVE, (200, refund_object()))]
    assert harness.service.resume(stale, actor="reconcile").status is RefundStatus.SUCCEEDED


def test_refund_that_stripe_lists_with_an_unknown_status_is_not_sent_again(harness: RefundHarness) -> None:
    harness.refund((*CREATE, lost()))
    assert harness.refund(listed(refund_object(status=None))).refund.status is RefundStatus.PROCESSING
    assert harness.refund(listed(refund_object()), READ).refund.status is RefundStatus.SUCCEEDED


def test_unknown_refund_adopts_its_own_beside_an_unreadable_one(harness: RefundHarness) -> None:
    harness.refund((*CREATE, lost()))
    odd = refund_object(id="re_0", status="reversing", metadata={})
    assert harness.refund(listed(refund_object(), odd), READ).refund.status is RefundStatus.SUCCEEDED


@pytest.mark.parametrize("answer", [lost(), (404, error_object("resource_missing"))])
def test_refund_that_stripe_does_not_list_for_23_hours_needs_review_and_can_be_failed(
    harness: RefundHarness, answer: Any
) -> None:
    harness.refund((*CREATE, lost()))
    harness.now += timedelta(hours=22)
    assert harness.refund((*LIST, answer)).refund.review is None
    harness.now += timedelta(hours=2)
    review = harness.refund((*LIST, answer)).refund.review
    assert review is not None
    assert review.code == "unreadable_at_stripe"
    harness.now += timedelta(minutes=1)
    failed = harness.transitions.mark_failed_manually(harness.record(), actor="cli:ann", comment="checked")
    assert failed is not None
    assert failed.status is RefundStatus.FAILED


def test_call_that_lost_the_lease_to_one_that_succeeded_is_not_a_second_refund(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_record(harness)
    acquire = Ledger.acquire_lease

    def other_call_first(ledger: Ledger, refund: RefundRecord) -> RefundRecord | None:
        store(harness, "succeeded")
        return acquire(ledger, refund)

    monkeypatch.setattr(Ledger, "acquire_lease", other_call_first)
    with pytest.raises(PurchaseNotRefundable) as refused:
        harness.service.refund(harness.cart[0], REQUEST)
    assert refused.value.refund == harness.record()

"""ManualReview: a refund is given up only if no call works on it and Stripe doesn't show it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest

from flask_refunds.core.resolution import ManualReview, Person
from flask_refunds.errors import NothingToResolve, OutcomeUnknown
from flask_refunds.models import RefundRecord, RefundStatus, ReviewCode
from tests.log_records import LogRecords
from tests.unit.refund_harness import (
    CREATE,
    LIST,
    RETRIEVE,
    RefundHarness,
    create_record,
    listed,
    store,
)
from tests.unit.stripe_stub import REFUND_ID, error_object, lost, refund_key, refund_object

UNAVAILABLE = (*LIST, (503, error_object("", "api_error")))
NOT_THERE = (*LIST, (404, error_object("resource_missing")))
MINUTE = timedelta(minutes=1)


@pytest.fixture
def harness() -> RefundHarness:
    """A harness with a refund that needs review, because its outcome is unknown for a day."""
    harness = RefundHarness()
    harness.refund((*CREATE, lost()))
    harness.now += timedelta(hours=24)
    harness.refund(listed())
    assert harness.record().review is not None
    harness.now += MINUTE
    return harness


def give_up(harness: RefundHarness, *script: Any, decision: str = "fail", **options: Any) -> Any:
    review = ManualReview(harness.ledger, harness.purchases, harness.transitions, harness.service)
    harness.stripe.script[:] = script
    try:
        return getattr(review, decision)(REFUND_ID, Person("ann", "cli", "not at Stripe"), **options)
    finally:
        harness.stripe.assert_done()


def test_refund_that_stripe_does_not_list_is_marked_as_failed(harness: RefundHarness) -> None:
    assert give_up(harness, listed()).status is RefundStatus.FAILED
    entry = harness.record().history[-1]
    assert (entry["actor"], entry["comment"]) == ("cli:ann", "not at Stripe")


@pytest.mark.parametrize("decision", ["fail", "retry"])
@pytest.mark.parametrize("status", ["succeeded", "pending", "failed"])
def test_refund_that_stripe_lists_is_stored_and_not_given_up(
    harness: RefundHarness, decision: str, status: str
) -> None:
    shown = refund_object(status=status)
    with pytest.raises(NothingToResolve, match=f"shows {REFUND_ID} as {status}"):
        give_up(harness, listed(shown), (*RETRIEVE, (200, shown)), decision=decision)
    [record] = harness.ledger.list_for_payment("pi_1")
    assert (record.status.value, record.review, record.stripe_refund_id) == (status, None, "re_1")


@pytest.mark.parametrize("unreadable", [UNAVAILABLE, NOT_THERE, (*LIST, lost())])
def test_unreadable_list_requires_that_a_person_has_checked(harness: RefundHarness, unreadable: Any) -> None:
    before = harness.record()
    with pytest.raises(NothingToResolve, match="--checked"):
        give_up(harness, unreadable)
    assert harness.record() == before
    assert give_up(harness, unreadable, checked=True).status is RefundStatus.FAILED


def test_refund_is_retried_if_a_person_has_checked_that_it_is_not_there(harness: RefundHarness) -> None:
    second = refund_object(id="re_2", metadata={"refund_id": refund_key(2)})
    result = give_up(harness, UNAVAILABLE, (*CREATE, (200, second)), decision="retry", checked=True)
    assert (result.refund.id, result.refund.status) == ("pi_1:2", RefundStatus.SUCCEEDED)
    assert harness.record().status is RefundStatus.FAILED


def test_person_who_has_checked_is_overruled_by_the_list(harness: RefundHarness) -> None:
    shown = refund_object()
    with pytest.raises(NothingToResolve, match="as succeeded"):
        give_up(harness, listed(shown), (*RETRIEVE, (200, shown)), checked=True)
    with pytest.raises(NothingToResolve, match="doesn't need review"):
        give_up(harness, checked=True)


def test_refund_that_stripe_lists_in_an_unknown_form_is_not_given_up(harness: RefundHarness) -> None:
    with pytest.raises(NothingToResolve, match="unreadable_refund"):
        give_up(harness, listed(refund_object(status="reversing")), checked=True)
    assert harness.record().status is RefundStatus.PROCESSING


def test_refund_on_which_a_call_worked_in_the_last_minute_is_not_given_up(harness: RefundHarness) -> None:
    harness.refund(listed())
    harness.now += MINUTE - timedelta(milliseconds=1)
    with pytest.raises(NothingToResolve, match="in the last minute"):
        give_up(harness, checked=True)
    harness.now += timedelta(milliseconds=1)
    assert give_up(harness, listed()).status is RefundStatus.FAILED


def hold_lease(harness: RefundHarness) -> None:
    assert harness.ledger.acquire_lease(harness.record()) is not None


def work_and_release_long_ago(harness: RefundHarness) -> None:
    leased = harness.ledger.acquire_lease(harness.record())
    assert leased is not None
    harness.ledger.release_lease(leased)
    harness.now += timedelta(minutes=5)


def succeed(harness: RefundHarness) -> None:
    store(harness, "succeeded")


@pytest.mark.parametrize("meanwhile", [hold_lease, work_and_release_long_ago, succeed])
def test_refund_that_another_call_works_on_after_the_list_is_not_given_up(
    harness: RefundHarness, meanwhile: Callable[[RefundHarness], None]
) -> None:
    def happen(sent: Any) -> None:
        harness.stripe.before = lambda sent: None
        meanwhile(harness)
        harness.stripe.script[:] = []

    harness.stripe.before = happen
    expected = RefundStatus.SUCCEEDED if meanwhile is succeed else RefundStatus.PROCESSING
    with pytest.raises(NothingToResolve, match="in progress or has just changed"):
        give_up(harness, listed())
    assert harness.record().status is expected


def test_first_attempt_of_a_call_that_was_killed_is_given_up_the_same_way() -> None:
    harness = RefundHarness()
    create_record(harness)
    harness.now += timedelta(hours=24)
    harness.refund(listed())
    harness.now += MINUTE
    assert give_up(harness, listed()).status is RefundStatus.FAILED


def test_unreadable_refund_that_stripe_does_not_list_any_more_is_an_unknown_one() -> None:
    harness = RefundHarness()
    harness.refund((*CREATE, lost()))
    harness.now += timedelta(hours=24)
    harness.refund(UNAVAILABLE)
    codes = [_review_code(harness.record())]
    for script in (UNAVAILABLE, listed(), listed()):
        harness.stripe.script[:] = [script]
        with pytest.raises(OutcomeUnknown) if script is UNAVAILABLE else nullcontext():
            harness.service.look_up(harness.record(), actor="reconcile")
        codes.append(_review_code(harness.record()))
    assert codes == ["unreadable_at_stripe"] * 2 + ["unknown_too_long"] * 2
    assert len(harness.record().history) == 3


def _review_code(refund: RefundRecord) -> str | None:
    return refund.review and refund.review.code.value


RESOLVED = {"event": "refund_resolved", "refund_id": REFUND_ID, "actor": "cli:ann"}


def return_refund(harness: RefundHarness) -> None:
    """Let Stripe show the harness's refund as returned by the customer's bank."""
    store(harness, "succeeded")
    store(harness, "failed")


def test_closed_review_is_stored_and_logged_with_the_person_and_the_comment(
    harness: RefundHarness, log_records: LogRecords
) -> None:
    give_up(harness, listed())
    assert log_records()[-1] == {**RESOLVED, "status": "failed"}


@pytest.mark.parametrize("decision", ["dismiss", "fail"])
def test_review_of_a_returned_refund_is_closed(
    harness: RefundHarness, log_records: LogRecords, decision: str
) -> None:
    return_refund(harness)
    log_records()
    closed = give_up(harness, decision=decision)
    assert (closed.id, closed.status, closed.review) == (REFUND_ID, RefundStatus.FAILED, None)
    entry = harness.record().history[-1]
    assert (entry["actor"], entry["comment"]) == ("cli:ann", "not at Stripe")
    assert log_records() == [{**RESOLVED, "status": "failed"}]


def test_unknown_outcome_is_not_dismissed(harness: RefundHarness) -> None:
    with pytest.raises(NothingToResolve, match=f"outcome of {REFUND_ID} is unknown"):
        give_up(harness, decision="dismiss")
    assert harness.record().review is not None


@pytest.mark.parametrize("decision", ["fail", "retry"])
def test_succeeded_refund_is_not_given_up(harness: RefundHarness, decision: str) -> None:
    store(harness, "succeeded", amount=1000)
    harness.transitions.request_review(harness.record(), ReviewCode.AMOUNT_DIFFERS, actor="reconcile")
    with pytest.raises(NothingToResolve, match=f"{REFUND_ID} is succeeded at Stripe, not failed"):
        give_up(harness, decision=decision)


@pytest.mark.parametrize("decision", ["fail", "retry"])
def test_refund_found_at_stripe_is_stored_with_the_person_who_looked(
    harness: RefundHarness, decision: str
) -> None:
    shown = refund_object()
    with pytest.raises(NothingToResolve) as error:
        give_up(harness, listed(shown), (*RETRIEVE, (200, shown)), decision=decision)
    assert str(error.value) == (
        f"Stripe shows {REFUND_ID} as succeeded, and the record now does, too. It wasn't marked as failed."
    )
    assert harness.record().history[-1]["actor"] == "cli:ann"


def test_retry_requires_that_stripe_does_not_list_the_refund(harness: RefundHarness) -> None:
    with pytest.raises(NothingToResolve) as error:
        give_up(harness, UNAVAILABLE, decision="retry")
    assert str(error.value) == (
        f"Stripe doesn't tell whether it made {REFUND_ID} (api_error). Nothing was changed. "
        'If its Dashboard doesn\'t show this refund, decide again, with --checked or "checked": true.'
    )
    assert harness.record().status is RefundStatus.PROCESSING


def test_retry_continues_the_request_for_the_person(harness: RefundHarness) -> None:
    harness.db.flask_refunds.update_one({}, {"$set": {"reason": "duplicate", "bulkRun": "march"}})
    second = refund_object(id="re_2", metadata={"refund_id": refund_key(2)})
    made = give_up(harness, listed(), (*CREATE, (200, second)), decision="retry").refund
    assert (made.reason, made.bulk_run, made.note) == ("duplicate", "march", "not at Stripe")
    assert (made.requested_by, made.source, made.history[0]["actor"]) == ("ann", "cli", "cli:ann")
    first = harness.record()
    assert (first.status, first.review) == (RefundStatus.FAILED, None)
    given_up = next(each for each in first.history if each["status"] == "failed")
    assert (given_up["actor"], given_up["comment"]) == ("cli:ann", "not at Stripe")


def test_review_stays_open_until_stripe_has_accepted_the_retry(harness: RefundHarness) -> None:
    result = give_up(harness, listed(), (*CREATE, lost()), decision="retry")
    assert result.refund.status is RefundStatus.PROCESSING
    assert harness.record().review is not None


def test_retry_closes_a_review_that_a_new_refund_alone_does_not_close(harness: RefundHarness) -> None:
    store(harness, "failed")
    harness.transitions.request_review(harness.record(), ReviewCode.AMOUNT_DIFFERS, actor="reconcile")
    second = refund_object(id="re_2", metadata={"refund_id": refund_key(2)})
    give_up(harness, (*CREATE, (200, second)), decision="retry")
    entry = harness.record().history[-1]
    assert (harness.record().review, entry["actor"], entry["comment"]) == (None, "cli:ann", "not at Stripe")


def test_retry_that_stripe_lists_as_pending_closes_the_review(harness: RefundHarness) -> None:
    return_refund(harness)
    second = refund_object(id="re_2", status="pending", metadata={"refund_id": refund_key(2)})
    give_up(harness, (*CREATE, (200, second)), decision="retry")
    assert harness.record().review is None


def test_retry_requires_the_purchase_with_its_payment(harness: RefundHarness) -> None:
    first = {"_id": harness.record().purchase_ids[0]}
    harness.db.purchases.update_one(first, {"$set": {"stripePaymentIntentId": "pi_2"}})
    with pytest.raises(NothingToResolve, match=f"Purchase {first['_id']} has another payment now"):
        give_up(harness, decision="retry")
    harness.db.purchases.delete_one(first)
    with pytest.raises(NothingToResolve, match=f"Purchase {first['_id']} no longer exists"):
        give_up(harness, decision="retry")
    assert harness.record().status is RefundStatus.PROCESSING


def test_refund_without_a_purchase_is_not_retried(harness: RefundHarness) -> None:
    harness.db.flask_refunds.update_one({}, {"$set": {"purchaseIds": []}})
    with pytest.raises(NothingToResolve, match=f"{REFUND_ID} has no purchase"):
        give_up(harness, decision="retry")


def test_missing_refund_cannot_be_resolved(harness: RefundHarness) -> None:
    harness.db.flask_refunds.delete_one({})
    with pytest.raises(NothingToResolve, match=f"no refund {REFUND_ID}"):
        give_up(harness)

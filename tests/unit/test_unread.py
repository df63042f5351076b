"""Open refunds that Stripe doesn't return: after 23 hours they need review, until Stripe returns them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flask_refunds.models import RefundRecord
from tests.unit.refund_harness import CREATE, RETRIEVE, RefundHarness, store
from tests.unit.stripe_stub import error_object, lost, refund_object

FAILURES = {
    "missing": (404, error_object("resource_missing")),
    "error": (500, error_object("", "api_error")),
    "unknown status": (200, refund_object(status=None)),
    "not JSON": (200, "<html>"),
    "lost": lost(),
}
HOUR = timedelta(hours=1)


@pytest.fixture
def harness() -> RefundHarness:
    """A harness with a pending refund."""
    harness = RefundHarness()
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    return harness


def resume(harness: RefundHarness, answer: Any) -> RefundRecord:
    """Resume the refund as reconcile does."""
    harness.stripe.script[:] = [(*RETRIEVE, answer)]
    try:
        return harness.service.resume(harness.record(), actor="reconcile")
    finally:
        harness.stripe.assert_done()


def review_code(harness: RefundHarness) -> str | None:
    review = harness.record().review
    return review and review.code.value


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
def test_open_refund_that_stripe_does_not_return_for_23_hours_needs_review(
    harness: RefundHarness, answer: Any
) -> None:
    harness.connect_receivers()
    harness.now += 100 * HOUR
    first = harness.now
    for hours in (0, 1, 22, 22.9):
        harness.now = first + hours * HOUR
        resume(harness, answer)
        assert review_code(harness) is None
    harness.now = first + 23 * HOUR
    resume(harness, answer)
    assert review_code(harness) == "unreadable_at_stripe"
    resume(harness, answer)
    assert len(harness.record().history) == 3
    assert harness.signals.count(("refund-needs-review", "pending")) == 1


def test_refund_that_stripe_returns_in_between_does_not_need_review(harness: RefundHarness) -> None:
    assert "unreadSince" not in harness.db.flask_refunds.find_one()
    for _ in range(3):
        resume(harness, lost())
        harness.now += 20 * HOUR
        resume(harness, (200, refund_object(status="pending")))
        harness.now += 20 * HOUR
    assert review_code(harness) is None
    assert harness.record().unread_since is None


def test_review_closes_itself_when_stripe_returns_the_refund(harness: RefundHarness) -> None:
    for _ in range(2):
        resume(harness, lost())
        assert review_code(harness) is None
        harness.now += 23 * HOUR
        resume(harness, lost())
        assert review_code(harness) == "unreadable_at_stripe"
        refund = resume(harness, (200, refund_object(status="pending")))
        assert (refund.review, review_code(harness)) == (None, None)
        entry = harness.record().history[-1]
        assert (entry["actor"], entry["comment"]) == ("reconcile", "Stripe returns the refund again.")


def test_new_status_closes_the_review_and_ends_the_time(harness: RefundHarness) -> None:
    resume(harness, lost())
    harness.now += 23 * HOUR
    resume(harness, lost())
    store(harness, "requires_action")
    assert review_code(harness) != "unreadable_at_stripe"
    assert harness.record().unread_since is None


def test_review_that_a_person_closed_stays_closed(harness: RefundHarness) -> None:
    resume(harness, lost())
    harness.now += 23 * HOUR
    resume(harness, lost())
    assert harness.ledger.dismiss(harness.record(), actor="cli:ann", comment="The account was closed.")
    for _ in range(3):
        harness.now += 24 * HOUR
        resume(harness, lost())
    assert review_code(harness) is None


def test_settled_refund_that_stripe_does_not_return_does_not_need_review(harness: RefundHarness) -> None:
    resume(harness, (200, refund_object()))
    for _ in range(2):
        resume(harness, lost())
        harness.now += 24 * HOUR
    assert harness.record().unread_since is None
    assert review_code(harness) is None

"""LedgerNotes: what calls and passes note for those that follow, without a change of the record."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flask_refunds.models import RefundRecord, ReviewCode
from tests.unit.refund_harness import CREATE, RefundHarness, create_record, stripe_refund
from tests.unit.stripe_stub import refund_object

TEN_MINUTES = timedelta(minutes=10)
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture
def refund(harness: RefundHarness) -> RefundRecord:
    """A pending refund, besides one of another payment."""
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    other = harness.db.flask_refunds.find_one() | {"_id": "pi_2:1", "paymentIntent": "pi_2"}
    harness.db.flask_refunds.insert_one(other)
    harness.now += MILLISECOND
    return harness.record()


def test_writes_that_fail_count_as_rejected_after_ten_minutes(
    harness: RefundHarness, refund: RefundRecord
) -> None:
    assert not harness.ledger.mark_unwritten(refund)
    since = harness.now
    assert harness.record().unwritten_since == since
    harness.now = since + TEN_MINUTES - MILLISECOND
    assert not harness.ledger.mark_unwritten(harness.record())
    harness.now += MILLISECOND
    assert harness.ledger.mark_unwritten(harness.record())
    assert harness.record().unwritten_since == since
    harness.ledger.mark_written(harness.record())
    assert harness.record().unwritten_since is None
    assert not harness.ledger.mark_unwritten(harness.record())


def test_refund_that_could_always_be_written_has_no_note(
    harness: RefundHarness, refund: RefundRecord
) -> None:
    harness.ledger.mark_written(refund)
    harness.ledger.mark_read(refund)
    assert not {"unwrittenSince", "unreadSince"} & harness.db.flask_refunds.find_one().keys()


def test_time_since_when_stripe_does_not_return_a_refund_is_noted(
    harness: RefundHarness, refund: RefundRecord
) -> None:
    harness.ledger.mark_unread(refund)
    assert harness.record().unread_since == harness.now
    harness.ledger.mark_read(harness.record())
    assert harness.record().unread_since is None
    harness.db.flask_refunds.update_many({}, {"$set": {"status": "succeeded"}})
    harness.ledger.mark_unread(refund)
    assert harness.record().unread_since is None  # it isn't the open refund any more that wasn't returned


def test_doubtful_refund_is_read_again_after_the_present_pass(
    harness: RefundHarness, refund: RefundRecord
) -> None:
    harness.db.flask_refunds.update_many({}, {"$set": {"purchasesVerified": True}})
    harness.ledger.mark_doubtful(refund)
    assert (harness.record().unread_since, harness.record().purchases_verified) == (harness.now, False)
    assert harness.db.flask_refunds.find_one({"_id": refund.id})["lookedAt"] == harness.now


@pytest.mark.parametrize("flag", ["signals_sent", "purchases_verified"])
def test_flag_is_set_only_for_the_state_that_was_handled(
    harness: RefundHarness, refund: RefundRecord, flag: str
) -> None:
    harness.db.flask_refunds.update_many({}, {"$set": {"signalsSent": False, "purchasesVerified": False}})
    mark = getattr(harness.ledger, f"mark_{flag}")
    harness.transitions.request_review(refund, ReviewCode.MADE_TWICE, actor="reconcile")
    harness.db.flask_refunds.update_many({}, {"$set": {"signalsSent": False, "purchasesVerified": False}})
    mark(refund)
    assert not getattr(harness.record(), flag)
    mark(harness.record())
    assert getattr(harness.record(), flag)
    assert not (harness.record().signals_sent and harness.record().purchases_verified)
    assert not getattr(harness.ledger.get("pi_2:1"), flag)


def test_notes_are_of_one_record_and_add_nothing_to_its_history(
    harness: RefundHarness, refund: RefundRecord
) -> None:
    query = {"_id": "pi_2:1"}
    other = harness.db.flask_refunds.find_one(query)
    for mark in ("unread", "doubtful", "unwritten"):
        getattr(harness.ledger, f"mark_{mark}")(refund)
    assert harness.db.flask_refunds.find_one(query) == other
    assert harness.record().history == refund.history
    assert harness.record().updated_at == refund.updated_at


def test_marks_of_a_record_that_has_changed_are_not_removed(harness: RefundHarness) -> None:
    before = create_record(harness)
    changed = harness.transitions.apply(before, stripe_refund("pending"), actor="webhook")
    assert changed is not None
    harness.ledger.remove_marks([before], harness.cart)
    assert harness.record().marks == harness.marks
    harness.ledger.remove_marks([changed], harness.cart[:1])
    assert harness.record().marks == harness.marks[1:]

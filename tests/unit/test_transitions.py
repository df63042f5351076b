"""RefundTransitions: the order of writes, statuses, signals, reviews and verification."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from flask_refunds.errors import DatabaseUnavailable, RefundFailed
from flask_refunds.models import Failure, RefundRecord, RefundStatus, ReviewCode
from flask_refunds.refund_details import RefundDetails
from flask_refunds.signals import refund_failed, refund_succeeded
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.purchases import Purchases
from tests.unit.refund_harness import (
    ALL_SIGNALS,
    CREATE,
    REQUEST,
    START,
    RefundHarness,
    create_record,
    mark_failed_manually,
    record_external_refund,
    store,
    stripe_refund,
)
from tests.unit.stripe_stub import PAYMENT, error_object, lost, refund_key, refund_object


def test_verification_marks_purchases_of_a_succeeded_refund(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    harness.transitions.verify_purchases(harness.record())
    assert (harness.record().purchases_verified, harness.statuses()) == (True, {"refunded"})


def test_verification_of_a_rejected_refund_leaves_the_apps_marks_alone(harness: RefundHarness) -> None:
    """Stripe never showed a refund, so this library marked no purchase."""
    with pytest.raises(RefundFailed):
        harness.refund((*CREATE, (400, error_object("charge_disputed"))))
    harness.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    harness.transitions.verify_purchases(harness.record())
    assert (harness.record().purchases_verified, harness.statuses()) == (True, {"refunded"})


def test_purchases_are_marked_before_the_record_succeeds(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    mark, advance = Purchases.mark_refunded, Ledger.advance
    monkeypatch.setattr(Purchases, "mark_refunded", lambda *a: (order.append("purchases"), mark(*a))[1])
    monkeypatch.setattr(Ledger, "advance", lambda *a, **k: (order.append("record"), advance(*a, **k))[1])
    harness.refund((*CREATE, (200, refund_object())))
    assert order == ["purchases", "record"]


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_refund_that_stripe_accepts_writes_no_purchase(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(Purchases, "_update", Mock(side_effect=DatabaseUnavailable))
    result = harness.refund((*CREATE, (200, refund_object(status=status))))
    assert result.refund.status.value == harness.record().status.value == status


def test_purchases_of_a_refund_that_was_pending_for_minutes_are_marked_before_its_signal(
    harness: RefundHarness,
) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.now += timedelta(minutes=2)
    harness.transitions.verify_purchases(harness.record())
    seen: list[set[str]] = []

    def receiver(app: Any, **extra: Any) -> None:
        seen.append(harness.statuses())

    with refund_succeeded.connected_to(receiver, sender=harness.app):
        store(harness, "succeeded")
    assert seen == [{"refunded"}]


@pytest.mark.parametrize(
    ("status", "other_way"), [("succeeded", "mark_completed"), ("failed", "mark_refunded")]
)
def test_sync_never_writes_the_opposite_mark(
    harness: RefundHarness, status: str, other_way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.transitions.apply(create_record(harness), stripe_refund(status), actor="webhook")
    monkeypatch.delattr(Purchases, other_way)
    assert harness.transitions.sync_purchases(PAYMENT)


def test_refund_is_not_verified_while_a_later_one_is_processing(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), stripe_refund("failed"), actor="webhook")
    harness.refund((*CREATE, lost()))
    assert harness.record(2).status is RefundStatus.PROCESSING
    harness.transitions.verify_purchases(harness.record(1))
    assert not harness.record(1).purchases_verified


def test_mark_of_a_refund_that_fails_after_the_comparison_is_not_forgotten(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that stores the failure takes the marks back, and needs them for that."""
    harness.refund((*CREATE, (200, refund_object())))
    compare = harness.transitions.sync_purchases

    def fail_after(payment_intent: str) -> Any:
        matching = compare(payment_intent)
        harness.ledger.advance(harness.record(), stripe_refund("failed"), actor="webhook", review=None)
        return matching

    monkeypatch.setattr(harness.transitions, "sync_purchases", fail_after)
    harness.transitions.verify_purchases(harness.record())
    assert harness.record().marks == harness.marks


def test_refund_of_the_rest_that_marked_nothing_leaves_the_apps_marks_alone(harness: RefundHarness) -> None:
    rest = stripe_refund("succeeded", amount_captured=3000)
    assert harness.transitions.apply(create_record(harness), rest, actor="api:admin", first_answer=True)
    harness.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    harness.transitions.verify_purchases(harness.record())
    assert harness.statuses() == {"refunded"}


def test_mark_of_a_call_that_is_behind_is_undone_when_a_pending_refund_fails(harness: RefundHarness) -> None:
    """The call saw the success before the failure, and stops between the purchases and the record."""
    pending = stripe_refund("pending")
    refund = harness.transitions.apply(create_record(harness), pending, actor="api:admin", first_answer=True)
    assert refund is not None
    assert harness.purchases.mark_refunded([PAYMENT], refund.marks) == ([], [])
    harness.transitions.apply(refund, stripe_refund("failed"), actor="webhook")
    harness.transitions.verify_purchases(harness.record())
    assert harness.statuses() == {"completed"}


def test_mark_that_another_call_needs_for_a_stale_write_is_not_forgotten(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four calls: the first finds what the third took back, while the fourth still acts on the success."""
    first_read = create_record(harness)
    write = harness.purchases.mark_refunded

    def find_unmarked(*args: Any) -> Any:
        monkeypatch.setattr(harness.purchases, "mark_refunded", write)
        assert harness.transitions.apply(harness.record(), stripe_refund("succeeded"), actor="api:bob")
        assert harness.transitions.apply(harness.record(), stripe_refund("failed"), actor="webhook")
        assert harness.statuses() == {"completed"}
        harness.ledger.add_marks(harness.record(), harness.marks)
        return harness.cart, []

    monkeypatch.setattr(harness.purchases, "mark_refunded", find_unmarked)
    assert harness.transitions.apply(first_read, stripe_refund("succeeded"), actor="webhook") is None
    assert write([PAYMENT], harness.marks) == ([], [])
    harness.transitions.sync_purchases(PAYMENT)
    assert harness.statuses() == {"completed"}


def test_mark_of_a_refund_that_is_requested_meanwhile_is_not_forgotten(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), stripe_refund("failed"), actor="webhook")
    compare = harness.transitions.sync_purchases

    def request_after(payment_intent: str) -> Any:
        matching = compare(payment_intent)
        wanted: dict[str, Any] = {"purchase_ids": harness.cart, "to_mark": harness.marks}
        harness.ledger.create(PAYMENT, 2, **wanted, request=REQUEST)
        return matching

    monkeypatch.setattr(harness.transitions, "sync_purchases", request_after)
    harness.transitions.verify_purchases(harness.record())
    assert (harness.record(1).marks, harness.record(2).marks) == ([], harness.marks)


def test_sync_gives_up_on_refunds_that_keep_changing(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = create_record(harness)
    turns = itertools.cycle([RefundStatus.SUCCEEDED, RefundStatus.FAILED])
    monkeypatch.setattr(Ledger, "list_for_payment", lambda *a: [replace(record, status=next(turns))])
    assert not harness.transitions.sync_purchases(PAYMENT)


STATUSES = ["requires_action", "pending", "succeeded", "failed"]


@pytest.mark.parametrize("order", list(itertools.permutations(STATUSES)))
def test_fresh_reads_lead_to_the_last_status_whatever_came_before(
    harness: RefundHarness, order: tuple[str, ...]
) -> None:
    refund = create_record(harness)
    for status in (*order, *order):
        harness.transitions.apply(harness.ledger.get(refund.id), stripe_refund(status), actor="webhook")
        assert harness.record().status.value == status
        assert harness.statuses() == {"refunded" if status == "succeeded" else "completed"}


@pytest.mark.parametrize("now", STATUSES)
@pytest.mark.parametrize("stale", STATUSES)
def test_read_made_before_the_record_changed_changes_nothing(
    harness: RefundHarness, now: str, stale: str
) -> None:
    record = create_record(harness)
    harness.transitions.apply(record, stripe_refund(now), actor="webhook")
    assert harness.transitions.apply(record, stripe_refund(stale), actor="api:admin") is None
    assert harness.record().status.value == now
    assert harness.statuses() == {"refunded" if now == "succeeded" else "completed"}


def test_refund_that_fails_after_success_needs_review_until_refunded_again(harness: RefundHarness) -> None:
    harness.connect_receivers()
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), stripe_refund("failed"), actor="webhook")
    record = harness.record()
    assert (record.status, record.review and record.review.code) == (
        RefundStatus.FAILED,
        "failed_after_success",
    )
    assert harness.statuses() == {"completed"}
    assert harness.signals == [
        ("refund-succeeded", "succeeded"),
        ("refund-failed", "failed"),
        ("refund-needs-review", "failed"),
    ]
    result = harness.refund((*CREATE, (200, refund_object(id="re_2", metadata={"refund_id": refund_key(2)}))))
    assert result.refund.id == f"{PAYMENT}:2"
    assert harness.statuses() == {"refunded"}
    at, by = START, "api:admin"
    assert harness.record(1).history == [
        {"at": at, "status": "processing", "actor": by},
        {"at": at, "status": "succeeded", "actor": by, "stripeRequestId": "req_1", "review": None},
        {
            "at": at,
            "status": "failed",
            "actor": "webhook",
            "stripeRequestId": "req_1",
            "review": "failed_after_success",
        },
        {"at": at, "status": "failed", "actor": by, "comment": f"Refunded again as {PAYMENT}:2."},
    ]
    assert harness.record(1).review is None


def test_webhook_that_is_faster_than_the_answer_closes_the_review(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), stripe_refund("failed"), actor="webhook")
    harness.now += timedelta(seconds=9)
    harness.refund((*CREATE, lost()))
    assert harness.record(1).review is not None
    made = stripe_refund("pending", id="re_2", refund_id=refund_key(2))
    harness.transitions.apply(harness.record(2), made, actor="webhook")
    assert (harness.record(1).review, harness.record(1).history[-1]["actor"]) == (None, "webhook")


def test_late_report_of_an_earlier_refund_leaves_the_later_one_alone(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), stripe_refund("failed"), actor="webhook")
    harness.refund((*CREATE, (200, refund_object(id="re_2", metadata={"refund_id": refund_key(2)}))))
    for status in STATUSES:
        harness.transitions.apply(harness.record(1), stripe_refund(status), actor="webhook")
    assert harness.statuses() == {"refunded"}
    assert harness.record(2).status is RefundStatus.SUCCEEDED


def test_refund_shown_by_stripe_overrules_a_concluded_failure(harness: RefundHarness) -> None:
    with pytest.raises(RefundFailed):
        harness.refund((*CREATE, (400, error_object("charge_disputed"))))
    harness.transitions.apply(harness.record(), stripe_refund("succeeded"), actor="webhook")
    record = harness.record()
    assert (record.status, record.review and record.review.code) == (
        RefundStatus.SUCCEEDED,
        "found_after_failure",
    )
    assert harness.statuses() == {"refunded"}


@pytest.mark.parametrize("other", [{"amount": 1000}, {"currency": "eur"}])
@pytest.mark.parametrize("later", ["pending", "succeeded"])
def test_different_amount_or_currency_needs_review(
    harness: RefundHarness, other: dict[str, Any], later: str
) -> None:
    harness.connect_receivers()
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    for _ in range(2):
        harness.transitions.apply(harness.record(), stripe_refund(later, **other), actor="webhook")
        shown = (other.get("amount", 1999), other.get("currency", "usd"))
        assert (harness.record().amount, harness.record().currency) == shown
    harness.transitions.apply(harness.record(), stripe_refund("succeeded", **other), actor="webhook")
    record = harness.record()
    assert (record.status, record.review and record.review.code) == (RefundStatus.SUCCEEDED, "amount_differs")
    assert (record.amount, record.currency) == shown
    assert ("refund-needs-review", later) in harness.signals


def test_dismissed_amount_difference_needs_no_second_review(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.transitions.apply(harness.record(), stripe_refund("pending", amount=1000), actor="webhook")
    assert harness.ledger.dismiss(harness.record(), actor="cli:ann", comment="it is in order")
    for status in ("pending", "succeeded"):
        harness.transitions.apply(harness.record(), stripe_refund(status, amount=1000), actor="reconcile")
        assert harness.record().review is None
    assert (harness.record().amount, harness.record().currency) == (1000, "usd")
    assert harness.record().history[2] == {
        "at": START,
        "status": "pending",
        "actor": "webhook",
        "review": "amount_differs",
        "stripeRequestId": "req_1",
        "previousAmount": 1999,
    }
    assert [entry.get("previousAmount") for entry in harness.record().history] == [
        None,
        None,
        1999,
        None,
        None,
    ]


def test_each_status_is_signaled_once(harness: RefundHarness) -> None:
    harness.connect_receivers()
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    for _ in range(3):
        harness.transitions.apply(harness.record(), stripe_refund("succeeded"), actor="webhook")
    assert harness.signals == [("refund-pending", "pending"), ("refund-succeeded", "succeeded")]
    assert harness.record().signals_sent


def test_receiver_that_raises_leaves_signals_unsent_and_affects_no_other(harness: RefundHarness) -> None:
    def broken(app: Any, refund: RefundRecord, **extra: Any) -> None:
        raise RuntimeError("the mail server is down")

    harness.connect_receivers()
    with refund_succeeded.connected_to(broken, sender=harness.app):
        result = harness.refund((*CREATE, (200, refund_object())))
    assert result.refund.status is RefundStatus.SUCCEEDED
    assert harness.signals == [("refund-succeeded", "succeeded")]
    assert not harness.record().signals_sent


def test_history_has_one_entry_per_change(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.now += timedelta(hours=1)
    harness.transitions.apply(harness.record(), stripe_refund("succeeded"), actor="webhook")
    assert [(entry["status"], entry["actor"]) for entry in harness.record().history] == [
        ("processing", "api:admin"),
        ("pending", "api:admin"),
        ("succeeded", "webhook"),
    ]
    assert [entry["at"] for entry in harness.record().history] == [START, START, START + timedelta(hours=1)]


@pytest.mark.parametrize("elsewhere", [True, False])
def test_receivers_see_the_purchases_already_marked(harness: RefundHarness, elsewhere: bool) -> None:
    seen: list[set[str]] = []

    def look(app: Any, refund: RefundRecord, **extra: Any) -> None:
        seen.append(harness.statuses())

    with (
        refund_succeeded.connected_to(look, sender=harness.app),
        refund_failed.connected_to(look, sender=harness.app),
    ):
        if elsewhere:
            store(harness, "succeeded", metadata={})
        else:
            harness.refund((*CREATE, (200, refund_object())))
        store(harness, "failed", metadata={})
    assert seen == [{"refunded"}, {"completed"}]


def test_manually_failed_refund_stores_the_comment_and_closes_the_review(harness: RefundHarness) -> None:
    given_up = mark_failed_manually(harness)
    assert given_up == harness.record()
    assert (given_up.status, given_up.review) == (RefundStatus.FAILED, None)
    assert given_up.failure == Failure("marked_failed", "A person found that Stripe didn't make this refund.")
    assert given_up.history[-1] == {
        "at": harness.now,
        "status": "failed",
        "actor": "cli:ann",
        "comment": "not at Stripe",
    }


@pytest.mark.parametrize(
    ("happen", "status"),
    [
        (lambda harness: harness.refund((*CREATE, (200, refund_object()))), "succeeded"),
        (lambda harness: harness.refund((*CREATE, (400, error_object("charge_disputed")))), "failed"),
        (lambda harness: record_external_refund(harness), "succeeded"),
        (mark_failed_manually, "failed"),
    ],
    ids=["advance", "mark_rejected", "record", "mark_failed_manually"],
)
@pytest.mark.parametrize("received", [True, False])
def test_every_change_is_observed_and_unsent_until_receivers_return(
    harness: RefundHarness, happen: Any, status: str, received: bool
) -> None:
    """Reconcile finds unsent signals by ``False`` exactly."""
    seen: list[Any] = []

    def receiver(app: Any, refund: RefundRecord, **extra: Any) -> None:
        seen.append(harness.db.flask_refunds.find_one({"_id": refund.id})["signalsSent"])

    signals = ALL_SIGNALS if received else ()
    with contextlib.ExitStack() as listening, contextlib.suppress(RefundFailed):
        for signal in signals:
            listening.enter_context(signal.connected_to(receiver, sender=harness.app))
        happen(harness)
    assert harness.observed == [(harness.db.flask_refunds.find_one()["_id"], status)]
    assert set(seen) == ({False} if received else set())
    assert harness.db.flask_refunds.find_one()["signalsSent"] is True


@pytest.mark.parametrize("signals_sent", [True, False])
def test_dismissing_a_review_sends_no_signal(harness: RefundHarness, signals_sent: bool) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), stripe_refund("succeeded", amount=1000), actor="webhook")
    harness.db.flask_refunds.update_one({}, {"$set": {"signalsSent": signals_sent}})
    assert harness.ledger.dismiss(harness.record(), actor="cli:ann", comment="in order")
    assert harness.record().signals_sent is signals_sent


def test_review_of_a_processing_refund_cannot_be_dismissed(harness: RefundHarness) -> None:
    """Even if it was settled when the person looked at it."""
    create_record(harness)
    harness.transitions.request_review(harness.record(), ReviewCode.UNKNOWN_TOO_LONG, actor="reconcile")
    assert harness.ledger.dismiss(harness.record(), actor="cli:ann", comment="in order") is None
    assert harness.record().review is not None


def review_code(harness: RefundHarness) -> str | None:
    review = harness.record().review
    return review.code.value if review else None


def test_refund_pending_for_lack_of_balance_needs_review_until_it_succeeds(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    low = stripe_refund("pending", details=RefundDetails(pending_reason="insufficient_funds"))
    for _ in range(2):
        harness.transitions.apply(harness.record(), low, actor="reconcile")
    assert review_code(harness) == "balance_too_low"
    *_, reason, review = harness.record().history
    assert reason["details"] == {"pendingReason": "insufficient_funds"}
    assert review["review"] == "balance_too_low"
    assert len(harness.record().history) == 4
    harness.transitions.apply(harness.record(), stripe_refund("succeeded"), actor="reconcile")
    assert review_code(harness) is None


def test_details_of_an_older_read_do_not_replace_newer_ones(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    earlier = harness.record()
    arrived = stripe_refund(
        "succeeded", details=RefundDetails(reference="7492", reference_status="available")
    )
    harness.transitions.apply(earlier, arrived, actor="webhook")
    waiting = stripe_refund("succeeded", details=RefundDetails(reference_status="pending"))
    harness.transitions.apply(earlier, waiting, actor="reconcile")
    assert harness.record().details == arrived.details


@pytest.mark.parametrize("before", ["pending", "succeeded"])
def test_refund_failed_by_a_dispute_must_not_be_refunded_again(harness: RefundHarness, before: str) -> None:
    harness.refund((*CREATE, (200, refund_object(status=before))))
    failure = Failure("charge_for_pending_refund_disputed", "x")
    harness.transitions.apply(harness.record(), stripe_refund("failed", failure=failure), actor="webhook")
    assert review_code(harness) == "disputed"
    assert harness.statuses() == {"completed"}


@pytest.mark.parametrize("before", ["pending", "succeeded"])
def test_refund_that_the_bank_sent_back_needs_review_and_completes_purchases_again(
    harness: RefundHarness, before: str
) -> None:
    harness.connect_receivers()
    harness.refund((*CREATE, (200, refund_object(status=before))))
    harness.transitions.apply(harness.record(), stripe_refund("requires_action"), actor="webhook")
    assert (harness.record().status.value, review_code(harness)) == (
        "requires_action",
        "action_required_again",
    )
    assert harness.record().settled_at is None
    assert harness.statuses() == {"completed"}
    assert harness.signals[-1] == ("refund-needs-review", "requires_action")
    harness.transitions.apply(harness.record(), stripe_refund("succeeded"), actor="webhook")
    assert review_code(harness) is None
    assert harness.statuses() == {"refunded"}


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (("succeeded", "requires_action", "failed"), "failed_after_success"),
        (("succeeded", "requires_action", "canceled"), None),
        (("succeeded", "pending", "failed"), "failed_after_success"),
        (("succeeded", "pending", "canceled"), "failed_after_success"),
        (("pending", "requires_action", "failed"), None),
        (("requires_action", "canceled"), None),
    ],
)
def test_failure_needs_review_whenever_the_refund_had_succeeded(
    harness: RefundHarness, statuses: tuple[str, ...], code: str | None
) -> None:
    first, *others = statuses
    harness.refund((*CREATE, (200, refund_object(status=first))))
    for status in others:
        harness.transitions.apply(harness.record(), stripe_refund(status), actor="webhook")
    assert review_code(harness) == code


def test_refund_of_a_transferred_payment_needs_review_once(harness: RefundHarness) -> None:
    charge = {"id": "ch_1", "object": "charge", "amount_captured": 1999, "transfer": "tr_1"}
    harness.refund((*CREATE, (200, refund_object(charge=charge))))
    assert review_code(harness) == "transfer_not_reversed"
    assert harness.statuses() == {"refunded"}
    harness.ledger.dismiss(harness.record(), actor="cli:ann", comment="reversed by hand")
    kept = stripe_refund("succeeded", is_transfer_kept=True)
    harness.transitions.apply(harness.record(), kept, actor="webhook")
    assert review_code(harness) is None


def test_refund_with_a_reversed_transfer_needs_no_review(harness: RefundHarness) -> None:
    charge = {"id": "ch_1", "object": "charge", "amount_captured": 1999, "transfer": "tr_1"}
    harness.refund((*CREATE, (200, refund_object(charge=charge, transfer_reversal="trr_1"))))
    assert review_code(harness) is None


def test_refunds_that_exceed_the_payment_need_review(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    store(harness, "succeeded", id="re_2", metadata={}, amount=700)
    codes = [each.review and each.review.code.value for each in harness.ledger.list_for_payment(PAYMENT)]
    assert "amounts_disagree" in codes


@pytest.mark.parametrize("decision", ["dismiss", "mark_failed_manually"])
def test_decision_about_an_older_version_changes_nothing(harness: RefundHarness, decision: str) -> None:
    harness.refund(
        (*CREATE, lost()) if decision == "mark_failed_manually" else (*CREATE, (200, refund_object()))
    )
    harness.transitions.request_review(harness.record(), ReviewCode.UNKNOWN_TOO_LONG, actor="reconcile")
    seen = harness.record()
    harness.transitions.apply(harness.record(), stripe_refund("failed"), actor="webhook")
    assert getattr(harness.ledger, decision)(seen, actor="cli:ann", comment="in order") is None
    assert harness.record().status is RefundStatus.FAILED


@pytest.mark.parametrize("code", ["amounts_disagree", "purchase_not_updated"])
def test_review_that_a_person_closed_stays_closed(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    if code == "purchase_not_updated":
        rejected = harness.cart
        monkeypatch.setattr(Purchases, "mark_refunded", lambda self, payment, marks: (rejected, rejected))
    harness.refund((*CREATE, (200, refund_object())))
    number: int | str = 1
    if code == "amounts_disagree":
        store(harness, "succeeded", id="re_2", metadata={}, amount=700)
        number = "re_2"
    for _ in range(2):
        refund = harness.record(number)
        assert refund.review is None or refund.review.code.value == code
        harness.ledger.dismiss(refund, actor="cli:ann", comment="as it should be")
        harness.transitions.verify_purchases(harness.record(number))
        assert harness.record(number).review is None


def test_review_that_a_person_closed_opens_again_after_a_change(harness: RefundHarness) -> None:
    waiting = stripe_refund("pending", details=RefundDetails(pending_reason="insufficient_funds"))
    harness.refund((*CREATE, (200, refund_object(status="pending", pending_reason="insufficient_funds"))))
    harness.ledger.dismiss(harness.record(), actor="cli:ann", comment="topped up")
    harness.transitions.apply(harness.record(), waiting, actor="reconcile")
    assert review_code(harness) is None
    for status in (stripe_refund("requires_action"), waiting):
        harness.transitions.apply(harness.record(), status, actor="reconcile")
    assert review_code(harness) == "balance_too_low"

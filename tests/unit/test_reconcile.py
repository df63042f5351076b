"""Reconciler: every unfinished refund is found once and finished if possible, and the report says so."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from flask_refunds.core import reconcile
from flask_refunds.core.reconcile import Reconciler, ReconcileReport
from flask_refunds.core.sweep import SweepReport
from flask_refunds.errors import DatabaseUnavailable
from flask_refunds.models import RefundStatus, ReviewCode
from flask_refunds.storage.reconcile_queue import ReconcileQueue, Unfinished
from tests.log_records import LogRecords
from tests.unit.refund_harness import (
    CREATE,
    LIST,
    REQUEST,
    RETRIEVE,
    START,
    RefundHarness,
    create_record,
    listed,
    make_refund,
)
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, charge_object, error_object, lost, refund_object

MINUTE = timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture
def queue(harness: RefundHarness) -> ReconcileQueue:
    return ReconcileQueue(harness.db.flask_refunds, lambda: harness.now)


@pytest.fixture
def reconciler(harness: RefundHarness, queue: ReconcileQueue) -> Reconciler:
    return make_reconciler(harness, queue)


def make_reconciler(
    harness: RefundHarness, queue: ReconcileQueue, *, has_listeners: bool = True
) -> Reconciler:
    return Reconciler(
        harness.ledger,
        queue,
        harness.transitions,
        harness.service,
        lambda: harness.now,
        lambda: has_listeners,
    )


def finish(harness: RefundHarness, reconciler: Reconciler, *script: Any) -> str:
    harness.stripe.script[:] = script
    try:
        return reconciler.finish(Unfinished(REFUND_ID, harness.now, False))
    finally:
        harness.stripe.assert_done()


def create_unknown(harness: RefundHarness, count: int) -> list[str]:
    """Store refunds with an unknown outcome, each a millisecond later than the one before."""
    ids = []
    for number in range(count):
        created = harness.ledger.create(f"pi_{number}", 1, purchase_ids=[], to_mark=[], request=REQUEST)
        ids.append(created.id)
        harness.now += MILLISECOND
    return ids


def find(reconciler: Reconciler, older_than: timedelta = MINUTE) -> list[str]:
    return [each.refund_id for each in reconciler.find(older_than)]


@pytest.mark.parametrize(
    ("fields", "is_clean"),
    [
        ({"counts": Counter(settled=1, open=1, busy=1)}, True),
        ({"sweep": SweepReport(counts=Counter(unreadable=1))}, True),
        ({"counts": Counter(errors=1)}, False),
        ({"sweep": SweepReport(counts=Counter(errors=1))}, False),
        ({"sweep_error": "api_error"}, False),
        ({"reviews": [make_refund()]}, False),
        ({"overdue_since": START}, False),
    ],
)
def test_pass_is_clean_if_nothing_failed_and_nothing_needs_review(
    fields: dict[str, Any], is_clean: bool
) -> None:
    assert ReconcileReport(**fields).is_clean is is_clean


def test_pass_finds_every_refund_once_also_if_there_are_several_pages(
    harness: RefundHarness, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PAGE", 2)
    ids = create_unknown(harness, 5)
    harness.now += MINUTE
    assert find(reconciler) == ids


def test_recent_changes_are_left_to_the_calls_that_made_them(
    harness: RefundHarness, reconciler: Reconciler
) -> None:
    older, newer = create_unknown(harness, 2)
    harness.now += MINUTE - 2 * MILLISECOND
    found, skipped = reconciler.preview(MINUTE)
    assert ([each.refund_id for each in found], skipped) == ([older], 1)
    assert find(reconciler) == [older]
    harness.now += MILLISECOND
    assert find(reconciler) == [newer]


def test_refund_that_another_pass_looked_at_is_left_to_it_for_half_of_the_time(
    harness: RefundHarness, reconciler: Reconciler
) -> None:
    [refund_id] = create_unknown(harness, 1)
    harness.now += 2 * MINUTE
    assert find(reconciler) == [refund_id]
    harness.now += MINUTE / 2 - MILLISECOND
    assert find(reconciler) == []
    harness.now += MILLISECOND
    assert find(reconciler) == [refund_id]


def test_parallel_pass_works_on_what_the_other_one_has_not_looked_at(
    harness: RefundHarness, reconciler: Reconciler
) -> None:
    ids = create_unknown(harness, 3)
    harness.now += MINUTE
    one, other = reconciler.find(MINUTE), reconciler.find(MINUTE)
    found = [next(one), next(other), next(one)]
    assert [each.refund_id for each in found] == ids
    assert [*one, *other] == []


def test_preview_lists_what_another_pass_has_just_looked_at(
    harness: RefundHarness, reconciler: Reconciler
) -> None:
    [refund_id] = create_unknown(harness, 1)
    harness.now += MINUTE
    find(reconciler)
    found, skipped = reconciler.preview(MINUTE)
    assert ([each.refund_id for each in found], skipped) == ([refund_id], 0)


def test_unsent_signals_are_left_to_processes_with_receivers(
    harness: RefundHarness, queue: ReconcileQueue, reconciler: Reconciler
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    sent = {"signalsSent": False, "purchasesVerified": True}
    harness.db.flask_refunds.update_one({}, {"$set": sent})
    harness.now += MINUTE
    without = make_reconciler(harness, queue, has_listeners=False)
    assert (without.preview(MINUTE), find(without)) == (([], 0), [])
    assert len(reconciler.preview(MINUTE)[0]) == 1
    assert find(reconciler) == [REFUND_ID]


def test_signals_that_were_not_sent_are_sent_once(harness: RefundHarness, reconciler: Reconciler) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.connect_receivers()
    harness.db.flask_refunds.update_one({}, {"$set": {"signalsSent": False}})
    for _ in range(2):
        assert finish(harness, reconciler) == "followed_up"
        assert harness.signals == [("refund-succeeded", "succeeded")]
    assert harness.record().signals_sent


def test_refund_is_settled_then_followed_up_and_then_not_found_any_more(
    harness: RefundHarness, reconciler: Reconciler
) -> None:
    harness.refund((*CREATE, lost()))
    harness.connect_receivers()
    harness.now += MINUTE
    made = (200, refund_object())
    assert finish(harness, reconciler, listed(), (*CREATE, made), (*RETRIEVE, made)) == "settled"
    assert harness.record().history[-1]["actor"] == "reconcile"
    assert harness.signals == [("refund-succeeded", "succeeded")]
    harness.now += MINUTE - MILLISECOND
    finish(harness, reconciler)
    assert not harness.record().purchases_verified
    harness.now += MILLISECOND
    assert finish(harness, reconciler) == "followed_up"
    assert harness.record().purchases_verified
    assert find(reconciler) == []


def test_refund_that_stripe_has_not_settled_is_open(harness: RefundHarness, reconciler: Reconciler) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    assert finish(harness, reconciler, (*RETRIEVE, (200, refund_object(status="pending")))) == "open"
    assert finish(harness, reconciler, (*RETRIEVE, (200, refund_object()))) == "settled"


def test_refund_whose_lease_is_held_is_busy(
    harness: RefundHarness, reconciler: Reconciler, log_records: LogRecords
) -> None:
    create_record(harness)
    assert finish(harness, reconciler) == "busy"
    assert log_records() == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(DatabaseUnavailable(), "database_unavailable"), (ValueError("x"), None), (SystemExit(1), None)],
)
def test_error_with_one_refund_is_logged_and_counted(
    harness: RefundHarness,
    reconciler: Reconciler,
    log_records: LogRecords,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: str | None,
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    log_records()

    def fail(refund: Any) -> Any:
        raise error

    monkeypatch.setattr(harness.transitions, "send_signals", fail)
    harness.db.flask_refunds.update_one({}, {"$set": {"signalsSent": False}})
    report = reconciler.run([Unfinished(REFUND_ID, harness.now, True)])
    assert (report.counts, report.reviews) == ({"errors": 1}, [])
    [logged] = log_records()
    error_name = type(error).__name__
    failed = {"event": "reconcile_failed", "refund_id": REFUND_ID, "code": code, "error": error_name}
    assert logged == failed


def test_report_lists_the_refunds_that_need_review(harness: RefundHarness, reconciler: Reconciler) -> None:
    create_record(harness)
    harness.transitions.request_review(harness.record(), ReviewCode.UNKNOWN_TOO_LONG, actor="reconcile")
    assert [each.id for each in reconciler.run([]).reviews] == [REFUND_ID]


def test_request_of_a_refund_that_needs_review_is_not_sent_again(
    harness: RefundHarness, reconciler: Reconciler, log_records: LogRecords
) -> None:
    harness.refund((*CREATE, lost()))
    harness.transitions.request_review(harness.record(), ReviewCode.UNKNOWN_TOO_LONG, actor="reconcile")
    before = harness.record()
    log_records()
    assert finish(harness, reconciler, listed()) == "open"
    assert (harness.record().attempts, log_records()) == (before.attempts, [])
    unavailable = (*LIST, (500, error_object("x", "api_error")))
    assert finish(harness, reconciler, unavailable) == "open"
    unknown = {"event": "outcome_unknown", "refund_id": REFUND_ID, "code": "x", "actor": "reconcile"}
    assert log_records() == [unknown]
    shown = refund_object()
    assert finish(harness, reconciler, listed(shown), (*RETRIEVE, (200, shown))) == "settled"
    assert harness.record().history[-1]["actor"] == "reconcile"


def test_settled_refund_that_an_event_contradicted_is_read_again(
    harness: RefundHarness, reconciler: Reconciler
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.ledger.mark_doubtful(harness.record())
    failed = refund_object(status="failed")
    assert finish(harness, reconciler, (*RETRIEVE, (200, failed))) == "followed_up"
    assert harness.record().status is RefundStatus.FAILED
    assert harness.record().history[-1]["actor"] == "reconcile"


def test_other_parts_of_the_payment_are_recorded_before_the_purchases_are_verified(
    harness: RefundHarness, reconciler: Reconciler
) -> None:
    whole = charge_object(2999)
    harness.refund((*CREATE, (200, refund_object(charge=whole))), listed())
    other = refund_object(id="re_2", amount=1000, charge=whole, metadata={})
    harness.now += MINUTE
    finish(
        harness,
        reconciler,
        listed(refund_object(charge=whole), other),
        ("GET", "/v1/refunds/re_2", (200, other)),
    )
    assert harness.statuses() == {"refunded"}
    assert harness.ledger.list_for_payment(PAYMENT)[-1].history[0]["actor"] == "reconcile"

"""ReconcileQueue: what is unfinished, in which order, and what needs review."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flask_refunds.models import ReviewCode
from flask_refunds.storage.reconcile_queue import ReconcileQueue, Unfinished
from tests.unit.refund_harness import REQUEST, START, RefundHarness

SECOND = timedelta(seconds=1)


@pytest.fixture
def queue(harness: RefundHarness) -> ReconcileQueue:
    return ReconcileQueue(harness.db.flask_refunds, lambda: harness.now)


def store(harness: RefundHarness, payment: str, **fields: Any) -> str:
    """Store a finished refund record with these fields changed, a second after the one before."""
    harness.now += SECOND
    created = harness.ledger.create(payment, 1, purchase_ids=[], to_mark=[], request=REQUEST)
    finished = {"status": "succeeded", "signalsSent": True, "purchasesVerified": True}
    harness.db.flask_refunds.update_one({"_id": created.id}, {"$set": finished | fields})
    return created.id


def find(queue: ReconcileQueue, harness: RefundHarness, limit: int = 9, **options: Any) -> list[str]:
    times = {"before": harness.now, "looked_before": harness.now}
    return [each.refund_id for each in queue.find_unfinished(**times, limit=limit, **options)]


def store_one_of_each(harness: RefundHarness) -> list[str]:
    """Store a record for each reason, the least urgent first, and return them with the most urgent first."""
    reasons: dict[str, dict[str, Any]] = {
        "unverified": {"purchasesVerified": False},
        "unsent": {"signalsSent": False},
        "action": {"status": "requires_action"},
        "pending": {"status": "pending"},
        "unknown": {"status": "processing"},
    }
    ids = {name: store(harness, f"pi_{name}", **fields) for name, fields in reasons.items()}
    store(harness, "pi_finished")
    return [ids[name] for name in ("unknown", "action", "pending", "unsent", "unverified")]


def test_unknown_outcomes_come_first_and_then_those_that_wait_for_stripe(
    harness: RefundHarness, queue: ReconcileQueue
) -> None:
    ids = store_one_of_each(harness)
    assert find(queue, harness) == ids
    assert find(queue, harness, limit=2) == ids[:2]
    assert find(queue, harness, unsent=False) == [each for each in ids if each != "pi_unsent:1"]


def test_record_with_several_reasons_is_found_once(harness: RefundHarness, queue: ReconcileQueue) -> None:
    unknown = store(harness, "pi_1", status="processing", signalsSent=False, purchasesVerified=False)
    assert find(queue, harness) == [unknown]


def test_record_that_was_looked_at_comes_last(harness: RefundHarness, queue: ReconcileQueue) -> None:
    first, second = (store(harness, payment, status="processing") for payment in ("pi_1", "pi_2"))
    harness.now += SECOND
    [unfinished, _] = queue.find_unfinished(before=harness.now, looked_before=harness.now, limit=2)
    assert unfinished == Unfinished(first, START + SECOND, False)
    assert queue.look_at(unfinished, after=START)
    assert not queue.look_at(unfinished, after=START)
    assert find(queue, harness) == [second, first]


def test_time_of_a_look_is_after_the_one_that_the_pass_looks_before(
    harness: RefundHarness, queue: ReconcileQueue
) -> None:
    """Otherwise a pass over records that changed this very millisecond would never end."""
    store(harness, "pi_1", status="processing")
    [unfinished] = queue.find_unfinished(before=harness.now, looked_before=harness.now, limit=1)
    assert queue.look_at(unfinished, after=harness.now)
    assert find(queue, harness) == []


def test_settled_and_hidden_records_are_told_apart(harness: RefundHarness, queue: ReconcileQueue) -> None:
    unsent = store(harness, "pi_1", signalsSent=False)
    store(harness, "pi_2", signalsSent=False, duplicateOf="pi_1:1")
    [found] = queue.find_unfinished(before=harness.now, looked_before=harness.now, limit=9)
    assert (found.refund_id, found.is_settled) == (unsent, True)


def test_purchases_of_refunds_that_settled_since_a_time_are_verified_again(
    harness: RefundHarness, queue: ReconcileQueue
) -> None:
    ids = [store(harness, f"pi_{seconds}", settledAt=START + seconds * SECOND) for seconds in (1, 2, 3)]
    assert queue.mark_purchases_unverified(START + 2 * SECOND) == 2
    assert find(queue, harness) == ids[1:]


def test_reviews_are_listed_by_age_and_counted_by_code(harness: RefundHarness, queue: ReconcileQueue) -> None:
    codes = (ReviewCode.UNKNOWN_TOO_LONG, ReviewCode.MADE_TWICE, ReviewCode.UNKNOWN_TOO_LONG)
    ids = [store(harness, f"pi_{3 - number}") for number in range(3)]
    for refund_id, code in zip(ids, codes, strict=True):
        harness.now += SECOND
        assert harness.ledger.request_review(harness.ledger.get(refund_id), code, actor="reconcile")
    store(harness, "pi_finished")
    assert [each.id for each in queue.find_needing_review()] == ids
    assert [each.id for each in queue.find_needing_review(2)] == ids[:2]
    assert queue.count_reviews() == {"unknown_too_long": 2, "made_twice": 1}

"""Ledger: what it stores and finds, on mongomock with a clock under the test's control."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import mongomock
import pytest
from pymongo.errors import AutoReconnect

from flask_refunds.errors import RecordUnreadable
from flask_refunds.models import Failure, RefundRecord, RefundRequest, RefundStatus, ReviewCode, StripeRefund
from flask_refunds.payment_refunds import find_active, next_number
from flask_refunds.storage.ledger import Ledger, NumberTaken
from flask_refunds.storage.reconcile_queue import ReconcileQueue

START = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)


class SteppedLedger(Ledger):
    """A ledger whose clock advances by a second for each record."""

    def __init__(self) -> None:
        self.records = mongomock.MongoClient(tz_aware=True).shop.refunds
        self.now = START
        self.queue = ReconcileQueue(self.records, lambda: self.now)
        super().__init__(self.records, lambda: self.now, timedelta(seconds=60), has_listeners=bool)

    def add(self, payment_intent: str, **fields: Any) -> RefundRecord:
        """Create a refund of this payment, and set fields of its record."""
        self.now += timedelta(seconds=1)
        refund = self.create(
            payment_intent,
            1,
            purchase_ids=[],
            to_mark=[],
            request=RefundRequest(requested_by="admin", source="api"),
        )
        if fields:
            self.records.update_one({"_id": refund.id}, {"$set": fields})
        return self.get(refund.id)


@pytest.fixture
def ledger() -> SteppedLedger:
    return SteppedLedger()


def ended(**fields: Any) -> dict[str, Any]:
    return {
        "status": "succeeded",
        "settledAt": START,
        "signalsSent": True,
        "purchasesVerified": True,
        **fields,
    }


def find(ledger: SteppedLedger, limit: int = 10, **times: Any) -> list[str]:
    before = {"before": ledger.now, "looked_before": ledger.now} | times
    return [each.refund_id for each in ledger.queue.find_unfinished(limit=limit, **before)]


def test_unfinished_refunds_are_unknown_ones_first_then_by_last_look(ledger: SteppedLedger) -> None:
    ledger.add("pi_unverified", **ended(purchasesVerified=False))
    ledger.add("pi_unsent", **ended(signalsSent=False))
    ledger.add("pi_done", **ended())
    ledger.add("pi_processing")
    ledger.add("pi_pending", status="pending", lookedAt=START)
    ledger.add("pi_action", status="requires_action", lookedAt=START + timedelta(milliseconds=1))
    ledger.now += timedelta(seconds=1)
    expected = ["pi_processing:1", "pi_pending:1", "pi_action:1", "pi_unsent:1", "pi_unverified:1"]
    assert find(ledger) == expected
    assert find(ledger, limit=2) == expected[:2]


def test_refund_that_changed_recently_or_was_looked_at_is_not_unfinished(ledger: SteppedLedger) -> None:
    ledger.add("pi_1")
    ledger.now += timedelta(seconds=1)
    assert find(ledger, before=ledger.now - timedelta(seconds=2)) == []
    assert find(ledger, looked_before=ledger.now - timedelta(seconds=2)) == []


def test_record_is_looked_at_by_one_of_two_passes(ledger: SteppedLedger) -> None:
    ledger.add("pi_1")
    ledger.now += timedelta(seconds=1)
    [seen] = ledger.queue.find_unfinished(before=ledger.now, looked_before=ledger.now, limit=5)
    assert [ledger.queue.look_at(seen, after=ledger.now) for _ in range(2)] == [True, False]
    assert find(ledger) == []


def test_reviews_are_counted_beyond_the_listed_ones(ledger: SteppedLedger) -> None:
    for number in range(5):
        refund = ledger.add(f"pi_{number}")
        ledger.request_review(refund, ReviewCode.DISPUTED, actor="reconcile")
    assert len(ledger.queue.find_needing_review(limit=2)) == 2
    assert ledger.queue.count_reviews() == {"disputed": 5}


@pytest.mark.parametrize(
    "odd", [{"status": "a newer one"}, {"history": None, "source": None, "status": None}]
)
def test_unreadable_document_is_skipped_in_lists_and_an_error_for_its_payment(
    ledger: SteppedLedger, odd: dict[str, Any]
) -> None:
    for name in ("pi_1", "pi_2"):
        ledger.request_review(ledger.add(name), ReviewCode.DISPUTED, actor="reconcile")
    ledger.records.update_one({"_id": "pi_1:1"}, {"$set": odd})
    assert [refund.id for refund in ledger.queue.find_needing_review()] == ["pi_2:1"]
    assert ledger.find("pi_1:1") is None
    assert ledger.list_for_payments(["pi_1", "pi_2"])["pi_1"] is None
    with pytest.raises(RecordUnreadable, match="this call refunded nothing"):
        ledger.list_for_payment("pi_1")


def test_foreign_document_among_a_payments_records_is_an_error_for_the_payment(ledger: SteppedLedger) -> None:
    ledger.add("pi_1")
    ledger.records.insert_one({"_id": "pi_1:note", "text": "call Ann"})
    with pytest.raises(RecordUnreadable):
        ledger.list_for_payment("pi_1")


def test_lease_is_acquired_again_only_after_it_expired(ledger: SteppedLedger) -> None:
    refund = ledger.add("pi_1")
    ledger.now = refund.lease_expires_at - timedelta(milliseconds=1)
    assert ledger.holds_lease(refund)
    assert ledger.acquire_lease(refund) is None
    ledger.now = refund.lease_expires_at
    assert not ledger.holds_lease(refund)
    taken = ledger.acquire_lease(refund)
    assert taken is not None
    assert (taken.lease_expires_at, taken.attempts) == (ledger.now + timedelta(seconds=60), 2)
    assert taken.lease_token != refund.lease_token
    assert re.fullmatch("[0-9a-f]{32}", taken.lease_token or "")


def test_missing_refund_is_none_for_find_and_an_error_for_get(ledger: SteppedLedger) -> None:
    assert ledger.find("pi_1:1") is None
    with pytest.raises(KeyError, match="pi_1:1"):
        ledger.get("pi_1:1")


@pytest.mark.parametrize("other_record", [None, {"leaseToken": "a rival's"}, {}])
def test_insert_with_lost_answer_recognizes_its_own_record(
    ledger: SteppedLedger, monkeypatch: pytest.MonkeyPatch, other_record: dict[str, str] | None
) -> None:
    """It is retried, and its own record is distinguished from another call's."""
    ledger.add("pi_0")
    insert, tries = ledger.records.insert_one, []

    def lose(record: dict[str, Any]) -> Any:
        tries.append(record["_id"])
        if len(tries) > 1:
            return insert(record)
        kept = {
            field: value for field, value in record.items() if other_record is None or field != "leaseToken"
        }
        insert({**kept, **(other_record or {})})
        raise AutoReconnect

    monkeypatch.setattr(ledger.records, "insert_one", lose)
    if other_record is None:
        assert ledger.add("pi_1").status is RefundStatus.PROCESSING
    else:
        with pytest.raises(NumberTaken, match=r"^pi_1:1$"):
            ledger.add("pi_1")
    assert tries == ["pi_1:1", "pi_1:1"]


def test_taken_number_raises_and_an_external_refund_takes_none(ledger: SteppedLedger) -> None:
    ledger.add("pi_1")
    with pytest.raises(NumberTaken, match=r"^pi_1:1$"):
        ledger.add("pi_1")
    found = StripeRefund(
        "re_1", "pi_1", RefundStatus.SUCCEEDED, 1, 1, "usd", None, None, None, START, "req_1"
    )
    assert ledger.record_external(found, purchase_ids=[], actor="webhook") is not None
    assert ledger.record_external(found, purchase_ids=[], actor="reconcile") is None


@pytest.mark.parametrize("elsewhere", ["first", "last"])
def test_numbers_decide_and_not_the_order_of_the_records(ledger: SteppedLedger, elsewhere: str) -> None:
    """Stored times can be those of two clocks."""
    found = StripeRefund("re_1", "pi_1", RefundStatus.FAILED, 1, 1, "usd", None, None, None, START, None)
    for number, minutes in ((1, 10), (12, 0), (2, 5)):
        ledger.now = START + timedelta(minutes=minutes)
        request = RefundRequest(requested_by="admin", source="api")
        ledger.create("pi_1", number, purchase_ids=[], to_mark=[], request=request)
    ledger.now = START + timedelta(minutes=20 if elsewhere == "last" else -20)
    ledger.record_external(found, purchase_ids=[], actor="webhook")
    refunds = ledger.list_for_payment("pi_1")
    assert [each.number for each in refunds if each.number] == [12, 2, 1]
    assert refunds[-1 if elsewhere == "last" else 0].number is None
    active = find_active(refunds)
    assert active is not None
    assert (active.number, next_number(refunds)) == (12, 13)


def test_reviews_are_listed_by_age(ledger: SteppedLedger) -> None:
    first, second, _ = (ledger.add(f"pi_{name}") for name in "zab")
    for refund in (second, first):
        ledger.now += timedelta(minutes=1)
        ledger.request_review(refund, ReviewCode.UNKNOWN_TOO_LONG, actor="reconcile")
    assert [refund.id for refund in ledger.queue.find_needing_review()] == ["pi_a:1", "pi_z:1"]


def test_refunds_of_many_payments_are_grouped_and_sorted_by_number(ledger: SteppedLedger) -> None:
    ledger.add("pi_1")
    ledger.mark_rejected(ledger.get("pi_1:1"), Failure("x", "y"), actor="admin", request_id=None)
    ledger.records.insert_one({**ledger.records.find_one({"_id": "pi_1:1"}), "_id": "pi_1:10", "number": 10})
    ledger.records.insert_one({**ledger.records.find_one({"_id": "pi_1:1"}), "_id": "pi_1:2", "number": 2})
    ledger.add("pi_11")
    logs = ledger.list_for_payments(["pi_1", "pi_2"])
    assert {each: [record.number for record in log] for each, log in logs.items()} == {
        "pi_1": [1, 2, 10],
        "pi_2": [],
    }
    assert ledger.list_for_payments([]) == {}


def test_settled_at_is_the_time_of_the_end_not_of_the_request(ledger: SteppedLedger) -> None:
    """Reports count a refund in the month of its end."""
    refused, made = ledger.add("pi_1"), ledger.add("pi_2")
    ledger.now += timedelta(days=40)
    ledger.mark_rejected(refused, Failure("x", "y"), actor="admin", request_id="req_1")
    found = StripeRefund(
        "re_1", "pi_2", RefundStatus.SUCCEEDED, 1, 1, "usd", made.id, None, None, START, "req_1"
    )
    ledger.advance(made, found, actor="admin", review=None)
    assert [ledger.get(each.id).settled_at for each in (refused, made)] == [ledger.now, ledger.now]

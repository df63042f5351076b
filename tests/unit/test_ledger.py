"""What the ledger keeps and finds, on mongomock and a clock that the test steps."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import mongomock
import pytest
from pymongo.errors import AutoReconnect

from flask_refunds.models import Failure, Refund, RefundStatus, ReviewCode, StripeRefund
from flask_refunds.storage.ledger import Ledger, NumberTaken

START = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)


class Shelf(Ledger):
    """A ledger whose clock ticks a second at each row that is opened."""

    def __init__(self) -> None:
        self.rows = mongomock.MongoClient(tz_aware=True).shop.refunds
        self.now = START
        super().__init__(self.rows, lambda: self.now, timedelta(seconds=60))

    def add(self, payment_intent: str, **fields: Any) -> Refund:
        """Open a refund of this payment, and set fields of its row."""
        self.now += timedelta(seconds=1)
        refund = self.open(
            payment_intent,
            1,
            purchase_ids=[],
            reason=None,
            note=None,
            requested_by="admin",
            source="api",
        )
        if fields:
            self.rows.update_one({"_id": refund.id}, {"$set": fields})
        return self.get(refund.id)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def ended(**fields: Any) -> dict[str, Any]:
    return {
        "status": "succeeded",
        "settledAt": START,
        "signals_sent": True,
        "purchasesVerified": True,
        **fields,
    }


def test_what_is_still_to_be_done(shelf: Shelf) -> None:
    """What has not ended comes first, and then the longest untouched."""
    shelf.add("pi_unchecked", **ended(purchases_verified=False))
    shelf.add("pi_unsaid", **ended(signals_sent=False, updatedAt=START))
    shelf.add("pi_done", **ended())
    shelf.add("pi_processing")
    shelf.add("pi_pending", status="pending")
    shelf.add("pi_at_work")
    found = shelf.find_unfinished(shelf.now - timedelta(seconds=1))
    assert found == ["pi_processing:1", "pi_pending:1", "pi_unsaid:1", "pi_unchecked:1"]


def test_a_lease_ends_when_it_ends(shelf: Shelf) -> None:
    refund = shelf.add("pi_1")
    shelf.now = refund.lease_expires_at - timedelta(milliseconds=1)
    assert shelf.owns(refund)
    assert shelf.take(refund) is None
    shelf.now = refund.lease_expires_at
    assert not shelf.owns(refund)
    taken = shelf.take(refund)
    assert taken is not None
    assert (taken.lease_expires_at, taken.attempts) == (shelf.now + timedelta(seconds=60), 2)
    assert taken.lease_token != refund.lease_token
    assert re.fullmatch("[0-9a-f]{32}", taken.lease_token or "")


def test_a_row_that_is_not_there(shelf: Shelf) -> None:
    assert shelf.find("pi_1:1") is None
    with pytest.raises(KeyError, match="pi_1:1"):
        shelf.get("pi_1:1")


@pytest.mark.parametrize("theirs", [None, {"leaseToken": "a rival's"}, {}])
def test_an_insert_whose_answer_is_lost(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, theirs: dict[str, str] | None
) -> None:
    """It is tried again, and one's own row that is there by then is told from a rival's."""
    shelf.add("pi_0")
    insert, tries = shelf.rows.insert_one, []

    def lose(row: dict[str, Any]) -> Any:
        tries.append(row["_id"])
        if len(tries) > 1:
            return insert(row)
        kept = {field: value for field, value in row.items() if theirs is None or field != "leaseToken"}
        insert({**kept, **(theirs or {})})
        raise AutoReconnect

    monkeypatch.setattr(shelf.rows, "insert_one", lose)
    if theirs is None:
        assert shelf.add("pi_1").status is RefundStatus.PROCESSING
    else:
        with pytest.raises(NumberTaken, match=r"^pi_1:1$"):
            shelf.add("pi_1")
    assert tries == ["pi_1:1", "pi_1:1"]


def test_a_number_that_is_taken(shelf: Shelf) -> None:
    shelf.add("pi_1")
    with pytest.raises(NumberTaken, match=r"^pi_1:1$"):
        shelf.add("pi_1")
    news = StripeRefund("re_1", "pi_1", RefundStatus.SUCCEEDED, 1, "usd", None, None, None, START, "req_1")
    with pytest.raises(NumberTaken, match=r"^pi_1:1$"):
        shelf.record(news, 1, amount_received=1, purchase_ids=[], actor="webhook", silent=True)


def test_the_longest_waiting_asks_first(shelf: Shelf) -> None:
    first, second, _ = (shelf.add(f"pi_{name}") for name in "zab")
    for refund in (second, first):
        shelf.now += timedelta(minutes=1)
        shelf.request_review(refund, ReviewCode.UNKNOWN_TOO_LONG, actor="reconcile", silent=True)
    assert [refund.id for refund in shelf.find_needing_review()] == ["pi_a:1", "pi_z:1"]


def test_the_logs_of_many_payments(shelf: Shelf) -> None:
    shelf.add("pi_1")
    shelf.refuse(shelf.get("pi_1:1"), Failure("x", "y"), actor="admin", silent=True, request_id=None)
    shelf.rows.insert_one({**shelf.rows.find_one({"_id": "pi_1:1"}), "_id": "pi_1:10", "number": 10})
    shelf.rows.insert_one({**shelf.rows.find_one({"_id": "pi_1:1"}), "_id": "pi_1:2", "number": 2})
    shelf.add("pi_11")
    logs = shelf.list_for_payments(["pi_1", "pi_2"])
    assert {each: [row.number for row in log] for each, log in logs.items()} == {
        "pi_1": [1, 2, 10],
        "pi_2": [],
    }
    assert shelf.list_for_payments([]) == {}


def test_a_refund_that_ends_says_when(shelf: Shelf) -> None:
    """The figures count it in that month, whichever way it ended."""
    refused, made = shelf.add("pi_1"), shelf.add("pi_2")
    shelf.now += timedelta(days=40)
    shelf.refuse(refused, Failure("x", "y"), actor="admin", silent=True, request_id="req_1")
    news = StripeRefund("re_1", "pi_2", RefundStatus.SUCCEEDED, 1, "usd", made.id, None, None, START, "req_1")
    shelf.advance(made.id, news, actor="admin", silent=True)
    assert [shelf.get(each.id).settled_at for each in (refused, made)] == [shelf.now, shelf.now]

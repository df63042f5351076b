"""What the ledger keeps and finds, on mongomock and a clock that the test steps."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import mongomock
import pytest

from flask_refunds.ledger import UNKNOWN_TOO_LONG, Ledger
from flask_refunds.models import Failure, Refund, RefundStatus, StripeRefund

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
            source="endpoint",
        )
        if fields:
            self.rows.update_one({"_id": refund.id}, {"$set": fields})
        return self.get(refund.id)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def ended(**fields: Any) -> dict[str, Any]:
    return {"status": "succeeded", "settledAt": START, "announced": True, "checked": True, **fields}


def test_what_is_still_to_be_done(shelf: Shelf) -> None:
    """What has not ended comes first, and then the longest untouched."""
    shelf.add("pi_unsaid", **ended(announced=False))
    shelf.add("pi_unchecked", **ended(checked=False))
    shelf.add("pi_done", **ended())
    shelf.add("pi_processing")
    shelf.add("pi_pending", status="pending")
    shelf.add("pi_at_work")
    found = shelf.find_unfinished(shelf.now - timedelta(seconds=1))
    assert found == ["pi_processing:1", "pi_pending:1", "pi_unsaid:1", "pi_unchecked:1"]


def test_the_longest_waiting_asks_first(shelf: Shelf) -> None:
    first, second, _ = (shelf.add(f"pi_{name}") for name in "zab")
    for refund in (first, second):
        shelf.now += timedelta(minutes=1)
        shelf.ask_for_attention(refund, UNKNOWN_TOO_LONG, by="reconcile", silent=True)
    assert [refund.id for refund in shelf.find_attention()] == ["pi_z:1", "pi_a:1"]


def test_the_logs_of_many_payments(shelf: Shelf) -> None:
    shelf.add("pi_1")
    shelf.refuse(shelf.get("pi_1:1"), Failure("x", "y"), by="admin", silent=True, request_id=None)
    shelf.rows.insert_one({**shelf.rows.find_one({"_id": "pi_1:1"}), "_id": "pi_1:10", "number": 10})
    shelf.rows.insert_one({**shelf.rows.find_one({"_id": "pi_1:1"}), "_id": "pi_1:2", "number": 2})
    shelf.add("pi_11")
    logs = shelf.read_logs(["pi_1", "pi_2"])
    assert {each: [row.number for row in log] for each, log in logs.items()} == {
        "pi_1": [1, 2, 10],
        "pi_2": [],
    }
    assert shelf.read_logs([]) == {}


def test_a_refund_that_ends_says_when(shelf: Shelf) -> None:
    """The figures count it in that month, whichever way it ended."""
    refused, made = shelf.add("pi_1"), shelf.add("pi_2")
    shelf.now += timedelta(days=40)
    shelf.refuse(refused, Failure("x", "y"), by="admin", silent=True, request_id="req_1")
    news = StripeRefund("re_1", "pi_2", RefundStatus.SUCCEEDED, 1, "usd", made.id, None, None, START, "req_1")
    shelf.climb(made.id, news, by="admin", silent=True)
    assert [shelf.get(each.id).settled_at for each in (refused, made)] == [shelf.now, shelf.now]

"""Refunds that Stripe shows, whoever made them: which row they belong to, or which number they get."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_refunds.clock import Deadline
from flask_refunds.errors import OutcomeUnknown
from flask_refunds.models import Failure, Refund, RefundStatus, StripeRefund, is_refunded
from flask_refunds.storage.ledger import Ledger
from tests.unit.refund_harness import CAPTURED, CREATE, START, RefundHarness, fact
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, refund_object


def test_the_whole_row_of_a_refund_from_elsewhere(harness: RefundHarness) -> None:
    failure = Failure("lost_or_stolen_card", "The card is gone.")
    harness.stripe.script[:] = [CAPTURED]
    news = fact("failed", refund_id=None, reason="duplicate", failure=failure)
    harness.stripe_sync.upsert_from_stripe(news, Deadline.after(10), actor="webhook")
    assert harness.db.flask_refunds.find_one() == {
        "_id": REFUND_ID,
        "paymentIntent": PAYMENT,
        "number": 1,
        "source": "external",
        "status": "failed",
        "createdAt": START,
        "updatedAt": START,
        "leaseExpiresAt": START,
        "settledAt": START,
        "signals_sent": True,
        "purchasesVerified": False,
        "purchaseIds": harness.cart,
        "amountReceived": 1999,
        "reason": "duplicate",
        "stripeRefundId": "re_1",
        "amount": 1999,
        "currency": "usd",
        "failure": {"code": "lost_or_stolen_card", "message": "The card is gone."},
        "history": [{"at": START, "status": "failed", "actor": "webhook", "stripeRequestId": "req_1"}],
    }


def test_elsewhere_and_ours_side_by_side(harness: RefundHarness) -> None:
    """A partial refund of the Dashboard, then ours for the rest; the partial one failing opens nothing."""
    partial = fact("succeeded", id="re_0", refund_id=None, amount=500)
    harness.stripe.script[:] = [CAPTURED]
    harness.stripe_sync.upsert_from_stripe(partial, Deadline.after(10), actor="webhook")
    assert harness.statuses() == {"completed"}
    harness.refund((*CREATE, (200, refund_object(amount=1499, metadata={"refund_id": f"{PAYMENT}:2"}))))
    assert harness.statuses() == {"refunded"}
    harness.stripe_sync.upsert_from_stripe(
        replace(partial, status=RefundStatus.FAILED), Deadline.after(10), actor="webhook"
    )
    assert harness.statuses() == {"refunded"}
    assert harness.record(1).status is RefundStatus.FAILED


def test_news_from_elsewhere_is_taken_in_once(harness: RefundHarness) -> None:
    made = fact("succeeded", refund_id=None)
    harness.stripe.script[:] = [CAPTURED]
    for _ in range(3):
        harness.stripe_sync.upsert_from_stripe(made, Deadline.after(10), actor="webhook")
    assert len(harness.ledger.list_for_payment(PAYMENT)) == 1
    assert is_refunded(harness.ledger.list_for_payment(PAYMENT))
    assert harness.statuses() == {"refunded"}


def test_news_from_elsewhere_whose_purchases_were_left_behind(harness: RefundHarness) -> None:
    made = fact("succeeded", refund_id=None)
    harness.stripe.script[:] = [CAPTURED]
    harness.stripe_sync.upsert_from_stripe(made, Deadline.after(10), actor="webhook")
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    harness.stripe_sync.upsert_from_stripe(made, Deadline.after(10), actor="webhook")
    assert harness.statuses() == {"refunded"}


def test_a_pending_refund_from_elsewhere_that_succeeds(harness: RefundHarness) -> None:
    harness.stripe.script[:] = [CAPTURED]
    for status, then in (("pending", "completed"), ("succeeded", "refunded")):
        harness.stripe_sync.upsert_from_stripe(
            fact(status, refund_id=None), Deadline.after(10), actor="webhook"
        )
        assert harness.statuses() == {then}


def test_news_of_ours_that_is_none_leaves_the_purchases_to_the_host(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.db.purchases.update_one({"_id": harness.cart[1]}, {"$set": {"status": "refunded"}})
    harness.stripe_sync.upsert_from_stripe(fact("pending"), Deadline.after(10), actor="webhook")
    assert harness.statuses() == {"completed", "refunded"}


def test_a_payment_is_known_by_its_log_where_the_host_has_deleted_the_purchases(
    harness: RefundHarness,
) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.db.purchases.delete_many({})
    assert harness.stripe_sync.is_known_payment(PAYMENT)
    assert not harness.stripe_sync.is_known_payment("pi_2")


def test_a_payment_is_known_by_its_purchases_and_a_placeholder_is_none(harness: RefundHarness) -> None:
    harness.db.purchases.insert_one({"status": "completed", "stripePaymentIntentId": "free"})
    assert [harness.stripe_sync.is_known_payment(each) for each in (PAYMENT, "free")] == [True, False]


@pytest.mark.parametrize("rivals", [2, 3])
def test_rivals_that_write_the_log_first(
    harness: RefundHarness, rivals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes the number that was free when the log was read."""
    record, left = Ledger.record, [rivals]

    def rival_first(self: Ledger, made: StripeRefund, number: int, **kwargs: Any) -> Refund:
        if left[0]:
            left[0] -= 1
            record(self, replace(made, id=f"re_rival_{number}"), number, **kwargs)
        return record(self, made, number, **kwargs)

    monkeypatch.setattr(Ledger, "record", rival_first)
    harness.stripe.script[:] = [CAPTURED] * min(rivals + 1, 3)
    news = fact("failed", refund_id=None)
    if rivals < 3:
        harness.stripe_sync.upsert_from_stripe(news, Deadline.after(10), actor="webhook")
        assert [row.stripe_refund_id for row in harness.ledger.list_for_payment(PAYMENT)][-1] == "re_1"
        return
    with pytest.raises(OutcomeUnknown, match=r"^ledger_busy: Too many calls write this payment's log\.$"):
        harness.stripe_sync.upsert_from_stripe(news, Deadline.after(10), actor="webhook")


def test_a_foreign_refund_id_is_elsewhere(harness: RefundHarness) -> None:
    harness.stripe.script[:] = [CAPTURED]
    harness.stripe_sync.upsert_from_stripe(
        fact("succeeded", refund_id="pi_of_another_shop:1"), Deadline.after(10), actor="webhook"
    )
    assert harness.record().source == "dashboard"


def test_two_refunds_that_bear_one_id_are_two_rows(harness: RefundHarness) -> None:
    """As when a request comes to Stripe after the key is forgotten: money that moved is in the ledger."""
    harness.refund((*CREATE, (200, refund_object())))
    harness.stripe.script[:] = [CAPTURED]
    for _ in range(2):
        harness.stripe_sync.upsert_from_stripe(
            fact("succeeded", id="re_2"), Deadline.after(10), actor="webhook"
        )
    assert [row.stripe_refund_id for row in harness.ledger.list_for_payment(PAYMENT)] == ["re_1", "re_2"]


def test_a_refund_that_failed_does_not_undo_the_one_that_has_its_number(harness: RefundHarness) -> None:
    """As after the ledger was lost: the second refund's event comes first, and gets the first number."""
    harness.stripe.script[:] = [CAPTURED, CAPTURED]
    second = fact("succeeded", id="re_2", refund_id=f"{PAYMENT}:2")
    for made in (second, fact("failed")):
        harness.stripe_sync.upsert_from_stripe(made, Deadline.after(10), actor="webhook")
    assert [row.status.value for row in harness.ledger.list_for_payment(PAYMENT)] == ["succeeded", "failed"]
    assert harness.statuses() == {"refunded"}

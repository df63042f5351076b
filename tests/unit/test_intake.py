"""Refunds that Stripe shows, whoever made them: which row they belong to, or which number they get."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_refunds.clock import Deadline
from flask_refunds.errors import OutcomeUnknown
from flask_refunds.models import Failure, Refund, RefundStatus, StripeRefund, is_refunded
from flask_refunds.storage.ledger import Ledger
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, refund_object
from tests.unit.world import CAPTURED, CREATE, START, World, fact


def test_the_whole_row_of_a_refund_from_elsewhere(world: World) -> None:
    failure = Failure("lost_or_stolen_card", "The card is gone.")
    world.stripe.script[:] = [CAPTURED]
    news = fact("failed", refund_id=None, reason="duplicate", failure=failure)
    world.intake.take_in(news, Deadline.after(10), by="webhook")
    assert world.db.refunds.find_one() == {
        "_id": REFUND_ID,
        "paymentIntent": PAYMENT,
        "number": 1,
        "source": "dashboard",
        "status": "failed",
        "createdAt": START,
        "updatedAt": START,
        "leasedUntil": START,
        "settledAt": START,
        "announced": True,
        "checked": False,
        "purchaseIds": world.cart,
        "captured": 1999,
        "reason": "duplicate",
        "stripeRefundId": "re_1",
        "amount": 1999,
        "currency": "usd",
        "failure": {"code": "lost_or_stolen_card", "message": "The card is gone."},
        "history": [{"at": START, "status": "failed", "by": "webhook", "stripeRequestId": "req_1"}],
    }


def test_elsewhere_and_ours_side_by_side(world: World) -> None:
    """A partial refund of the Dashboard, then ours for the rest; the partial one failing opens nothing."""
    partial = fact("succeeded", id="re_0", refund_id=None, amount=500)
    world.stripe.script[:] = [CAPTURED]
    world.intake.take_in(partial, Deadline.after(10), by="webhook")
    assert world.statuses() == {"completed"}
    world.refund((*CREATE, (200, refund_object(amount=1499, metadata={"refund_id": f"{PAYMENT}:2"}))))
    assert world.statuses() == {"refunded"}
    world.intake.take_in(replace(partial, status=RefundStatus.FAILED), Deadline.after(10), by="webhook")
    assert world.statuses() == {"refunded"}
    assert world.row(1).status is RefundStatus.FAILED


def test_news_from_elsewhere_is_taken_in_once(world: World) -> None:
    made = fact("succeeded", refund_id=None)
    world.stripe.script[:] = [CAPTURED]
    for _ in range(3):
        world.intake.take_in(made, Deadline.after(10), by="webhook")
    assert len(world.ledger.read_log(PAYMENT)) == 1
    assert is_refunded(world.ledger.read_log(PAYMENT))
    assert world.statuses() == {"refunded"}


def test_news_from_elsewhere_whose_purchases_were_left_behind(world: World) -> None:
    made = fact("succeeded", refund_id=None)
    world.stripe.script[:] = [CAPTURED]
    world.intake.take_in(made, Deadline.after(10), by="webhook")
    world.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    world.intake.take_in(made, Deadline.after(10), by="webhook")
    assert world.statuses() == {"refunded"}


def test_a_pending_refund_from_elsewhere_that_succeeds(world: World) -> None:
    world.stripe.script[:] = [CAPTURED]
    for status, then in (("pending", "completed"), ("succeeded", "refunded")):
        world.intake.take_in(fact(status, refund_id=None), Deadline.after(10), by="webhook")
        assert world.statuses() == {then}


def test_news_of_ours_that_is_none_leaves_the_purchases_to_the_host(world: World) -> None:
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    world.db.purchases.update_one({"_id": world.cart[1]}, {"$set": {"status": "refunded"}})
    world.intake.take_in(fact("pending"), Deadline.after(10), by="webhook")
    assert world.statuses() == {"completed", "refunded"}


def test_a_payment_is_known_by_its_log_where_the_host_has_deleted_the_purchases(world: World) -> None:
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    world.db.purchases.delete_many({})
    assert world.intake.knows(PAYMENT)
    assert not world.intake.knows("pi_2")


def test_a_payment_is_known_by_its_purchases_and_a_placeholder_is_none(world: World) -> None:
    world.db.purchases.insert_one({"status": "completed", "stripePaymentIntentId": "free"})
    assert [world.intake.knows(each) for each in (PAYMENT, "free")] == [True, False]


@pytest.mark.parametrize("rivals", [2, 3])
def test_rivals_that_write_the_log_first(world: World, rivals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes the number that was free when the log was read."""
    record, left = Ledger.record, [rivals]

    def rival_first(self: Ledger, made: StripeRefund, number: int, **kwargs: Any) -> Refund:
        if left[0]:
            left[0] -= 1
            record(self, replace(made, id=f"re_rival_{number}"), number, **kwargs)
        return record(self, made, number, **kwargs)

    monkeypatch.setattr(Ledger, "record", rival_first)
    world.stripe.script[:] = [CAPTURED] * min(rivals + 1, 3)
    news = fact("failed", refund_id=None)
    if rivals < 3:
        world.intake.take_in(news, Deadline.after(10), by="webhook")
        assert [row.stripe_refund_id for row in world.ledger.read_log(PAYMENT)][-1] == "re_1"
        return
    with pytest.raises(OutcomeUnknown, match=r"^ledger_busy: Too many calls write this payment's log\.$"):
        world.intake.take_in(news, Deadline.after(10), by="webhook")


def test_a_foreign_refund_id_is_elsewhere(world: World) -> None:
    world.stripe.script[:] = [CAPTURED]
    world.intake.take_in(
        fact("succeeded", refund_id="pi_of_another_shop:1"), Deadline.after(10), by="webhook"
    )
    assert world.row().source == "dashboard"


def test_two_refunds_that_bear_one_id_are_two_rows(world: World) -> None:
    """As when a request comes to Stripe after the key is forgotten: money that moved is in the ledger."""
    world.refund((*CREATE, (200, refund_object())))
    world.stripe.script[:] = [CAPTURED]
    for _ in range(2):
        world.intake.take_in(fact("succeeded", id="re_2"), Deadline.after(10), by="webhook")
    assert [row.stripe_refund_id for row in world.ledger.read_log(PAYMENT)] == ["re_1", "re_2"]


def test_a_refund_that_failed_does_not_undo_the_one_that_has_its_number(world: World) -> None:
    """As after the ledger was lost: the second refund's event comes first, and gets the first number."""
    world.stripe.script[:] = [CAPTURED, CAPTURED]
    second = fact("succeeded", id="re_2", refund_id=f"{PAYMENT}:2")
    for made in (second, fact("failed")):
        world.intake.take_in(made, Deadline.after(10), by="webhook")
    assert [row.status.value for row in world.ledger.read_log(PAYMENT)] == ["succeeded", "failed"]
    assert world.statuses() == {"refunded"}

"""StripeSync: which record a refund belongs to, or which number it gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_refunds.clock import Deadline
from flask_refunds.errors import OutcomeUnknown
from flask_refunds.models import Failure, Refund, RefundStatus, StripeRefund, is_refunded
from flask_refunds.storage.ledger import Ledger
from tests.unit.refund_harness import CREATE, RETRIEVE_PAYMENT, START, RefundHarness, stripe_refund
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, refund_object


def test_external_refund_record_has_every_documented_field(harness: RefundHarness) -> None:
    failure = Failure("lost_or_stolen_card", "The card is gone.")
    harness.stripe.script[:] = [RETRIEVE_PAYMENT]
    found = stripe_refund("failed", refund_id=None, reason="duplicate", failure=failure)
    harness.stripe_sync.upsert_from_stripe(found, Deadline.after(10), actor="webhook")
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
        "signalsSent": True,
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


def test_failed_external_part_beside_a_refund_of_the_rest_keeps_purchases_refunded(
    harness: RefundHarness,
) -> None:
    """An external partial refund, then one created here for the rest."""
    partial = stripe_refund("succeeded", id="re_0", refund_id=None, amount=500)
    harness.stripe.script[:] = [RETRIEVE_PAYMENT]
    harness.stripe_sync.upsert_from_stripe(partial, Deadline.after(10), actor="webhook")
    assert harness.statuses() == {"completed"}
    harness.refund((*CREATE, (200, refund_object(amount=1499, metadata={"refund_id": f"{PAYMENT}:2"}))))
    assert harness.statuses() == {"refunded"}
    harness.stripe_sync.upsert_from_stripe(
        replace(partial, status=RefundStatus.FAILED), Deadline.after(10), actor="webhook"
    )
    assert harness.statuses() == {"refunded"}
    assert harness.record(1).status is RefundStatus.FAILED


def test_external_refund_is_recorded_once(harness: RefundHarness) -> None:
    made = stripe_refund("succeeded", refund_id=None)
    harness.stripe.script[:] = [RETRIEVE_PAYMENT]
    for _ in range(3):
        harness.stripe_sync.upsert_from_stripe(made, Deadline.after(10), actor="webhook")
    assert len(harness.ledger.list_for_payment(PAYMENT)) == 1
    assert is_refunded(harness.ledger.list_for_payment(PAYMENT))
    assert harness.statuses() == {"refunded"}


def test_repeated_external_refund_marks_purchases_that_a_crash_left_completed(harness: RefundHarness) -> None:
    made = stripe_refund("succeeded", refund_id=None)
    harness.stripe.script[:] = [RETRIEVE_PAYMENT]
    harness.stripe_sync.upsert_from_stripe(made, Deadline.after(10), actor="webhook")
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    harness.stripe_sync.upsert_from_stripe(made, Deadline.after(10), actor="webhook")
    assert harness.statuses() == {"refunded"}


def test_external_refund_marks_purchases_when_it_succeeds(harness: RefundHarness) -> None:
    harness.stripe.script[:] = [RETRIEVE_PAYMENT]
    for status, then in (("pending", "completed"), ("succeeded", "refunded")):
        harness.stripe_sync.upsert_from_stripe(
            stripe_refund(status, refund_id=None), Deadline.after(10), actor="webhook"
        )
        assert harness.statuses() == {then}


def test_unchanged_report_leaves_the_apps_marks_alone(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.db.purchases.update_one({"_id": harness.cart[1]}, {"$set": {"status": "refunded"}})
    harness.stripe_sync.upsert_from_stripe(stripe_refund("pending"), Deadline.after(10), actor="webhook")
    assert harness.statuses() == {"completed", "refunded"}


def test_payment_with_refunds_and_deleted_purchases_is_known(
    harness: RefundHarness,
) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.db.purchases.delete_many({})
    assert harness.stripe_sync.is_known_payment(PAYMENT)
    assert not harness.stripe_sync.is_known_payment("pi_2")


def test_payment_of_a_purchase_is_known_and_a_placeholder_is_not(harness: RefundHarness) -> None:
    harness.db.purchases.insert_one({"status": "completed", "stripePaymentIntentId": "free"})
    assert [harness.stripe_sync.is_known_payment(each) for each in (PAYMENT, "free")] == [True, False]


@pytest.mark.parametrize("rivals", [2, 3])
def test_external_refund_gets_the_next_number_until_too_many_calls_compete(
    harness: RefundHarness, rivals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each competing call uses the number that was free when the refunds were read."""
    record, left = Ledger.record_external, [rivals]

    def rival_first(self: Ledger, made: StripeRefund, number: int, **kwargs: Any) -> Refund:
        if left[0]:
            left[0] -= 1
            record(self, replace(made, id=f"re_rival_{number}"), number, **kwargs)
        return record(self, made, number, **kwargs)

    monkeypatch.setattr(Ledger, "record_external", rival_first)
    harness.stripe.script[:] = [RETRIEVE_PAYMENT] * min(rivals + 1, 3)
    found = stripe_refund("failed", refund_id=None)
    if rivals < 3:
        harness.stripe_sync.upsert_from_stripe(found, Deadline.after(10), actor="webhook")
        assert [record.stripe_refund_id for record in harness.ledger.list_for_payment(PAYMENT)][-1] == "re_1"
        return
    with pytest.raises(
        OutcomeUnknown, match=r"^ledger_busy: Too many calls are adding refunds to this payment\.$"
    ):
        harness.stripe_sync.upsert_from_stripe(found, Deadline.after(10), actor="webhook")


def test_refund_with_another_apps_refund_id_is_external(harness: RefundHarness) -> None:
    harness.stripe.script[:] = [RETRIEVE_PAYMENT]
    harness.stripe_sync.upsert_from_stripe(
        stripe_refund("succeeded", refund_id="pi_of_another_shop:1"), Deadline.after(10), actor="webhook"
    )
    assert harness.record().source == "external"


def test_two_refunds_with_one_refund_id_are_two_records(harness: RefundHarness) -> None:
    """A request can reach Stripe after the key was forgotten. Each refund is recorded."""
    harness.refund((*CREATE, (200, refund_object())))
    harness.stripe.script[:] = [RETRIEVE_PAYMENT]
    for _ in range(2):
        harness.stripe_sync.upsert_from_stripe(
            stripe_refund("succeeded", id="re_2"), Deadline.after(10), actor="webhook"
        )
    assert [record.stripe_refund_id for record in harness.ledger.list_for_payment(PAYMENT)] == [
        "re_1",
        "re_2",
    ]


def test_failed_refund_does_not_undo_the_external_one_with_its_number(harness: RefundHarness) -> None:
    """After the loss of the ledger, the second refund's event can arrive first and get the first number."""
    harness.stripe.script[:] = [RETRIEVE_PAYMENT, RETRIEVE_PAYMENT]
    second = stripe_refund("succeeded", id="re_2", refund_id=f"{PAYMENT}:2")
    for made in (second, stripe_refund("failed")):
        harness.stripe_sync.upsert_from_stripe(made, Deadline.after(10), actor="webhook")
    assert [record.status.value for record in harness.ledger.list_for_payment(PAYMENT)] == [
        "succeeded",
        "failed",
    ]
    assert harness.statuses() == {"refunded"}

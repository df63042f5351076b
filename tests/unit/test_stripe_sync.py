"""StripeSync: which record a refund belongs to, when it is read again, and what a payment's sum decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_refunds.clock import Deadline
from flask_refunds.errors import OutcomeUnknown, PurchaseNotRefundable
from flask_refunds.models import Refund, RefundStatus, StripeRefund, is_refunded
from flask_refunds.storage.ledger import Ledger
from tests.unit.refund_harness import CREATE, RETRIEVE, START, RefundHarness, listed, store, stripe_refund
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, charge_object, refund_object


def test_external_refund_record_has_every_documented_field(harness: RefundHarness) -> None:
    store(
        harness, "failed", metadata={}, reason="duplicate", failure_reason="lost_or_stolen_card", amount=700
    )
    assert harness.db.flask_refunds.find_one() == {
        "_id": REFUND_ID,
        "paymentIntent": PAYMENT,
        "number": 1,
        "source": "external",
        "status": "failed",
        "createdAt": START,
        "updatedAt": START,
        "lookedAt": START,
        "leaseExpiresAt": START,
        "settledAt": START,
        "signalsSent": True,
        "purchasesVerified": False,
        "purchaseIds": harness.cart,
        "amountCaptured": 1999,
        "reason": "duplicate",
        "stripeRefundId": "re_1",
        "amount": 700,
        "currency": "usd",
        "failure": {
            "code": "lost_or_stolen_card",
            "message": "Stripe reports this refund as failed (lost_or_stolen_card).",
        },
        "history": [{"at": START, "status": "failed", "actor": "webhook", "stripeRequestId": "req_1"}],
    }


def part(number: int, amount: int, status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    """Return the fields of an external partial refund."""
    return {"id": f"re_part_{number}", "metadata": {}, "amount": amount, "status": status, **fields}


def test_refund_of_the_rest_beside_an_external_part_marks_purchases_as_refunded(
    harness: RefundHarness,
) -> None:
    rest, outside = refund_object(amount=1299), refund_object(**part(1, 700))
    retrieve = ("GET", "/v1/refunds/re_part_1", (200, outside))
    result = harness.refund((*CREATE, (200, rest)), listed(rest, outside), retrieve)
    assert result.purchase["status"] == "refunded"
    assert harness.statuses() == {"refunded"}


@pytest.mark.parametrize("amounts", [(700, 1299), (1, 1998), (1998, 1)])
def test_failed_external_part_takes_purchases_back_and_the_rest_can_be_refunded(
    harness: RefundHarness, amounts: tuple[int, int]
) -> None:
    outside, ours = amounts
    store(harness, **part(1, outside))
    created = refund_object(amount=ours, metadata={"refund_id": f"{PAYMENT}:2"})
    harness.refund((*CREATE, (200, created)), listed(created, refund_object(**part(1, outside))))
    assert harness.statuses() == {"refunded"}
    store(harness, **part(1, outside, "failed"))
    assert harness.statuses() == {"completed"}
    again = refund_object(id="re_3", amount=outside, metadata={"refund_id": f"{PAYMENT}:3"})
    failed = refund_object(**part(1, outside, "failed"))
    shown = listed(created, failed)
    result = harness.refund(
        (*RETRIEVE, (200, created)), shown, (*CREATE, (200, again)), listed(again, created, failed)
    )
    assert result.refund.id == f"{PAYMENT}:3"
    assert harness.statuses() == {"refunded"}


def test_pending_external_part_leaves_purchases_completed_until_it_succeeds(harness: RefundHarness) -> None:
    store(harness, **part(1, 999, "pending"))
    store(harness, **part(2, 1000))
    assert harness.statuses() == {"completed"}
    store(harness, **part(1, 999))
    assert harness.statuses() == {"refunded"}


def test_later_capture_before_success_leaves_purchases_completed(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    store(harness, "succeeded", charge=charge_object(3999))
    assert harness.statuses() == {"completed"}


def test_later_capture_after_success_leaves_purchases_refunded(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    store(harness, **part(1, 5, charge=charge_object(3999)))
    assert harness.statuses() == {"refunded"}


def test_refund_of_a_payment_without_a_capture_marks_nothing(harness: RefundHarness) -> None:
    store(harness, "succeeded", metadata={}, charge=charge_object(0))
    assert harness.statuses() == {"completed"}


def test_purchase_that_the_app_marked_itself_is_not_taken_back(harness: RefundHarness) -> None:
    first, second = harness.cart
    harness.db.purchases.update_one({"_id": second}, {"$set": {"status": "refunded"}})
    harness.refund((*CREATE, (200, refund_object())))
    assert harness.statuses() == {"refunded"}
    store(harness, "failed")
    statuses = {each["_id"]: each["status"] for each in harness.db.purchases.find()}
    assert statuses == {first: "completed", second: "refunded"}


def test_purchase_added_later_is_marked_and_taken_back(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.db.purchases.insert_one({"status": "completed", "stripePaymentIntentId": PAYMENT})
    harness.transitions.verify_purchases(harness.record())
    assert harness.statuses() == {"refunded"}
    store(harness, "failed")
    assert harness.statuses() == {"completed"}


def test_purchase_with_another_payment_since_is_not_taken_back(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    moved = {"_id": harness.cart[1]}
    harness.db.purchases.update_one(moved, {"$set": {"stripePaymentIntentId": "pi_2"}})
    store(harness, "failed")
    assert harness.db.purchases.find_one(moved)["status"] == "refunded"


def test_mark_is_the_apps_own_again_after_the_undo_was_verified(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    store(harness, "failed")
    harness.transitions.verify_purchases(harness.record())
    assert harness.record().marked_purchase_ids == []
    harness.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    harness.transitions.verify_purchases(harness.record())
    assert harness.statuses() == {"refunded"}


def test_refund_that_failed_after_a_second_one_succeeded_keeps_purchases_refunded(
    harness: RefundHarness,
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    store(harness, "failed")
    second = refund_object(id="re_2", metadata={"refund_id": f"{PAYMENT}:2"})
    harness.refund((*CREATE, (200, second)))
    store(harness, "canceled")
    assert harness.statuses() == {"refunded"}


def test_external_refund_is_recorded_once(harness: RefundHarness) -> None:
    for _ in range(3):
        store(harness, "succeeded", metadata={})
    assert len(harness.ledger.list_for_payment(PAYMENT)) == 1
    assert is_refunded(harness.ledger.list_for_payment(PAYMENT))


@pytest.mark.parametrize("status", ["pending", "succeeded", "failed"])
def test_event_with_the_known_status_causes_no_read(harness: RefundHarness, status: str) -> None:
    store(harness, status, metadata={})
    known = harness.stripe_sync.upsert_from_event("re_1", PAYMENT, status, Deadline.after(10))
    assert known == harness.record()


def test_repeated_external_refund_marks_purchases_that_a_crash_left_completed(harness: RefundHarness) -> None:
    store(harness, "succeeded", metadata={})
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    harness.stripe_sync.upsert_from_stripe(
        stripe_refund("succeeded", refund_id=None), Deadline.after(10), actor="webhook"
    )
    assert harness.statuses() == {"refunded"}


def test_unchanged_report_leaves_the_apps_marks_alone(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.db.purchases.update_one({"_id": harness.cart[1]}, {"$set": {"status": "refunded"}})
    store(harness, "pending")
    assert harness.statuses() == {"completed", "refunded"}


def test_payment_with_refunds_and_deleted_purchases_is_known(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.db.purchases.delete_many({})
    assert harness.stripe_sync.is_known_payment(PAYMENT)
    assert not harness.stripe_sync.is_known_payment("pi_2")


def test_payment_of_a_purchase_is_known_and_a_placeholder_is_not(harness: RefundHarness) -> None:
    harness.db.purchases.insert_one({"status": "completed", "stripePaymentIntentId": "free"})
    assert [harness.stripe_sync.is_known_payment(each) for each in (PAYMENT, "free")] == [True, False]


@pytest.mark.parametrize("competitors", [2, 3])
def test_external_refund_gets_the_next_number_until_too_many_calls_compete(
    harness: RefundHarness, competitors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each competing call uses the number that was free when the refunds were read."""
    record, remaining = Ledger.record_external, [competitors]

    def competitor_first(self: Ledger, made: StripeRefund, number: int, **kwargs: Any) -> Refund:
        if remaining[0]:
            remaining[0] -= 1
            record(self, replace(made, id=f"re_competitor_{number}"), number, **kwargs)
        return record(self, made, number, **kwargs)

    monkeypatch.setattr(Ledger, "record_external", competitor_first)
    shown = refund_object(status="failed", metadata={})
    harness.stripe.script[:] = [(*RETRIEVE, (200, shown))] * min(competitors + 1, 3)
    if competitors < 3:
        harness.stripe_sync.upsert_from_event("re_1", PAYMENT, "failed", Deadline.after(10))
        assert [each.stripe_refund_id for each in harness.ledger.list_for_payment(PAYMENT)][-1] == "re_1"
        return
    with pytest.raises(OutcomeUnknown) as busy:
        harness.stripe_sync.upsert_from_event("re_1", PAYMENT, "failed", Deadline.after(10))
    assert busy.value.code == "ledger_busy"


def test_refund_with_another_apps_refund_id_is_external(harness: RefundHarness) -> None:
    store(harness, "succeeded", metadata={"refund_id": "pi_of_another_shop:1"})
    assert harness.record().source == "external"


def test_two_refunds_with_one_refund_id_are_two_records(harness: RefundHarness) -> None:
    """A request can reach Stripe after the key was forgotten. Each refund is recorded."""
    harness.refund((*CREATE, (200, refund_object())))
    for _ in range(2):
        store(harness, "succeeded", id="re_2")
    assert [each.stripe_refund_id for each in harness.ledger.list_for_payment(PAYMENT)] == ["re_1", "re_2"]


def test_failed_refund_does_not_undo_the_external_one_with_its_number(harness: RefundHarness) -> None:
    """After the loss of the ledger, the second refund's event can arrive first and get the first number."""
    store(harness, "succeeded", id="re_2", metadata={"refund_id": f"{PAYMENT}:2"})
    store(harness, "failed")
    refunds = harness.ledger.list_for_payment(PAYMENT)
    assert [each.status.value for each in refunds] == ["succeeded", "failed"]
    assert harness.statuses() == {"refunded"}


def test_record_that_changes_during_the_read_is_read_again(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))

    def other_call(sent: Any) -> None:
        harness.stripe.before = lambda sent: None
        store(harness, "succeeded")
        harness.stripe.script[:] = [(*RETRIEVE, (200, refund_object(status="failed")))] * 2

    harness.stripe.script[:] = [(*RETRIEVE, (200, refund_object(status="requires_action")))]
    harness.stripe.before = other_call
    harness.stripe_sync.refresh(harness.record(), Deadline.after(10), actor="reconcile")
    assert harness.record().status is RefundStatus.FAILED
    assert harness.statuses() == {"completed"}


def test_completed_purchase_of_a_refunded_payment_is_marked_and_not_refunded_again(
    harness: RefundHarness,
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable):
        harness.refund((*RETRIEVE, (200, refund_object())), listed(refund_object()))
    assert harness.statuses() == {"refunded"}

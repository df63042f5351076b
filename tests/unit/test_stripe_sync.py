"""StripeSync: which record a refund belongs to, when it is read again, and what a payment's sum decides."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flask_refunds.clock import Deadline
from flask_refunds.errors import OutcomeUnknown, PurchaseNotRefundable, RefundsError
from flask_refunds.models import RefundRecord, RefundStatus, ReviewCode, StripeRefund
from flask_refunds.payment_refunds import is_refunded
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.reconcile_queue import ReconcileQueue
from flask_refunds.storage.search import RefundFilter, RefundSearch
from tests.unit.refund_harness import (
    CREATE,
    RETRIEVE,
    START,
    RefundHarness,
    create_record,
    listed,
    store,
    stripe_refund,
)
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, charge_object, lost, refund_key, refund_object


def test_external_refund_record_has_every_documented_field(harness: RefundHarness) -> None:
    store(
        harness, "failed", metadata={}, reason="duplicate", failure_reason="lost_or_stolen_card", amount=700
    )
    assert harness.db.flask_refunds.find_one({}, {"changedAt": 0}) == {
        "_id": f"{PAYMENT}:re_1",
        "paymentIntent": PAYMENT,
        "number": None,
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
        "charge": "ch_1",
        "livemode": False,
        "reason": "duplicate",
        "stripeRefundId": "re_1",
        "amount": 700,
        "currency": "usd",
        "failure": {
            "code": "lost_or_stolen_card",
            "message": "Stripe reports this refund as failed (lost_or_stolen_card).",
        },
        "details": {},
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
    created = refund_object(amount=ours)
    harness.refund((*CREATE, (200, created)), listed(created, refund_object(**part(1, outside))))
    assert harness.statuses() == {"refunded"}
    store(harness, **part(1, outside, "failed"))
    assert harness.statuses() == {"completed"}
    again = refund_object(id="re_3", amount=outside, metadata={"refund_id": refund_key(2)})
    failed = refund_object(**part(1, outside, "failed"))
    shown = listed(created, failed)
    result = harness.refund(
        (*RETRIEVE, (200, created)), shown, (*CREATE, (200, again)), listed(again, created, failed)
    )
    assert result.refund.id == f"{PAYMENT}:2"
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
    assert harness.record().marks == []
    harness.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    harness.transitions.verify_purchases(harness.record())
    assert harness.statuses() == {"refunded"}


def test_refund_that_failed_after_a_second_one_succeeded_keeps_purchases_refunded(
    harness: RefundHarness,
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    store(harness, "failed")
    second = refund_object(id="re_2", metadata={"refund_id": refund_key(2)})
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
    assert known == harness.record("re_1")


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
    assert harness.stripe_sync.is_known_payment(PAYMENT, None, Deadline.after(10))
    assert not harness.stripe_sync.is_known_payment("pi_2", None, Deadline.after(10))


def test_payment_of_a_purchase_is_known_and_a_placeholder_is_not(harness: RefundHarness) -> None:
    harness.db.purchases.insert_one({"status": "completed", "stripePaymentIntentId": "free"})
    assert harness.stripe_sync.is_known_payment(PAYMENT, None, Deadline.after(10))
    assert not harness.stripe_sync.is_known_payment("free", None, Deadline.after(10))


@pytest.mark.parametrize("other_status", ["pending", "failed"])
def test_external_refund_that_two_calls_record_is_one_record(
    harness: RefundHarness, other_status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other call read the refund a moment before."""
    record = Ledger.record_external

    def other_call_first(self: Ledger, made: StripeRefund, **kwargs: Any) -> RefundRecord | None:
        record(self, replace(made, status=RefundStatus(other_status)), **kwargs)
        return record(self, made, **kwargs)

    monkeypatch.setattr(Ledger, "record_external", other_call_first)
    shown = refund_object(status="failed", metadata={})
    harness.stripe.script[:] = [(*RETRIEVE, (200, shown))] * 2
    harness.stripe_sync.upsert_from_event("re_1", PAYMENT, "unknown", Deadline.after(10))
    [recorded] = harness.ledger.list_for_payment(PAYMENT)
    assert (recorded.id, recorded.number, recorded.status.value) == (f"{PAYMENT}:re_1", None, "failed")


def test_record_that_other_calls_keep_changing_is_left_to_them(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    monkeypatch.setattr(Ledger, "advance", lambda self, *arguments, **options: None)
    harness.stripe.script[:] = [(*RETRIEVE, (200, refund_object()))] * 3
    with pytest.raises(OutcomeUnknown) as busy:
        harness.stripe_sync.upsert_from_event("re_1", PAYMENT, "succeeded", Deadline.after(10))
    assert busy.value.code == "ledger_busy"
    harness.stripe.script[:] = [(*RETRIEVE, (200, refund_object()))] * 3
    with pytest.raises(OutcomeUnknown) as busy:
        harness.stripe_sync.refresh(harness.record(), Deadline.after(10), actor="reconcile")
    assert (busy.value.code, harness.stripe.script) == ("ledger_busy", [])


def test_refund_with_another_apps_refund_id_is_external(harness: RefundHarness) -> None:
    store(harness, "succeeded", metadata={"refund_id": "pi_of_another_shop:1:77"})
    assert harness.record("re_1").source == "external"


@pytest.mark.parametrize("amount", [1999, 1])
def test_two_refunds_with_one_key_are_two_records_and_need_review(
    harness: RefundHarness, amount: int
) -> None:
    """A request can reach Stripe after the key was forgotten, and a person can copy metadata."""
    harness.refund((*CREATE, (200, refund_object())))
    for _ in range(2):
        store(harness, "succeeded", id="re_2", amount=amount)
    first, second = harness.ledger.list_for_payment(PAYMENT)
    assert [(each.stripe_refund_id, each.source) for each in (first, second)] == [
        ("re_1", "api"),
        ("re_2", "external"),
    ]
    assert first.review is not None
    assert first.review.code is ReviewCode.MADE_TWICE
    assert first.history[-1]["actor"] == "webhook"


def test_refunds_without_metadata_are_external_and_need_no_review(harness: RefundHarness) -> None:
    harness.refund((*CREATE, lost()))
    harness.db.flask_refunds.update_one({}, {"$unset": {"request.metadata": ""}})
    for number in (1, 2):
        store(harness, **part(number, 5))
    ours, *external = harness.ledger.list_for_payment(PAYMENT)
    assert (ours.stripe_refund_id, [each.source for each in external]) == (None, ["external"] * 2)
    assert {each.review for each in (ours, *external)} == {None}


def test_refund_of_a_record_that_a_restore_lost_is_not_that_of_a_new_one(harness: RefundHarness) -> None:
    lost_one, new_one = (f"{PAYMENT}:1:{end * 16}" for end in "ab")
    create_record(harness)
    harness.db.flask_refunds.update_one({}, {"$set": {"request.metadata.refund_id": new_one}})
    store(harness, "failed", metadata={"refund_id": lost_one})
    assert (harness.record().status, harness.record("re_1").status) == (
        RefundStatus.PROCESSING,
        RefundStatus.FAILED,
    )


@pytest.mark.parametrize("asked", [1999, 700])
def test_refund_with_another_amount_than_asked_is_not_adopted(harness: RefundHarness, asked: int) -> None:
    create_record(harness)
    harness.db.flask_refunds.update_one({}, {"$set": {"request.amount": asked}})
    store(harness, "pending", amount=700)
    assert harness.record().stripe_refund_id == ("re_1" if asked == 700 else None)


def record_elsewhere_first(harness: RefundHarness, status: str = "succeeded") -> RefundRecord:
    """Record a refund without its metadata while its own record is unknown, and resume that one then."""
    harness.db.purchases.insert_one({"status": "completed", "stripePaymentIntentId": PAYMENT})
    with contextlib.suppress(RefundsError):
        harness.refund((*CREATE, lost()))
    harness.db.purchases.insert_one({"status": "completed", "stripePaymentIntentId": PAYMENT})
    edited = refund_object(metadata={}, status=status)
    store(harness, status, metadata={})
    harness.stripe.script[:] = [
        listed(edited),
        (*CREATE, (200, refund_object(status=status))),
        (*RETRIEVE, (200, edited)),
    ]
    resumed = harness.service.resume(harness.record(), actor="reconcile")
    harness.stripe.assert_done()
    return resumed


def test_refund_that_was_recorded_elsewhere_first_counts_once(harness: RefundHarness) -> None:
    ours = record_elsewhere_first(harness)
    assert (ours.id, ours.stripe_refund_id, ours.status.value) == (REFUND_ID, "re_1", "succeeded")
    [only] = harness.ledger.list_for_payment(PAYMENT)
    assert (only.id, only.review) == (REFUND_ID, None)
    search = RefundSearch(harness.db.flask_refunds, harness.references, lambda user: [])
    page = search.page(RefundFilter(), limit=10)
    assert ([each.id for each in page.items], page.total) == ([REFUND_ID], (1, False))
    assert [each.id for each in search.stream(RefundFilter())] == [REFUND_ID]
    report = harness.report()
    assert (report.total.refunds, report.total.currencies["usd"].amount) == (1, 1999)


@pytest.mark.parametrize("brought_by", ["list", "event"])
def test_refund_whose_metadata_was_put_back_belongs_to_the_record_that_requested_it(
    harness: RefundHarness, brought_by: str
) -> None:
    create_record(harness)
    store(harness, "pending", metadata={})
    if brought_by == "event":
        store(harness, "succeeded")
    else:
        harness.now += timedelta(minutes=2)
        harness.stripe.script[:] = [listed(refund_object()), (*RETRIEVE, (200, refund_object()))]
        resumed = harness.service.resume(harness.record(), actor="reconcile")
        assert (resumed.id, resumed.status) == (REFUND_ID, RefundStatus.SUCCEEDED)
    [refund] = harness.ledger.list_for_payment(PAYMENT)
    assert (refund.id, refund.status.value) == (REFUND_ID, "succeeded")
    assert harness.record("re_1").status is RefundStatus.PENDING


def test_purchase_that_the_hidden_record_marked_is_taken_back(harness: RefundHarness) -> None:
    record_elsewhere_first(harness)
    assert harness.statuses() == {"refunded"}
    store(harness, "failed", metadata={})
    assert harness.statuses() == {"completed"}
    assert harness.record("re_1").status is RefundStatus.SUCCEEDED  # it is left as it was


def test_hidden_record_is_not_unfinished(harness: RefundHarness) -> None:
    record_elsewhere_first(harness, "pending")
    queue = ReconcileQueue(harness.db.flask_refunds, lambda: harness.now)
    found = queue.find_unfinished(before=harness.now, looked_before=harness.now, limit=5)
    assert [each.refund_id for each in found] == [REFUND_ID]
    report = harness.report()
    assert report.backlog.open.total() == 1


def test_open_review_of_a_hidden_record_stays_in_the_list_of_reviews(harness: RefundHarness) -> None:
    create_record(harness)
    external = store(harness, "pending", metadata={})
    harness.ledger.request_review(external, ReviewCode.BALANCE_TOO_LOW, actor="webhook")
    harness.transitions.apply(harness.record(), stripe_refund("pending"), actor="webhook")
    [refund] = harness.ledger.hide_duplicates(PAYMENT)
    search = RefundSearch(harness.db.flask_refunds, harness.references, lambda user: [])
    page = search.page(RefundFilter(needs_review=True), limit=10)
    assert (refund.id, [each.id for each in page.items], page.total) == (REFUND_ID, [external.id], (1, False))


@pytest.mark.parametrize("status", ["succeeded", "pending"])
def test_later_found_record_of_a_refund_is_hidden_when_it_is_verified(
    harness: RefundHarness, status: str
) -> None:
    """A call can read the refunds before the metadata's record has its ID, and insert after."""
    harness.refund((*CREATE, (200, refund_object(status=status))))
    late = harness.transitions.record_external(stripe_refund(status, refund_id=None), actor="webhook")
    assert late is not None
    harness.db.flask_refunds.update_one({"_id": late.id}, {"$unset": {"duplicateOf": ""}})
    harness.transitions.verify_purchases(late)
    assert harness.db.flask_refunds.find_one({"_id": late.id})["duplicateOf"] == REFUND_ID
    assert harness.db.flask_refunds.find_one({"_id": REFUND_ID}).get("duplicateOf") is None


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

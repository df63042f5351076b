"""RefundSweep: refunds that nothing reported are found, at one request when nothing is new."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flask_refunds.core.sweep import RefundSweep, SweepReport
from flask_refunds.errors import StripeCallError
from flask_refunds.models import RefundStatus
from flask_refunds.storage.sweep_state import LEASE, SweepState
from tests.log_records import LogRecords
from tests.unit.refund_harness import CREATE, LIST, RETRIEVE, RefundHarness
from tests.unit.stripe_stub import PAYMENT, error_object, lost, refund_object

CREATED = int(datetime(2024, 3, 15, 10, 29, tzinfo=timezone.utc).timestamp())


@pytest.fixture
def sweep(harness: RefundHarness) -> RefundSweep:
    return make_sweep(harness)


def make_sweep(harness: RefundHarness) -> RefundSweep:
    state = SweepState(harness.db.sweep, lambda: harness.now)
    return RefundSweep(
        state=state,
        stripe_sync=harness.stripe_sync,
        gateway=lambda: harness.gateway,
        clock=lambda: harness.now,
    )


def page(*refunds: dict[str, Any], has_more: bool = False) -> Any:
    return (*LIST, (200, {"object": "list", "data": list(refunds), "has_more": has_more}))


def external(**fields: Any) -> dict[str, Any]:
    return refund_object(metadata={}, created=CREATED) | fields


def run(harness: RefundHarness, sweep: RefundSweep, *script: Any, **options: Any) -> Any:
    harness.stripe.sent.clear()
    harness.stripe.script[:] = script
    try:
        return sweep.run(**options)
    finally:
        harness.stripe.assert_done()


def test_first_sweep_reads_sixty_days_and_records_an_external_refund(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    report = run(harness, sweep, page(external()), (*RETRIEVE, (200, external())))
    assert (report.is_full, report.is_complete) == (True, True)
    assert report.counts == {"read": 1, "unreadable": 0, "stored": 1}
    since = harness.now - timedelta(days=60)
    assert harness.stripe.sent[0].params == {
        "created[gte]": str(int(since.timestamp())),
        "limit": "100",
        "expand[0]": "data.charge",
    }
    assert harness.statuses() == {"refunded"}


def test_returned_refund_is_taken_back_and_needs_review(harness: RefundHarness, sweep: RefundSweep) -> None:
    harness.refund((*CREATE, (200, refund_object(created=CREATED))))
    run(harness, sweep, page(refund_object(created=CREATED)))
    harness.now += timedelta(days=9)
    failed = refund_object(created=CREATED, status="failed")
    report = run(harness, sweep, page(failed), (*RETRIEVE, (200, failed)))
    assert (report.is_full, report.counts["stored"]) == (True, 1)
    assert harness.statuses() == {"completed"}
    assert harness.record().status is RefundStatus.FAILED
    review = harness.record().review
    assert review is not None
    assert review.code == "failed_after_success"
    assert harness.record().history[-1]["actor"] == "reconcile"


def test_ordinary_sweep_reads_from_an_hour_before_the_newest_refund(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    run(harness, sweep, page(external(payment_intent="pi_other_app")))
    harness.now += timedelta(hours=5)
    report = run(harness, sweep, page())
    assert (report.is_full, report.counts["read"], len(harness.stripe.sent)) == (False, 0, 1)
    assert harness.stripe.sent[0].params["created[gte]"] == str(CREATED - 3600)


def test_unknown_payments_are_counted_and_cause_no_request(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    foreign = [external(id=f"re_{number}", payment_intent=f"pi_x{number}") for number in range(40)]
    report = run(harness, sweep, page(*foreign))
    assert report.counts == {"read": 40, "unreadable": 0, "foreign": 40}
    assert harness.db.flask_refunds.count_documents({}) == 0


def test_unreadable_items_do_not_stop_the_others(harness: RefundHarness, sweep: RefundSweep) -> None:
    odd = [external(id="re_8", status=None), external(id="re_9", status="reversing")]
    report = run(harness, sweep, page(odd[0], external(), odd[1]), (*RETRIEVE, (200, external())))
    assert (report.counts["unreadable"], report.counts["stored"], report.is_complete) == (2, 1, True)


@pytest.mark.parametrize(
    ("odd", "after"),
    [
        (external(id=None), "re_1"),
        ({"object": "refund"}, "re_1"),
        ("re_8", "re_1"),
        (external(id="re_9", metadata="x"), "re_9"),
    ],
)
def test_item_that_may_be_any_refund_does_not_stop_a_sweep(
    harness: RefundHarness, sweep: RefundSweep, odd: Any, after: str
) -> None:
    first = page(external(), odd, has_more=True)
    report = run(harness, sweep, first, (*RETRIEVE, (200, external())), page(odd))
    assert (report.counts["unreadable"], report.counts["stored"], report.is_complete) == (2, 1, True)
    assert harness.stripe.sent[-1].params["starting_after"] == after


def test_sweep_is_not_complete_if_a_page_has_no_item_to_continue_after(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    with pytest.raises(StripeCallError) as error:
        run(harness, sweep, page(external(id=None), has_more=True))
    assert error.value.code == "unreadable_answer"


def foreign_page(*created: int, has_more: bool = True) -> Any:
    """Return a page of another app's refunds, which were created at these times."""
    refunds = [external(id=f"re_{each}", payment_intent=f"pi_{each}", created=each) for each in created]
    return page(*refunds, has_more=has_more)


def test_ordinary_sweep_after_many_refunds_ends_after_three_known_pages(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    run(harness, sweep, foreign_page(CREATED, CREATED - 1, has_more=False))
    known = [foreign_page(CREATED - 2 * each, CREATED - 2 * each - 1) for each in range(4)]
    assert run(harness, sweep, *known[:3]).is_complete
    new = foreign_page(CREATED + 9, CREATED)
    assert run(harness, sweep, new, *known[:3]).is_complete
    run(harness, sweep, page())
    assert harness.stripe.sent[0].params["created[gte]"] == str(CREATED + 9 - 3600)


def test_refund_that_stripe_lists_late_is_found_and_read_on_from(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    run(harness, sweep, foreign_page(CREATED, has_more=False))
    pages = [foreign_page(CREATED), foreign_page(CREATED - 1)]
    late = external(created=CREATED - 2)
    script = [*pages, page(late, has_more=True), (*RETRIEVE, (200, late)), *pages, foreign_page(CREATED - 9)]
    assert run(harness, sweep, *script).counts["stored"] == 1


def test_refund_that_cannot_be_stored_is_tried_again_and_nothing_else_is(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    run(harness, sweep, page())
    later = external(created=CREATED + 1800)
    found, unavailable = (*RETRIEVE, (200, later)), (*RETRIEVE, lost())
    assert run(harness, sweep, page(later), unavailable).counts["errors"] == 1
    report = run(harness, sweep, unavailable, page(later))
    assert (report.is_complete, report.counts["errors"], report.counts["stored"]) == (True, 1, 0)
    assert harness.stripe.sent[1].params["created[gte]"] == str(CREATED + 1800 - 3600)
    assert run(harness, sweep, found, found, page(later)).counts["stored"] == 1
    assert run(harness, sweep, page(later)).counts["unchanged"] == 1


def test_interrupted_full_sweep_resumes_after_the_last_page(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    first = page(external(id="re_3", payment_intent="pi_x"), has_more=True)
    with pytest.raises(StripeCallError):
        run(harness, sweep, first, (*LIST, (500, error_object("", "api_error"))))
    rest = page(external(id="re_1", payment_intent="pi_x"))
    report = run(harness, make_sweep(harness), page(), rest)
    assert harness.stripe.sent[1].params["starting_after"] == "re_3"
    assert (report.is_full, report.is_complete) == (True, True)


def test_new_refunds_are_found_though_the_rest_of_a_full_sweep_cannot_be_read(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    unavailable = (*LIST, (500, error_object("", "api_error")))
    with pytest.raises(StripeCallError):
        run(harness, sweep, foreign_page(CREATED), unavailable)
    for number in range(2):
        new = external(created=CREATED + 1 + number, status=("pending", "succeeded")[number])
        with pytest.raises(StripeCallError):
            run(harness, sweep, page(new), (*RETRIEVE, (200, new)), unavailable)
        assert harness.stripe.sent[0].params["created[gte]"] == str(CREATED + number - 3600)
    assert harness.statuses() == {"refunded"}
    assert run(harness, sweep, page(), page()).is_complete
    run(harness, sweep, page())
    assert harness.stripe.sent[0].params["created[gte]"] == str(CREATED + 2 - 3600)


def test_full_sweep_interrupted_a_day_ago_starts_again(harness: RefundHarness, sweep: RefundSweep) -> None:
    first = page(external(id="re_3", payment_intent="pi_x"), has_more=True)
    with pytest.raises(StripeCallError):
        run(harness, sweep, first, (*LIST, (500, error_object("", "api_error"))))
    harness.now += timedelta(hours=24)
    assert run(harness, sweep, page()).is_complete
    since = harness.now - timedelta(days=60)
    assert harness.stripe.sent[0].params["created[gte]"] == str(int(since.timestamp()))
    assert "starting_after" not in harness.stripe.sent[0].params


def test_full_sweep_is_complete_though_a_refund_cannot_be_stored(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    report = run(harness, sweep, page(external()), (*RETRIEVE, lost()))
    assert (report.is_complete, report.counts["errors"]) == (True, 1)
    harness.now += timedelta(hours=1)
    found = (*RETRIEVE, (200, external()))
    report = run(harness, sweep, found, found, page())
    assert (report.is_full, report.counts["stored"]) == (False, 1)


def test_full_sweep_forgets_failed_refunds_that_stripe_does_not_list(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    run(harness, sweep, page(external()), (*RETRIEVE, lost()))
    run(harness, sweep, page(), full=True)
    assert harness.db.sweep.find_one()["failed"] == []
    assert run(harness, sweep, page()).counts["errors"] == 0


def test_sweep_stops_at_the_page_with_too_many_refunds_that_cannot_be_stored(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    odd = [external(id=f"re_{number}") for number in range(101)]
    failures = [("GET", f"/v1/refunds/{each['id']}", lost()) for each in reversed(odd)]
    for _ in range(2):
        report = run(harness, sweep, page(*odd, has_more=True), *failures)
        assert (report.counts["errors"], report.is_complete) == (101, False)
        assert "fullAfter" not in harness.db.sweep.find_one()


def test_sweep_with_a_hundred_refunds_that_cannot_be_stored_is_complete(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    odd = [external(id=f"re_{number}") for number in range(100)]
    failures = [("GET", f"/v1/refunds/{each['id']}", lost()) for each in reversed(odd)]
    report = run(harness, sweep, page(*odd), *failures)
    assert (report.counts["errors"], report.is_complete) == (100, True)


def test_refund_that_cannot_be_stored_is_logged_with_the_code_of_the_error(
    harness: RefundHarness, sweep: RefundSweep, log_records: LogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"event": "reconcile_failed", "stripe_refund_id": "re_1"}
    run(harness, sweep, page(external()), (*RETRIEVE, lost()))
    assert failed | {"code": "connection_failed", "error": "OutcomeUnknown"} in log_records()
    run(harness, sweep, (*RETRIEVE, lost()), page())
    assert failed | {"code": "connection_failed", "error": "OutcomeUnknown"} in log_records()

    def fail(*args: Any, **options: Any) -> None:
        raise ValueError

    monkeypatch.setattr(harness.stripe_sync, "upsert_from_stripe", fail)
    run(harness, sweep, (*RETRIEVE, (200, external())), page())
    assert failed | {"code": None, "error": "ValueError"} in log_records()


def test_counts_cover_all_pages(harness: RefundHarness, sweep: RefundSweep) -> None:
    stored = [external(id=f"re_{number}") for number in range(2)]
    reads = [("GET", f"/v1/refunds/{each['id']}", (200, each)) for each in reversed(stored)]
    run(harness, sweep, page(*stored), *reads)
    odd = external(id="re_9", status="reversing")
    report = run(harness, sweep, page(*stored, odd, has_more=True), page(odd), full=True)
    assert report.as_dict() == {
        "full": True,
        "complete": True,
        "counts": {"read": 4, "unchanged": 2, "stored": 0, "foreign": 0, "unreadable": 2, "errors": 0},
    }


def test_full_sweep_is_overdue_after_25_hours_also_if_there_was_never_one(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    assert sweep.find_overdue() is None
    harness.db.sweep.insert_one({"_id": "receivers", "startedAt": harness.now - timedelta(days=9)})
    assert sweep.find_overdue() is None
    first, unavailable = harness.now, (*LIST, (500, error_object("", "api_error")))
    for _ in range(2):
        with pytest.raises(StripeCallError):
            run(harness, sweep, unavailable)
        assert sweep.find_overdue() is None
        harness.now += timedelta(hours=25)
    assert sweep.find_overdue() == first
    run(harness, sweep, page())
    assert sweep.find_overdue() is None
    last = harness.now
    harness.now += timedelta(hours=25, seconds=1)
    assert sweep.find_overdue() == last


def test_refunds_are_counted_in_the_given_report_before_an_error(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    report, lost_page = SweepReport(), (*LIST, (500, error_object("", "api_error")))
    with pytest.raises(StripeCallError):
        run(harness, sweep, foreign_page(CREATED), lost_page, report=report)
    assert (report.counts["foreign"], report.is_complete) == (1, False)


def test_sweep_that_is_stopped_within_a_page_reads_that_page_again(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    report = run(harness, sweep, page(external()), run_all=lambda work, items: [])
    assert (report.counts["read"], report.is_complete) == (1, False)
    assert "fullAfter" not in harness.db.sweep.find_one()


def test_stopped_sweep_ends_before_the_next_page(harness: RefundHarness, sweep: RefundSweep) -> None:
    answers = iter([False, True])
    first = page(external(payment_intent="pi_x"), has_more=True)
    report = run(harness, sweep, first, should_stop=lambda: next(answers))
    assert (report.counts["read"], report.is_complete) == (1, False)


def test_full_sweep_is_due_after_a_day_or_on_demand(harness: RefundHarness, sweep: RefundSweep) -> None:
    run(harness, sweep, page())
    harness.now += timedelta(hours=23)
    assert not run(harness, sweep, page()).is_full
    assert run(harness, sweep, page(), full=True).is_full
    harness.now += timedelta(hours=24)
    assert run(harness, sweep, page()).is_full


def test_second_machine_does_not_sweep_until_the_lease_expires(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    state = SweepState(harness.db.sweep, lambda: harness.now)
    assert state.acquire() is not None  # and then that machine is killed
    assert run(harness, sweep) is None
    harness.now += LEASE
    assert run(harness, sweep, page()).is_complete


def test_machine_that_finishes_pages_holds_the_sweep(harness: RefundHarness, sweep: RefundSweep) -> None:
    other, acquired = SweepState(harness.db.sweep, lambda: harness.now), []

    def try_to_take_over(sent: Any) -> None:
        harness.now += LEASE - timedelta(milliseconds=1)
        acquired.append(other.acquire())

    harness.stripe.before = try_to_take_over
    pages = [foreign_page(CREATED), foreign_page(CREATED - 1), foreign_page(CREATED - 2, has_more=False)]
    assert run(harness, sweep, *pages).is_complete
    assert acquired == [None] * 3


def test_machine_that_lost_its_lease_does_not_move_the_cursor(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    def take_over(sent: Any) -> None:
        harness.now += LEASE
        assert SweepState(harness.db.sweep, lambda: harness.now).acquire() is not None

    harness.stripe.before = take_over
    report = run(harness, sweep, page(external(payment_intent="pi_x")))
    assert not report.is_complete
    assert "newest" not in harness.db.sweep.find_one()


def test_payment_of_purchases_in_a_list_is_unknown(harness: RefundHarness, sweep: RefundSweep) -> None:
    harness.db.purchases.update_many({}, {"$set": {"stripePaymentIntentId": [PAYMENT, "pi_2"]}})
    assert run(harness, sweep, page(external())).counts["foreign"] == 1


def test_placeholder_of_a_purchase_is_not_a_payment(harness: RefundHarness, sweep: RefundSweep) -> None:
    harness.db.purchases.update_many({}, {"$set": {"stripePaymentIntentId": "free"}})
    assert run(harness, sweep, page(external(payment_intent="free"))).counts["foreign"] == 1


def test_ordinary_sweep_reads_from_the_newest_refund_of_a_later_full_sweep(
    harness: RefundHarness, sweep: RefundSweep
) -> None:
    run(harness, sweep, foreign_page(CREATED, has_more=False))
    run(harness, sweep, page())
    run(harness, sweep, foreign_page(CREATED + 50, CREATED, has_more=False), full=True)
    run(harness, sweep, page())
    assert harness.stripe.sent[0].params["created[gte]"] == str(CREATED + 50 - 3600)

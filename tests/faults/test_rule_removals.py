"""Without any one rule of docs/protocol.md, a short history breaks a promise that otherwise holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from flask_refunds.testing import Fault
from flask_refunds.testing.api_versions import API_VERSION, LAST_WITH_RELEASES
from tests.faults import rule_removals as without
from tests.faults.histories import History
from tests.faults.history_runs import without_logging
from tests.faults.in_process import in_process
from tests.faults.mutations import missing_answer_is_failure, purchases_not_marked

CARD = "4242424242424242"
PENDING = "4000000000007726"
SUCCEEDED, FAILED = "succeeded", "failed"


def refund(history: History, index: int = 0, process: str = "web") -> None:
    history.refund(index, None, None, process)


def external_part_fails_beside_ours(history: History) -> None:
    history.dashboard_refund(index=0, amount=500, status=None)
    refund(history)
    history.settle(index=0, status=FAILED, reason="unknown")


def app_has_marked_another_purchase(history: History) -> None:
    history.add_purchase(index=0, status="completed")
    history.mark_purchase(index=1, status="refunded")
    refund(history)
    history.settle(index=0, status=FAILED, reason="unknown")


def database_refuses_the_status(history: History) -> None:
    history.refuse_updates(index=0, refusal="validator")
    refund(history)


def old_event_arrives_late(history: History) -> None:
    history.buy(amount=700, card=PENDING, cart=1)
    refund(history, 1)
    history.settle(index=0, status=SUCCEEDED, reason="unknown")
    for index in reversed(range(len(history.world.events()))):
        history.deliver(index=index, failure=None, thin=False)


def support_refunds_in_the_dashboard(history: History) -> None:
    history.dashboard_refund(index=0, amount=None, status=None)


def bank_returns_the_money(history: History) -> None:
    refund(history)
    history.settle(index=0, status=FAILED, reason="unknown")


def machine_gets_no_answer(history: History) -> None:
    history.inject(fault=Fault.REQUEST_LOST, times=2, creating=True)
    refund(history, process="worker")


def stripe_shows_an_unknown_status(history: History) -> None:
    history.dashboard_refund(index=0, amount=500, status=None)
    history.show_unknown_status(index=0, status="reversing")
    history.buy(amount=700, card=CARD, cart=1)
    history.dashboard_refund(index=1, amount=None, status=None)


def authorization_is_captured_in_part(history: History) -> None:
    history.authorize(amount=1999, cart=1)
    history.capture(index=1, amount=300, final=True, version=LAST_WITH_RELEASES)


def answer_is_lost(history: History) -> None:
    history.inject(fault=Fault.RESPONSE_LOST, times=2, creating=True)
    refund(history)


def reconcile(history: History) -> None:
    history.wait(61)
    history.reconcile(failure=None, process="web", full=True)


def resolve(history: History, decision: str) -> None:
    history.resolve(decision=decision, checks=False, failure=None)
    history.promises_hold()


def person_gives_up_what_stripe_has(history: History) -> None:
    answer_is_lost(history)
    history.hide(index=0)
    history.wait(25 * 3600)
    reconcile(history)
    history.unhide()
    history.wait(61)
    resolve(history, "fail")


def person_leaves_a_purchase_as_it_is(history: History) -> None:
    database_refuses_the_status(history)
    for _ in range(2):
        resolve(history, "dismiss")
        reconcile(history)


def person_closes_a_review(history: History) -> None:
    bank_returns_the_money(history)
    reconcile(history)
    resolve(history, "fail")


def refund_waits_for_the_customer(history: History) -> None:
    history.inject(fault=Fault.REQUIRES_ACTION, times=1, creating=True)
    refund(history)


def cancel(history: History, fault: Fault | None) -> None:
    history.cancel_waiting_refund(index=0, fault=fault, failure=None, process="web")


def cancellation_does_not_arrive(history: History) -> None:
    refund_waits_for_the_customer(history)
    cancel(history, Fault.REQUEST_LOST)


def answer_to_a_cancellation_is_lost(history: History) -> None:
    refund_waits_for_the_customer(history)
    cancel(history, Fault.RESPONSE_LOST)


HISTORIES: Mapping[without.Removal, tuple[Callable[[History], None], str]] = {
    without.own_refund_counts_as_full: (external_part_fails_beside_ours, "disagreeing"),
    without.every_mark_is_taken_back: (app_has_marked_another_purchase, "disagreeing"),
    without.refused_purchase_stops_the_record: (database_refuses_the_status, "lost"),
    without.events_are_trusted: (old_event_arrives_late, "disagreeing"),
    without.nothing_is_swept: (support_refunds_in_the_dashboard, "lost"),
    without.no_review_is_requested: (bank_returns_the_money, "unattended"),
    without.each_machine_has_its_clock: (machine_gets_no_answer, "unknown"),
    without.unreadable_item_spoils_its_page: (stripe_shows_an_unknown_status, "lost"),
    without.persons_are_trusted: (person_gives_up_what_stripe_has, "disagreeing"),
    without.closed_reviews_are_requested_again: (person_leaves_a_purchase_as_it_is, "disagreeing"),
    without.comments_are_dropped: (person_closes_a_review, "lost"),
    without.cancellations_are_not_read_again: (cancellation_does_not_arrive, "disagreeing"),
    without.cancellations_are_not_noted: (answer_to_a_cancellation_is_lost, "lost"),
    without.release_counts_as_refund: (authorization_is_captured_in_part, "lost"),
    missing_answer_is_failure: (answer_is_lost, "disagreeing"),
    purchases_not_marked: (support_refunds_in_the_dashboard, "disagreeing"),
}
"""For each rule: a history that needs it, and the promise that breaks without it."""


@pytest.fixture(autouse=True)
def simulated() -> Iterator[None]:
    with without_logging(), in_process():
        yield


def run(story: Callable[[History], None]) -> None:
    history = History()
    history.open_shop(limit=True, webhooks=story is old_event_arrives_late, card=CARD, version=API_VERSION)
    story(history)
    history.promises_hold()
    history.teardown()


@pytest.mark.parametrize(("removal", "story", "kind"), [(key, *it) for key, it in HISTORIES.items()])
def test_history_breaks_a_promise_only_without_the_rule(
    removal: without.Removal, story: Callable[[History], None], kind: str
) -> None:
    run(story)
    with removal(), pytest.raises(AssertionError) as found:
        run(story)
    assert repr(kind) in str(found.value)

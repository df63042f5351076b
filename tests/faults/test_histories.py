"""Random histories break no promise, and without any one rule of the protocol they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from unittest import mock

import pytest

from flask_refunds.testing import Fault
from flask_refunds.testing.api_versions import API_VERSION, LAST_WITH_RELEASES
from tests.faults import world
from tests.faults.environments import STANDALONE
from tests.faults.histories import History
from tests.faults.history_runs import fresh_database, run_histories, without_logging
from tests.faults.in_process import (
    DATABASE_UNSENT,
    KILLED_AFTER,
    KILLED_BEFORE,
    SUSPENDED,
    CallFailure,
    call,
    in_process,
)
from tests.faults.world import World
from tests.mongod import Mongod

CARD = "4242424242424242"
PENDING = "4000000000007726"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with without_logging():
        yield


@pytest.fixture
def open_history() -> Iterator[Callable[..., History]]:
    """Return a function that opens a shop; its rules are then called one by one."""
    histories: list[History] = []

    def start(
        *, limit: bool = True, webhooks: bool = False, card: str = CARD, past: str = "nothing"
    ) -> History:
        histories.append(History())
        histories[-1].open_shop(limit=limit, webhooks=webhooks, card=card, version=API_VERSION, past=past)
        return histories[-1]

    with in_process():
        yield start
        for history in histories:
            history.promises_hold()
            history.teardown()


def test_random_histories_break_no_promise() -> None:
    before = History.count
    run_histories(60, seed=None)
    assert History.count - before >= 60


def test_random_histories_on_mongodb_break_no_promise(servers: Mapping[str, Mongod]) -> None:
    with servers[STANDALONE].client() as client:
        assert len(run_histories(10, seed=None, database=partial(fresh_database, client))) >= 10


def test_histories_look_the_same_on_mongodb_and_mongomock(servers: Mapping[str, Mongod]) -> None:
    """Without failures, because a call has other steps on MongoDB."""
    undisturbed = mock.patch.object(world, "call", side_effect=lambda *_: call(None))
    with undisturbed, servers[STANDALONE].client() as client:
        on_mongodb = run_histories(12, seed=7, database=partial(fresh_database, client))
        on_mongomock = run_histories(12, seed=7)
    assert len(on_mongodb) >= 12
    assert on_mongodb == on_mongomock


def test_call_can_be_killed_before_and_after_each_step() -> None:
    ends = set()
    with in_process():
        shop = World(limit=False, webhooks=False)
        for step in range(20):
            for kind in (KILLED_BEFORE, KILLED_AFTER):
                payment = shop.pay(1999, 1)
                told = len(shop.told)
                shop.refund(shop.purchases[-1], None, CallFailure(kind, step), shop.web)
                live = shop.sandbox.money_refunded(payment) > 0
                ends.add((len(shop.list_refunds(payment)), live, len(shop.told) - told))
    assert {(0, False, 0), (1, False, 0), (1, True, 0), (1, True, 1)} <= ends


# What the search has found, in its shortest form

Opener = Callable[..., History]


@pytest.mark.parametrize("step", range(8, 14))
def test_answer_after_money_moved_is_200_even_if_the_purchase_cannot_be_read(
    open_history: Opener, step: int
) -> None:
    history = open_history()
    history.dashboard_refund(index=0, amount=500, status=None)
    history.inject(fault=Fault.CARD_ERROR, times=1, creating=False)
    history.refund(0, None, CallFailure(DATABASE_UNSENT, step), "web")


def test_receivers_are_remembered_while_a_shop_makes_no_refunds(open_history: Opener) -> None:
    history = open_history()
    history.dashboard_refund(index=0, amount=None, status=None)
    history.wait(8 * 24 * 3600)
    history.reconcile(failure=None, process="worker", full=False)


@pytest.mark.parametrize("step", range(5, 9))
@pytest.mark.parametrize("status", ["requires_action", "failed"])
def test_bank_returns_the_money_after_a_call_died_between_purchase_and_record(
    open_history: Opener, step: int, status: str
) -> None:
    history = open_history(webhooks=True)
    history.refund(0, None, CallFailure(KILLED_BEFORE, step), "web")
    history.settle(index=0, status=status, reason="unknown")


def test_purchase_that_the_app_marks_while_a_refund_is_pending_stays_marked(open_history: Opener) -> None:
    history = open_history(card=PENDING)
    history.refund(0, None, None, "web")
    history.mark_purchase(index=0, status="refunded")
    history.wait(61)
    history.reconcile(failure=None, process="web", full=False)


def test_authorization_that_an_old_version_released_is_not_a_refund(open_history: Opener) -> None:
    history = open_history(webhooks=True)
    history.authorize(amount=700, cart=1)
    history.cancel_authorization(index=1, version=LAST_WITH_RELEASES)
    history.authorize(amount=700, cart=2)
    history.capture(index=2, amount=1, final=True, version=LAST_WITH_RELEASES)


def test_payment_with_a_pending_dashboard_refund_has_nothing_left_for_another_call(
    open_history: Opener,
) -> None:
    history = open_history(limit=False)
    history.dashboard_refund(index=0, amount=500, status="pending")
    history.refund(0, None, None, "web")
    history.refund(0, None, None, "web")


def test_dashboard_refund_leaves_the_marks_of_the_app_while_another_refund_is_pending(
    open_history: Opener,
) -> None:
    history = open_history(limit=False, past="low balance")
    history.mark_purchase(index=0, status="refunded")
    history.dashboard_refund(index=0, amount=None, status=None)
    history.reconcile(failure=None, process="web", full=False)


def reconcile(history: History) -> None:
    history.wait(61)
    history.reconcile(failure=None, process="web", full=True)
    history.promises_hold()


def dismiss_reviews(history: History) -> None:
    history.resolve(decision="dismiss", checks=True, failure=None)
    reconcile(history)


def test_two_reviews_that_a_person_closed_do_not_open_each_other(open_history: Opener) -> None:
    history = open_history(limit=False, past="refused")
    history.dashboard_refund(index=0, amount=500, status=None)
    reconcile(history)
    for _ in range(4):
        dismiss_reviews(history)


def test_second_change_of_an_amount_needs_another_review(open_history: Opener) -> None:
    history = open_history()
    history.dashboard_refund(index=0, amount=500, status=None)
    reconcile(history)
    [refund] = history.world.refunds
    for amount in (450, 480):
        history.world.sandbox.set_refund(refund["id"], amount=amount)
        reconcile(history)
        [shown] = history.world.list_refunds(refund["payment_intent"])
        assert shown["review"]["code"] == "amount_differs"
        dismiss_reviews(history)


def test_retry_beside_an_unknown_outcome_is_not_a_decision(open_history: Opener) -> None:
    history = open_history(past="returned")
    for _ in range(2):
        history.inject(fault=Fault.REQUEST_LOST, times=3, creating=True)
        history.refund(0, None, None, "web")
    history.wait(61)
    history.resolve(decision="retry", checks=True, failure=None)
    [decision] = history.world.operators.decisions
    assert not decision.is_accepted


def test_mark_of_the_app_beside_a_refund_that_has_just_failed_may_be_taken_back(open_history: Opener) -> None:
    history = open_history(limit=False, past="low balance")
    history.settle(index=0, status="canceled", reason="unknown")
    history.reconcile(failure=None, process="web", full=False)
    history.mark_purchase(index=0, status="refunded")
    history.dashboard_refund(index=0, amount=500, status="pending")
    history.reconcile(failure=None, process="web", full=True)


def test_bulk_run_that_dies_in_a_receiver_has_no_result_for_that_purchase(open_history: Opener) -> None:
    history = open_history()
    history.delete_purchase(index=0)
    history.buy(amount=700, card=CARD, cart=2)
    history.mark_purchase(index=0, status="archived")
    history.change_receivers(receivers="hang")
    history.run_bulk(name="recall", process="web", failure=None, stop_after=None)
    history.change_receivers(receivers="work")
    history.run_bulk(name="recall", process="web", failure=None, stop_after=1)


def test_restored_purchase_is_marked_again_if_a_pass_marked_it_after_the_backup(open_history: Opener) -> None:
    history = open_history(past="refused")
    history.back_up()
    history.allow_updates()
    reconcile(history)
    reconcile(history)
    history.restore_purchases()


def test_restored_purchase_that_a_part_closed_is_marked_again(open_history: Opener) -> None:
    history = open_history()
    history.back_up()
    history.refund_part(index=0, again=False, closes=True, numbered=False, failure=None, process="web")
    assert purchase_statuses(history) == ["refunded"]
    history.restore_purchases()
    reconcile(history)
    assert purchase_statuses(history) == ["refunded"]


def test_pending_part_is_not_refunded_again_by_a_person(open_history: Opener) -> None:
    history = open_history(limit=False)
    history.inject(fault=Fault.PENDING, times=1, creating=False)
    history.refund_part(index=0, again=False, closes=False, numbered=False, failure=None, process="web")
    history.resolve(decision="retry", checks=False, failure=None)
    [decision] = history.world.operators.decisions
    assert not decision.is_accepted


def test_bulk_run_counts_a_payment_once_if_the_app_gives_it_another_purchase(open_history: Opener) -> None:
    history = open_history(limit=False, past="unknown")
    history.run_bulk(name="recall", process="web", failure=None, stop_after=None)
    history.repoint_purchase(index=0, other=1)
    history.run_bulk(name="recall", process="web", failure=None, stop_after=None)


def test_bulk_run_counts_a_payment_once_if_mongodb_refuses_one_of_its_purchases(open_history: Opener) -> None:
    history = open_history(limit=False, past="returned")
    history.buy(amount=700, card=CARD, cart=2)
    history.refuse_updates(index=3, refusal="privilege")
    support_refunds_a_part = CallFailure(SUSPENDED, 0, "dashboard")
    history.run_bulk(name="recall", process="web", failure=support_refunds_a_part, stop_after=None)


def test_retry_after_another_call_has_refunded_again_is_not_a_decision(open_history: Opener) -> None:
    history = open_history(limit=False, past="returned")
    bank_acts = CallFailure(SUSPENDED, 1, "bank")
    history.refund(0, None, bank_acts, "web")
    history.resolve(decision="retry", checks=False, failure=None)


def test_plan_counts_an_unknown_refund_once_if_no_purchase_is_completed(open_history: Opener) -> None:
    history = open_history(limit=False, past="unknown")
    for index in range(2):
        history.mark_purchase(index=index, status="refunded")
    history.plan_bulk(name="recall", process="web")


def test_payment_with_an_unreadable_refund_has_nothing_left_for_another_call(open_history: Opener) -> None:
    history = open_history(limit=False)
    history.dashboard_refund(index=0, amount=500, status=None)
    history.show_unknown_status(index=0, status=None)
    for _ in range(2):
        history.refund(0, None, None, "web")


def test_dashboard_refund_that_fails_beside_an_unknown_outcome_returns_its_mark(open_history: Opener) -> None:
    history = open_history(limit=False)
    history.inject(fault=Fault.REQUEST_LOST, times=3, creating=True)
    history.refund(0, None, None, "web")
    history.clear_faults()
    history.wait(24 * 3600)
    reconcile(history)
    history.dashboard_refund(index=0, amount=None, status=None)
    reconcile(history)
    assert purchase_statuses(history) == ["refunded"]
    history.settle(index=0, status="failed", reason="expired_or_canceled_card")
    reconcile(history)
    assert purchase_statuses(history) == ["completed"]
    history.resolve(decision="fail", checks=True, failure=None)


def test_mark_of_the_app_beside_an_unanswered_refund_may_be_taken_back_until_it_succeeds(
    open_history: Opener,
) -> None:
    history = open_history(card=PENDING)
    for creating in (True, False):
        history.inject(fault=Fault.BAD_GATEWAY, times=1, creating=creating)
    history.refund(0, None, None, "web")
    history.mark_purchase(index=0, status="refunded")
    reconcile(history)
    assert purchase_statuses(history) == ["completed"]
    history.settle(index=0, status="succeeded", reason=None)
    reconcile(history)
    assert purchase_statuses(history) == ["refunded"]


def test_mark_that_mongodb_refused_to_take_back_is_not_forgotten_beside_an_unknown_refund(
    open_history: Opener,
) -> None:
    history = open_history(limit=False, past="refused")
    history.set_database_clock(seconds=-10 * 24 * 3600)
    history.refuse_updates(index=0, refusal="unique index")
    bank_acts = CallFailure(SUSPENDED, 2, "bank")
    history.run_bulk(name="recall", process="web", failure=bank_acts, stop_after=None)
    history.set_database_clock(seconds=0)


def test_refund_that_succeeded_and_fails_while_pending_again_needs_review(open_history: Opener) -> None:
    history = open_history(limit=False)
    history.refund(0, None, None, "web")
    history.show_unknown_status(index=0, status=None)
    history.settle(index=0, status="pending", reason="unknown")
    history.reconcile(failure=None, full=False, process="web")
    bank_acts = CallFailure(SUSPENDED, 0, "bank")
    history.reconcile(failure=bank_acts, full=False, process="web")


def test_refund_that_failed_while_its_status_was_unknown_may_be_retried(
    open_history: Opener,
) -> None:
    history = open_history(limit=False, past="refused")
    history.show_unknown_status(index=0, status=None)
    history.settle(index=0, status="failed", reason="expired_or_canceled_card")
    reconcile(history)
    history.resolve(decision="retry", checks=False, failure=None)
    [decision] = history.world.operators.decisions
    assert decision.is_accepted


def test_purchase_that_a_part_closes_needs_review_if_the_call_died_after_mongodb_refused_it(
    open_history: Opener,
) -> None:
    history = open_history(limit=False, webhooks=False)
    history.refuse_updates(index=0, refusal="validator")
    killed = CallFailure("killed before", 13)
    history.refund_part(again=False, closes=True, failure=killed, index=0, numbered=False, process="web")


def test_refund_that_another_process_finds_during_its_cancellation_is_known_by_its_id(
    open_history: Opener,
) -> None:
    history = open_history(limit=False, webhooks=False)
    history.refund(0, None, CallFailure("killed before", 5), "web")
    history.settle(index=0, status="requires_action", reason="unknown")
    reconciles = CallFailure(SUSPENDED, 0, "reconcile")
    history.cancel_any_refund(index=0, fault=None, failure=reconciles, process="web")
    [cancellation] = history.world.operators.cancellations
    assert cancellation.has_canceled


def test_run_counts_no_amount_for_purchases_that_were_added_to_a_refunded_payment(
    open_history: Opener,
) -> None:
    history = open_history(limit=False, webhooks=False)
    history.run_bulk(name="recall", process="web", failure=None, stop_after=None)
    history.delete_purchase(index=0)
    for _ in range(2):
        history.add_purchase(index=0, status="completed")
    history.run_bulk(name="recall", process="web", failure=None, stop_after=None)


def test_mark_of_the_app_holds_beside_a_refund_of_the_rest_that_marked_nothing(open_history: Opener) -> None:
    history = open_history(limit=False, webhooks=False)
    history.dashboard_refund(index=0, amount=500, status=None)
    history.show_unknown_status(index=0, status=None)
    history.refund(0, None, None, "web")
    history.mark_purchase(index=0, status="refunded")
    reconcile(history)
    assert purchase_statuses(history) == ["refunded"]


def purchase_statuses(history: History) -> list[str]:
    return [each["status"] for each in history.world.db.purchases.find()]

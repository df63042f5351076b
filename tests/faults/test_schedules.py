"""Every schedule of concurrent calls keeps the promise, and the explorer sees when one does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from flask_refunds.core import transitions as transitions
from flask_refunds.core.transitions import RefundTransitions
from flask_refunds.models import Refund, RefundStatus
from flask_refunds.storage import ledger
from flask_refunds.storage.ledger import Ledger, NumberTaken
from tests.faults import schedules_actors
from tests.faults.invariants import DISAGREES, DOUBLED, LOST
from tests.faults.schedules import (
    ANN,
    BOB,
    EVERY_DAY,
    FAILS_WHILE_READ,
    FROZEN,
    NETWORK,
    UNTRUE,
    Setting,
    explore,
    find_shortest,
)
from tests.faults.schedules_actors import Actor, Library, Told, Unforeseen, reconciler, webhook

FAILING = Setting("failing", (ANN, webhook(0, 1)), crashes=1, becomes=("failed",))


def named(setting: Setting) -> str:
    return setting.name


@pytest.mark.parametrize("setting", EVERY_DAY, ids=named)
def test_the_promise_holds_in_every_schedule(setting: Setting) -> None:
    explored = explore(setting)
    assert not explored.findings, str(explored.findings[0])
    assert explored.schedules > 100


def test_all_is_well_without_reconcile_where_nobody_dies() -> None:
    explored = explore(FAILS_WHILE_READ)
    assert not explored.findings, str(explored.findings[0])


def test_a_pass_reports_no_error_where_there_is_none() -> None:
    explored = explore(Setting("admin, reconcile", (ANN, reconciler()), exact_reports=True))
    assert not explored.findings, str(explored.findings[0])


@pytest.mark.parametrize(
    "setting",
    [
        Setting("two admins", (ANN, BOB)),
        Setting("admin, reconcile", (ANN, reconciler()), faults=NETWORK, times=1),
        FAILING,
    ],
    ids=named,
)
def test_merging_states_leaves_no_schedule_out(setting: Setting) -> None:
    """Schedules are as many, whether two states are one by how they came about or by where code stands."""
    merged, apart = explore(setting), explore(setting, merge=False)
    assert (merged.schedules, merged.ends) == (apart.schedules, apart.ends)
    assert merged.states <= apart.states


def test_a_schedule_that_comes_back_to_a_state_is_told() -> None:
    """It would have no end, and no count."""

    def ask_for_ever(library: Library) -> Told:
        while True:
            library.events._intake.knows("pi_1")

    with pytest.raises(Unforeseen, match="find"):
        explore(Setting("in circles", (Actor("somebody", ask_for_ever),), crashes=0))


def test_what_the_library_catches_and_does_not_expect_is_told() -> None:
    broken = mock.patch.object(RefundTransitions, "check", side_effect=ZeroDivisionError)
    with broken, pytest.raises(Unforeseen):
        explore(Setting("admin, reconcile", (ANN, reconciler()), moments=FROZEN))


# What the explorer finds once a guard is gone


@contextmanager
def without_the_number_lock() -> Iterator[None]:
    """Who finds his number taken, takes the next, without looking."""
    opened = Ledger.create

    def open_anyway(self: Ledger, payment_intent: str, number: int, **rest: Any) -> Refund:
        try:
            return opened(self, payment_intent, number, **rest)
        except NumberTaken:
            return opened(self, payment_intent, number + 1, **rest)

    with mock.patch.object(Ledger, "open", open_anyway):
        yield


@contextmanager
def without_the_ladder() -> Iterator[None]:
    """A row becomes what the last news says."""

    def ways(status: RefundStatus) -> list[tuple[Mapping[str, Any], str | None]]:
        return [({"status": {"$ne": status.value}}, None)]

    with (
        mock.patch.object(ledger, "_allowed_transitions", ways),
        mock.patch.object(transitions, "_revives", lambda refund, fact: refund.status is not fact.status),
    ):
        yield


@contextmanager
def without_realignment() -> Iterator[None]:
    """Who finds that the row has moved already, leaves the purchases as he wrote them."""
    applied = RefundTransitions.apply

    def apply(self: RefundTransitions, *arguments: Any, **options: Any) -> Refund:
        with mock.patch.object(RefundTransitions, "align", return_value=False):
            return applied(self, *arguments, **options)

    with mock.patch.object(RefundTransitions, "apply", apply):
        yield


@contextmanager
def without_ownership() -> Iterator[None]:
    """Whoever was refused, ends the refund."""
    moved = Ledger._move

    def move(
        self: Ledger, refund_id: str, needed: Mapping[str, Any], *rest: Any, **options: Any
    ) -> Refund | None:
        anyone = {key: value for key, value in needed.items() if key != "leaseToken"}
        return moved(self, refund_id, anyone, *rest, **options)

    with mock.patch.object(Ledger, "_move", move):
        yield


@contextmanager
def with_a_key_for_each_try() -> Iterator[None]:
    """Every request is a new one to Stripe."""
    requested = schedules_actors._Transport.request

    def request(self: Any, method: str, url: str, headers: Mapping[str, str], post_data: Any = None) -> Any:
        token = vars(ledger)["secrets"].token_hex(8)
        key = f"{headers.get('Idempotency-Key')} {token}"
        return requested(self, method, url, {**headers, "Idempotency-Key": key}, post_data)

    with mock.patch.object(schedules_actors._Transport, "request", request):
        yield


@contextmanager
def without_leases() -> Iterator[None]:
    """Everybody may work on everything."""
    updated = Ledger._update

    def update(self: Ledger, needed: Mapping[str, Any], change: Mapping[str, Any]) -> Refund | None:
        anyone = {key: value for key, value in needed.items() if key != "leaseExpiresAt"}
        return updated(self, anyone, change)

    with mock.patch.object(Ledger, "_update", update):
        yield


THROTTLED = Setting(
    "throttled", (ANN, reconciler()), moments=FROZEN, faults=frozenset({"throttled"}), times=1
)
SABOTAGE = [
    (without_the_number_lock, Setting("two admins", (ANN, BOB)), DOUBLED),
    (without_the_ladder, FAILING, LOST),
    (without_realignment, FAILS_WHILE_READ, DISAGREES),
    (without_ownership, THROTTLED, UNTRUE),
    (with_a_key_for_each_try, Setting("two at work", (ANN, reconciler()), moments=FROZEN), DOUBLED),
]


@pytest.mark.parametrize(("broken", "setting", "kind"), SABOTAGE)
def test_the_explorer_sees_what_a_guard_is_for(
    broken: Callable[[], AbstractContextManager[None]], setting: Setting, kind: str
) -> None:
    assert find_shortest(setting) is None
    with broken():
        finding = find_shortest(setting)
    assert finding is not None
    assert kind in {violation.kind for violation in finding.violations}


@pytest.mark.parametrize("setting", [EVERY_DAY[0], THROTTLED], ids=named)
def test_leases_only_save_work(setting: Setting) -> None:
    with without_leases():
        assert find_shortest(replace(setting, moments=(0,))) is None

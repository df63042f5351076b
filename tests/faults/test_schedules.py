"""No schedule of concurrent calls violates an invariant, and the explorer detects mutations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import Any
from unittest import mock

import pytest

from flask_refunds.clock import Deadline
from flask_refunds.core import partial
from flask_refunds.core.partial import PartialRefunds
from flask_refunds.core.service import CallContext, RefundService
from flask_refunds.core.transitions import RefundTransitions
from flask_refunds.errors import RefundInProgress
from flask_refunds.models import RefundRecord
from flask_refunds.storage import ledger
from flask_refunds.storage.ledger import Ledger, NumberTaken
from tests.faults.invariants import DISAGREES, DOUBLED, UNATTENDED
from tests.faults.schedules import (
    ANN,
    ANN_PART,
    BOB,
    BOB_PART,
    DEFAULT_SETTINGS,
    FAILURE_DURING_SYNC,
    LEASE_EXPIRES,
    STRIPE_FAULTS,
    UNTRUE,
    Setting,
    explore,
    find_shortest,
)
from tests.faults.schedules_actors import (
    Actor,
    CallerResult,
    Library,
    StepTransport,
    UnexpectedBehavior,
    reconciler,
    webhook,
)

TWO_ADMINS = Setting("two admins", (ANN, BOB))
TWO_PARTS = Setting("two parts with one view", (ANN_PART, BOB_PART))
FAILED_LATER = Setting("failed later", (ANN, webhook(0, 1)), crashes=1, becomes=("failed",))
EXPIRING_LEASE = Setting("admin, reconcile", (ANN, reconciler()), clock_times=LEASE_EXPIRES)


@pytest.mark.parametrize("setting", DEFAULT_SETTINGS, ids=attrgetter("name"))
def test_every_schedule_violates_nothing(setting: Setting) -> None:
    exploration = explore(setting)
    assert not exploration.findings, str(exploration.findings[0])
    assert exploration.schedules > 100


def test_invariants_hold_before_reconcile_without_a_crash() -> None:
    exploration = explore(FAILURE_DURING_SYNC)
    assert not exploration.findings, str(exploration.findings[0])


def test_reconcile_reports_no_error_for_concurrent_changes() -> None:
    exploration = explore(Setting("admin, reconcile", (ANN, reconciler()), exact_reports=True))
    assert not exploration.findings, str(exploration.findings[0])


@pytest.mark.parametrize(
    "setting",
    [
        TWO_ADMINS,
        Setting("admin, reconcile", (ANN, reconciler()), faults=STRIPE_FAULTS, max_faults=1),
        FAILED_LATER,
    ],
    ids=attrgetter("name"),
)
def test_merging_states_omits_no_schedule(setting: Setting) -> None:
    """Comparing states by the code's position or by the received results counts the same schedules."""
    merged, separate = explore(setting), explore(setting, merge=False)
    assert (merged.schedules, merged.ends) == (separate.schedules, separate.ends)
    assert merged.states <= separate.states


def test_states_depend_on_nothing_but_the_schedule() -> None:
    """With an address or a measured time in a state, equal states would count as different ones."""
    setting = Setting("admin, reconcile", (ANN, reconciler()), faults=STRIPE_FAULTS, max_faults=1)
    explore(setting)  # CPython optimizes code that has run a few times, which moves its positions
    assert explore(setting).states == explore(setting).states


def test_schedule_that_returns_to_a_state_is_reported() -> None:
    """Such a schedule never ends and can't be counted."""

    def loop(library: Library) -> CallerResult:
        while True:
            library.events._stripe_sync.is_known_payment("pi_1", None, Deadline.after(1))

    with pytest.raises(UnexpectedBehavior, match="find"):
        explore(Setting("loop", (Actor("loop", loop),), crashes=0))


def test_unexpected_error_that_the_library_catches_is_reported() -> None:
    mutation = mock.patch.object(RefundTransitions, "verify_purchases", side_effect=ZeroDivisionError)
    with mutation, pytest.raises(UnexpectedBehavior):
        explore(EXPIRING_LEASE)


# Mutations that the explorer must detect


@contextmanager
def number_not_locked() -> Iterator[None]:
    """A call whose number is taken uses the next one without reading the ledger."""
    create = Ledger.create

    def create_anyway(self: Ledger, payment_intent: str, number: int, **options: Any) -> RefundRecord:
        try:
            return create(self, payment_intent, number, **options)
        except NumberTaken:
            return create(self, payment_intent, number + 1, **options)

    with mock.patch.object(Ledger, "create", create_anyway):
        yield


@contextmanager
def version_ignored() -> Iterator[None]:
    """A call stores what it read at Stripe over a change that another call made meanwhile."""

    with mock.patch.object(ledger, "same_version", return_value={}):
        yield


@contextmanager
def purchases_not_synced() -> Iterator[None]:
    """A call that finds the record moved doesn't check the purchases again."""
    apply = RefundTransitions.apply

    def apply_without_sync(self: RefundTransitions, *arguments: Any, **options: Any) -> RefundRecord:
        with mock.patch.object(RefundTransitions, "sync_purchases", return_value=False):
            return apply(self, *arguments, **options)

    with mock.patch.object(RefundTransitions, "apply", apply_without_sync):
        yield


@contextmanager
def lease_token_ignored() -> Iterator[None]:
    """A call that Stripe rejected marks the refund as failed without holding its lease."""
    change = Ledger._change

    def change_anyway(
        self: Ledger, refund_id: str, required: Mapping[str, Any], *rest: Any, **options: Any
    ) -> RefundRecord | None:
        without_token = {key: value for key, value in required.items() if key != "leaseToken"}
        return change(self, refund_id, without_token, *rest, **options)

    with mock.patch.object(Ledger, "_change", change_anyway):
        yield


@contextmanager
def new_key_for_each_attempt() -> Iterator[None]:
    """Every request to Stripe has a new idempotency key."""
    send = StepTransport.request

    def request(self: Any, method: str, url: str, headers: Mapping[str, str], post_data: Any = None) -> Any:
        token = vars(ledger)["secrets"].token_hex(8)
        key = f"{headers.get('Idempotency-Key')} {token}"
        return send(self, method, url, {**headers, "Idempotency-Key": key}, post_data)

    with mock.patch.object(StepTransport, "request", request):
        yield


@contextmanager
def leases_ignored() -> Iterator[None]:
    """A call may work on a record whose lease another call holds."""
    update = Ledger._update

    def update_anyway(
        self: Ledger, required: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> RefundRecord | None:
        without_lease = {key: value for key, value in required.items() if key != "leaseExpiresAt"}
        return update(self, without_lease, changes)

    with mock.patch.object(Ledger, "_update", update_anyway):
        yield


@contextmanager
def stripe_read_before_the_ledger() -> Iterator[None]:
    """A part is compared with what Stripe showed before the payment's refunds were read."""

    def claim(
        self: RefundService, purchase: Any, payment: str, request: Any, call: CallContext
    ) -> RefundRecord:
        shown = self._gateway().retrieve_payment(payment, call.deadline)
        refunds = self._ledger.list_for_payment(payment)
        with mock.patch.object(PartialRefunds, "_retrieve", return_value=shown):
            earlier = self.partial.find_earlier(purchase, refunds, request, call.deadline)
        created = earlier or self._create(purchase, refunds, request, call)
        if created is None:
            raise RefundInProgress
        return created

    with mock.patch.object(RefundService, "_claim_part", claim):
        yield


@contextmanager
def unknown_outcomes_ignored() -> Iterator[None]:
    """A part is refunded while the outcome of an earlier refund is unknown."""
    with mock.patch.object(partial, "require_none_processing"):
        yield


RATE_LIMITED = replace(EXPIRING_LEASE, name="rate limited", faults=frozenset({"rate_limited"}), max_faults=1)
MUTATIONS = [
    (number_not_locked, TWO_ADMINS, DOUBLED),
    (version_ignored, FAILURE_DURING_SYNC, UNATTENDED),
    (purchases_not_synced, FAILURE_DURING_SYNC, DISAGREES),
    (lease_token_ignored, RATE_LIMITED, UNTRUE),
    (new_key_for_each_attempt, EXPIRING_LEASE, DOUBLED),
    (number_not_locked, TWO_PARTS, DOUBLED),
    (stripe_read_before_the_ledger, TWO_PARTS, DOUBLED),
    (unknown_outcomes_ignored, TWO_PARTS, DOUBLED),
]


@pytest.mark.parametrize(("mutation", "setting", "kind"), MUTATIONS)
def test_schedules_detect_mutation(
    mutation: Callable[[], AbstractContextManager[None]], setting: Setting, kind: str
) -> None:
    assert find_shortest(setting) is None
    with mutation():
        finding = find_shortest(setting)
    assert finding is not None
    assert kind in {violation.kind for violation in finding.violations}


@pytest.mark.parametrize("setting", [DEFAULT_SETTINGS[0], RATE_LIMITED], ids=attrgetter("name"))
def test_ignored_leases_violate_nothing(setting: Setting) -> None:
    """Leases only avoid duplicate work."""
    with leases_ignored():
        assert find_shortest(replace(setting, clock_times=(0,))) is None

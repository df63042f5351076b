"""The experiments detect each mutation, which disables one safeguard of the library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from flask_refunds.testing import Fault
from tests.faults import crashes, mongo_faults, stripe_faults, sweeps
from tests.faults.environments import REPLICA_SET, STANDALONE, no_retry_pause
from tests.faults.in_process import KILLED_BEFORE
from tests.faults.invariants import DISAGREES, DOUBLED, LOST, UNKNOWN, UNSAID, Violation
from tests.faults.mongo_proxy import Loss
from tests.faults.mutations import MUTATIONS, apply_mutation
from tests.faults.scenarios import SCENARIOS
from tests.mongod import Mongod

FIRST_REFUND = SCENARIOS["refund: first"]
COMMANDS = ("find", "aggregate", "insert", "update", "update", "findAndModify", "update")
SEEDS = range(8)
"""Stripe's events can hide a mutation if they arrive before the reconcile, which depends on the seed."""

BY_CRASHES = {
    "new_key_for_each_attempt": DOUBLED,
    "record_stored_after_stripe": LOST,
    "purchases_not_marked": DISAGREES,
    "signals_marked_before_sending": UNSAID,
    "reconcile_skips_processing": UNKNOWN,
}
BY_STRIPE_FAULTS = {
    "new_key_for_each_attempt": DOUBLED,
    "missing_answer_is_failure": LOST,
    "reconcile_skips_processing": UNKNOWN,
}
BY_MONGO_FAULTS = {"errors_after_stripe_are_raised": DISAGREES, "reconcile_skips_processing": UNKNOWN}

BY_SWEEPS = {
    "sweep_position_moved_first": LOST,
    "sweep_skips_unavailable_page": LOST,
    "sweep_without_overlap": LOST,
    "sweep_overlap_unbounded": DISAGREES,
    "sweep_resumes_a_page_late": LOST,
    "sweep_lock_ignored": DISAGREES,
    "sweep_errors_count_as_stored": LOST,
}

BY_FAILOVER = "write_concern_of_one"
"""Tested in ``test_failover.py``, which has a replica set."""


def test_every_mutation_has_a_test() -> None:
    detected = {*BY_CRASHES, *BY_STRIPE_FAULTS, *BY_MONGO_FAULTS, *BY_SWEEPS, BY_FAILOVER}
    assert detected == {*MUTATIONS}


@pytest.mark.parametrize(("mutation", "kind"), BY_CRASHES.items())
def test_crashes_detect_mutation(servers: Mapping[str, Mongod], mutation: str, kind: str) -> None:
    with no_retry_pause(), crashes.Worker(servers) as worker:
        plans = (crashes.Plan(FIRST_REFUND, seed, mutation=mutation) for seed in SEEDS)
        assert _is_detected(kind, (found for plan in plans for _, found in worker.run_plan(plan)))


@pytest.mark.parametrize(("mutation", "kind"), BY_STRIPE_FAULTS.items())
def test_stripe_faults_detect_mutation(servers: Mapping[str, Mongod], mutation: str, kind: str) -> None:
    fault_at = stripe_faults.FaultAt(Fault.RESPONSE_LOST, 0, lasting=mutation != "new_key_for_each_attempt")
    with no_retry_pause(), stripe_faults.Worker(servers) as worker:
        plans = (stripe_faults.Plan(FIRST_REFUND, seed, mutation=mutation) for seed in SEEDS)
        assert _is_detected(kind, (worker.run(plan, fault_at)[-1] for plan in plans))


@pytest.mark.parametrize("server", [STANDALONE, REPLICA_SET])
@pytest.mark.parametrize(("mutation", "kind"), BY_MONGO_FAULTS.items())
def test_mongo_faults_detect_mutation(
    servers: Mapping[str, Mongod], server: str, mutation: str, kind: str
) -> None:
    loss_at = mongo_faults.LossAt(Loss.REQUEST, COMMANDS.index("findAndModify"), lasting=True)
    with no_retry_pause(), mongo_faults.Worker(servers) as worker:
        plans = (mongo_faults.Plan(FIRST_REFUND, seed, server, mutation=mutation) for seed in SEEDS)
        assert _is_detected(kind, (worker.run(plan, loss_at)[-1] for plan in plans))


def test_sweeps_find_everything_after_any_failure() -> None:
    tally = sweeps.run(full=False)
    assert tally.violations == []
    assert tally.histories > 100


@pytest.mark.parametrize(("mutation", "kind"), BY_SWEEPS.items())
def test_sweeps_detect_mutation(mutation: str, kind: str) -> None:
    with sweeps.small_pages(), apply_mutation(mutation):
        assert _is_detected(kind, sweeps.experiments((KILLED_BEFORE,)))


def _is_detected(kind: str, histories: Iterable[list[Violation]]) -> bool:
    return any(violation.kind == kind for found in histories for violation in found)

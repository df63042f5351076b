"""Each check of the invariants fails when the guard that it watches is taken away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from flask_refunds.testing import Fault
from tests.faults import crashes, mongo_faults, stripe_faults
from tests.faults.environments import REPLICA_SET, STANDALONE, quick_retries
from tests.faults.invariants import DISAGREES, DOUBLED, LOST, UNKNOWN, UNSAID, Violation
from tests.faults.mongo_proxy import Loss
from tests.faults.mutations import GUARDS
from tests.faults.scenarios import SCENARIOS
from tests.mongod import Mongod

FRESH = SCENARIOS["refund: fresh"]
COMMANDS = ("find", "aggregate", "insert", "update", "findAndModify", "update")
SEEDS = range(8)
"""Some guards are not needed where Stripe's events come before the reconcile, and the seed decides that."""

IN_CRASHES = {
    "a_key_for_each_try": DOUBLED,
    "the_row_comes_after_stripe": LOST,
    "purchases_are_forgotten": DISAGREES,
    "announced_too_early": UNSAID,
    "reconcile_leaves_the_unknown": UNKNOWN,
}
AT_STRIPE = {
    "a_key_for_each_try": DOUBLED,
    "silence_is_failure": LOST,
    "reconcile_leaves_the_unknown": UNKNOWN,
}
AT_MONGODB = {"a_half_done_refund_is_called_undone": DISAGREES, "reconcile_leaves_the_unknown": UNKNOWN}

IN_FAILOVERS = "one_member_will_do"
"""Its test is beside the replica set's."""


def test_every_guard_is_watched() -> None:
    assert {*IN_CRASHES, *AT_STRIPE, *AT_MONGODB, IN_FAILOVERS} == {*GUARDS}


@pytest.mark.parametrize(("guard", "kind"), IN_CRASHES.items())
def test_crashes_notice(servers: Mapping[str, Mongod], guard: str, kind: str) -> None:
    with quick_retries(), crashes.Worker(servers) as worker:
        plans = (crashes.Plan(FRESH, seed, broken=guard) for seed in SEEDS)
        assert _is_noticed(kind, (found for plan in plans for _, found in worker.carry_out(plan)))


@pytest.mark.parametrize(("guard", "kind"), AT_STRIPE.items())
def test_stripes_faults_notice(servers: Mapping[str, Mongod], guard: str, kind: str) -> None:
    blow = stripe_faults.Blow(Fault.DROP_AFTER, 0, lasting=guard != "a_key_for_each_try")
    with quick_retries(), stripe_faults.Worker(servers) as worker:
        plans = (stripe_faults.Plan(FRESH, seed, broken=guard) for seed in SEEDS)
        assert _is_noticed(kind, (worker.run(plan, blow)[-1] for plan in plans))


@pytest.mark.parametrize("server", [STANDALONE, REPLICA_SET])
@pytest.mark.parametrize(("guard", "kind"), AT_MONGODB.items())
def test_mongodbs_faults_notice(servers: Mapping[str, Mongod], server: str, guard: str, kind: str) -> None:
    blow = mongo_faults.Blow(Loss.REQUEST, COMMANDS.index("findAndModify"), lasting=True)
    with quick_retries(), mongo_faults.Worker(servers) as worker:
        plans = (mongo_faults.Plan(FRESH, seed, server, broken=guard) for seed in SEEDS)
        assert _is_noticed(kind, (worker.run(plan, blow)[-1] for plan in plans))


def _is_noticed(kind: str, histories: Iterable[list[Violation]]) -> bool:
    return any(violation.kind == kind for found in histories for violation in found)

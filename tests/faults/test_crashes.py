"""Every scenario killed at every step, with one seed; ``python -m tests.faults --only crashes`` has 20."""

from __future__ import annotations

from collections.abc import Mapping

from tests.faults.crashes import Plan, Worker, experiment
from tests.faults.invariants import table
from tests.faults.scenarios import SCENARIOS
from tests.mongod import Mongod


def test_killed_at_every_step(servers: Mapping[str, Mongod]) -> None:
    tallies = experiment(servers, range(1))
    assert not [violation for tally in tallies for violation in tally.violations], table(tallies)
    assert sum(tally.histories for tally in tallies) > 250


def test_the_steps_of_a_refund(servers: Mapping[str, Mongod]) -> None:
    """What the experiments call a step: were one of these not seen, nothing would be killed there."""
    with Worker(servers) as worker:
        steps, _, _ = worker.run(Plan(SCENARIOS["refund: fresh"], 0), 0)
    assert steps == [
        "before find users",
        "after find",
        "before aggregate purchases",
        "after aggregate",
        "before insert refunds",
        "after insert",
        "before POST refunds",
        "after POST refunds",
        "before update purchases",
        "after update",
        "before findAndModify refunds",
        "after findAndModify",
        "before update refunds",
        "after update",
    ]

"""Every scenario killed between any two of its steps, with one seed.

``python -m tests.faults --only crashes`` runs 20, and kills before and after each step.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.faults.crashes import Plan, Worker, run_seeds
from tests.faults.invariants import format_table
from tests.faults.scenarios import SCENARIOS
from tests.mongod import Mongod


def test_crash_at_every_step_violates_nothing(servers: Mapping[str, Mongod]) -> None:
    tallies = run_seeds(servers, range(1))
    assert not [violation for tally in tallies for violation in tally.violations], format_table(tallies)
    assert sum(tally.histories for tally in tallies) > 250


def test_steps_include_every_command_and_request_of_a_refund(servers: Mapping[str, Mongod]) -> None:
    """A step that isn't seen here would never be a place to crash."""
    with Worker(servers) as worker:
        steps, _, _ = worker.run(Plan(SCENARIOS["refund: first"], 0), 0)
    assert steps == [
        "before find users",
        "after find",
        "before aggregate purchases",
        "after aggregate",
        "before hello 1",
        "after hello",
        "before insert flask_refunds",
        "after insert",
        "before POST refunds",
        "after POST refunds",
        "before update purchases",
        "after update",
        "before update flask_refunds.state",
        "after update",
        "before findAndModify flask_refunds",
        "after findAndModify",
        "before insert signals",
        "after insert",
        "before update flask_refunds",
        "after update",
    ]

"""A replica set's misfortunes, in short; ``python -m tests.faults --only failover`` is the whole."""

from __future__ import annotations

from tests.faults.failover import run
from tests.faults.invariants import table


def test_the_replica_set_fails_over() -> None:
    tallies = run(full=False)
    assert not [violation for tally in tallies for violation in tally.violations], table(tallies)
    assert sum(tally.refunds for tally in tallies) > 100

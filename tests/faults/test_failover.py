"""Failover of a replica set, with few rounds; ``python -m tests.faults --only failover`` runs all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.faults import failover
from tests.faults.failover import ReplicaSetEnvironment
from tests.faults.invariants import format_table
from tests.faults.mutations import apply_mutation
from tests.mongod import NO_MONGOD, find_mongod


@pytest.fixture(scope="module")
def environment() -> Iterator[ReplicaSetEnvironment]:
    if find_mongod() is None:
        pytest.skip(NO_MONGOD)
    with failover.start_environment() as environment:
        yield environment


def test_refunds_during_failover_violate_nothing(environment: ReplicaSetEnvironment) -> None:
    tallies = failover.run_experiments(environment, full=False)
    assert not [violation for tally in tallies for violation in tally.violations], format_table(tallies)
    assert sum(tally.refunds for tally in tallies) > 100


def test_write_concern_of_one_is_detected(environment: ReplicaSetEnvironment) -> None:
    environment = replace(environment, shop=failover.make_shop(environment.database, environment.sandbox))
    message = failover.REQUEST_AFTER_LOST_WRITE
    with apply_mutation("write_concern_of_one"), pytest.raises(AssertionError, match=message):
        failover.roll_back(environment)

"""A replica set's misfortunes, in short; ``python -m tests.faults --only failover`` is the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.faults.failover import ON_A_LOST_ROW, World, a_shop, a_world, misfortunes, roll_back
from tests.faults.invariants import table
from tests.faults.mutations import without
from tests.faults.test_guards import IN_FAILOVERS
from tests.mongod import NO_MONGOD, find_mongod


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    if find_mongod() is None:
        pytest.skip(NO_MONGOD)
    with a_world() as world:
        yield world


def test_the_replica_set_fails_over(world: World) -> None:
    tallies = misfortunes(world, full=False)
    assert not [violation for tally in tallies for violation in tally.violations], table(tallies)
    assert sum(tally.refunds for tally in tallies) > 100


def test_a_row_that_one_member_had_is_noticed(world: World) -> None:
    with without(IN_FAILOVERS), pytest.raises(AssertionError, match=ON_A_LOST_ROW):
        roll_back(replace(world, shop=a_shop(world.database, world.sandbox)))

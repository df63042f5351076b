from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.integration.commands import Commands
from tests.shop import Shop, make_app


@pytest.fixture
def generous() -> Iterator[StripeSandbox]:
    """A sandbox that allows refunding a payment twice, so that a test would detect it."""
    with StripeSandbox(enforce_amount_limit=False) as sandbox:
        yield sandbox


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """A shop on a real MongoDB and the sandbox over HTTP, with the app's connection pool."""
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


@pytest.fixture
def commands(mongo_uri: str, sandbox: StripeSandbox) -> Commands:
    """Run ``flask refunds`` in processes, with the same database and sandbox."""
    return Commands(mongo_uri, sandbox)

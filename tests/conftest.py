from __future__ import annotations

from collections.abc import Iterator

import mongomock
import pytest
from flask import globals as flask_globals

from flask_refunds.testing import StripeSandbox
from tests.shop import Shop, make_app


@pytest.fixture(autouse=True)
def _no_leaked_context() -> Iterator[None]:
    """A context that one test leaves behind would be the next one's identity."""
    yield
    assert not flask_globals.app_ctx, "a test left an app context behind"


@pytest.fixture
def sandbox() -> Iterator[StripeSandbox]:
    with StripeSandbox() as sandbox:
        yield sandbox


@pytest.fixture
def mock_shop(sandbox: StripeSandbox) -> Shop:
    """A shop on mongomock: quick, and no evidence about races."""
    database = mongomock.MongoClient(tz_aware=True).shop
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)

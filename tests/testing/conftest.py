from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from sandbox_caller import Caller

from flask_refunds.testing import StripeSandbox


@pytest.fixture
def sandbox() -> Iterator[StripeSandbox]:
    with StripeSandbox() as running:
        yield running


@pytest.fixture
def stripe_api(sandbox: StripeSandbox) -> Iterator[Caller]:
    with contextlib.closing(Caller(sandbox.url)) as caller:
        yield caller


@pytest.fixture
def paid(sandbox: StripeSandbox) -> str:
    """A payment intent of 20 dollars."""
    return sandbox.create_payment(2000)

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.examples.storefront import EXAMPLES, Storefront

# As `python examples/storefront` has it.
sys.path.insert(0, str(EXAMPLES / "storefront"))


@pytest.fixture(scope="module")
def storefront() -> Iterator[Storefront]:
    running = Storefront("--port", "0")
    try:
        yield running
        assert running.stop() == (0, "")
    finally:
        running.kill()

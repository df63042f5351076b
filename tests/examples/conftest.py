from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.examples.storefront import EXAMPLES, Storefront

# Make the package importable, as `python examples/storefront` does.
sys.path.insert(0, str(EXAMPLES / "storefront"))


@pytest.fixture(scope="module")
def storefront() -> Iterator[Storefront]:
    running = Storefront("--port", "0")
    try:
        yield running
        status, logged = running.stop()
        assert status == 0
        # A test calls the admin API as a customer, which is logged. Other warnings are failures.
        warnings = [
            line for line in logged.splitlines() if line.startswith(("WARNING", "ERROR", "Traceback"))
        ]
        assert all("A caller isn't an admin" in line for line in warnings), logged
    finally:
        running.kill()

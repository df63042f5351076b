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
        status, logged = running.stop()
        assert status == 0
        # The mails are printed, and a test calls what is not for it; nothing else is worth a warning.
        warnings = [
            line for line in logged.splitlines() if line.startswith(("WARNING", "ERROR", "Traceback"))
        ]
        assert all("A known caller is no admin" in line for line in warnings), logged
    finally:
        running.kill()

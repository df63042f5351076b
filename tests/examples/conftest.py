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
        # The tests call what is not for them; nothing else is worth a warning.
        assert {line for line in logged.splitlines() if "A known caller is no admin" not in line} == set()
    finally:
        running.kill()

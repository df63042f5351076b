from __future__ import annotations

import pytest

from tests.unit.refund_harness import RefundHarness


@pytest.fixture
def harness() -> RefundHarness:
    return RefundHarness()

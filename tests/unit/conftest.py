from __future__ import annotations

import secrets
from types import SimpleNamespace

import pytest

from flask_refunds.storage import ledger
from tests.unit.refund_harness import RefundHarness
from tests.unit.stripe_stub import refund_key


@pytest.fixture
def harness() -> RefundHarness:
    return RefundHarness()


@pytest.fixture(autouse=True)
def known_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every idempotency key end with the same digits. Lease tokens are longer, and stay random."""
    end = refund_key().rpartition(":")[2]

    def token_hex(count: int) -> str:
        return end if count == len(end) // 2 else secrets.token_hex(count)

    monkeypatch.setattr(ledger, "secrets", SimpleNamespace(token_hex=token_hex))

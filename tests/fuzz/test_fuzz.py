"""Some hundred requests of schemathesis's making, every day; ``python -m tests.fuzz`` makes thousands."""

from __future__ import annotations

import sys

import pytest

if sys.version_info < (3, 11):
    pytest.skip("schemathesis needs Python 3.11", allow_module_level=True)

from tests.contract import operations
from tests.fuzz.run import RefundResult, a_shop, fuzz

CASES = 600
SEED = 20240315


def run(mongo_uri: str) -> RefundResult:
    with a_shop(mongo_uri) as shop:
        return fuzz(shop, CASES, SEED)


def test_the_contract_holds(mongo_uri: str) -> None:
    outcome = run(mongo_uri)
    assert outcome.violations() == []
    assert outcome.findings.requests >= CASES
    assert outcome.findings.linked
    assert outcome.canaries.records
    met = {(name, status) for name, status, _ in outcome.findings.answers}
    good = {name for name, status in met if status < 400}
    assert {operation["operationId"] for _, _, operation in operations()} <= good
    assert {("refundPurchase", each) for each in (200, 202, 400, 401, 403, 404)} <= met

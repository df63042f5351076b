"""Some hundred fuzzed requests; ``python -m tests.fuzz`` makes thousands."""

from __future__ import annotations

import sys

import pytest

if sys.version_info < (3, 11):
    pytest.skip("schemathesis needs Python 3.11", allow_module_level=True)

from tests.contract import operations
from tests.fuzz.run import FuzzResult, fuzz, make_shop

CASES = 600
SEED = 20240315


def run(mongo_uri: str) -> FuzzResult:
    with make_shop(mongo_uri) as shop:
        return fuzz(shop, CASES, SEED)


def test_api_matches_its_openapi_document(mongo_uri: str) -> None:
    result = run(mongo_uri)
    assert result.violations() == []
    assert result.findings.requests >= CASES
    assert result.findings.linked
    assert result.canaries.records
    seen = {(name, status) for name, status, _ in result.findings.answers}
    successful = {name for name, status in seen if status < 400}
    assert {operation["operationId"] for _, _, operation in operations()} <= successful
    assert {("refundPurchase", each) for each in (200, 202, 400, 401, 403, 404)} <= seen

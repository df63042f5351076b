"""Every fenced block of the documentation is run or checked."""

from __future__ import annotations

import pytest

from tests.docs.checks import check, check_query
from tests.docs.pages import BLOCKS, Block


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_is_valid(block: Block) -> None:
    check(block)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("perl", "print 1"),
        ("", "anything"),
        ("sh", "flask refunds refnd 64b5"),
        ("sh", "flask refunds list --stauts pending"),
        ("sh", "python -m flask_refunds.testing --prt 1"),
        ("sh", "python examples/sead.py"),
        ("sh", "python examples/seed.py --purchase 1 --refund"),
        ("sh", "pip install ./flask_refunds[promtheus]"),
        ("sh", "curl localhost:5000/api/payments/admin/refnds"),
        ("sh", "curl -X POST localhost:5000/api/payments/admin/refunds"),
        ("sh", "rm -rf /"),
        ("sh", "echo $(rm -rf /)"),
        ("sh", "if true"),
        ("console", "no prompt"),
        ("python", "def f(:"),
        ("json", "{'a': 1}"),
        ("yaml", "a: [1"),
        ("yaml", "kind: CronJob\napiVersion: v1"),
        ("yaml", "groups: [{rules: [{alert: A, expr: flask_refunds_opne > 0}]}]"),
        ("ini", "[Unit]\n[Service]\nExecStart=flask refunds reconcil"),
        ("text", "* * * * shop flask refunds reconcile"),
        ("text", "* * * * * shop flask refunds reconcil"),
        ("text", "ERROR flask_refunds: Stripe rejected a refund: refund_id=1"),
        ("js", "sessionStorage.setItem('x', token); location.assign('//elsewhere')"),
        ("js", "async function refund() {"),
    ],
)
def test_invalid_block_is_detected(kind: str, text: str) -> None:
    with pytest.raises(BaseException):  # noqa: B017, PT011 - each check raises its own type
        check(Block("README.md", 1, kind, text, ""))


@pytest.mark.parametrize(
    "query",
    [
        "up == 0",
        "sum(flask_refunds_refunds)",
        'flask_refunds_open{state="pending"}',
        'flask_refunds_open{status="unknown"}',
        'flask_refunds_stripe_seconds_count{outcome="lost"}',
        "sum by (code) (flask_refunds_open)",
        "sum(flask_refunds_open",
    ],
)
def test_invalid_query_is_detected(query: str) -> None:
    with pytest.raises(AssertionError):
        check_query(query)

"""Many callers with one view of a payment, four worker processes and a real MongoDB make one partial refund.

The sandbox allows refunding more than was paid, so only the order of the reads prevents it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.integration.workers import call_together, gunicorn
from tests.shop import Shop, make_app

CALLERS = 24
ROUNDS = 10
AMOUNT = 2999
WORKERS = ("--workers", "4", "--worker-class", "gthread", "--threads", "6")
PART = {"amount": 500, "refundable": AMOUNT}


def run(
    mongo_uri: str, database: Any, sandbox: StripeSandbox, calls: list[dict[str, Any] | None], *, admins: int
) -> tuple[list[str], list[Any]]:
    """Let every caller send one of these bodies at the same time, for many payments.

    :return: the payments, and the answers for each.
    """
    shop = Shop(make_app(), database)
    headers = [shop.headers(), *(shop.headers(shop.add_user(role="admin")) for _ in range(admins - 1))]
    payments = [sandbox.create_payment(AMOUNT) for _ in range(ROUNDS)]
    purchases = [shop.add_purchase(payment) for payment in payments]
    environment = {"MONGO_URI": mongo_uri, "STRIPE_API_BASE": sandbox.url, "ALLOW_PARTIAL": "1"}

    with gunicorn(*WORKERS, **environment) as server:

        def call(number: int, caller: int) -> Any:
            path = f"/api/payments/admin/refund/{purchases[number]}"
            return server.post(path, headers[caller % admins], calls[caller % len(calls)])

        answers = call_together(CALLERS, ROUNDS, call)
    assert len({answer.worker for each in answers for answer in each}) == 4
    return payments, answers


@pytest.mark.parametrize("number", [{"number": 1}, {}])
@pytest.mark.parametrize("admins", [1, CALLERS])
def test_24_calls_with_one_view_make_one_refund(
    mongo_uri: str, database: Any, generous: StripeSandbox, admins: int, number: dict[str, int]
) -> None:
    payments, rounds = run(mongo_uri, database, generous, [PART | number], admins=admins)
    for payment, answers in zip(payments, rounds, strict=True):
        seen = Counter((answer.status, answer.body.get("code")) for answer in answers)
        refusal = "refund_in_progress" if admins == 1 else "refundable_changed"
        assert set(seen) <= {(200, None), (409, "refund_in_progress"), (409, refusal)}, seen
        succeeded = [answer.body for answer in answers if answer.status == 200]
        assert [each.get("replayed") for each in succeeded].count(None) == 1, succeeded
        assert {each["refund"]["id"] for each in succeeded} == {f"{payment}:1"}
        assert admins == 1 or len(succeeded) == 1
        assert [each["amount"] for each in generous.refunds(payment)] == [500]
    assert database.flask_refunds.count_documents({}) == ROUNDS


def test_parts_and_wholes_together_never_return_more_than_was_paid(
    mongo_uri: str, database: Any, generous: StripeSandbox
) -> None:
    views = [{"amount": amount, "refundable": AMOUNT, "number": 1} for amount in (500, 1500, AMOUNT)]
    payments, rounds = run(mongo_uri, database, generous, [None, *views], admins=4)
    for payment, answers in zip(payments, rounds, strict=True):
        refunds = generous.refunds(payment)
        assert sum(each["amount"] for each in refunds) <= AMOUNT, refunds
        assert 1 <= len(refunds) <= 2  # a part, and then perhaps the rest
        for answer in answers:
            shown = answer.body.get("refund")
            assert answer.status != 200 or shown["amount"] in [each["amount"] for each in refunds]

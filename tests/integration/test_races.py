"""Many callers, four worker processes and a real MongoDB make one refund per payment.

The sandbox allows refunding a payment twice, so only the refund protocol prevents it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.integration.workers import call_together, gunicorn
from tests.shop import Shop, make_app

CALLERS = 64
ROUNDS = 100
WORKERS = ("--workers", "4", "--worker-class", "gthread", "--threads", "16")


@pytest.mark.parametrize("purchases_per_cart", [1, 2])
def test_64_concurrent_calls_make_one_refund(
    mongo_uri: str, database: Any, generous: StripeSandbox, purchases_per_cart: int
) -> None:
    shop = Shop(make_app(), database)
    payments = [generous.create_payment(1999) for _ in range(ROUNDS)]
    carts = [[shop.add_purchase(payment) for _ in range(purchases_per_cart)] for payment in payments]
    headers = shop.headers()

    with gunicorn(*WORKERS, MONGO_URI=mongo_uri, STRIPE_API_BASE=generous.url) as server:

        def call(number: int, caller: int) -> Any:
            purchase = carts[number][caller % purchases_per_cart]
            return server.post(f"/api/payments/admin/refund/{purchase}", headers)

        rounds = call_together(CALLERS, ROUNDS, call)

    for answers in rounds:
        seen = Counter(answer.status for answer in answers)
        assert seen[200] == 1, seen
        assert set(seen) <= {200, 400, 409}, seen
    assert len({answer.worker for answers in rounds for answer in answers}) == 4
    assert [len(generous.refunds(payment)) for payment in payments] == [1] * ROUNDS
    assert [generous.money_refunded(payment) for payment in payments] == [1999] * ROUNDS
    assert database.purchases.count_documents({"status": "refunded"}) == ROUNDS * purchases_per_cart
    assert database.flask_refunds.count_documents(
        {"status": "succeeded"}
    ) == database.flask_refunds.count_documents({})


def test_workers_forked_from_a_warm_process_do_not_mix_up_responses(
    mongo_uri: str, database: Any, sandbox: StripeSandbox
) -> None:
    callers, rounds = 40, 50
    shop = Shop(make_app(), database)
    shop.add_purchase(sandbox.create_payment(1), warmUp=True)
    payments = [[sandbox.create_payment(1999) for _ in range(callers)] for _ in range(rounds)]
    purchases = [[shop.add_purchase(payment) for payment in batch] for batch in payments]
    headers = shop.headers()

    with gunicorn(
        *WORKERS, "--preload", MONGO_URI=mongo_uri, STRIPE_API_BASE=sandbox.url, WARM_UP="1"
    ) as server:

        def call(number: int, caller: int) -> Any:
            answer = server.post(f"/api/payments/admin/refund/{purchases[number][caller]}", headers)
            assert answer.status == 200, answer
            assert answer.body["purchase"]["_id"] == str(purchases[number][caller])
            assert answer.body["purchase"]["stripePaymentIntentId"] == payments[number][caller]
            assert answer.body["refund"]["paymentIntent"] == payments[number][caller]
            [refund] = sandbox.refunds(payments[number][caller])
            assert answer.body["refund"]["stripeRefundId"] == refund["id"]
            return answer

        answers = call_together(callers, rounds, call)

    assert len({answer.worker for batch in answers for answer in batch}) == 4

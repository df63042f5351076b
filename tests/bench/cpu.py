"""The CPU time that a refund takes in the worker: ours against the view that people write."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder

from tests.bench import handwritten
from tests.bench.figure import Figure
from tests.bench.places import a_database, a_stripe, pay
from tests.shop import JWT_SECRET, STRIPE_KEY, Shop, make_app

BATCH = 50
ROUNDS = 20
BUDGET = 1.0


def run(purchases: int) -> list[Figure]:
    """Refund in turns, a batch each, in this process and without a server in between.

    :param purchases: how many other purchases there are.
    """
    with a_database("refunds_bench_cpu") as database, a_stripe() as stripe_url:
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=stripe_url), database)
        database.purchases.create_index("stripePaymentIntentId")
        apps = {
            "ours": shop.app,
            "handwritten": handwritten.make_app(database, JWT_SECRET, STRIPE_KEY, stripe_url),
        }
        for app in apps.values():
            _cpu(app, shop, stripe_url)  # what is paid once is not measured
        taken: dict[str, list[float]] = {name: [] for name in apps}
        for _ in range(ROUNDS):
            for name, app in apps.items():
                taken[name].append(_cpu(app, shop, stripe_url))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    detail = f"{medians['ours'] * 1000:.2f} ms / {medians['handwritten'] * 1000:.2f} ms"
    ratio = medians["ours"] / medians["handwritten"]
    return [Figure("CPU of the worker per refund: ours / handwritten", ratio, BUDGET, detail)]


def _cpu(app: Flask, shop: Shop, stripe_url: str) -> float:
    """CPU seconds a refund, over a batch."""
    purchases = [shop.add_purchase(payment) for payment in pay(stripe_url, BATCH)]
    environs = [_environ(shop, purchase) for purchase in purchases]
    began = time.process_time()
    statuses = [_call(app, environ) for environ in environs]
    taken = time.process_time() - began
    assert set(statuses) == {"200 OK"}, statuses
    return taken / BATCH


def _environ(shop: Shop, purchase: Any) -> dict[str, Any]:
    path = f"/api/payments/admin/refund/{purchase}"
    return EnvironBuilder(path, method="POST", headers=shop.headers()).get_environ()


def _call(app: Flask, environ: dict[str, Any]) -> str:
    answered: list[str] = []

    def start_response(status: str, headers: Sequence[Any], error: Any = None) -> Any:
        answered.append(status)

    for _ in app(environ, start_response):
        pass
    return answered[0]

"""The worker's CPU time per refund, against a hand-written view."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder

from tests.bench import handwritten
from tests.bench.measurement import Measurement
from tests.bench.servers import create_payments, empty_database, sandbox_server
from tests.shop import JWT_SECRET, STRIPE_KEY, Shop, make_app

BATCH = 50
ROUNDS = 20
BUDGET = 1.0


def run(purchases: int) -> list[Measurement]:
    """Refund batches with each app alternately, in this process and without a server."""
    with empty_database("refunds_bench_cpu") as database, sandbox_server() as stripe_url:
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=stripe_url), database)
        database.purchases.create_index("stripePaymentIntentId")
        apps = {
            "library": shop.app,
            "handwritten": handwritten.make_app(database, JWT_SECRET, STRIPE_KEY, stripe_url),
        }
        for app in apps.values():
            _cpu_seconds(app, shop, stripe_url)  # warm up
        times: dict[str, list[float]] = {name: [] for name in apps}
        for _ in range(ROUNDS):
            for name, app in apps.items():
                times[name].append(_cpu_seconds(app, shop, stripe_url))
    medians = {name: statistics.median(each) for name, each in times.items()}
    detail = f"{medians['library'] * 1000:.2f} ms / {medians['handwritten'] * 1000:.2f} ms"
    ratio = medians["library"] / medians["handwritten"]
    return [Measurement("CPU time of the worker per refund: library / handwritten", ratio, BUDGET, detail)]


def _cpu_seconds(app: Flask, shop: Shop, stripe_url: str) -> float:
    """The CPU seconds per refund of a batch."""
    purchases = [shop.add_purchase(payment) for payment in create_payments(stripe_url, BATCH)]
    environs = [_environ(shop, purchase) for purchase in purchases]
    started = time.process_time()
    statuses = [_call(app, environ) for environ in environs]
    seconds = time.process_time() - started
    assert set(statuses) == {"200 OK"}, statuses
    return seconds / BATCH


def _environ(shop: Shop, purchase: Any) -> dict[str, Any]:
    path = f"/api/payments/admin/refund/{purchase}"
    return EnvironBuilder(path, method="POST", headers=shop.headers()).get_environ()


def _call(app: Flask, environ: dict[str, Any]) -> str:
    statuses: list[str] = []

    def start_response(status: str, headers: Sequence[Any], error: Any = None) -> Any:
        statuses.append(status)

    for _ in app(environ, start_response):
        pass
    return statuses[0]

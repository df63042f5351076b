"""Refunds a second of gunicorn workers, and the duration of a refund without Stripe's."""

from __future__ import annotations

import http.client
import queue
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bson import ObjectId

from tests.bench.measurement import Measurement
from tests.bench.servers import empty_database, instant_stripe, uri_of
from tests.integration.workers import Server, gunicorn
from tests.shop import Shop, make_app

STRIPE_SECONDS = 0.3
THREADS = 32
CANDIDATES = (1, 2, 4, 8, 16)
"""Numbers of threads per worker. Each app is measured with its best one."""
WORKERS = 2
TRIAL, ROUND, ROUNDS = 400, 800, 5
"""Refunds to find the best number of threads, refunds per round, and rounds."""


def run(purchases: int) -> list[Measurement]:
    """Measure with a Stripe that takes its usual time, and with an instant one."""
    with empty_database("refunds_bench_throughput") as database:
        shop = Shop(make_app(REFUNDS_MONGO=database), database)
        database.purchases.create_index("stripePaymentIntentId")
        return [_slow_stripe(shop), *_instant_stripe(shop)]


def _slow_stripe(shop: Shop) -> Measurement:
    """Measure one process, whose threads mostly wait for Stripe."""
    with run_app(shop, "library", STRIPE_SECONDS, workers=1, threads=THREADS) as server:
        refund(shop, server, 4 * THREADS, THREADS)
        rate = refund(shop, server, 2000, THREADS)
    limit = THREADS / STRIPE_SECONDS
    name = f"refunds a second, 1 process x {THREADS} threads, Stripe at 300 ms: library / limit"
    return Measurement(name, rate / limit, None, f"{rate:.1f} / {limit:.1f}", floor=95 / limit)


def _instant_stripe(shop: Shop) -> list[Measurement]:
    """Compare both apps, with two workers that wait only for MongoDB."""
    with ExitStack() as stack:
        best = {}
        for app in ("library", "handwritten"):
            rates = {threads: _rate(shop, app, threads) for threads in CANDIDATES}
            threads = max(rates, key=lambda each: rates[each])
            best[app] = threads, stack.enter_context(run_app(shop, app, 0, WORKERS, threads))
        rates_of: dict[str, list[float]] = {app: [] for app in best}
        times_of: dict[str, list[float]] = {app: [] for app in best}
        for _ in range(ROUNDS):
            for app, (threads, server) in best.items():
                rates_of[app].append(refund(shop, server, ROUND, WORKERS * threads * 2))
                times_of[app].append(1 / refund(shop, server, ROUND // 8, 1))
    rate = {app: statistics.median(each) for app, each in rates_of.items()}
    milliseconds = {app: statistics.median(each) * 1000 for app, each in times_of.items()}
    rate_texts = (f"{rate[app]:.0f} ({WORKERS} x {threads})" for app, (threads, _) in best.items())
    return [
        Measurement(
            f"refunds a second, {WORKERS} workers, instant Stripe: library / handwritten",
            rate["library"] / rate["handwritten"],
            None,
            " / ".join(rate_texts),
            floor=1.0,
        ),
        Measurement(
            "time of a refund without Stripe's: library / handwritten",
            milliseconds["library"] / milliseconds["handwritten"],
            None,
            f"{milliseconds['library']:.1f} ms / {milliseconds['handwritten']:.1f} ms",
        ),
    ]


def _rate(shop: Shop, app: str, threads: int) -> float:
    with run_app(shop, app, 0, WORKERS, threads) as server:
        refund(shop, server, TRIAL // 4, WORKERS * threads * 2)
        return refund(shop, server, TRIAL, WORKERS * threads * 2)


@contextmanager
def run_app(shop: Shop, app: str, pause: float, workers: int, threads: int) -> Iterator[Server]:
    """Run one of the two apps in gunicorn, with its own Stripe."""
    options = ["--workers", str(workers), "--worker-class", "gthread", "--threads", str(threads)]
    options += ["--keep-alive", "60", "--backlog", "2048"]
    with instant_stripe(pause) as stripe_url:
        environment = {"MONGO_URI": uri_of(shop.db), "STRIPE_API_BASE": stripe_url}
        with gunicorn(*options, app=f"tests.bench.wsgi:{app}()", **environment) as server:
            yield server


def refund(shop: Shop, server: Server, count: int, callers: int) -> float:
    """Refund new purchases with so many concurrent callers.

    :return: refunds a second.
    """
    purchases: queue.SimpleQueue[ObjectId] = queue.SimpleQueue()
    for purchase in _add_purchases(shop, count):
        purchases.put(purchase)
    headers = shop.headers()
    statuses: list[int] = []

    def call() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while True:
            try:
                purchase = purchases.get_nowait()
            except queue.Empty:
                connection.close()
                return
            connection.request("POST", f"/api/payments/admin/refund/{purchase}", headers=headers)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    assert statuses == [200] * count, (len(statuses), set(statuses))
    return count / seconds


def _add_purchases(shop: Shop, count: int) -> Sequence[ObjectId]:
    purchases = [
        {"_id": ObjectId(), "user": ObjectId(), "content": ObjectId(), "amount": 19.99, "status": "completed"}
        for _ in range(count)
    ]
    for purchase in purchases:
        purchase["stripePaymentIntentId"] = f"pi_bench{purchase['_id']}"
    shop.db.purchases.insert_many(purchases)
    return [purchase["_id"] for purchase in purchases]

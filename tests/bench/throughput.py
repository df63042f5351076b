"""Refunds a second of gunicorn's workers, and what a refund adds to Stripe's time."""

from __future__ import annotations

import http.client
import queue
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bson import ObjectId

from tests.bench.figure import Figure
from tests.bench.places import a_database, an_instant_stripe
from tests.integration.workers import Server, gunicorn
from tests.shop import Shop, make_app

STRIPE_SECONDS = 0.3
THREADS = 32
CANDIDATES = (1, 2, 4, 8, 16)
"""Threads a worker, of which each side is measured at its best."""
WORKERS = 2
TRIAL, ROUND, ROUNDS = 400, 800, 5
"""Refunds to find the best settings with, refunds a round, and rounds."""


def run(purchases: int) -> list[Figure]:
    """Both loads: a Stripe that takes its time, and one that takes none."""
    with a_database("refunds_bench_throughput") as database:
        shop = Shop(make_app(REFUNDS_MONGO=database), database)
        database.purchases.create_index("stripePaymentIntentId")
        return [_waiting(shop), *_busy(shop)]


def _waiting(shop: Shop) -> Figure:
    """One process at Stripe's pace: as many refunds a second as its threads can wait for."""
    with serving(shop, "ours", STRIPE_SECONDS, workers=1, threads=THREADS) as server:
        refund(shop, server, 4 * THREADS, THREADS)
        rate = refund(shop, server, 2000, THREADS)
    limit = THREADS / STRIPE_SECONDS
    name = f"refunds a second, 1 process x {THREADS} threads, Stripe at 300 ms: ours / what waiting allows"
    return Figure(name, rate / limit, None, f"{rate:.1f} / {limit:.1f}", floor=95 / limit)


def _busy(shop: Shop) -> list[Figure]:
    """Two workers and an instant Stripe: nothing to wait for but MongoDB and each other."""
    with ExitStack() as stack:
        best = {}
        for side in ("ours", "theirs"):
            rates = {threads: _try(shop, side, threads) for threads in CANDIDATES}
            threads = max(rates, key=lambda each: rates[each])
            best[side] = threads, stack.enter_context(serving(shop, side, 0, WORKERS, threads))
        rates_of: dict[str, list[float]] = {side: [] for side in best}
        alone: dict[str, list[float]] = {side: [] for side in best}
        for _ in range(ROUNDS):
            for side, (threads, server) in best.items():
                rates_of[side].append(refund(shop, server, ROUND, WORKERS * threads * 2))
                alone[side].append(1 / refund(shop, server, ROUND // 8, 1))
    rate = {side: statistics.median(rates) for side, rates in rates_of.items()}
    takes = {side: statistics.median(times) * 1000 for side, times in alone.items()}
    settings = {side: f"{WORKERS} x {threads}" for side, (threads, _) in best.items()}
    detail = f"{rate['ours']:.0f} ({settings['ours']}) / {rate['theirs']:.0f} ({settings['theirs']})"
    return [
        Figure(
            f"refunds a second, {WORKERS} workers, instant Stripe: ours / handwritten",
            rate["ours"] / rate["theirs"],
            None,
            detail,
            floor=1.0,
        ),
        Figure(
            "time of a refund, beside Stripe's: ours / handwritten",
            takes["ours"] / takes["theirs"],
            None,
            f"{takes['ours']:.1f} ms / {takes['theirs']:.1f} ms",
        ),
    ]


def _try(shop: Shop, side: str, threads: int) -> float:
    with serving(shop, side, 0, WORKERS, threads) as server:
        refund(shop, server, TRIAL // 4, WORKERS * threads * 2)
        return refund(shop, server, TRIAL, WORKERS * threads * 2)


@contextmanager
def serving(shop: Shop, side: str, pause: float, workers: int, threads: int) -> Iterator[Server]:
    """One side's app under gunicorn, with a Stripe of its own."""
    options = ["--workers", str(workers), "--worker-class", "gthread", "--threads", str(threads)]
    options += ["--keep-alive", "60", "--backlog", "2048"]
    host, port = shop.db.client.address
    uri = f"mongodb://{host}:{port}/{shop.db.name}?directConnection=true"
    with (
        an_instant_stripe(pause) as stripe,
        gunicorn(*options, app=f"tests.bench.wsgi:{side}()", MONGO_URI=uri, STRIPE_API_BASE=stripe) as server,
    ):
        yield server


def refund(shop: Shop, server: Server, count: int, callers: int) -> float:
    """Refund new purchases by so many callers at once.

    :return: refunds a second.
    """
    waiting: queue.SimpleQueue[ObjectId] = queue.SimpleQueue()
    for purchase in _add_purchases(shop, count):
        waiting.put(purchase)
    headers = shop.headers()
    statuses: list[int] = []

    def call() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while True:
            try:
                purchase = waiting.get_nowait()
            except queue.Empty:
                connection.close()
                return
            connection.request("POST", f"/api/payments/admin/refund/{purchase}", headers=headers)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    assert statuses == [200] * count, (len(statuses), set(statuses))
    return count / took


def _add_purchases(shop: Shop, count: int) -> Sequence[ObjectId]:
    made = [
        {"_id": ObjectId(), "user": ObjectId(), "content": ObjectId(), "amount": 19.99, "status": "completed"}
        for _ in range(count)
    ]
    for purchase in made:
        purchase["stripePaymentIntentId"] = f"pi_bench{purchase['_id']}"
    shop.db.purchases.insert_many(made)
    return [purchase["_id"] for purchase in made]

"""A sweep of refunds that were made in Stripe's Dashboard: requests, time and memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask

from flask_refunds.core.reconcile import ReconcileReport
from flask_refunds.extension import get_refunds
from flask_refunds.testing import StripeSandbox
from tests.bench.measurement import Measurement
from tests.bench.servers import empty_database
from tests.shop import Shop, make_app

REFUNDS = 10_000
PERIOD = timedelta(days=50)
RATE = 80.0
LATENCY = 0.3
MAX_GROWTH_MB = 16.0
MAX_REQUESTS_WITHOUT_NEWS = 3


def run(purchases: int) -> list[Measurement]:
    """Sweep 10,000 refunds that are new, then the same again, then make an ordinary pass."""
    passes = (
        (f"sweep of {REFUNDS:,} new refunds", True, 1.02 * REFUNDS),
        (f"sweep of {REFUNDS:,} known refunds", True, 1.02 * REFUNDS / 100),
        ("ordinary pass without news", False, MAX_REQUESTS_WITHOUT_NEWS),
    )
    began = time.time() - PERIOD.total_seconds()
    with empty_database("refunds_bench_sweep") as database, StripeSandbox(clock=lambda: began) as sandbox:
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
        assert shop.flask("init-db").exit_code == 0
        dashboard_refund(shop, sandbox, REFUNDS, PERIOD)
        sandbox.latency = LATENCY
        found = []
        for name, full, max_requests in passes:
            requests, started = len(sandbox.requests), time.perf_counter()
            with watch_memory() as memory:
                report = reconcile(shop.app, full=full)
            seconds = time.perf_counter() - started
            assert report.sweep is not None
            assert report.sweep.is_complete
            requests = len(sandbox.requests) - requests
            detail = f"{requests:,} requests, {seconds:.1f} s"
            found.append(Measurement(f"{name}: requests", requests / max_requests, 1.0, detail))
            if full:
                found.append(growth(name, memory))
        assert database.flask_refunds.count_documents({"status": "succeeded"}) == REFUNDS
        assert database.purchases.count_documents({"status": "refunded"}) == REFUNDS
    return found


def dashboard_refund(shop: Shop, sandbox: StripeSandbox, count: int, period: timedelta) -> None:
    """Sell and refund so many times, evenly in a period of the sandbox's clock."""
    for _ in range(count):
        payment = sandbox.create_payment(1999)
        shop.add_purchase(payment)
        sandbox.dashboard_refund(payment)
        sandbox.advance(period.total_seconds() / count)


def reconcile(app: Flask, **options: Any) -> ReconcileReport:
    """Make a pass at the default rate of a live key."""
    with app.app_context():
        runner = get_refunds(app).reconcile_runner
        return runner.run(older_than=timedelta(hours=1), rate=RATE, **options)


@contextmanager
def watch_memory() -> Iterator[list[float]]:
    """Yield a list of this process's resident memory in MB, five times a second (Linux only)."""
    memory, stop = [_resident_memory()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            memory.append(_resident_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield memory
    finally:
        stop.set()
        watcher.join()
        memory.append(_resident_memory())


def _resident_memory() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(name: str, memory: list[float]) -> Measurement:
    """Return the growth after the first quarter, when every thread and connection exists."""
    settled = memory[len(memory) // 4 :]
    grown = max(settled) - settled[0]
    detail = f"{settled[0]:.0f} MB, {grown:+.1f} MB"
    return Measurement(f"{name}: memory growth / {MAX_GROWTH_MB:g} MB", grown / MAX_GROWTH_MB, 1.0, detail)

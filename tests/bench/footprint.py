"""What the library adds to a worker: import time, and memory after many refunds."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from tests.bench.measurement import Measurement
from tests.bench.servers import empty_database
from tests.bench.throughput import refund, run_app
from tests.integration.workers import Server
from tests.shop import Shop, make_app

ROUNDS = 15
IMPORT_SECONDS = 0.040
REFUNDS = 10_000
ROOT = Path(__file__).parents[2]
APP = "import flask, pymongo, jwt"
LIBRARY = f"{APP}, flask_refunds"


def run(purchases: int) -> list[Measurement]:
    """Measure both in an app that imports Flask, PyMongo and PyJWT anyway."""
    with empty_database("refunds_bench_footprint") as database:
        shop = Shop(make_app(REFUNDS_MONGO=database), database)
        database.purchases.create_index("stripePaymentIntentId")
        return [_import_time(), _memory_growth(shop)]


def _import_time() -> Measurement:
    times: dict[str, list[float]] = {APP: [], LIBRARY: []}
    for _ in range(ROUNDS):
        for statement, seconds in times.items():
            seconds.append(_cpu_seconds(statement))
    medians = {statement: statistics.median(seconds) for statement, seconds in times.items()}
    added = medians[LIBRARY] - medians[APP]
    detail = f"{added * 1000:.1f} ms in addition to the app's {medians[APP] * 1000:.0f} ms"
    return Measurement("import flask_refunds / 40 ms", added / IMPORT_SECONDS, 1.0, detail)


def _cpu_seconds(statement: str) -> float:
    code = f"{statement}; import time; print(time.process_time())"
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def _memory_growth(shop: Shop) -> Measurement:
    """Compare a worker's memory when each thread has made some refunds, and after many more."""
    with run_app(shop, "library", 0, workers=1, threads=8) as server:
        before = _memory(server)
        refund(shop, server, REFUNDS // 10, 16)
        warm = _memory(server)
        refund(shop, server, REFUNDS, 16)
        after = _memory(server)
    detail = f"{before:.0f} MB at rest, {warm:.0f} warm, {after:.0f} after {REFUNDS:,} more"
    return Measurement("memory of a worker: after many refunds / warm", after / warm, 1.1, detail)


def _memory(server: Server) -> float:
    """The worker's resident memory in MB (Linux only)."""
    pid = server.process.pid
    worker = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    status = Path(f"/proc/{worker}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

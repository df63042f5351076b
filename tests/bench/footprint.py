"""What the library adds to a worker: the time to import it, and memory at rest and after many refunds."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from tests.bench.figure import Figure
from tests.bench.places import a_database
from tests.bench.throughput import refund, serving
from tests.integration.workers import Server
from tests.shop import Shop, make_app

ROUNDS = 15
IMPORT_SECONDS = 0.040
REFUNDS = 10_000
ROOT = Path(__file__).parents[2]
HOST = "import flask, pymongo, jwt"
OURS = f"{HOST}, flask_refunds"


def run(purchases: int) -> list[Figure]:
    """Both, beside a host that has Flask, PyMongo and PyJWT anyway."""
    with a_database("refunds_bench_footprint") as database:
        shop = Shop(make_app(REFUNDS_MONGO=database), database)
        database.purchases.create_index("stripePaymentIntentId")
        return [_importing(), _remembering(shop)]


def _importing() -> Figure:
    taken: dict[str, list[float]] = {HOST: [], OURS: []}
    for _ in range(ROUNDS):
        for statement, times in taken.items():
            times.append(_cpu_seconds(statement))
    medians = {statement: statistics.median(times) for statement, times in taken.items()}
    added = medians[OURS] - medians[HOST]
    detail = f"{added * 1000:.1f} ms beside the host's own {medians[HOST] * 1000:.0f} ms"
    return Figure("import flask_refunds / 40 ms", added / IMPORT_SECONDS, 1.0, detail)


def _cpu_seconds(statement: str) -> float:
    code = f"{statement}; import time; print(time.process_time())"
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def _remembering(shop: Shop) -> Figure:
    """A worker's memory when each of its threads has made refunds, and when it has made many."""
    with serving(shop, "ours", 0, workers=1, threads=8) as server:
        before = _memory(server)
        refund(shop, server, REFUNDS // 10, 16)
        warm = _memory(server)
        refund(shop, server, REFUNDS, 16)
        after = _memory(server)
    detail = f"{before:.0f} MB at rest, {warm:.0f} warm, {after:.0f} after {REFUNDS:,} more"
    return Figure("memory of a worker: after many refunds / warm", after / warm, 1.1, detail)


def _memory(server: Server) -> float:
    """What the worker holds, in MB (Linux tells)."""
    pid = server.process.pid
    worker = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    status = Path(f"/proc/{worker}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

"""The rate of a bulk run at a Stripe that enforces a limit, its share of 429 responses, and its memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bson import ObjectId

from tests.bench.measurement import Measurement
from tests.bench.servers import empty_database, sandbox_server, uri_of
from tests.integration.commands import COMMAND
from tests.integration.workers import ROOT

REFUNDS = 5000
RATE = 95
LIMIT = 100
LATENCY_MS = 300
MIN_RATE = 90.0
MAX_RATE_LIMITED = 0.01
MAX_GROWTH_MB = 16.0


def run(purchases: int) -> list[Measurement]:
    """Run ``flask refunds bulk`` on 5,000 purchases of a larger shop."""
    with (
        empty_database("refunds_bench_bulk") as database,
        sandbox_server("--latency-ms", str(LATENCY_MS), "--rate-limit", str(LIMIT)) as stripe_url,
        tempfile.TemporaryDirectory() as folder,
    ):
        ids = _add_purchases(database, stripe_url, purchases)
        file = Path(folder) / "ids.txt"
        file.write_text("".join(f"{each}\n" for each in ids))
        environment = {**os.environ, "MONGO_URI": uri_of(database), "STRIPE_API_BASE": stripe_url}
        command = [*COMMAND, "init-db"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        memory = _refund(environment, file)
        seconds = _duration(database)
        statuses = _call_sandbox(stripe_url, "requests")["byStatus"]
        refunds = len(_call_sandbox(stripe_url, "refunds")["data"])
    assert refunds == REFUNDS, f"{refunds} refunds were made, of {REFUNDS}"
    return _measurements(seconds, memory, statuses)


def _measurements(seconds: float, memory: list[float], statuses: dict[str, int]) -> list[Measurement]:
    rate, requests, rate_limited = REFUNDS / seconds, sum(statuses.values()), statuses.get("429", 0)
    settled = memory[len(memory) // 4 :]
    growth = max(settled) - settled[0]
    title = f"bulk, {REFUNDS:,} refunds at {LATENCY_MS} ms, --rate {RATE}, limit {LIMIT}/s"
    measured = (
        (f"{MIN_RATE:g}/s / its rate", MIN_RATE / rate, f"{rate:.1f}/s, {seconds:.1f} s"),
        (
            f"429 responses / {MAX_RATE_LIMITED:.0%}",
            rate_limited / requests / MAX_RATE_LIMITED,
            f"{rate_limited} of {requests:,}",
        ),
        (
            f"memory growth / {MAX_GROWTH_MB:g} MB",
            growth / MAX_GROWTH_MB,
            f"{settled[0]:.0f} MB, {growth:+.1f} MB",
        ),
    )
    return [Measurement(f"{title}: {name}", ratio, 1.0, detail) for name, ratio, detail in measured]


def _duration(database: Any) -> float:
    """The seconds from the creation of the first refund record to the end of the last refund."""
    span = {"_id": None, "first": {"$min": "$createdAt"}, "last": {"$max": "$settledAt"}}
    [found] = database.flask_refunds.aggregate([{"$group": span}])
    seconds: float = (found["last"] - found["first"]).total_seconds()
    return seconds


def _refund(environment: dict[str, str], file: Path) -> list[float]:
    """Run the command.

    :return: its resident memory in MB, twice a second.
    """
    options = ["--skip-amounts", "--yes", "--rate", str(RATE), "--output", str(file.with_suffix(".csv"))]
    process = subprocess.Popen([*COMMAND, "bulk", str(file), *options], cwd=ROOT, env=environment)
    memory: list[float] = []
    watcher = threading.Thread(target=_watch, args=(process, memory))
    watcher.start()
    assert process.wait(timeout=600) == 0
    watcher.join()
    return memory


def _watch(process: subprocess.Popen[bytes], memory: list[float]) -> None:
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            return
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        if found:
            memory.append(int(found[1]) / 1024)
        time.sleep(0.5)


def _add_purchases(database: Any, stripe_url: str, others: int) -> list[ObjectId]:
    """Add purchases to refund, and others.

    :return: the IDs of the former.
    """
    params = urlencode({"amount": 1999, "currency": "usd", "count": REFUNDS}).encode()
    payments = _call_sandbox(stripe_url, "payments", params)["ids"]
    payments += [f"pi_other_{number}" for number in range(others)]
    ids = []
    for start in range(0, len(payments), 10_000):
        purchases = [
            {"stripePaymentIntentId": each, "status": "completed", "amount": 19.99}
            for each in payments[start : start + 10_000]
        ]
        ids += database.purchases.insert_many(purchases).inserted_ids
    return ids[:REFUNDS]


def _call_sandbox(stripe_url: str, path: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(f"{stripe_url}/_sandbox/{path}", body, timeout=120) as response:
        return json.load(response)

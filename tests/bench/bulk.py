"""How fast a bulk run is at a Stripe that enforces a limit, how often it is turned away, and its memory."""

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

from tests.bench.figure import Figure
from tests.bench.places import a_database, a_stripe
from tests.integration.commands import COMMAND
from tests.integration.workers import ROOT

REFUNDS = 5000
RATE = 95
LIMIT = 100
LATENCY_MS = 300
LEAST_RATE = 90.0
MOST_THROTTLED = 0.01
MOST_GROWTH_MB = 16.0


def run(purchases: int) -> list[Figure]:
    """Run ``flask refunds bulk`` on 5,000 purchases in a shop of many."""
    with (
        a_database("refunds_bench_bulk") as database,
        a_stripe("--latency-ms", str(LATENCY_MS), "--rate-limit", str(LIMIT)) as stripe_url,
        tempfile.TemporaryDirectory() as folder,
    ):
        ids = _fill(database, stripe_url, purchases)
        file = Path(folder) / "ids.txt"
        file.write_text("".join(f"{each}\n" for each in ids))
        environment = {**os.environ, "MONGO_URI": _uri(database), "STRIPE_API_BASE": stripe_url}
        _run(environment, "init-db")
        memory = _bulk(environment, file)
        seconds = _duration(database)
        statuses = _ask(stripe_url, "requests")["byStatus"]
        made = _count_refunds(stripe_url)
    return _figures(seconds, memory, statuses, made)


def _figures(seconds: float, memory: list[float], statuses: dict[str, int], made: int) -> list[Figure]:
    rate, throttled = REFUNDS / seconds, statuses.get("429", 0) / sum(statuses.values())
    assert made == REFUNDS, f"{made} refunds were made, of {REFUNDS}"
    settled = memory[len(memory) // 4 :]
    growth = max(settled) - settled[0]
    title = f"bulk, {REFUNDS:,} refunds at {LATENCY_MS} ms, --rate {RATE}, limit {LIMIT}/s"
    return [
        Figure(
            f"{title}: {LEAST_RATE:g}/s / its rate", LEAST_RATE / rate, 1.0, f"{rate:.1f}/s, {seconds:.1f} s"
        ),
        Figure(
            f"{title}: answered 429 / 1 %",
            throttled / MOST_THROTTLED,
            1.0,
            f"{statuses.get('429', 0)} of {sum(statuses.values()):,}",
        ),
        Figure(
            f"{title}: growth of its memory / {MOST_GROWTH_MB:g} MB",
            growth / MOST_GROWTH_MB,
            1.0,
            f"{settled[0]:.0f} MB, {growth:+.1f} MB",
        ),
    ]


def _duration(database: Any) -> float:
    """The seconds from the first refund's row to the last one's end."""
    span = {"_id": None, "first": {"$min": "$createdAt"}, "last": {"$max": "$settledAt"}}
    [found] = database.flask_refunds.aggregate([{"$group": span}])
    seconds: float = (found["last"] - found["first"]).total_seconds()
    return seconds


def _bulk(environment: dict[str, str], file: Path) -> list[float]:
    """Run it.

    :return: its resident memory in MB, twice a second.
    """
    options = ["--skip-amounts", "--yes", "--rate", str(RATE), "--output", str(file.with_suffix(".csv"))]
    process = subprocess.Popen([*COMMAND, "bulk", str(file), *options], cwd=ROOT, env=environment)
    memory: list[float] = []
    watching = threading.Thread(target=_watch, args=(process, memory))
    watching.start()
    assert process.wait(timeout=600) == 0
    watching.join()
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


def _fill(database: Any, stripe_url: str, purchases: int) -> list[ObjectId]:
    """A shop, of whose purchases some are to be refunded."""
    wanted = urlencode({"amount": 1999, "currency": "usd", "count": REFUNDS}).encode()
    payments = _ask(stripe_url, "payments", wanted)["ids"]
    others = [f"pi_other_{number}" for number in range(purchases)]
    ids = []
    for begin in range(0, len(payments) + len(others), 10_000):
        batch = (payments + others)[begin : begin + 10_000]
        made = database.purchases.insert_many(
            [{"stripePaymentIntentId": each, "status": "completed", "amount": 19.99} for each in batch]
        )
        ids += made.inserted_ids
    return ids[: len(payments)]


def _ask(stripe_url: str, what: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(f"{stripe_url}/_sandbox/{what}", body, timeout=120) as answer:
        return json.load(answer)


def _count_refunds(stripe_url: str) -> int:
    return len(_ask(stripe_url, "refunds")["data"])


def _uri(database: Any) -> str:
    host, port = database.client.address
    return f"mongodb://{host}:{port}/{database.name}?directConnection=true"


def _run(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run([*COMMAND, *arguments], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)

"""A reconcile pass over many records that wait for verification, beside many reviews: time and memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any

from flask_refunds.testing import StripeSandbox
from tests.bench.measurement import Measurement
from tests.bench.servers import empty_database
from tests.bench.sweep import growth, reconcile, watch_memory
from tests.shop import Shop, make_app

UNVERIFIED = 800_000
REVIEWS = 120_000
VERIFIED = 20_000
"""Records after which the pass is stopped, as by the end of a cron job's time."""
MIN_RATE = 50.0
MAX_PEAK_MB = 48.0
"""More than pages, threads and connections take, and less than a list of all records."""


def run(purchases: int) -> list[Measurement]:
    """Stop a pass after 20,000 of 800,000 records. 120,000 of them have an open review."""
    with empty_database("refunds_bench_reconcile") as database, StripeSandbox() as sandbox:
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
        add_records(database, UNVERIFIED, REVIEWS)
        assert shop.flask("init-db").exit_code == 0
        done = [time.perf_counter()]
        stop_event = threading.Event()

        def progress() -> None:
            done.append(time.perf_counter())
            if len(done) > VERIFIED:
                stop_event.set()

        with watch_memory() as memory:
            report = reconcile(shop.app, stop_event=stop_event, on_progress=progress)
        listing = time.perf_counter() - done[-1]
        verified = database.flask_refunds.count_documents({"purchasesVerified": True})
    assert verified == report.counts["followed_up"] >= VERIFIED, report.counts
    assert report.review_counts.total() == REVIEWS, report.review_counts
    assert len(report.reviews) == 100
    rate = verified / (done[-1] - done[0])
    peak = max(memory) - memory[0]
    name = f"reconcile, {UNVERIFIED:,} unverified records, {REVIEWS:,} reviews"
    return [
        Measurement(f"{name}: records a second / {MIN_RATE:g}", rate / MIN_RATE, None, f"{rate:.0f}/s", 1.0),
        Measurement(f"{name}: listing the reviews / 5 s", listing / 5, 1.0, f"{listing:.1f} s"),
        growth(f"{name}, {verified:,} verified", memory),
        Measurement(
            f"{name}: memory above the beginning / {MAX_PEAK_MB:g} MB",
            peak / MAX_PEAK_MB,
            1.0,
            f"{peak:+.1f} MB",
        ),
    ]


def add_records(database: Any, count: int, reviews: int) -> None:
    """Store records of refunds that succeeded yesterday. The first ones need review."""
    documents = _records(count, reviews)
    while batch := list(islice(documents, 10_000)):
        database.flask_refunds.insert_many(batch, ordered=False)


def _records(count: int, reviews: int) -> Iterator[dict[str, Any]]:
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    for number in range(count):
        at = yesterday + timedelta(milliseconds=number)
        yield {
            "_id": f"pi_bench{number}:1",
            "paymentIntent": f"pi_bench{number}",
            "number": 1,
            "source": "external",
            "status": "succeeded",
            "stripeRefundId": f"re_bench{number}",
            "amount": 1999,
            "amountCaptured": 1999,
            "currency": "usd",
            "purchaseIds": [],
            "createdAt": at,
            "updatedAt": at,
            "settledAt": at,
            "lookedAt": at,
            "leaseExpiresAt": at,
            "signalsSent": True,
            "purchasesVerified": False,
            "review": {"code": "amounts_disagree", "since": at} if number < reviews else None,
            "history": [{"at": at, "status": "succeeded", "actor": "reconcile"}],
        }

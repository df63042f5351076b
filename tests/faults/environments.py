"""Environments for the experiments: a database, a Stripe sandbox, and a shop with two clocks."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pymongo
from bson import ObjectId
from flask import Flask

import flask_refunds
from flask_refunds import extension
from flask_refunds.clock import now
from flask_refunds.core.reconcile import ReconcileReport
from flask_refunds.stripe_client import gateway
from flask_refunds.testing import StripeSandbox, signed_event
from tests.faults.invariants import Violation, find_violations
from tests.mongod import Mongod, find_mongod
from tests.shop import Shop, open_app

SECRET = "whsec_of_the_fault_experiments_0123"
WEBHOOK_PATH = "/api/payments/webhook/refunds"
LATER = timedelta(minutes=6)
"""How far ahead the reconciling app's clock is. By then the lease of a killed call or sweep has expired."""


def stripe_clock() -> float:
    """Return the sandbox's time, in seconds: between the two clocks, which differ too much to resend."""
    return time.time() + LATER.total_seconds() / 2


STANDALONE, REPLICA_SET = "standalone", "replica set"
CURRENCIES = ("usd", "eur", "jpy", "gbp", "kwd")
SIGNALS = (
    flask_refunds.refund_succeeded,
    flask_refunds.refund_pending,
    flask_refunds.refund_failed,
    flask_refunds.refund_needs_review,
)
_EVENT_TYPES = (
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.refund.updated",
    "charge.refunded",
)
_build_lock = threading.Lock()


@dataclass
class Clock:
    """The library's clock, a settable time ahead of the real one."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return now() + self.ahead


@contextlib.contextmanager
def start_servers() -> Iterator[Mapping[str, Mongod]]:
    """Start a standalone server, where the driver retries no writes, and a one-node replica set."""
    binary = find_mongod()
    assert binary is not None, "mongod isn't installed"
    with mock.patch.object(tempfile, "tempdir", _memory_folder()):
        servers = {STANDALONE: Mongod(binary), REPLICA_SET: Mongod(binary, replica_set="rs")}
    try:
        for server in servers.values():
            server.start()
        servers[REPLICA_SET].initiate([servers[REPLICA_SET]])
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def _memory_folder() -> str | None:
    """Return a folder in memory for the servers' files, if there is space. No experiment cuts the power."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**31
    return str(memory) if usable else None


@contextlib.contextmanager
def no_retry_pause() -> Iterator[None]:
    """Retry requests to Stripe immediately. The pause doesn't affect correctness."""
    with mock.patch.object(gateway, "_PAUSE_SECONDS", 0.0):
        yield


def database_uri(server: Mongod, database: str) -> str:
    """Return the URI of one database, with a direct connection to this server."""
    return f"mongodb://127.0.0.1:{server.port}/{database}?directConnection=true"


def record_signals(app: Flask, database: Any) -> None:
    """Store every signal of an app in the database, where it survives a crash of the app's process."""

    def record(sender: Flask, refund: Any, **extra: Any) -> None:
        database.signals.insert_one({"refund": refund.id, "status": refund.status.value})

    app.extensions["fault_receivers"] = [record]  # signals hold their receivers weakly
    for signal in SIGNALS:
        signal.connect(record, sender=app)


def make_shop_app(database: Any, sandbox_url: str, **overrides: Any) -> Flask:
    """Return a shop's app with a webhook."""
    config = {"REFUNDS_MONGO": database, "STRIPE_API_BASE": sandbox_url, "STRIPE_WEBHOOK_SECRET": SECRET}
    return open_app(**config | {"REFUNDS_ALLOW_PARTIAL": True} | overrides)


class Environment:
    """A shop with its own database and Stripe sandbox.

    :param server: hosts the database.
    :param strict: whether the sandbox rejects refunds that exceed the payment, as Stripe does. If not, only
        the library's own protocol prevents a second refund after a crash.
    """

    def __init__(self, server: Mongod, *, strict: bool) -> None:
        self.uri = database_uri(server, f"faults_{uuid.uuid4().hex[:10]}")
        self.sandbox = StripeSandbox(enforce_amount_limit=strict, clock=stripe_clock).start()
        self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(self.uri, tz_aware=True)
        self.db = self.client.get_default_database()
        self.clock = Clock(LATER)
        self.shop = self.open_shop(Clock())
        self.later_shop = self.open_shop(self.clock)
        self.paid: dict[str, list[ObjectId]] = {}
        self.payment = ""
        self.purchases: list[ObjectId] = []

    @property
    def headers(self) -> dict[str, str]:
        """The admin's headers. A token is valid for an hour, which the experiments can exceed."""
        return self.shop.headers()

    def open_shop(self, clock: Clock, database: Any = None, **config: Any) -> Shop:
        """Return the shop of another process.

        :param clock: the app's components keep the clock that is set when they are built.
        :param database: the same database through another connection.
        """
        database = self.db if database is None else database
        app = make_shop_app(database, self.sandbox.url, **config)
        record_signals(app, self.db)
        with _build_lock, mock.patch.object(extension, "ServerClock", return_value=clock):
            extension.get_refunds(app)
        return Shop(app, self.db)

    def close(self) -> None:
        """Drop the database, close its connections and stop the sandbox."""
        self.client.drop_database(self.db.name)
        self.client.close()
        self.sandbox.stop()

    def clear(self) -> None:
        """Reset everything for the next history."""
        for name in ("flask_refunds", "flask_refunds.state", "flask_refunds.days", "purchases", "signals"):
            self.db[name].delete_many({})
        self.paid.clear()
        self.sandbox.reset()
        self.clock.ahead = LATER

    # Setup

    def pay(self, rng: random.Random, *, card: str = "4242424242424242", cart: int | None = None) -> ObjectId:
        """Create a payment and its completed purchases, and return one of them.

        Its amount is a multiple of 10, as Stripe requires with three decimals.
        """
        amount = 10 * rng.randint(2, 50_000)
        self.payment = self.sandbox.create_payment(amount, rng.choice(CURRENCIES), card)
        count = cart or rng.choice((1, 1, 2, 3))
        self.purchases = [self.shop.add_purchase(self.payment) for _ in range(count)]
        self.paid[self.payment] = self.purchases
        return rng.choice(self.purchases)

    def deliver(self, event: Mapping[str, Any]) -> int:
        """Send an event to the shop's webhook and return the status code."""
        body, headers = signed_event(event, SECRET)
        return self.shop.client.post(WEBHOOK_PATH, data=body, headers=headers).status_code

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Return Stripe's events about refunds, or those of the given types."""
        return [event for event in self.sandbox.events if event["type"] in (types or _EVENT_TYPES)]

    def deliver_all(self, rng: random.Random) -> None:
        """Send all events out of order, and half of them twice."""
        events = self.events()
        events += rng.sample(events, len(events) // 2)
        rng.shuffle(events)
        for event in events:
            status = self.deliver(event)
            assert status == 200, f"the response to {event['type']} was {status}"

    # End of a history

    def reconcile(self) -> ReconcileReport:
        """Run one pass with the later clock."""
        reconciler = extension.get_refunds(self.later_shop.app).reconciler
        report = reconciler.run(reconciler.find(timedelta(0)))
        assert not report.counts["errors"], report
        return report

    def sweep(self) -> None:
        """Sweep Stripe with the later clock."""
        report = extension.get_refunds(self.later_shop.app).sweep.run()
        assert report is not None, "the lease of the killed sweep hasn't expired"
        assert report.is_complete, report
        assert not report.counts["errors"], report

    def records(self) -> list[dict[str, Any]]:
        """Return the payment's refund records, as stored."""
        return list(self.db.flask_refunds.find({"paymentIntent": self.payment}).sort("createdAt", 1))

    def refunds(self) -> list[dict[str, Any]]:
        """Return the payment's refunds at Stripe."""
        return self.sandbox.refunds(self.payment)

    def find_violations(self) -> list[Violation]:
        """Return the violations of all payments in their current state."""
        signals = [(each["refund"], each["status"]) for each in self.db.signals.find()]
        return [
            violation
            for payment, purchases in self.paid.items()
            for violation in find_violations(
                payment,
                at_stripe=self.sandbox.refunds(payment),
                captured=self.sandbox.payment_intent(payment)["amount_received"],
                records=list(self.db.flask_refunds.find({"paymentIntent": payment})),
                purchases=list(self.db.purchases.find({"_id": {"$in": purchases}})),
                signals=signals,
            )
        ]


class EnvironmentPool(contextlib.ExitStack):
    """The environments of one worker, by server and strictness. Each is created when first needed."""

    def __init__(self, servers: Mapping[str, Mongod]) -> None:
        super().__init__()
        self._servers = servers
        self._environments: dict[tuple[str, bool], Environment] = {}

    def get(self, server: str, *, strict: bool) -> Environment:
        """Return an environment without data."""
        key = (server, strict)
        if key not in self._environments:
            self._environments[key] = Environment(self._servers[server], strict=strict)
            self.callback(self._environments[key].close)
        self._environments[key].clear()
        return self._environments[key]


def print_progress(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr, flush=True)

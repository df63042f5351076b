"""Where the experiments take place: a MongoDB, a Stripe, and a shop, called now or two minutes later."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import tempfile
import threading
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
from flask_refunds.core.reconcile import Report
from flask_refunds.stripe_client import gateway
from flask_refunds.testing import StripeSandbox, signed_event
from tests.faults.invariants import Violation, violations
from tests.mongod import Mongod, find_mongod
from tests.shop import Shop, make_app

SECRET = "whsec_of_the_fault_experiments_0123"
WEBHOOK_PATH = "/api/payments/webhook/refunds"
LATER = timedelta(minutes=2)
"""How far ahead the reconciling app's clock is: by then the lease of a killed call is over."""

STANDALONE, REPLICA_SET = "standalone", "replica set"
CURRENCIES = ("usd", "eur", "jpy", "gbp", "kwd")
_SIGNALS = (
    flask_refunds.refund_succeeded,
    flask_refunds.refund_pending,
    flask_refunds.refund_failed,
    flask_refunds.refund_needs_review,
)
_NEWS = (
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.refund.updated",
    "charge.refunded",
)
_now = extension.now
_building = threading.Lock()


@dataclass
class Clock:
    """The library's clock, as far ahead of the real one as it is told to be."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return _now() + self.ahead


@contextlib.contextmanager
def two_servers() -> Iterator[Mapping[str, Mongod]]:
    """A standalone server, which retries no writes, and a one-node replica set, which does."""
    binary = find_mongod()
    assert binary is not None, "there is no mongod on this machine"
    with mock.patch.object(tempfile, "tempdir", _fast_folder()):
        servers = {STANDALONE: Mongod(binary), REPLICA_SET: Mongod(binary, replica_set="rs")}
    try:
        for server in servers.values():
            server.start()
        servers[REPLICA_SET].initiate([servers[REPLICA_SET]])
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def _fast_folder() -> str | None:
    """Where the servers keep their files. Nothing here cuts the power, so memory is as safe as a disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**31
    return str(memory) if roomy else None


@contextlib.contextmanager
def quick_retries() -> Iterator[None]:
    """Let the second try of a request follow at once: the pause is kind to Stripe, and proves nothing."""
    with mock.patch.object(gateway, "_PAUSE_SECONDS", 0.0):
        yield


def database_uri(server: Mongod, database: str) -> str:
    """The URI of one database, to this server alone."""
    return f"mongodb://127.0.0.1:{server.port}/{database}?directConnection=true"


def listen(app: Flask, database: Any) -> None:
    """Write down every signal of an app where a crash of its process loses nothing."""

    def hear(sender: Flask, refund: Any, **extra: Any) -> None:
        database.heard.insert_one({"refund": refund.id, "status": refund.status.value})

    app.extensions["fault_receivers"] = [hear]  # signals hold their receivers weakly
    for signal in _SIGNALS:
        signal.connect(hear, sender=app)


def make_shop_app(database: Any, sandbox_url: str, **overrides: Any) -> Flask:
    """A shop's app with a webhook."""
    config = {"REFUNDS_MONGO": database, "STRIPE_API_BASE": sandbox_url, "STRIPE_WEBHOOK_SECRET": SECRET}
    return make_app(**config | overrides)


class Room:
    """A shop, on a database of its own, and its Stripe.

    :param uri: of a server; the database's name is filled in.
    :param strict: whether Stripe refuses what exceeds the payment, as it really does. Otherwise nothing but
        the library's own protocol stands between a crash and a second payment.
    """

    def __init__(self, server: Mongod, *, strict: bool) -> None:
        self.uri = database_uri(server, f"faults_{uuid.uuid4().hex[:10]}")
        self.sandbox = StripeSandbox(enforce_amount_limit=strict).start()
        self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(self.uri, tz_aware=True)
        self.db = self.client.get_default_database()
        self.clock = Clock(LATER)
        self.shop = self.open_shop(Clock())
        self.later = self.open_shop(self.clock)
        self.headers = self.shop.headers()
        self.payment = ""
        self.purchases: list[ObjectId] = []

    def open_shop(self, clock: Clock, database: Any = None, **config: Any) -> Shop:
        """A further process's shop in this room.

        :param clock: each part of an app keeps the clock that it finds when it is built.
        :param database: the same one, reached in another way.
        """
        database = self.db if database is None else database
        app = make_shop_app(database, self.sandbox.url, **config)
        listen(app, self.db)
        with _building, mock.patch.object(extension, "now", clock):
            extension.get_refunds(app)
        return Shop(app, self.db)

    def close(self) -> None:
        """Drop the database and end every connection."""
        self.client.drop_database(self.db.name)
        self.client.close()
        self.sandbox.stop()

    def clear(self) -> None:
        """As new, for the next history."""
        for name in ("refunds", "purchases", "heard"):
            self.db[name].delete_many({})
        self.sandbox.reset()
        self.clock.ahead = LATER

    # Setting up

    def pay(self, rng: random.Random, *, card: str = "4242424242424242", cart: int | None = None) -> ObjectId:
        """A payment and the completed purchases that it paid; one of them."""
        self.payment = self.sandbox.create_payment(rng.randint(2, 500_000), rng.choice(CURRENCIES), card)
        count = cart or rng.choice((1, 1, 2, 3))
        self.purchases = [self.shop.add_purchase(self.payment) for _ in range(count)]
        return rng.choice(self.purchases)

    def receive(self, event: Mapping[str, Any], shop: Shop | None = None) -> int:
        """Let the shop have an event of Stripe's; its answer."""
        body, headers = signed_event(event, SECRET)
        return (shop or self.shop).client.post(WEBHOOK_PATH, data=body, headers=headers).status_code

    def news(self, *kinds: str) -> list[dict[str, Any]]:
        """Stripe's events about refunds so far."""
        return [event for event in self.sandbox.events if event["type"] in (kinds or _NEWS)]

    def hear_from_stripe(self, rng: random.Random) -> None:
        """Stripe delivers all it has to say: out of order, and some of it twice."""
        events = self.news()
        events += rng.sample(events, len(events) // 2)
        rng.shuffle(events)
        for event in events:
            status = self.receive(event)
            assert status == 200, f"{event['type']} was answered {status}"

    # Ending

    def reconcile(self) -> Report:
        """One pass, on the later clock."""
        reconciler = extension.get_refunds(self.later.app).reconciler
        report = reconciler.run(reconciler.find(timedelta(0)))
        assert not report.counts["errors"], report
        return report

    def records(self) -> list[dict[str, Any]]:
        """The payment's ledger."""
        return list(self.db.flask_refunds.find({"paymentIntent": self.payment}).sort("number", 1))

    def violations(self) -> list[Violation]:
        """What is wrong with the payment now."""
        return violations(
            self.payment,
            at_stripe=self.sandbox.refunds(self.payment),
            rows=self.records(),
            purchases=list(self.db.purchases.find({"_id": {"$in": self.purchases}})),
            heard=[(each["refund"], each["status"]) for each in self.db.heard.find()],
        )


class Rooms:
    """The rooms of one worker: by server, and by whether Stripe is strict; each opened at first use."""

    def __init__(self, servers: Mapping[str, Mongod]) -> None:
        self._servers = servers
        self._open: dict[tuple[str, bool], Room] = {}

    def __enter__(self) -> Rooms:
        return self

    def __exit__(self, *exc: object) -> None:
        for room in self._open.values():
            room.close()

    def get(self, server: str, *, strict: bool) -> Room:
        """A room as new."""
        room = self._open.get((server, strict))
        if room is None:
            room = self._open[server, strict] = Room(self._servers[server], strict=strict)
        room.clear()
        return room


def progress(line: str) -> None:
    """Tell whoever waits."""
    print(line, file=sys.stderr, flush=True)

"""The servers that a benchmark uses: MongoDB and Stripe, each in its own process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import stripe

from tests.mongod import start_test_server
from tests.shop import STRIPE_KEY


@contextmanager
def empty_database(name: str) -> Iterator[Any]:
    """An empty database on a replica set of one node."""
    server = start_test_server()
    assert server is not None, "mongod isn't installed on this machine"
    try:
        with pymongo.MongoClient(server.uri(name), tz_aware=True) as client:
            client.drop_database(name)
            yield client.get_default_database()
    finally:
        server.stop()


def uri_of(database: Any) -> str:
    host, port = database.client.address
    return f"mongodb://{host}:{port}/{database.name}?directConnection=true"


@contextmanager
def sandbox_server(*options: str) -> Iterator[str]:
    """The Stripe sandbox; yields its URL."""
    with _start("flask_refunds.testing", "--quiet", *options) as url:
        yield url


@contextmanager
def instant_stripe(pause: float) -> Iterator[str]:
    """A Stripe that answers after so many seconds and uses almost no CPU time; yields its URL."""
    with _start("tests.bench.instant", str(pause)) as url:
        yield url


@contextmanager
def _start(module: str, *arguments: str) -> Iterator[str]:
    """Start a module that prints its URL."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def create_payments(stripe_url: str, count: int) -> list[str]:
    """Return the IDs of so many paid payment intents."""
    client = stripe.StripeClient(STRIPE_KEY, base_addresses={"api": stripe_url})
    params: Any = {
        "amount": 1999,
        "currency": "usd",
        "confirm": True,
        "payment_method": "pm_card_visa",
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    }
    return [client.v1.payment_intents.create(params).id for _ in range(count)]

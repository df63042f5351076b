"""What a benchmark runs on: a MongoDB and a Stripe, each in a process of its own."""

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
def a_database(name: str) -> Iterator[Any]:
    """An empty database on a one-node replica set."""
    server = start_test_server()
    assert server is not None, "there is no mongod on this machine"
    try:
        with pymongo.MongoClient(server.uri(name), tz_aware=True) as client:
            client.drop_database(name)
            yield client.get_default_database()
    finally:
        server.stop()


@contextmanager
def a_stripe(*options: str) -> Iterator[str]:
    """The sandbox; gives its URL."""
    with _printing_its_url("flask_refunds.testing", *options) as url:
        yield url


@contextmanager
def an_instant_stripe(pause: float) -> Iterator[str]:
    """A Stripe that takes so many seconds for an answer, and no work; gives its URL."""
    with _printing_its_url("tests.bench.instant", str(pause)) as url:
        yield url


@contextmanager
def _printing_its_url(module: str, *arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def pay(stripe_url: str, count: int) -> list[str]:
    """The ids of so many paid payment intents."""
    client = stripe.StripeClient(STRIPE_KEY, base_addresses={"api": stripe_url})
    wanted: Any = {
        "amount": 1999,
        "currency": "usd",
        "confirm": True,
        "payment_method": "pm_card_visa",
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    }
    return [client.v1.payment_intents.create(wanted).id for _ in range(count)]

"""A replica set that loses its primary, its majority, or its nerve, while refunds are made on it."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pymongo
from pymongo import ReadPreference

from flask_refunds import extension
from flask_refunds.testing import StripeSandbox
from tests.faults.invariants import Tally, violations
from tests.faults.replica_set import ReplicaSet, not_replicating
from tests.integration.workers import Server, gunicorn
from tests.mongod import Mongod, find_mongod
from tests.shop import Shop, make_app

CALL_SECONDS = 20.0
"""Every call must be answered within this, whatever MongoDB does."""

CALLERS = 8
REFUNDS_A_ROUND = 48
WORKERS = ("--workers", "2", "--worker-class", "gthread", "--threads", "8", "--timeout", "60")

ON_A_LOST_ROW = "Stripe was asked on the strength of a lost row"

Fault = Callable[[ReplicaSet], Any]


@dataclass
class World:
    """A replica set, Stripe, and a shop on both."""

    replicas: ReplicaSet
    sandbox: StripeSandbox
    database: Any
    uri: str
    shop: Shop
    slowest: float = 0.0
    payments: list[str] = field(default_factory=list)

    def pay(self) -> Any:
        """A purchase that is paid and complete."""
        payment = self.sandbox.create_payment(1999)
        self.payments.append(payment)
        return self.shop.add_purchase(payment)


@contextmanager
def a_world() -> Iterator[World]:
    """Everything real, started for this experiment."""
    binary = find_mongod()
    assert binary is not None, "there is no mongod on this machine"
    replicas = ReplicaSet(binary)
    try:
        replicas.start()
        uri = replicas.uri(f"failover_{uuid.uuid4().hex[:8]}")
        with (
            StripeSandbox(enforce_amount_limit=False) as sandbox,
            pymongo.MongoClient(uri, tz_aware=True) as client,
        ):
            database = client.get_default_database()
            yield World(replicas, sandbox, database, uri, a_shop(database, sandbox))
    finally:
        replicas.stop()


def a_shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """A shop that has read nothing yet."""
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


def run(full: bool) -> list[Tally]:
    """All experiments of this room; 20 rounds of killing the primary in the full run, 2 in the short one."""
    with a_world() as world:
        return misfortunes(world, full)


def misfortunes(world: World, full: bool) -> list[Tally]:
    """What :func:`run` does, in a world that is there."""
    return [
        lose_the_primary(world, rounds=20 if full else 2),
        step_down(world, rounds=5 if full else 1),
        freeze_the_primary(world, rounds=3 if full else 1),
        roll_back(world),
    ]


def lose_the_primary(world: World, rounds: int) -> Tally:
    """SIGKILL the primary while refunds are made."""

    @contextmanager
    def killed(replicas: ReplicaSet) -> Iterator[None]:
        primary = replicas.primary()
        replicas.kill(primary)
        yield
        replicas.restart(primary)

    return _under_load(world, "failover: primary killed", rounds, killed)


def step_down(world: World, rounds: int) -> Tally:
    """Tell the primary to hand over while refunds are made."""

    @contextmanager
    def stepped_down(replicas: ReplicaSet) -> Iterator[None]:
        replicas.step_down()
        yield

    return _under_load(world, "failover: primary stepped down", rounds, stepped_down)


def freeze_the_primary(world: World, rounds: int) -> Tally:
    """SIGSTOP the primary while refunds are made: its connections stay, and nothing comes."""

    @contextmanager
    def frozen(replicas: ReplicaSet) -> Iterator[None]:
        with replicas.primary().frozen():
            yield

    return _under_load(world, "failover: primary frozen", rounds, frozen)


def _under_load(world: World, name: str, rounds: int, fault: Any) -> Tally:
    tally = Tally(name)
    with gunicorn(*WORKERS, MONGO_URI=world.uri, STRIPE_API_BASE=world.sandbox.url) as server:
        for _ in range(rounds):
            world.replicas.wait_until_healthy()
            world.payments.clear()
            purchases = [world.pay() for _ in range(REFUNDS_A_ROUND)]
            _refund_all(world, server, purchases, fault)
            world.replicas.wait_until_healthy()
            _settle(world, tally)
    return tally


def _refund_all(world: World, server: Server, purchases: list[Any], fault: Any) -> None:
    """Let callers refund the purchases; the fault comes when a quarter is done."""
    headers = world.shop.headers()
    done: queue.Queue[float] = queue.Queue()
    quarter = threading.Event()

    def call(purchase: Any) -> int:
        began = time.monotonic()
        answer = server.post(f"/api/payments/admin/refund/{purchase}", headers)
        done.put(time.monotonic() - began)
        if done.qsize() >= len(purchases) // 4:
            quarter.set()
        return answer.status

    with ThreadPoolExecutor(CALLERS) as callers:
        statuses = callers.map(call, purchases)
        quarter.wait(60)
        with fault(world.replicas):
            seen = set(statuses)
    assert seen <= {200, 202, 500}, seen
    slowest = max(done.get() for _ in purchases)
    assert slowest < CALL_SECONDS, f"a call took {slowest:.1f} s"
    world.slowest = max(world.slowest, slowest)


def roll_back(world: World) -> Tally:
    """A row that only the primary has, and that its successor never saw, must not have reached Stripe."""
    tally = Tally("failover: row rolled back")
    world.payments.clear()
    purchase, primary = _refund_on_a_lonely_primary(world)
    assert _written_on(world.replicas.primary(), world) == 0, "the row must have vanished"
    assert world.shop.refund(purchase).status_code == 200
    world.replicas.restart(primary)
    _settle(world, tally)
    return tally


def _refund_on_a_lonely_primary(world: World) -> tuple[Any, Mongod]:
    """A refund asked for on a primary that nobody follows, and that then dies.

    On a busy machine the set may elect another primary meanwhile; then it is tried anew.
    """
    for _ in range(10):
        world.replicas.wait_until_healthy()
        purchase = world.pay()
        primary, secondaries = world.replicas.primary(), world.replicas.secondaries()
        asked = len(world.sandbox.requests)
        with not_replicating(*secondaries):
            response = world.shop.refund(purchase)
            if _written_on(primary, world) and not any(_written_on(each, world) for each in secondaries):
                assert len(world.sandbox.requests) == asked, ON_A_LOST_ROW
                assert response.status_code == 500
                world.replicas.kill(primary)
                return purchase, primary
    raise AssertionError("the primary was never alone")


def _written_on(member: Mongod, world: World) -> int:
    with member.client() as client:
        database = client.get_database(
            world.database.name, read_preference=ReadPreference.SECONDARY_PREFERRED
        )
        return len(list(database.flask_refunds.find({"paymentIntent": world.payments[-1]})))


def _settle(world: World, tally: Tally) -> None:
    """One reconcile, two minutes later, and then the promise must hold for every payment."""
    with mock.patch.object(extension, "now", _two_minutes_later):
        app = make_app(REFUNDS_MONGO=world.database, STRIPE_API_BASE=world.sandbox.url)
        reconciler = extension.get_refunds(app).reconciler
        report = reconciler.run(reconciler.find(timedelta(0)))
    assert not report.counts["errors"], report
    for payment in world.payments:
        found = violations(
            payment,
            at_stripe=world.sandbox.refunds(payment),
            rows=list(world.database.flask_refunds.find({"paymentIntent": payment})),
            purchases=list(world.database.purchases.find({"stripePaymentIntentId": payment})),
            heard=None,
        )
        tally.add(len(world.sandbox.refunds(payment)), found)


def _two_minutes_later(now: Callable[[], datetime] = extension.now) -> datetime:
    return now() + timedelta(minutes=2)

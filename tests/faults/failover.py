"""Make refunds while a replica set loses its primary or its majority."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest import mock

import pymongo
from pymongo import ReadPreference

from flask_refunds import extension
from flask_refunds.testing import StripeSandbox
from tests.faults.environments import LATER, Clock, stripe_clock
from tests.faults.invariants import Tally, find_violations
from tests.faults.replica_set import ReplicaSet, pause_replication
from tests.faults.scenarios import CALL_SECONDS
from tests.integration.workers import Server, gunicorn
from tests.mongod import Mongod, find_mongod
from tests.shop import Shop, make_app

CALLERS = 8
REFUNDS_PER_ROUND = 48
WORKERS = ("--workers", "2", "--worker-class", "gthread", "--threads", "8", "--timeout", "60")

REQUEST_AFTER_LOST_WRITE = "Stripe was called after a write that was rolled back"

Failure = Callable[[ReplicaSet], AbstractContextManager[None]]


@dataclass
class ReplicaSetEnvironment:
    """A replica set, a Stripe sandbox, and a shop that uses both."""

    replicas: ReplicaSet
    sandbox: StripeSandbox
    database: Any
    uri: str
    shop: Shop
    payments: list[str] = field(default_factory=list)

    def pay(self) -> Any:
        """Create a payment and return its completed purchase."""
        payment = self.sandbox.create_payment(1999)
        self.payments.append(payment)
        return self.shop.add_purchase(payment)


@contextmanager
def start_environment() -> Iterator[ReplicaSetEnvironment]:
    """Start a replica set and a sandbox."""
    binary = find_mongod()
    assert binary is not None, "mongod isn't installed"
    replicas = ReplicaSet(binary)
    try:
        replicas.start()
        uri = replicas.uri(f"failover_{uuid.uuid4().hex[:8]}")
        with (
            StripeSandbox(enforce_amount_limit=False, clock=stripe_clock) as sandbox,
            pymongo.MongoClient(uri, tz_aware=True) as client,
        ):
            database = client.get_default_database()
            yield ReplicaSetEnvironment(replicas, sandbox, database, uri, make_shop(database, sandbox))
    finally:
        replicas.stop()


def make_shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """Return a shop whose components aren't built yet."""
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


def run(full: bool) -> list[Tally]:
    """Run all failover experiments; the primary is killed in 20 rounds, or in 2."""
    with start_environment() as environment:
        return run_experiments(environment, full)


def run_experiments(environment: ReplicaSetEnvironment, full: bool) -> list[Tally]:
    """Run all failover experiments in an environment."""
    return [
        kill_primary(environment, rounds=20 if full else 2),
        step_down(environment, rounds=5 if full else 1),
        freeze_primary(environment, rounds=3 if full else 1),
        roll_back(environment),
    ]


def kill_primary(environment: ReplicaSetEnvironment, rounds: int) -> Tally:
    """Kill the primary while refunds are made."""

    @contextmanager
    def killed(replicas: ReplicaSet) -> Iterator[None]:
        primary = replicas.primary()
        replicas.kill(primary)
        yield
        replicas.restart(primary)

    return _run_under_load(environment, "failover: primary killed", rounds, killed)


def step_down(environment: ReplicaSetEnvironment, rounds: int) -> Tally:
    """Make the primary step down while refunds are made."""

    @contextmanager
    def stepped_down(replicas: ReplicaSet) -> Iterator[None]:
        replicas.step_down()
        yield

    return _run_under_load(environment, "failover: primary stepped down", rounds, stepped_down)


def freeze_primary(environment: ReplicaSetEnvironment, rounds: int) -> Tally:
    """Suspend the primary while refunds are made. Its connections stay open, without answers."""

    @contextmanager
    def frozen(replicas: ReplicaSet) -> Iterator[None]:
        with replicas.primary().frozen():
            yield

    return _run_under_load(environment, "failover: primary frozen", rounds, frozen)


def _run_under_load(environment: ReplicaSetEnvironment, name: str, rounds: int, failure: Failure) -> Tally:
    tally = Tally(name)
    with gunicorn(*WORKERS, MONGO_URI=environment.uri, STRIPE_API_BASE=environment.sandbox.url) as server:
        for _ in range(rounds):
            environment.replicas.wait_until_healthy()
            environment.payments.clear()
            purchases = [environment.pay() for _ in range(REFUNDS_PER_ROUND)]
            _refund_all(environment, server, purchases, failure)
            environment.replicas.wait_until_healthy()
            _reconcile(environment, tally)
    return tally


def _refund_all(
    environment: ReplicaSetEnvironment, server: Server, purchases: list[Any], failure: Failure
) -> None:
    """Refund the purchases in several threads. The failure begins after a quarter of the calls."""
    headers = environment.shop.headers()
    durations: queue.Queue[float] = queue.Queue()
    quarter_done = threading.Event()

    def call(purchase: Any) -> int:
        began = time.monotonic()
        answer = server.post(f"/api/payments/admin/refund/{purchase}", headers)
        durations.put(time.monotonic() - began)
        if durations.qsize() >= len(purchases) // 4:
            quarter_done.set()
        return answer.status

    with ThreadPoolExecutor(CALLERS) as callers:
        statuses = callers.map(call, purchases)
        quarter_done.wait(60)
        with failure(environment.replicas):
            seen = set(statuses)
    assert seen <= {200, 202, 500}, seen
    slowest = max(durations.get() for _ in purchases)
    assert slowest < CALL_SECONDS, f"a call took {slowest:.1f} s"


def roll_back(environment: ReplicaSetEnvironment) -> Tally:
    """Check that a record which only the old primary has, and which is rolled back, wasn't sent to Stripe."""
    tally = Tally("failover: record rolled back")
    environment.payments.clear()
    purchase, primary = _refund_on_isolated_primary(environment)
    assert _count_records(environment.replicas.primary(), environment) == 0, "the record wasn't rolled back"
    assert environment.shop.refund(purchase).status_code == 200
    environment.replicas.restart(primary)
    _reconcile(environment, tally)
    return tally


def _refund_on_isolated_primary(environment: ReplicaSetEnvironment) -> tuple[Any, Mongod]:
    """Request a refund on a primary without replication, and kill that primary.

    On a busy machine the set may elect another primary meanwhile. Then it tries again.
    """
    for _ in range(10):
        environment.replicas.wait_until_healthy()
        purchase = environment.pay()
        primary, secondaries = environment.replicas.primary(), environment.replicas.secondaries()
        requests_before = len(environment.sandbox.requests)
        with pause_replication(*secondaries):
            response = environment.shop.refund(purchase)
            replicated = any(_count_records(each, environment) for each in secondaries)
            if _count_records(primary, environment) and not replicated:
                assert len(environment.sandbox.requests) == requests_before, REQUEST_AFTER_LOST_WRITE
                assert response.status_code == 500
                environment.replicas.kill(primary)
                return purchase, primary
    raise AssertionError("the primary was never isolated")


def _count_records(member: Mongod, environment: ReplicaSetEnvironment) -> int:
    with member.client() as client:
        database = client.get_database(
            environment.database.name, read_preference=ReadPreference.SECONDARY_PREFERRED
        )
        return len(list(database.flask_refunds.find({"paymentIntent": environment.payments[-1]})))


def _reconcile(environment: ReplicaSetEnvironment, tally: Tally) -> None:
    """Reconcile once, two minutes later, and check the invariants of every payment."""
    with mock.patch.object(extension, "ServerClock", return_value=Clock(LATER)):
        app = make_app(REFUNDS_MONGO=environment.database, STRIPE_API_BASE=environment.sandbox.url)
        reconciler = extension.get_refunds(app).reconciler
        report = reconciler.run(reconciler.find(timedelta(0)))
    assert not report.counts["errors"], report
    for payment in environment.payments:
        found = find_violations(
            payment,
            at_stripe=environment.sandbox.refunds(payment),
            captured=environment.sandbox.payment_intent(payment)["amount_received"],
            records=list(environment.database.flask_refunds.find({"paymentIntent": payment})),
            purchases=list(environment.database.purchases.find({"stripePaymentIntentId": payment})),
            signals=None,
        )
        tally.add(len(environment.sandbox.refunds(payment)), found)

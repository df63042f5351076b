"""``flask refunds bulk`` as processes: killed, interrupted, run twice at once, and on a terminal."""

from __future__ import annotations

import csv
import os
import pty
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.faults.replica_set import wait_until
from tests.integration.commands import Commands
from tests.shop import Shop

PURCHASES = 240


@pytest.fixture
def sandbox(generous: StripeSandbox) -> StripeSandbox:
    return generous


class Recall:
    """A file of purchases, and runs of it."""

    def __init__(self, shop: Shop, sandbox: StripeSandbox, commands: Commands, folder: Path) -> None:
        self.sandbox = sandbox
        self.commands = commands
        self.folder = folder
        self.payments = [sandbox.create_payment(1999) for _ in range(PURCHASES)]
        self.ids = [str(shop.add_purchase(payment)) for payment in self.payments]
        self.file = folder / "recall.txt"
        self.file.write_text("\n".join(self.ids))
        self.processes: list[subprocess.Popen[bytes]] = []
        sandbox.latency = 0.05

    def start(self, output: str = "recall.csv", **options: Any) -> subprocess.Popen[bytes]:
        arguments = ("--yes", "--skip-amounts", "--rate", "150", "--output", str(self.folder / output))
        process = self.commands.start("bulk", str(self.file), *arguments, **options)
        self.processes.append(process)
        return process

    def finish(self, process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode(), err.decode()

    def on_terminal(self) -> tuple[str, str]:
        """Run with a terminal as stderr.

        :return: what was written to the terminal, and to stdout.
        """
        ours, theirs = pty.openpty()
        process = self.start(stderr=theirs)
        os.close(theirs)
        drawn = b""
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            while chunk := _read(terminal):
                drawn += chunk
        out, _ = process.communicate(timeout=60)
        return drawn.decode(), out.decode()

    def wait_for(self, refunds: int) -> None:
        wait_until(lambda: len(self.sandbox.refunds()) >= refunds, 60)

    def results(self, output: str = "recall.csv") -> dict[str, str]:
        with open(self.folder / output, newline="") as file:
            rows = list(csv.DictReader(file))
        assert len({row["purchaseId"] for row in rows}) == len(rows)
        return {row["purchaseId"]: row["result"] for row in rows}

    def assert_each_is_refunded_once(self) -> None:
        made = [refund["payment_intent"] for refund in self.sandbox.refunds()]
        assert sorted(made) == sorted(self.payments)


@pytest.fixture
def recall(shop: Shop, generous: StripeSandbox, commands: Commands, tmp_path: Path) -> Iterator[Recall]:
    recall = Recall(shop, generous, commands, tmp_path)
    yield recall
    for process in recall.processes:
        process.kill()
        process.communicate()


def end_leases(shop: Shop) -> None:
    """End all leases, as if a minute had passed since the process died."""
    shop.db.flask_refunds.update_many(
        {"status": "processing"}, [{"$set": {"leaseExpiresAt": {"$subtract": ["$leaseExpiresAt", 60_000]}}}]
    )


def test_killed_run_is_completed_by_two_operators_at_once(shop: Shop, recall: Recall) -> None:
    process = recall.start()
    recall.wait_for(100)
    process.kill()
    process.communicate(timeout=30)
    end_leases(shop)
    assert len(recall.sandbox.refunds()) < PURCHASES
    assert not (recall.folder / "recall.csv").exists()

    operators = [recall.start(f"{name}.csv") for name in ("ann", "bob")]
    results = [recall.finish(process) for process in operators]

    assert [status for status, _, _ in results] == [0, 0], results
    for name in ("ann", "bob"):
        assert recall.results(f"{name}.csv") == dict.fromkeys(recall.ids, "refunded")
    recall.assert_each_is_refunded_once()
    assert {record["status"] for record in shop.records()} == {"succeeded"}
    assert {record["bulkRun"] for record in shop.records()} == {"recall"}
    assert shop.db.purchases.count_documents({"status": "refunded"}) == PURCHASES


def test_interrupted_run_finishes_the_refunds_in_progress(shop: Shop, recall: Recall) -> None:
    process = recall.start()
    recall.wait_for(50)
    process.send_signal(signal.SIGINT)
    status, out, err = recall.finish(process)

    assert status == 2
    refunds = len(recall.sandbox.refunds())
    [part] = recall.folder.glob("recall.csv.*.part")
    assert "Stopping" in err
    assert "Error: Interrupted." in err
    assert str(part) in err
    assert f"{PURCHASES - refunds}  not " in out
    assert {record["status"] for record in shop.records()} == {"succeeded"}
    assert len(recall.results(part.name)) == len(shop.records()) == refunds < PURCHASES

    drawn, out = recall.on_terminal()
    assert f"{PURCHASES}/{PURCHASES}" in drawn
    assert "Refunding" in drawn
    assert "/s" in drawn
    assert f"{PURCHASES}  refunded\n" in out
    assert recall.results() == dict.fromkeys(recall.ids, "refunded")
    recall.assert_each_is_refunded_once()


def test_run_interrupted_twice_ends_at_once(shop: Shop, recall: Recall) -> None:
    recall.sandbox.inject("timeout_before_refund", times=None, after=30)
    process = recall.start()
    recall.wait_for(30)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: b"Stopping" in os.read(process.stderr.fileno(), 1000))  # type: ignore[union-attr]
    process.send_signal(signal.SIGINT)
    status, out, err = recall.finish(process)
    # After the timeout of the requests in progress, it would print what it did.
    assert (status, " refunded\n" in out, "Error: Interrupted." in err) == (2, False, False)
    recall.sandbox.clear_faults()
    end_leases(shop)

    assert recall.finish(recall.start())[0] == 0
    recall.assert_each_is_refunded_once()


def _read(terminal: Any) -> bytes:
    try:
        return terminal.read(65536) or b""
    except OSError:
        return b""  # how Linux reports that the other end is closed


def test_run_continued_after_days_sends_no_open_refund_again(shop: Shop, recall: Recall) -> None:
    """Refunds that the first run left open get the outcome that Stripe shows."""
    recall.sandbox.inject("response_lost", times=None, after=20)
    process = recall.start()
    recall.wait_for(40)
    process.kill()
    process.communicate(timeout=30)
    recall.sandbox.clear_faults()
    for record in shop.records():
        ages = {
            name: record[name] - timedelta(days=2) for name in ("createdAt", "updatedAt", "leaseExpiresAt")
        }
        shop.db.flask_refunds.update_one({"_id": record["_id"]}, {"$set": ages})
    recall.sandbox.advance(2 * 24 * 3600)
    requested = set(recall.payments) & {record["paymentIntent"] for record in shop.records()}
    shown = {refund["payment_intent"] for refund in recall.sandbox.refunds()}

    status, out, _ = recall.finish(recall.start())

    assert status == (1 if requested - shown else 0), out
    made = [refund["payment_intent"] for refund in recall.sandbox.refunds()]
    assert len(made) == len(set(made))
    assert set(recall.payments) - set(made) == requested - shown
    assert Counter(recall.results().values())["needs_review"] == len(requested - shown)

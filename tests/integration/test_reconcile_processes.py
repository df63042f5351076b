"""``flask refunds reconcile`` as processes: several at once, repeated, and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.faults.replica_set import wait_until
from tests.integration.commands import Commands
from tests.shop import Shop, make_app

PENDING = "4000000000007726"


@pytest.fixture
def sandbox(generous: StripeSandbox) -> StripeSandbox:
    return generous


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_STRIPE_RETRIES=0)
    return Shop(app, database)


def leave_unknown(shop: Shop, sandbox: StripeSandbox, count: int) -> list[str]:
    payments = [sandbox.create_payment(1999) for _ in range(count)]
    for number, payment in enumerate(payments):
        purchase = shop.add_purchase(payment)
        sandbox.inject("request_lost" if number % 2 else "response_lost")
        assert shop.refund(purchase).json["message"] == "Refund submitted"
    return payments


def start(commands: Commands, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return commands.start("reconcile", "--older-than", "0", "--rate", "1000", *arguments, **options)


def test_concurrent_passes_refund_each_payment_once(
    shop: Shop, sandbox: StripeSandbox, commands: Commands, database: Any
) -> None:
    payments = leave_unknown(shop, sandbox, 40)
    passes = [start(commands) for _ in range(4)]
    outputs = [process.communicate(timeout=60)[0] for process in passes]
    assert [process.returncode for process in passes] == [0] * 4, outputs
    assert all(b"0 errors, 0 need review" in output for output in outputs), outputs
    assert [len(sandbox.refunds(payment)) for payment in payments] == [1] * 40
    assert {record["status"] for record in shop.records()} == {"succeeded"}
    assert database.purchases.count_documents({"status": "refunded"}) == 40


def test_interval_repeats_passes_until_sigterm(
    shop: Shop, sandbox: StripeSandbox, commands: Commands
) -> None:
    process = start(commands, "--interval", "1")
    try:
        for _ in range(2):
            [payment] = leave_unknown(shop, sandbox, 1)
            query = {"_id": f"{payment}:1", "status": "succeeded"}
            wait_until(lambda query=query: shop.db.flask_refunds.count_documents(query) == 1)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    # The sweep of the same pass may see a refund first.
    assert sum(map(int, re.findall(rb"(\d+) (?:settled|stored)", output))) == 2


@pytest.mark.parametrize(
    ("phase", "options", "status"),
    [("unfinished", (), 2), ("unfinished", ("--interval", "3600"), 0), ("sweep", (), 2)],
)
def test_sigterm_ends_a_pass_before_its_end(
    shop: Shop,
    sandbox: StripeSandbox,
    commands: Commands,
    phase: str,
    options: tuple[str, ...],
    status: int,
) -> None:
    payments = [sandbox.create_payment(1999, card=PENDING) for _ in range(60)]
    for payment in payments:
        purchase = shop.add_purchase(payment)
        if phase == "unfinished":
            assert shop.refund(purchase).status_code == 202
        else:
            sandbox.dashboard_refund(payment)
    before = len(sandbox.requests)
    process = start(commands, "--rate", "5", *options)
    try:
        wait_until(lambda: len(sandbox.requests) >= before + 5)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert (b"Error: Interrupted. The next pass continues." in error) is (status == 2)
    assert len(sandbox.requests) < before + 50  # of at least 60


def test_terminal_shows_progress(shop: Shop, sandbox: StripeSandbox, commands: Commands) -> None:
    leave_unknown(shop, sandbox, 2)
    ours, theirs = pty.openpty()
    process = start(commands, stderr=theirs)
    os.close(theirs)
    output, _ = process.communicate(timeout=60)
    with os.fdopen(ours, "rb") as terminal:
        drawn = terminal.read1(65536).decode()
    assert "Reconciling" in drawn
    assert "100%" in drawn
    assert output.startswith(b"2 processed: 2 settled")

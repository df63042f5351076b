"""Reconcile as it is run: several processes at once, one that stays, and one on a terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.faults.replica_set import wait_until
from tests.integration.workers import ROOT
from tests.shop import Shop, make_app

COMMAND = [sys.executable, "-m", "flask", "--app", "tests.integration.wsgi", "refunds", "reconcile"]


@pytest.fixture
def shop(database: Any, generous: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=generous.url, REFUNDS_STRIPE_RETRIES=0)
    return Shop(app, database)


def leave_unknown(shop: Shop, sandbox: StripeSandbox, count: int) -> list[str]:
    payments = [sandbox.create_payment(1999) for _ in range(count)]
    for number, payment in enumerate(payments):
        purchase = shop.add_purchase(payment)
        sandbox.inject("drop_before" if number % 2 else "drop_after")
        assert shop.refund(purchase).json["message"] == "Refund submitted"
    return payments


def start(mongo_uri: str, sandbox: StripeSandbox, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "MONGO_URI": mongo_uri, "STRIPE_API_BASE": sandbox.url}
    command = [*COMMAND, "--older-than", "0", "--rate", "1000", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **options)


def test_several_at_once(shop: Shop, generous: StripeSandbox, mongo_uri: str, database: Any) -> None:
    payments = leave_unknown(shop, generous, 40)
    passes = [start(mongo_uri, generous, stdout=subprocess.PIPE) for _ in range(4)]
    said = [process.communicate(timeout=60)[0] for process in passes]
    assert [process.returncode for process in passes] == [0] * 4, said
    assert all("0 errors, 0 need a person" in each for each in said), said
    assert [len(generous.refunds(payment)) for payment in payments] == [1] * 40
    assert {row["status"] for row in shop.records()} == {"succeeded"}
    assert database.purchases.count_documents({"status": "refunded"}) == 40


def test_one_that_stays(shop: Shop, generous: StripeSandbox, mongo_uri: str) -> None:
    process = start(mongo_uri, generous, "--interval", "1", stdout=subprocess.PIPE)
    try:
        for _ in range(2):
            [payment] = leave_unknown(shop, generous, 1)
            row = f"{payment}:1"
            wait_until(lambda row=row: shop.db.flask_refunds.find_one({"_id": row})["status"] == "succeeded")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert said.count("1 settled") == 2


def test_progress_on_a_terminal(shop: Shop, generous: StripeSandbox, mongo_uri: str) -> None:
    leave_unknown(shop, generous, 2)
    ours, theirs = pty.openpty()
    process = start(mongo_uri, generous, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    said, _ = process.communicate(timeout=60)
    with os.fdopen(ours, "rb") as terminal:
        drawn = terminal.read1(65536).decode()
    assert "Reconciling" in drawn
    assert "100%" in drawn
    assert said == "2 looked at: 2 settled, 0 still open, 0 tidied, 0 busy, 0 errors, 0 need a person.\n"

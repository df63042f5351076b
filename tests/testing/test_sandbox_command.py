"""``python -m flask_refunds.testing``"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sandbox_caller import Caller

import flask_refunds.testing.__main__ as command
from flask_refunds.testing import StripeSandbox

PACKAGE_ROOT = pathlib.Path(command.__file__).parents[2]


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the URL that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flask_refunds.testing", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE_ROOT), *filter(None, sys.path)])},
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_a_signal(number: signal.Signals) -> None:
    with running("--latency-ms", "1") as (process, url), contextlib.closing(Caller(url)) as caller:
        assert caller.get("/_sandbox/health").status == 200
        hung = caller.get("/v1/balance")
        process.send_signal(number)
        output = process.communicate(timeout=5)

    assert hung.status == 200
    assert (process.returncode, output) == (0, ("", ""))


def test_options() -> None:
    with (
        running("--rate-limit", "2", "--no-amount-limit") as (_, url),
        contextlib.closing(Caller(url)) as caller,
    ):
        paid = caller.post("/_sandbox/payments", {"amount": 5}).json["ids"][0]
        statuses = [caller.post("/v1/refunds", {"payment_intent": paid}).status for _ in range(3)]
        money = [refund["amount"] for refund in caller.get("/_sandbox/refunds").json["data"]]

    assert statuses == [200, 200, 429]
    assert money == [5, 5]


def test_delivers_events(sandbox: StripeSandbox) -> None:
    # Another sandbox is the receiver: it writes down whatever it is sent.
    webhook = ("--webhook", f"{sandbox.url}/hook", "--webhook-secret", "whsec_1")
    with running(*webhook) as (_, url), contextlib.closing(Caller(url)) as caller:
        caller.post("/_sandbox/payments", {"amount": 5})

        assert sandbox.wait_for_requests(1, method="POST", path="/hook")


def test_a_webhook_needs_its_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--webhook", "http://127.0.0.1:1/"])
    assert "go together" in capsys.readouterr().err

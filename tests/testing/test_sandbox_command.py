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

import flask_refunds.testing.__main__ as command
from flask_refunds.testing import StripeSandbox
from tests.testing.http_client import HttpClient

PACKAGE_ROOT = pathlib.Path(command.__file__).parents[2]


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; yield its process and the URL that it printed."""
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
def test_command_serves_until_signal(number: signal.Signals) -> None:
    with running("--latency-ms", "1") as (process, url), contextlib.closing(HttpClient(url)) as client:
        assert client.get("/_sandbox/health").status == 200
        response = client.get("/v1/balance")
        process.send_signal(number)
        output = process.communicate(timeout=5)

    assert response.status == 200
    assert (process.returncode, output) == (0, ("", ""))


def test_rate_limit_and_amount_limit_options_apply() -> None:
    with (
        running("--rate-limit", "2", "--no-amount-limit") as (_, url),
        contextlib.closing(HttpClient(url)) as client,
    ):
        payment = client.post("/_sandbox/payments", {"amount": 5}).json["ids"][0]
        statuses = [client.post("/v1/refunds", {"payment_intent": payment}).status for _ in range(3)]
        money = [refund["amount"] for refund in client.get("/_sandbox/refunds").json["data"]]

    assert statuses == [200, 200, 429]
    assert money == [5, 5]


def test_webhook_option_delivers_events(sandbox: StripeSandbox) -> None:
    # The fixture's sandbox receives the events, because it logs every request.
    webhook = ("--webhook", f"{sandbox.url}/hook", "--webhook-secret", "whsec_1")
    with running(*webhook) as (_, url), contextlib.closing(HttpClient(url)) as client:
        client.post("/_sandbox/payments", {"amount": 5})

        assert sandbox.wait_for_requests(1, method="POST", path="/hook")


def test_webhook_without_secret_is_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--webhook", "http://127.0.0.1:1/"])
    assert "use --webhook and --webhook-secret together" in capsys.readouterr().err

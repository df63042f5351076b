"""``python -m flask_refunds.testing``"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import stripe

import flask_refunds.testing.__main__ as command
from flask_refunds.testing import Cards, StripeSandbox
from tests.testing.http_client import HttpClient
from tests.testing.webhook_server import SECRET, WebhookServer

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
    with (
        running("--latency-ms", "1", "--quiet") as (process, url),
        contextlib.closing(HttpClient(url)) as client,
    ):
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


def test_connect_secret_signs_events_of_connected_accounts(webhook: WebhookServer) -> None:
    options = ("--webhook", webhook.url, "--webhook-secret", "whsec_own", "--connect-webhook-secret", SECRET)
    with running(*options) as (_, url), contextlib.closing(HttpClient(url)) as client:
        for account in ({}, {"account": "acct_tailor"}):
            client.post("/_sandbox/payments", {"amount": 5, **account})
            deadline = time.monotonic() + 20
            while not any(event.get("account") == account.get("account") for event in webhook.events()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
    for body, headers in webhook.received:
        secret = SECRET if json.loads(body).get("account") else "whsec_own"
        stripe.Webhook.construct_event(body, headers["Stripe-Signature"], secret)


def test_pending_refund_settles_in_real_time_and_its_event_is_sent(webhook: WebhookServer) -> None:
    options = ("--webhook", webhook.url, "--webhook-secret", SECRET, "--settle-after", "0.3")
    with running(*options) as (_, url), contextlib.closing(HttpClient(url)) as client:
        [payment] = client.post("/_sandbox/payments", {"amount": 5, "card": Cards.REFUND_PENDING}).json["ids"]
        assert client.post("/v1/refunds", {"payment_intent": payment}).json["status"] == "pending"
        deadline = time.monotonic() + 20
        while "refund.updated" not in (types := [event["type"] for event in webhook.events()]):
            assert time.monotonic() < deadline, types
            time.sleep(0.05)


def test_state_file_keeps_everything_until_the_next_start(tmp_path: pathlib.Path) -> None:
    state = ("--state", str(tmp_path / "stripe.json"))
    with running(*state) as (process, url), contextlib.closing(HttpClient(url)) as client:
        [payment, other] = client.post("/_sandbox/payments", {"amount": 5, "count": 2}).json["ids"]
        refund = client.post("/v1/refunds", {"payment_intent": payment}, key="k").json
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    with running(*state) as (_, url), contextlib.closing(HttpClient(url)) as client:
        assert client.get("/_sandbox/refunds").json["data"] == [refund]
        assert client.post("/v1/refunds", {"payment_intent": payment}, key="k").json == refund
        client.post("/v1/refunds", {"payment_intent": other})
        for _ in range(100):  # it is also written while the command runs
            if (
                other
                in (tmp_path / "stripe.json").read_text().partition('"keys"')[2].partition('"accounts"')[0]
            ):
                break
            time.sleep(0.1)
    with running(*state) as (_, url), contextlib.closing(HttpClient(url)) as client:
        assert len(client.get("/_sandbox/refunds").json["data"]) == 2


def test_other_file_as_state_is_an_error_and_is_kept(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("not JSON", "[]", '{"sandbox": 7}'):
        (tmp_path / "notes").write_text(text)
        with pytest.raises(SystemExit):
            command.main(["--state", str(tmp_path / "notes")])
        assert "notes isn't a file that --state has written" in capsys.readouterr().err
        assert (tmp_path / "notes").read_text() == text


def test_banner_and_requests_are_printed_on_stderr() -> None:
    with running("--settle-after", "90") as (process, url), contextlib.closing(HttpClient(url)) as client:
        client.get("/v1/refunds", {"limit": 3})
        client.post("/v1/refunds", {"payment_intent": "pi_none"})
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
    assert output == ""
    for text in (f"STRIPE_API_BASE={url}", "4000000000007726", "after 90 s", f"curl {url}/_sandbox/advance"):
        assert text in errors
    assert errors.splitlines()[-2:] == [
        "GET /v1/refunds limit=3 -> 200",
        "POST /v1/refunds payment_intent=pi_none -> 404",
    ]


def test_webhook_without_secret_is_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--webhook", "http://127.0.0.1:1/"])
    assert "use --webhook and --webhook-secret together" in capsys.readouterr().err


def test_connect_secret_without_webhook_is_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--connect-webhook-secret", "whsec_connect"])
    assert "use --connect-webhook-secret with --webhook" in capsys.readouterr().err


def test_webhook_without_http_is_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--webhook", "localhost:5000/hook", "--webhook-secret", SECRET])
    assert "--webhook must begin with http:// or https://" in capsys.readouterr().err


def test_taken_port_is_usage_error(sandbox: StripeSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    port = sandbox.url.rpartition(":")[2]
    with pytest.raises(SystemExit):
        command.main(["--port", port])
    assert f"port {port} can't be used: stop the program that has it" in capsys.readouterr().err


def test_state_in_a_missing_folder_is_usage_error(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(["--state", str(tmp_path / "missing" / "stripe.json")])
    assert "stripe.json: No such file or directory" in capsys.readouterr().err

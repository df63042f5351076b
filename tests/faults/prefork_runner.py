"""Run each action in a forked process that kills itself at a given step.

The runner has imported everything and has no open connection. For each job it forks a child, which performs
the action and numbers its steps: before and after every MongoDB command, and before and after every request
to Stripe. At the job's step the child sends itself SIGKILL, so that no ``finally`` runs and no buffer is
flushed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import flask.cli  # noqa: F401 - imported before the fork, so that children needn't
import pymongo
import stripe
from pymongo import monitoring

from flask_refunds.clock import Deadline
from flask_refunds.errors import StripeCallError
from flask_refunds.stripe_client import gateway
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.stripe_client.transport import Transport
from tests.faults import environments
from tests.faults.mutations import apply_mutation
from tests.faults.scenarios import ActionResponse, perform
from tests.shop import open_app

ROOT = Path(__file__).parents[2]
JOB_SECONDS = 120


@dataclass(frozen=True)
class ChildResult:
    """The result of a child. If it wasn't killed, it has the names of the steps and the action's response."""

    killed: bool
    steps: list[str]
    response: ActionResponse | None


class PreforkRunner:
    """The process that forks, as a context manager. Not thread-safe."""

    def __enter__(self) -> PreforkRunner:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, job: Mapping[str, Any]) -> ChildResult:
        """Run a job in a child and wait for its end.

        :param job: ``uri``, ``stripe``, ``headers``, ``action``, ``kill_at`` (the number of a step from 1, or
            0) and ``mutation`` (a name from :mod:`tests.faults.mutations`, or ``None``).
        :raises RuntimeError: the child raised an error.
        """
        streams = self._process.stdin, self._process.stdout
        assert streams[0] is not None
        assert streams[1] is not None
        streams[0].write(json.dumps(job).encode() + b"\n")
        streams[0].flush()
        ready, _, _ = select.select([streams[1]], [], [], JOB_SECONDS)
        line = streams[1].readline() if ready else b""
        if not line:
            raise RuntimeError(f"the job didn't end within {JOB_SECONDS} s: {job}")
        return _read_result(json.loads(line))


def _read_result(result: Mapping[str, Any]) -> ChildResult:
    if "error" in result:
        raise RuntimeError(result["error"])
    response = ActionResponse(result["status"], result["body"]) if "status" in result else None
    return ChildResult(result["signal"] == signal.SIGKILL, result.get("steps", []), response)


class Steps(monitoring.CommandListener):
    """Numbers the steps of this process, and kills it at one of them.

    The writes of the test's receivers to ``signals`` count too: a process can be killed in a receiver.

    :param kill_at: the number of the step, from 1; 0 for none.
    """

    def __init__(self, kill_at: int) -> None:
        self.passed: list[str] = []
        self._kill_at = kill_at

    def step(self, name: str) -> None:
        """Count a step, or end the process."""
        self.passed.append(name)
        if len(self.passed) == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.step(f"before {event.command_name} {event.command[event.command_name]}")

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._ended(event)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._ended(event)

    def _ended(self, event: Any) -> None:
        self.step(f"after {event.command_name}")

    def watch_stripe(self) -> None:
        """Number the requests to Stripe too."""
        send = Transport.request

        def request(transport: Any, method: str, url: str, *rest: Any) -> Any:
            name = f"{method.upper()} {url.partition('/v1/')[2].partition('?')[0]}"
            self.step(f"before {name}")
            try:
                return send(transport, method, url, *rest)
            finally:
                self.step(f"after {name}")

        Transport.request = request  # type: ignore[method-assign, assignment]


def _perform_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Perform the action of a job in this process."""
    steps = Steps(job["kill_at"])
    steps.watch_stripe()
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(job["uri"], tz_aware=True, event_listeners=[steps])
    app = environments.make_shop_app(client.get_default_database(), job["stripe"])
    environments.record_signals(app, client.get_default_database())
    with apply_mutation(job["mutation"]):
        response = perform(app, job["headers"], job["action"])
    return {"steps": steps.passed, "status": response.status, "body": response.body}


def _run_child(job: Mapping[str, Any], report_to: int) -> None:
    try:
        result = _perform_job(job)
    except BaseException:
        result = {"error": traceback.format_exc()}
    with contextlib.suppress(OSError):
        os.write(report_to, json.dumps(result, default=str).encode())
    os._exit(0)


def _fork(job: Mapping[str, Any]) -> dict[str, Any]:
    report_from, report_to = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(report_from)
        _run_child(job, report_to)
    os.close(report_to)
    with open(report_from, "rb") as pipe:
        report = pipe.read()
    _, status = os.waitpid(child, 0)
    killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {**(json.loads(report) if report else {}), "signal": killed_by}


class _OfflineClient(stripe.HTTPClient):
    """Answers requests without a connection."""

    name = "offline"

    def request(self, method: str, url: str, *_: Any, **__: Any) -> Any:
        kind = "payment_intent" if "payment_intents" in url else "refund"
        answer: dict[str, Any] = {"id": "re_0", "object": kind, "metadata": {}}
        if "?" in url:
            answer = {"object": "list", "data": [answer], "has_more": False}
        return json.dumps(answer), 200, {"Request-Id": "req_0"}


def _import_everything() -> None:
    """Compile the routes, and use each of the gateway's requests once.

    stripe-python imports much of itself at the first request.
    """
    open_app()
    offline = Gateway("sk_test_offline", "http://127.0.0.1:9", retries=0, transport=_OfflineClient())
    deadline = Deadline.after(JOB_SECONDS)
    for request in (
        lambda: offline.create_refund({"payment_intent": "pi_0"}, "key", deadline, in_doubt=False),
        lambda: offline.retrieve_refund("re_0", deadline),
        lambda: offline.list_refunds("pi_0", deadline),
        lambda: offline.list_recent_refunds(datetime.now(timezone.utc), None, deadline),
        lambda: offline.retrieve_payment("pi_0", deadline),
    ):
        with contextlib.suppress(StripeCallError):
            request()


def main() -> None:
    """Read one job from each line of stdin, and write one line with its result."""
    logging.disable(logging.CRITICAL)
    _import_everything()
    gc.freeze()
    # With short pages, children also stop between two pages of a list.
    with environments.no_retry_pause(), mock.patch.object(gateway, "_PAGE", 2):
        for line in sys.stdin:
            print(json.dumps(_fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

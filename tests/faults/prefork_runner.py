"""Processes that live for one action and kill themselves at a step of it.

The zygote has everything imported and no connection open. For each job it forks a child, which does the
action and numbers its steps: before and after every MongoDB command, and before and after every request to
Stripe. At the step that the job names, the child sends itself SIGKILL: no ``finally`` runs, no buffer is
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
from pathlib import Path
from typing import Any

import flask.cli  # noqa: F401 - imported before the fork, so that no child has to
import pymongo
import stripe
from pymongo import monitoring

from flask_refunds.clock import Deadline
from flask_refunds.errors import StripeCallError
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.stripe_client.transport import Transport
from tests.faults.scenarios import Answer, perform

ROOT = Path(__file__).parents[2]
JOB_SECONDS = 120


@dataclass(frozen=True)
class Result:
    """What became of a child.

    Where it was not killed: ``steps`` are the names of the steps, ``answer`` is what the action was answered.
    """

    killed: bool
    steps: list[str]
    answer: Answer | None


class Zygote:
    """The process that forks, as a context manager. For one thread at a time."""

    def __enter__(self) -> Zygote:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, job: Mapping[str, Any]) -> Result:
        """Have a child do a job, and wait for its end.

        :param job: ``uri``, ``stripe``, ``headers``, ``action``, ``kill_at`` (a step's number from 1, or 0)
            and ``broken`` (a name of :mod:`tests.faults.mutations`, or ``None``).
        :raises RuntimeError: the child failed by itself.
        """
        streams = self._process.stdin, self._process.stdout
        assert streams[0] is not None
        assert streams[1] is not None
        streams[0].write(json.dumps(job).encode() + b"\n")
        streams[0].flush()
        ready, _, _ = select.select([streams[1]], [], [], JOB_SECONDS)
        line = streams[1].readline() if ready else b""
        if not line:
            raise RuntimeError(f"no end of the job within {JOB_SECONDS} s: {job}")
        return _read_result(json.loads(line))


def _read_result(result: Mapping[str, Any]) -> Result:
    if "error" in result:
        raise RuntimeError(result["error"])
    answer = Answer(result["status"], result["body"]) if "status" in result else None
    return Result(result["signal"] == signal.SIGKILL, result.get("steps", []), answer)


class Steps(monitoring.CommandListener):
    """Numbers the steps of this process, and ends it at one.

    :param kill_at: the step's number, from 1; 0 for none.
    """

    def __init__(self, kill_at: int) -> None:
        self.passed: list[str] = []
        self._kill_at = kill_at
        self._unnumbered: set[int] = set()

    def step(self, name: str) -> None:
        """Pass a step, or die at it."""
        self.passed.append(name)
        if len(self.passed) == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        # What the receivers write down is the experiment's.
        if event.command.get(event.command_name) == "heard":
            self._unnumbered.add(event.request_id)
            return
        self.step(f"before {event.command_name} {event.command[event.command_name]}")

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._ended(event)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._ended(event)

    def _ended(self, event: Any) -> None:
        if event.request_id not in self._unnumbered:
            self.step(f"after {event.command_name}")

    def watch_stripe(self) -> None:
        """Number the requests to Stripe, too."""
        send = Transport.request

        def request(transport: Any, method: str, url: str, *rest: Any) -> Any:
            what = f"{method.upper()} {url.partition('/v1/')[2].partition('?')[0]}"
            self.step(f"before {what}")
            try:
                return send(transport, method, url, *rest)
            finally:
                self.step(f"after {what}")

        Transport.request = request  # type: ignore[method-assign, assignment]


def _work(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do the action of a job in this process, which is its own."""
    steps = Steps(job["kill_at"])
    steps.watch_stripe()
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(job["uri"], tz_aware=True, event_listeners=[steps])
    app = environments.make_shop_app(client.get_default_database(), job["stripe"])
    environments.listen(app, client.get_default_database())
    with mutations.without(job["broken"]):
        answer = perform(app, job["headers"], job["action"])
    return {"steps": steps.passed, "status": answer.status, "body": answer.body}


def _live(job: Mapping[str, Any], report_to: int) -> None:
    """The whole life of a child."""
    try:
        result = _work(job)
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
        _live(job, report_to)
    os.close(report_to)
    with open(report_from, "rb") as report:
        said = report.read()
    _, status = os.waitpid(child, 0)
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {**(json.loads(said) if said else {}), "signal": ended_by}


class _Nowhere(stripe.HTTPClient):
    """Carries requests to nobody, and answers each as Stripe would, more or less."""

    name = "nowhere"

    def request(self, method: str, url: str, *_: Any, **__: Any) -> Any:
        kind = "payment_intent" if "payment_intents" in url else "refund"
        answer: dict[str, Any] = {"id": "re_0", "object": kind, "metadata": {}}
        if "?" in url:
            answer = {"object": "list", "data": [answer], "has_more": False}
        return json.dumps(answer), 200, {"Request-Id": "req_0"}


def _import_everything() -> None:
    """stripe-python imports much of itself when a service is first used."""
    gateway = Gateway("sk_test_nobody", "http://127.0.0.1:9", retries=0, transport=_Nowhere())
    deadline = Deadline.after(JOB_SECONDS)
    for ask in (
        lambda: gateway.create_refund({"payment_intent": "pi_0"}, "key", deadline, in_doubt=False),
        lambda: gateway.retrieve_refund("re_0", deadline),
        lambda: gateway.list_refunds("pi_0", deadline),
        lambda: gateway.retrieve_amount_received("pi_0", deadline),
    ):
        with contextlib.suppress(StripeCallError):
            ask()


def serve() -> None:
    """Take a job a line, and answer each with a line."""
    logging.disable(logging.CRITICAL)
    _import_everything()
    gc.freeze()
    with environments.quick_retries():
        for line in sys.stdin:
            print(json.dumps(_fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()

"""Real worker processes, and concurrent callers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mongod import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """The response of one call."""

    status: int
    worker: str | None
    body: dict[str, Any]


class Server:
    """A WSGI server with an app of the tests.

    :param port: its port on 127.0.0.1.
    """

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process

    def post(self, path: str, headers: Mapping[str, str], body: Any = None) -> Answer:
        """Send one request on a new connection.

        :param body: sent as JSON.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            sent = None if body is None else json.dumps(body)
            connection.request("POST", path, sent, {**headers, "Connection": "close"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            return Answer(response.status, response.getheader("X-Worker"), answer)

    def get_text(self, path: str) -> str:
        """Return the body of a page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as response:
            text: str = response.read().decode()
        return text

    def wait(self) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.post("/", {})
            except OSError:
                assert self.process.poll() is None, "the server exited"
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.05)
            except ValueError:
                return  # the app's 404, which isn't JSON


@contextlib.contextmanager
def gunicorn(
    *arguments: str, app: str = "tests.integration.wsgi:app", **environment: str
) -> Iterator[Server]:
    """Serve an app of the tests with gunicorn until the end of the block."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
    command += [*arguments, app]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
        server = Server(port, process)
        try:
            server.wait()
            yield server
        except BaseException:
            log.seek(0)
            sys.stderr.buffer.write(log.read()[-20000:])
            raise
        finally:
            process.terminate()
            process.wait(timeout=30)


def call_together(count: int, rounds: int, call: Callable[[int, int], Answer]) -> list[list[Answer]]:
    """Make concurrent calls in this many threads, round by round.

    :param call: ``(round, caller) -> answer``.
    :return: one list of answers per round.
    """
    barrier = threading.Barrier(count)
    answers: list[list[Answer]] = [[] for _ in range(rounds)]
    errors: list[BaseException] = []

    def work(caller: int) -> None:
        try:
            for number in range(rounds):
                barrier.wait(timeout=60)
                answers[number].append(call(number, caller))
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers

"""Run ``flask refunds …`` in a process."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import Any

from flask_refunds.testing import StripeSandbox
from tests.integration.workers import ROOT

COMMAND = (sys.executable, "-m", "flask", "--app", "tests.integration.wsgi", "refunds")
WITHOUT_RICH = (
    sys.executable,
    "-c",
    "import sys; sys.modules['rich'] = None; from flask.cli import main; main()",
    *COMMAND[3:],
)
"""The same without rich."""


class Commands:
    """Runs commands of the tests' app."""

    def __init__(self, mongo_uri: str, sandbox: StripeSandbox) -> None:
        self._environment = {**os.environ, "MONGO_URI": mongo_uri, "STRIPE_API_BASE": sandbox.url}

    def start(
        self, *arguments: str, command: tuple[str, ...] = COMMAND, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a command with its output in pipes."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        environment = self._environment | options.pop("environment", {})
        return subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, **(pipes | options))

    def run(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Run a command, and return its exit status, stdout and stderr."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode(), err.decode()

    def on_terminal(self, *arguments: str, command: tuple[str, ...] = COMMAND) -> str:
        """Run a command with a terminal of 200 columns as its stdout, and return what appears there."""
        ours, theirs = pty.openpty()
        process = self.start(
            *arguments, command=command, stdout=theirs, environment={"COLUMNS": "200", "TERM": "xterm"}
        )
        os.close(theirs)
        drawn = b""
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            while chunk := _read(terminal):
                drawn += chunk
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return drawn.decode()


def _read(terminal: Any) -> bytes:
    try:
        return terminal.read(65536) or b""
    except OSError:
        return b""  # Linux raises EIO when the other end is closed

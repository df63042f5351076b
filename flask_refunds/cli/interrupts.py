"""Ctrl-C, twice: first what is under way is finished, then it is left."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from .errors import EXIT_FAILED

_STOPPING = (
    "\nStopping: the refunds under way are finished first (20 s at most). Ctrl-C again ends this at once; "
    "then the next run, or reconcile, finishes them."
)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets; a second one raises ``SystemExit``."""
    stop_event = threading.Event()

    def stop(*_: Any) -> None:
        if stop_event.is_set():
            sys.exit(EXIT_FAILED)
        stop_event.set()
        click.echo(_STOPPING, err=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop_event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

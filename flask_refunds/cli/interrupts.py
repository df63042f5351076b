"""Stop at Ctrl-C: the first time after the current work, the second time immediately."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from .errors import EXIT_FAILED

_AGAIN = "Press Ctrl-C again to stop immediately: the next run, or reconcile, then finishes it."


@contextmanager
def stop_on_signals(message: str) -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets. The second one raises ``SystemExit``.

    :param message: what happens after the first signal.
    """
    stop_event = threading.Event()

    def stop(*_: Any) -> None:
        if stop_event.is_set():
            sys.exit(EXIT_FAILED)
        stop_event.set()
        click.echo(f"\n{message} {_AGAIN}", err=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop_event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

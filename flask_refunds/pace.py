"""Not faster than Stripe allows: a turn for each request (https://docs.stripe.com/rate-limits)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LIVE_RATE = 80.0
TEST_RATE = 20.0
"""Requests a second for work in bulk: what Stripe allows (100 live, 25 in test mode), less what the app's own
calls need."""


class Pace:
    """Gives turns, at most so many a second, to any number of threads.

    :param rate: turns a second.
    :param now: a monotonic clock; a test steps its own.
    :param sleep: waits.
    """

    def __init__(
        self,
        rate: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 1 / rate
        self._now = now
        self._sleep = sleep
        self._next = now()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Wait for a turn."""
        with self._lock:
            turn = max(self._next, self._now())
            self._next = turn + self._gap
        pause = turn - self._now()
        if pause > 0:
            self._sleep(pause)


_pace: ContextVar[Pace | None] = ContextVar("flask_refunds_pace", default=None)


@contextmanager
def paced(pace: Pace) -> Iterator[None]:
    """Every request to Stripe made inside waits for its turn."""
    token = _pace.set(pace)
    try:
        yield
    finally:
        _pace.reset(token)


def wait_for_turn() -> None:
    """Wait, if this work is paced."""
    pace = _pace.get()
    if pace is not None:
        pace.wait()

"""Retry bulk work while MongoDB is unavailable: during a failover, a restart, or a network interruption."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import DatabaseUnavailable

MAX_SECONDS = 60.0
"""How long bulk work waits for an unavailable database."""

_FIRST_PAUSE = 0.25
_MAX_PAUSE = 5.0
_T = TypeVar("_T")


def retry_while_unavailable(
    call: Callable[[], _T], stop_event: threading.Event, now: Callable[[], float] = time.monotonic
) -> _T:
    """Call until the database is available, at growing intervals, for a minute.

    :param call: safe to repeat after a :class:`DatabaseUnavailable`.
    :param stop_event: when it is set, the first error is raised.
    :raises DatabaseUnavailable: 500; the database was unavailable for a minute.
    """
    started, pause = now(), _FIRST_PAUSE
    while True:
        try:
            return call()
        except DatabaseUnavailable:
            if now() - started > MAX_SECONDS or stop_event.wait(pause):
                raise
            pause = min(_MAX_PAUSE, 2 * pause)

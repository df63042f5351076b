"""Work that outlasts a database's bad minute: a failover, a restart, a network that comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import DatabaseUnavailable

OUTAGE_SECONDS = 60.0
"""How long work in bulk goes on asking a database that does not answer."""

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
_T = TypeVar("_T")


def retry_while_unavailable(
    ask: Callable[[], _T], stop_event: threading.Event, now: Callable[[], float] = time.monotonic
) -> _T:
    """Ask until the database answers, at growing intervals, for a minute.

    :param ask: may be asked again after a :class:`DatabaseUnavailable`.
    :param stopped: when it is set, there is no waiting.
    :raises DatabaseUnavailable: 500; it did not answer.
    """
    began, pause = now(), _FIRST_PAUSE
    while True:
        try:
            return ask()
        except DatabaseUnavailable:
            if now() - began > OUTAGE_SECONDS or stop_event.wait(pause):
                raise
            pause = min(_LONGEST_PAUSE, 2 * pause)

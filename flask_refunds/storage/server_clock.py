"""MongoDB's time, for all machines: a wrong local clock can't extend a lease or age a refund."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from ..clock import elapsed, now
from .connection import Database, database_timeout, is_server

SYNC_SECONDS = 30.0
"""How long the difference between MongoDB's clock and the local one is used."""

_MEASURING_ERROR = timedelta(seconds=1)
"""Half of the time that MongoDB may take to answer: its time is taken to be that of the middle."""


class ServerClock:
    """Returns MongoDB's time; with mongomock, the local time.

    It asks MongoDB at most once in :data:`SYNC_SECONDS`, and counts from there.

    :param elapsed: returns seconds on a clock that never jumps; tests pass their own.
    """

    def __init__(self, database: Database, elapsed: Callable[[], float] = elapsed) -> None:
        self._database = database
        self._is_server = is_server(database)
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._synced_at = float("-inf")
        self._server_time = self._last = datetime.min.replace(tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        """Return the aware UTC time in whole milliseconds. A new measurement doesn't turn it back.

        :raises DatabaseUnavailable: 500.
        """
        if not self._is_server:
            return now()
        with self._lock:
            seconds = self._elapsed() - self._synced_at
            if seconds > SYNC_SECONDS:
                seconds = self._sync()
            passed = timedelta(milliseconds=int(seconds * 1000))
            shown = self._server_time + passed
            if not shown < self._last < shown + _MEASURING_ERROR:
                self._last = shown
            return self._last

    def _sync(self) -> float:
        """Ask MongoDB for its time, and return the seconds since then."""
        with database_timeout():
            began = self._elapsed()
            answered: datetime = self._database.command("hello")["localTime"]
            ended = self._elapsed()
        self._synced_at = (began + ended) / 2
        self._server_time = answered if answered.tzinfo else answered.replace(tzinfo=timezone.utc)
        return ended - self._synced_at

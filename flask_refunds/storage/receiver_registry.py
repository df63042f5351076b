"""Whether any process of the app has signal receivers: one without them leaves the signals to the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from .connection import Collection, database_timeout

REMEMBERED = timedelta(days=400)
"""How long after a process with receivers last changed a refund others still count on them.

A shop may make no refund for months, while its scheduled reconcile, without receivers, finds one."""

_REGISTER_AGAIN = timedelta(days=1)
_LOOK_AGAIN = timedelta(minutes=1)
_ID = "receivers"


class ReceiverRegistry:
    """Remembers, for all processes, whether the app has receivers.

    A command or a worker may not import the module that connects them. What it changes is signaled elsewhere.

    :param collection: any write concern.
    :param has_listeners: returns whether this process has receivers.
    :param clock: returns the aware UTC time.
    """

    def __init__(
        self, collection: Collection, has_listeners: Callable[[], bool], clock: Callable[[], datetime]
    ) -> None:
        self._collection = collection
        self._has_listeners = has_listeners
        self._clock = clock
        self._lock = threading.Lock()
        self._next_check = datetime.min.replace(tzinfo=timezone.utc)
        self._seen = False

    def must_send(self) -> bool:
        """Return whether the signals of a change must be sent, by this process or another one.

        :raises DatabaseUnavailable: 500.
        """
        has_listeners, now = self._has_listeners(), self._clock()
        with self._lock:
            if now >= self._next_check or (has_listeners and not self._seen):
                self._seen = self._register(now) if has_listeners else self._look_up(now)
                self._next_check = now + (_REGISTER_AGAIN if has_listeners else _LOOK_AGAIN)
            return self._seen

    def _register(self, now: datetime) -> bool:
        with database_timeout():
            self._collection.update_one({"_id": _ID}, {"$set": {"seenAt": now}}, upsert=True)
        return True

    def _look_up(self, now: datetime) -> bool:
        with database_timeout():
            found = self._collection.find_one({"_id": _ID, "seenAt": {"$gt": now - REMEMBERED}})
        return found is not None

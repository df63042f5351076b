"""Share one rate limit between threads, processes and machines: one small document holds the next free slot.

Its times are MongoDB's own (``$$NOW``), so that the machines' clocks don't matter.
"""

from __future__ import annotations

from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

from ..config import Settings
from ..errors import DatabaseUnavailable
from ..storage.connection import Collection, Database, database_timeout, is_server
from .rate_limit import LIVE_RATE, TEST_RATE, Backoff, LocalSlots, RateLimiter

MAX_QUEUE_SECONDS = 60.0
"""A next slot further ahead than this means that MongoDB's clock was set back."""

_NOW: Any = {"$toDouble": "$$NOW"}  # milliseconds


class SharedSlots:
    """Slots for everyone that uses the same document.

    While MongoDB is unavailable, each process keeps the rate by itself.

    :param collection: holds the document; an ordinary write concern is enough.
    :param key: its ``_id``. All that use one key share one limit.
    :param rate: slots a second, of all together.
    """

    def __init__(self, collection: Collection, key: str, rate: float) -> None:
        self._collection = collection
        self._key = key
        self._gap = 1000 / rate
        self._local = LocalSlots(rate)

    def reserve(self) -> float:
        """Reserve the next free slot, and return the seconds until it."""
        try:
            document = self._update(_reserve(self._gap))
        except DatabaseUnavailable:
            return self._local.reserve()
        seconds: float = (document["slot"] - document["at"]) / 1000
        return seconds

    def slow_down(self) -> None:
        """Lower the rate of all for a while."""
        self._local.slow_down()
        try:
            self._update(_SLOW_DOWN)
        except DatabaseUnavailable:
            return

    def _update(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        try:
            return self._update_once(stages)
        except DuplicateKeyError:
            return self._update_once(stages)  # two processes inserted the document at once; now it exists

    def _update_once(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        with database_timeout():
            document: Any = self._collection.find_one_and_update(
                {"_id": self._key}, stages, upsert=True, return_document=ReturnDocument.AFTER
            )
        updated: dict[str, Any] = document
        return updated


def make_rate_limiter(database: Database, settings: Settings, rate: float | None = None) -> RateLimiter:
    """Return the rate limiter of an app's bulk work, shared by all its processes.

    :param rate: requests a second; by default 80 with a live key and 20 with a test key.
    """
    rate = rate or (LIVE_RATE if settings.livemode else TEST_RATE)
    if not is_server(database):
        return RateLimiter(LocalSlots(rate))
    name = f"{settings.refunds_collection}.rate"
    collection: Collection = database.get_collection(name, write_concern=WriteConcern(w=1))
    return RateLimiter(SharedSlots(collection, "live" if settings.livemode else "test", rate))


def _factor() -> dict[str, Any]:
    """Return :meth:`Backoff.factor` as an expression."""
    seconds = {"$divide": [{"$subtract": [_NOW, {"$ifNull": ["$slowedAt", 0]}]}, 1000]}
    factor = {"$subtract": [{"$ifNull": ["$factor", 1]}, {"$multiply": [Backoff.RECOVERY, seconds]}]}
    return {"$max": [1, factor]}


def _next_slot() -> dict[str, Any]:
    """Return the next free slot as an expression: now, or after the reserved ones."""
    next_ = {"$ifNull": ["$next", 0]}
    latest = {"$add": [_NOW, MAX_QUEUE_SECONDS * 1000]}
    return {"$cond": [{"$gt": [next_, latest]}, _NOW, {"$max": [next_, _NOW]}]}


def _reserve(gap: float) -> list[dict[str, Any]]:
    return [
        {"$set": {"at": _NOW, "slot": _next_slot()}},
        {"$set": {"next": {"$add": ["$slot", {"$multiply": [gap, _factor()]}]}}},
    ]


def _slow_down() -> list[dict[str, Any]]:
    """Return :meth:`Backoff.grow`, and the pause after it, as an update."""
    pause = {"$add": [_NOW, Backoff.PAUSE_SECONDS * 1000]}
    factor = {"$min": [Backoff.MAX_FACTOR, {"$multiply": [Backoff.GROWTH, _factor()]}]}
    return [{"$set": {"factor": factor, "slowedAt": _NOW, "next": {"$max": [_next_slot(), pause]}}}]


_SLOW_DOWN = _slow_down()

"""One rate between threads, processes and machines: the next free turn, in one small document of MongoDB.

All times in it are the server's own (``$$NOW``), so that no machine's clock matters.
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

LONGEST_QUEUE_SECONDS = 60.0
"""A next turn that lies further ahead is no queue, but a clock that was set back."""

_NOW: Any = {"$toDouble": "$$NOW"}  # milliseconds


class SharedSlots:
    """SlotAllocator for all who use the same document.

    Where MongoDB does not answer, this process keeps to its rate by itself.

    :param collection: where the document is; an ordinary write concern will do.
    :param key: its ``_id``: all with one key share one limit.
    :param rate: turns a second, of all together.
    """

    def __init__(self, collection: Collection, key: str, rate: float) -> None:
        self._collection = collection
        self._key = key
        self._gap = 1000 / rate
        self._alone = LocalSlots(rate)

    def reserve(self, count: int) -> tuple[float, float]:
        """Take so many turns that nobody else has."""
        try:
            taken = self._update(_reserving(count, self._gap))
        except DatabaseUnavailable:
            return self._alone.reserve(count)
        return (taken["first"] - taken["at"]) / 1000, taken["gap"] / 1000

    def slow_down(self) -> None:
        """Be slower for a while, all of us."""
        self._alone.slow_down()
        try:
            self._update(_SLOWING)
        except DatabaseUnavailable:
            return

    def _update(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        try:
            return self._update_once(stages)
        except DuplicateKeyError:
            return self._update_once(stages)  # two made the document at once; it is there now

    def _update_once(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        with database_timeout():
            found: Any = self._collection.find_one_and_update(
                {"_id": self._key}, stages, upsert=True, return_document=ReturnDocument.AFTER
            )
        taken: dict[str, Any] = found
        return taken


def make_rate_limiter(database: Database, settings: Settings, rate: float | None = None) -> RateLimiter:
    """The pace of work in bulk for an app, shared with all its processes.

    :param rate: requests a second; by default 80 with a live key and 20 with a test key.
    """
    rate = rate or (LIVE_RATE if settings.livemode else TEST_RATE)
    if not is_server(database):
        return RateLimiter(LocalSlots(rate))
    name = f"{settings.refunds_collection}.rate"
    collection: Collection = database.get_collection(name, write_concern=WriteConcern(w=1))
    return RateLimiter(SharedSlots(collection, "live" if settings.livemode else "test", rate))


def _factor() -> dict[str, Any]:
    """By what the gap is multiplied now: :meth:`Backoff.factor`, in MongoDB's words."""
    seconds = {"$divide": [{"$subtract": [_NOW, {"$ifNull": ["$slowedAt", 0]}]}, 1000]}
    worn = {"$subtract": [{"$ifNull": ["$slowness", 1]}, {"$multiply": [Backoff.RECOVERY, seconds]}]}
    return {"$max": [1, worn]}


def _first() -> dict[str, Any]:
    """The next turn that is free: now, or after those that are taken."""
    next_ = {"$ifNull": ["$next", 0]}
    latest = {"$add": [_NOW, LONGEST_QUEUE_SECONDS * 1000]}
    return {"$cond": [{"$gt": [next_, latest]}, _NOW, {"$max": [next_, _NOW]}]}


def _reserving(count: int, gap: float) -> list[dict[str, Any]]:
    return [
        {"$set": {"at": _NOW, "first": _first(), "gap": {"$multiply": [gap, _factor()]}}},
        {"$set": {"next": {"$add": ["$first", {"$multiply": [count, "$gap"]}]}}},
    ]


def _slowing() -> list[dict[str, Any]]:
    """:meth:`Backoff.grow`, and the pause that follows it, in MongoDB's words."""
    pause = {"$add": [_NOW, Backoff.PAUSE_SECONDS * 1000]}
    grown = {"$min": [Backoff.MOST, {"$multiply": [Backoff.GROWTH, _factor()]}]}
    return [{"$set": {"slowness": grown, "slowedAt": _NOW, "next": {"$max": [_first(), pause]}}}]


_SLOWING = _slowing()

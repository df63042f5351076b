"""Keep bulk work below Stripe's rate limit (https://docs.stripe.com/rate-limits): one slot per request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from ..errors import RateLimited

LIVE_RATE = 80.0
TEST_RATE = 20.0
"""Requests a second for bulk work: Stripe's limits (100 live, 25 in test mode), less a share for the app's
other calls."""

MAX_RESERVED = 8
"""How many slots the threads of a process reserve in advance: few, so that a 429 soon affects the next slots
and processes share them evenly, and enough to outweigh MongoDB's response time."""

MISSED_SECONDS = 0.25
"""A slot that a thread reaches later than this isn't used: the threads of a process that was suspended would
all send at once."""


class SlotAllocator(Protocol):
    """Gives out slots, in one process or across all of them."""

    def reserve(self) -> float:
        """Reserve the next free slot.

        :return: the seconds until it.
        """

    def slow_down(self) -> None:
        """Lower the rate for a while, because Stripe returned 429."""


class Backoff:
    """The factor by which slots are further apart since Stripe returned 429.

    A single 429 costs almost nothing. While they continue, the rate falls to what Stripe accepts.

    :param now: a clock in seconds.
    """

    GROWTH = 1.03
    """Each 429 multiplies the factor by this."""
    MAX_FACTOR = 8.0
    RECOVERY = 0.04
    """How much the factor falls each second."""
    PAUSE_SECONDS = 0.1
    """No new slot starts within this time after a 429."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._factor = 1.0
        self._since = now()

    def factor(self) -> float:
        """Return the current factor; at least 1."""
        return max(1.0, self._factor - self.RECOVERY * (self._now() - self._since))

    def grow(self) -> None:
        """Record a 429."""
        self._factor, self._since = min(self.MAX_FACTOR, self.factor() * self.GROWTH), self._now()


class LocalSlots:
    """Slots for a single process.

    :param rate: slots a second.
    :param now: a monotonic clock.
    """

    def __init__(self, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self._gap = 1 / rate
        self._now = now
        self._backoff = Backoff(now)
        self._next = now()
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Reserve the next free slot, and return the seconds until it."""
        with self._lock:
            now = self._now()
            slot = max(self._next, now)
            self._next = slot + self._gap * self._backoff.factor()
        return slot - now

    def slow_down(self) -> None:
        """Lower the rate for a while."""
        with self._lock:
            self._backoff.grow()
            self._next = max(self._next, self._now() + Backoff.PAUSE_SECONDS)


class RateLimiter:
    """Makes any number of threads wait for slots.

    :param allocator: gives out the slots.
    :param now: a monotonic clock.
    :param sleep: waits.
    """

    def __init__(
        self,
        allocator: SlotAllocator,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._allocator = allocator
        self._now = now
        self._sleep = sleep
        self._reserving = threading.Semaphore(MAX_RESERVED)

    def wait(self) -> float:
        """Wait for a slot.

        :return: the seconds until the slot; about 0 if a slot was free.
        """
        started = self._now()
        with self._reserving:
            while True:
                pause = self._allocator.reserve()
                slot = self._now() + pause
                if pause > 0:
                    self._sleep(pause)
                if self._now() - slot <= MISSED_SECONDS:
                    return slot - started

    def slow_down(self) -> None:
        """Lower the rate for a while, because Stripe returned 429."""
        self._allocator.slow_down()


@dataclass
class _CurrentLimit:
    """The rate limiter of some work, and how many of its slots were waited for in advance."""

    rate_limiter: RateLimiter
    slots_taken: int


_current: ContextVar[_CurrentLimit | None] = ContextVar("flask_refunds_rate_limiter", default=None)


@contextmanager
def rate_limited(rate_limiter: RateLimiter, *, slots_taken: int = 0) -> Iterator[None]:
    """Make every request to Stripe inside wait for a slot.

    :param slots_taken: how many slots were waited for already. A call with a deadline waits before it starts.
    """
    token = _current.set(_CurrentLimit(rate_limiter, slots_taken))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def rate_limit_slot() -> Iterator[None]:
    """Make one request in a slot, if this work is rate limited, and slow down where Stripe returns 429."""
    current = _current.get()
    if current is None:
        yield
        return
    if current.slots_taken:
        current.slots_taken -= 1
    else:
        current.rate_limiter.wait()
    try:
        yield
    except RateLimited:
        current.rate_limiter.slow_down()
        raise

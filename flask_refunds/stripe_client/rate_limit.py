"""Not faster than Stripe allows: a turn for each request (https://docs.stripe.com/rate-limits)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from ..errors import RateLimited

LIVE_RATE = 80.0
TEST_RATE = 20.0
"""Requests a second for work in bulk: what Stripe allows (100 live, 25 in test mode), less what the app's own
calls need."""

MAX_RESERVED_SLOTS = 32
"""How many turns are reserved at once, at most; at 80 a second they last 0.4 s."""

_AHEAD_SECONDS = 0.2
"""How long before the last reserved turn the next are reserved: a round trip to MongoDB, and some."""

_LAPSED_SECONDS = 0.25
"""A turn that is missed by so much is not slots_taken: its time is others'."""

_CATCHING_UP = 0.96
"""How much of the gap must lie between two departures, however late they are."""


class SlotAllocator(Protocol):
    """Where turns are given out: in this process, or among all of them."""

    def reserve(self, count: int) -> tuple[float, float]:
        """Take so many turns that nobody else has.

        :return: the seconds until the first, and those from one to the next.
        """

    def slow_down(self) -> None:
        """Stripe said that it was too fast: be slower for a while."""


class Backoff:
    """How much slower than wanted turns are given since Stripe said 429.

    A stray 429 costs next to nothing; where they go on, the rate falls to what Stripe takes.

    :param now: a clock in seconds.
    """

    GROWTH = 1.03
    """What each 429 multiplies the gap between two turns by."""
    MOST = 8.0
    RECOVERY = 0.04
    """How much of it wears off each second."""
    PAUSE_SECONDS = 0.1
    """How long nobody gets a turn after a 429."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._factor = 1.0
        self._since = now()

    def factor(self) -> float:
        """By what the gap between two turns is multiplied now; at least 1."""
        return max(1.0, self._factor - self.RECOVERY * (self._now() - self._since))

    def grow(self) -> None:
        """Note a 429."""
        self._factor, self._since = min(self.MOST, self.factor() * self.GROWTH), self._now()


class LocalSlots:
    """SlotAllocator for one process alone.

    :param rate: turns a second.
    :param now: a monotonic clock; a test steps its own.
    """

    def __init__(self, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self._gap = 1 / rate
        self._now = now
        self._backoff = Backoff(now)
        self._next = now()
        self._lock = threading.Lock()

    def reserve(self, count: int) -> tuple[float, float]:
        """Take so many turns that nobody else has."""
        with self._lock:
            now, gap = self._now(), self._gap * self._backoff.factor()
            first = max(self._next, now)
            self._next = first + count * gap
        return first - now, gap

    def slow_down(self) -> None:
        """Be slower for a while."""
        with self._lock:
            self._backoff.grow()
            self._next = max(self._next, self._now() + Backoff.PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class _Slot:
    """A turn's moment, and the time from it to the next."""

    at: float
    gap: float


class RateLimiter:
    """Gives turns, one at a time, to any number of threads.

    Whoever finds none reserved reserves them for all who wait, so that a reservation may cost a round trip.

    :param turns: where they come from.
    :param now: a monotonic clock; a test steps its own.
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
        self._counting = threading.Lock()
        self._waiting = 0
        self._choosing = threading.Lock()
        self._reserved: deque[_Slot] = deque()
        self._last = now()
        self._departing = threading.Lock()
        self._departed = now() - 1

    def wait(self) -> float:
        """Wait for a turn.

        :return: how long there was to wait, in seconds; 0 where turns lay idle.
        """
        began = self._now()
        turn = self._choose()
        while self._now() - turn.at > _LAPSED_SECONDS:
            turn = self._choose()  # this process stood still; others have gone on
        self._sleep_until(turn.at)
        self._depart(turn.gap)
        return max(0.0, turn.at - began)

    def slow_down(self) -> None:
        """Stripe said 429: give turns more slowly for a while."""
        self._allocator.slow_down()

    def _depart(self, gap: float) -> None:
        """Go; where threads wake late, not all at once."""
        with self._departing:
            at = max(self._now(), self._departed + gap * _CATCHING_UP)
            self._departed = at
        self._sleep_until(at)

    def _sleep_until(self, moment: float) -> None:
        pause = moment - self._now()
        if pause > 0:
            self._sleep(pause)

    def _choose(self) -> _Slot:
        with self._counting:
            self._waiting += 1
        try:
            with self._choosing:
                if not self._reserved:
                    self._reserve()
                return self._reserved.popleft()
        finally:
            with self._counting:
                self._waiting -= 1

    def _reserve(self) -> None:
        # Others come meanwhile, and one round trip serves them all.
        self._sleep_until(self._last - _AHEAD_SECONDS)
        with self._counting:
            count = min(self._waiting, MAX_RESERVED_SLOTS)
        first, gap = self._allocator.reserve(count)
        begin = self._now() + first
        self._reserved.extend(_Slot(begin + number * gap, gap) for number in range(count))
        self._last = self._reserved[-1].at


@dataclass
class _RateLimited:
    """The pace of some work, and how many of its turns were waited for beforehand."""

    rate_limiter: RateLimiter
    slots_taken: int


_current: ContextVar[_RateLimited | None] = ContextVar("flask_refunds_rate_limiter", default=None)


@contextmanager
def rate_limited(rate_limiter: RateLimiter, *, slots_taken: int = 0) -> Iterator[None]:
    """Every request to Stripe made inside waits for its turn.

    :param slots_taken: how many turns were waited for already: a call whose time is short waits before it
        begins.
    """
    token = _current.set(_RateLimited(rate_limiter, slots_taken))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def rate_limit_slot() -> Iterator[None]:
    """Make one request in its turn, if this work is paced, and tell the pace where it was too fast."""
    mine = _current.get()
    if mine is None:
        yield
        return
    if mine.slots_taken:
        mine.slots_taken -= 1
    else:
        mine.rate_limiter.wait()
    try:
        yield
    except RateLimited:
        mine.rate_limiter.slow_down()
        raise

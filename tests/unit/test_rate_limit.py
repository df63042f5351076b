"""The rate limiter: evenly spaced slots for any number of threads, fewer where Stripe returns 429."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from flask_refunds.errors import RateLimited, RequestRejected
from flask_refunds.stripe_client.rate_limit import (
    MAX_RESERVED,
    LocalSlots,
    RateLimiter,
    rate_limit_slot,
    rate_limited,
)


class Clock:
    """A clock that sleeping advances.

    :param overslept: how much longer the first sleeps take than requested.
    """

    def __init__(self, *overslept: float) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []
        self._overslept = iter(overslept)

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds + next(self._overslept, 0.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class BusySlots(LocalSlots):
    """Every slot is 0.1 seconds away."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.reserved = 0

    def reserve(self) -> float:
        self.reserved += 1
        return 0.1


def make_limiter(rate: float, clock: Clock) -> RateLimiter:
    return RateLimiter(LocalSlots(rate, clock), clock, clock.sleep)


def request(work: Callable[[], None] = lambda: None) -> None:
    with rate_limit_slot():
        work()


def fail(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


TOO_MANY = RateLimited("rate_limited", "Too many.")


@pytest.mark.parametrize("idle_seconds", [0, 3600])
def test_slots_follow_at_the_rate_and_unused_ones_are_lost(clock: Clock, idle_seconds: float) -> None:
    limiter = make_limiter(20, clock)
    clock.seconds += idle_seconds
    for _ in range(101):
        limiter.wait()
    assert clock.seconds == pytest.approx(idle_seconds + 5.0)


def test_wait_returns_the_seconds_until_the_slot(clock: Clock) -> None:
    limiter = make_limiter(10, clock)
    assert (limiter.wait(), round(limiter.wait(), 6)) == (0.0, 0.1)
    clock.seconds += 1
    assert limiter.wait() == 0.0


@pytest.mark.parametrize(("overslept", "slept"), [(0.2, [0.1]), (0.3, [0.1, 0.1])])
def test_slot_missed_by_a_suspended_process_is_not_used(overslept: float, slept: list[float]) -> None:
    """While the process was suspended, other processes used the next slots."""
    clock = Clock(overslept)
    RateLimiter(BusySlots(), clock, clock.sleep).wait()
    assert clock.slept == slept


def test_few_slots_are_reserved_in_advance() -> None:
    slots, proceed = BusySlots(), threading.Event()
    limiter = RateLimiter(slots, sleep=lambda seconds: proceed.wait(timeout=10))
    threads = [threading.Thread(target=limiter.wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    while slots.reserved < MAX_RESERVED:
        time.sleep(0.001)
    assert slots.reserved == MAX_RESERVED
    proceed.set()
    for thread in threads:
        thread.join()
    assert slots.reserved == 20


def test_only_rate_limited_work_waits(clock: Clock) -> None:
    request()
    with rate_limited(make_limiter(1, clock)):
        request()
        request()
    request()
    assert clock.slept == [1.0]


def test_slot_waited_for_beforehand_is_used_by_the_first_request(clock: Clock) -> None:
    limiter = make_limiter(1, clock)
    limiter.wait()
    with rate_limited(limiter, slots_taken=1):
        request()
        assert clock.seconds == 0
        request()
    assert clock.seconds == pytest.approx(1.0)


def test_429_pauses_all_and_then_lowers_the_rate(clock: Clock) -> None:
    limiter = make_limiter(100, clock)
    with rate_limited(limiter, slots_taken=1), pytest.raises(RateLimited):
        request(fail(TOO_MANY))
    assert limiter.wait() == pytest.approx(0.1)
    assert 0.0101 < limiter.wait() < 0.0104


def test_other_errors_do_not_lower_the_rate(clock: Clock) -> None:
    limiter = make_limiter(100, clock)
    with rate_limited(limiter, slots_taken=1), pytest.raises(RequestRejected):
        request(fail(RequestRejected("charge_disputed", "No.")))
    assert limiter.wait() == 0.0


@pytest.mark.parametrize(
    ("count", "seconds", "least", "most"),
    [(1, 1, 0.01, 0.01), (24, 1, 0.018, 0.021), (250, 0.1, 0.079, 0.08), (250, 1000, 0.01, 0.01)],
    ids=["one is forgotten", "many are not", "up to a limit", "recovered"],
)
def test_rate_falls_with_the_number_of_429s_and_recovers(
    clock: Clock, count: int, seconds: float, least: float, most: float
) -> None:
    slots = LocalSlots(100, clock)
    for _ in range(count):
        slots.slow_down()
    clock.seconds += seconds
    slots.reserve()
    assert least <= round(slots.reserve(), 9) <= most

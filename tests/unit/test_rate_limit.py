"""SlotAllocator are given evenly, to any number of threads, and more slowly where Stripe says so."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest

from flask_refunds.errors import RateLimited, RequestRejected
from flask_refunds.stripe_client.rate_limit import LocalSlots, RateLimiter, rate_limit_slot, rate_limited


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


class CountedTurns(LocalSlots):
    """SlotAllocator that are said to be elsewhere: how many were reserved at each call.

    :param on_reserve: called at each.
    """

    def __init__(self, rate: float, clock: Clock, on_reserve: Callable[[], None] = lambda: None) -> None:
        super().__init__(rate, clock)
        self.counts: list[int] = []
        self._on_reserve = on_reserve

    def reserve(self, count: int) -> tuple[float, float]:
        self.counts.append(count)
        self._on_reserve()
        return super().reserve(count)


def make_rate_limiter(rate: float, clock: Clock) -> RateLimiter:
    return RateLimiter(LocalSlots(rate, clock), clock, clock.sleep)


def ask(work: Callable[[], None] = lambda: None) -> None:
    with rate_limit_slot():
        work()


def test_so_many_a_second() -> None:
    clock = Clock()
    pace = make_rate_limiter(20, clock)
    for _ in range(101):
        pace.wait()
    assert abs(clock.seconds - 5.0) < 1e-6


def test_what_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    pace = make_rate_limiter(20, clock)
    clock.seconds += 3600
    for _ in range(21):
        pace.wait()
    assert abs(clock.seconds - 3601.0) < 1e-6


def test_it_says_how_long_there_was_to_wait() -> None:
    clock = Clock()
    pace = make_rate_limiter(10, clock)
    assert (pace.wait(), round(pace.wait(), 6)) == (0.0, 0.1)
    clock.seconds += 1
    assert pace.wait() == 0.0


def test_one_reservation_serves_all_who_wait() -> None:
    """Nineteen come while the first reserves; whoever is next reserves for all of them."""
    clock, together = Clock(), threading.Barrier(20)
    waiting: list[threading.Thread] = []

    def let_the_others_come() -> None:
        if waiting:
            return
        waiting.extend(threading.Thread(target=wait) for _ in range(19))
        for thread in waiting:
            thread.start()
        together.wait(timeout=10)
        while pace._waiting < 20:
            pass

    def wait() -> None:
        together.wait(timeout=10)
        pace.wait()

    turns = CountedTurns(1000, clock, let_the_others_come)
    pace = RateLimiter(turns, clock, lambda seconds: None)
    pace.wait()
    for thread in waiting:
        thread.join()
    assert turns.counts == [1, 19]


def test_a_turn_that_was_missed_is_not_taken() -> None:
    """This process stood still between a reservation and the turn."""
    clock = Clock()
    answers = iter([(-0.3, 0.1), (0.5, 0.1)])

    class StoodStill(LocalSlots):
        def reserve(self, count: int) -> tuple[float, float]:
            return next(answers)

    pace = RateLimiter(StoodStill(10, clock), clock, clock.sleep)
    assert pace.wait() == 0.5
    assert clock.seconds == 0.5


def test_late_ones_do_not_go_all_at_once() -> None:
    clock = Clock()
    pace = make_rate_limiter(100, clock)
    turns = [pace._choose() for _ in range(4)]
    clock.seconds = turns[-1].at + 0.1
    pace._choose = iter(turns).__next__  # type: ignore[method-assign]
    gone = [(pace.wait(), clock.seconds)[1] for _ in range(4)]
    gaps = [round(later - earlier, 6) for earlier, later in itertools.pairwise(gone)]
    assert gaps == [0.0096] * 3


def test_only_paced_work_waits() -> None:
    clock = Clock()
    pace = make_rate_limiter(1, clock)
    ask()
    with rate_limited(pace):
        ask()
        ask()
    ask()
    assert clock.slept == [1.0]


def test_a_turn_that_was_taken_beforehand_is_not_waited_for() -> None:
    clock = Clock()
    pace = make_rate_limiter(1, clock)
    pace.wait()
    with rate_limited(pace, slots_taken=1):
        ask()
        assert clock.seconds == 0
        ask()
    assert clock.seconds == pytest.approx(1.0)


def throttle() -> None:
    raise RateLimited("rate_limited", "Too many.")


def test_after_a_429_nobody_goes_for_a_moment_and_then_more_slowly() -> None:
    clock = Clock()
    pace = make_rate_limiter(100, clock)
    with rate_limited(pace, slots_taken=1), pytest.raises(RateLimited):
        ask(throttle)
    began = clock.seconds
    pace.wait()
    assert clock.seconds - began == pytest.approx(0.1)
    pace.wait()
    assert 0.0101 < clock.seconds - began - 0.1 < 0.0104


def test_a_stray_429_is_forgotten_and_many_are_not() -> None:
    clock = Clock()
    turns = LocalSlots(100, clock)
    turns.slow_down()
    clock.seconds += 1
    assert turns.reserve(1)[1] == 0.01
    for _ in range(24):
        turns.slow_down()
    clock.seconds += 1
    assert 0.018 < turns.reserve(1)[1] < 0.021
    for _ in range(200):
        turns.slow_down()
    assert turns.reserve(1)[1] == 0.08


def test_another_answer_slows_nothing_down() -> None:
    clock = Clock()
    pace = make_rate_limiter(100, clock)

    def refuse() -> None:
        raise RequestRejected("charge_disputed", "No.")

    with rate_limited(pace, slots_taken=1), pytest.raises(RequestRejected):
        ask(refuse)
    assert pace.wait() == 0.0

"""Turns are given evenly, to any number of threads."""

from __future__ import annotations

import threading

from flask_refunds.pace import Pace, paced, wait_for_turn


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


def test_so_many_a_second() -> None:
    clock = Clock()
    pace = Pace(20, clock, clock.sleep)
    for _ in range(101):
        pace.wait()
    assert abs(clock.seconds - 5.0) < 1e-6


def test_what_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    pace = Pace(20, clock, clock.sleep)
    clock.seconds += 3600
    for _ in range(21):
        pace.wait()
    assert abs(clock.seconds - 3601.0) < 1e-6


def test_threads_share_the_turns() -> None:
    """The clock stands still: each thread is told to wait for a turn of its own."""
    clock = Clock()
    pauses: list[float] = []
    pace = Pace(10, clock, pauses.append)
    threads = [threading.Thread(target=pace.wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [round(pause, 6) for pause in sorted(pauses)] == [round(n / 10, 6) for n in range(1, 20)]


def test_only_paced_work_waits() -> None:
    clock = Clock()
    pace = Pace(1, clock, clock.sleep)
    wait_for_turn()
    with paced(pace):
        wait_for_turn()
        wait_for_turn()
    wait_for_turn()
    assert clock.slept == [1.0]

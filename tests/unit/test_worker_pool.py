"""Threads that work off a stream: bounded, adaptive, and finished before they are left."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from flask_refunds.bulk.worker_pool import FIRST_THREADS, MOST_THREADS, WorkerPool
from flask_refunds.stripe_client.rate_limit import LocalSlots, RateLimiter, rate_limit_slot


def make_crew(work: Callable[[int], Any], **options: Any) -> WorkerPool[int, Any]:
    given: dict[str, Any] = {
        "asks_stripe": lambda item: False,
        "pace": RateLimiter(LocalSlots(1e6)),
        "context": nullcontext,
        "stopped": threading.Event(),
    }
    return WorkerPool(work, **(given | options))


def test_each_item_once() -> None:
    assert sorted(make_crew(lambda item: item * 2).results(iter(range(500)))) == list(range(0, 1000, 2))


def test_no_more_at_hand_than_is_read() -> None:
    taken = itertools.count()
    results = make_crew(lambda item: item).results(iter(lambda: next(taken), -1))
    for _ in range(10):
        next(results)
    results.close()
    assert next(taken) <= 10 + 2 * MOST_THREADS


def test_an_error_ends_it_once_the_others_have_finished() -> None:
    entered, finished = threading.Barrier(FIRST_THREADS), []

    def work(item: int) -> int:
        entered.wait(timeout=10)
        if item == 3:
            raise KeyError(item)
        finished.append(item)
        return item

    stop_event = threading.Event()
    results = make_crew(work, stop_event=stop_event).results(iter(range(FIRST_THREADS)))
    got = []
    with pytest.raises(KeyError):
        got.extend(results)
    assert sorted(finished) == [each for each in range(FIRST_THREADS) if each != 3]
    assert stop_event.is_set()


def test_an_error_of_the_items_themselves() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError

    results = make_crew(lambda item: item).results(items())
    assert next(results) == 1
    with pytest.raises(LookupError):
        next(results)


def test_who_turns_away_waits_for_what_is_under_way() -> None:
    begun, go, finished = threading.Semaphore(0), threading.Event(), []

    def work(item: int) -> int:
        begun.release()
        if item:
            go.wait(timeout=10)
        finished.append(item)
        return item

    results = make_crew(work).results(itertools.count())
    assert next(results) == 0
    for _ in range(FIRST_THREADS + 1):
        begun.acquire(timeout=10)
    threading.Timer(0.05, go.set).start()
    results.close()
    assert len(finished) == FIRST_THREADS + 1


def test_stopped_it_begins_nothing_more() -> None:
    stop_event = threading.Event()
    results = make_crew(lambda item: stop_event.set() or item, stop_event=stop_event).results(
        itertools.count()
    )
    assert len(list(results)) <= FIRST_THREADS


def test_stopped_nobody_begins_after_his_turn_has_come() -> None:
    stop_event, begun = threading.Event(), []

    class StopsMeanwhile(RateLimiter):
        def wait(self) -> float:
            stop_event.set()
            return 1.0

    pace = StopsMeanwhile(LocalSlots(1e6))
    crew = make_crew(begun.append, rate_limiter=pace, asks_stripe=lambda item: True, stop_event=stop_event)
    assert list(crew.results(itertools.count())) == []
    assert begun == []


def test_it_grows_while_turns_lie_idle_and_no_further() -> None:
    names = set()
    together = threading.Barrier(40)

    def work(item: int) -> None:
        names.add(threading.get_ident())
        if item < 40:
            together.wait(timeout=20)  # forty at once, or never

    list(make_crew(work, asks_stripe=lambda item: True).results(iter(range(400))))
    assert 40 <= len(names) <= MOST_THREADS


def test_a_turn_is_taken_before_the_work_and_not_within() -> None:
    waits = []

    class CountedPace(RateLimiter):
        def wait(self) -> float:
            waits.append(threading.get_ident())
            return 1.0

    def work(item: int) -> int:
        before = len(waits)
        with rate_limit_slot():
            pass
        assert len(waits) >= before
        return item

    pace = CountedPace(LocalSlots(1e6))
    list(make_crew(work, rate_limiter=pace, asks_stripe=lambda item: item % 2 == 0).results(iter([0])))
    assert len(waits) == 1
    list(make_crew(work, rate_limiter=pace, asks_stripe=lambda item: item % 2 == 0).results(iter([1])))
    assert len(waits) == 2  # none was taken before, so the request waits


def test_each_item_in_a_context_of_its_own() -> None:
    inside: list[int] = []

    @contextmanager
    def context() -> Iterator[None]:
        inside.append(threading.get_ident())
        yield

    list(make_crew(lambda item: item, context=context).results(iter(range(20))))
    assert len(inside) == 20

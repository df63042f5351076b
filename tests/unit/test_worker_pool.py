"""The worker pool: bounded, adaptive, and finished before its iterator ends."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from flask_refunds.bulk.worker_pool import FIRST_THREADS, MAX_THREADS, WorkerPool
from flask_refunds.stripe_client.rate_limit import LocalSlots, RateLimiter, rate_limit_slot


def make_pool(work: Callable[[int], Any], **options: Any) -> WorkerPool[int, Any]:
    defaults: dict[str, Any] = {
        "calls_stripe": lambda item: False,
        "rate_limiter": RateLimiter(LocalSlots(1e6)),
        "context": nullcontext,
        "stop_event": threading.Event(),
    }
    return WorkerPool(work, **(defaults | options))


class CountingLimiter(RateLimiter):
    """Counts the waits, and calls ``on_wait`` at each."""

    def __init__(self, on_wait: Callable[[], None] = lambda: None) -> None:
        super().__init__(LocalSlots(1e6))
        self.waits = 0
        self._on_wait = on_wait

    def wait(self) -> float:
        self.waits += 1
        self._on_wait()
        return 1.0


def test_each_item_is_processed_once() -> None:
    assert sorted(make_pool(lambda item: item * 2).results(iter(range(500)))) == list(range(0, 1000, 2))


def test_items_are_taken_only_as_results_are_read() -> None:
    too_many = threading.Event()

    def items() -> Iterator[int]:
        yield from range(1 + FIRST_THREADS + MAX_THREADS)  # read, held by the threads, and in the queue
        yield 0
        too_many.set()

    results = make_pool(lambda item: item).results(items())
    next(results)
    assert not too_many.wait(timeout=0.5)
    results.close()


def test_error_in_work_is_raised_after_the_items_in_progress_finished() -> None:
    entered, finished = threading.Barrier(FIRST_THREADS), []

    def work(item: int) -> int:
        entered.wait(timeout=10)
        if item == 3:
            raise KeyError(item)
        finished.append(item)
        return item

    stop_event = threading.Event()
    results = make_pool(work, stop_event=stop_event).results(iter(range(FIRST_THREADS)))
    with pytest.raises(KeyError):
        list(results)
    assert sorted(finished) == [each for each in range(FIRST_THREADS) if each != 3]
    assert stop_event.is_set()


def test_error_in_the_items_is_raised_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError

    results = make_pool(lambda item: item).results(items())
    assert next(results) == 1
    with pytest.raises(LookupError):
        next(results)


def test_closing_the_iterator_waits_for_the_items_in_progress() -> None:
    started, proceed, finished = threading.Semaphore(0), threading.Event(), []

    def work(item: int) -> int:
        started.release()
        if item:
            proceed.wait(timeout=10)
        finished.append(item)
        return item

    results = make_pool(work).results(itertools.count())
    assert next(results) == 0
    for _ in range(FIRST_THREADS + 1):
        started.acquire(timeout=10)
    threading.Timer(0.05, proceed.set).start()
    results.close()
    assert len(finished) == FIRST_THREADS + 1


def test_stop_event_prevents_further_items() -> None:
    stop_event = threading.Event()
    pool = make_pool(lambda item: stop_event.set() or item, stop_event=stop_event)
    assert len(list(pool.results(itertools.count()))) <= FIRST_THREADS


def test_stop_event_set_during_the_wait_for_a_slot_prevents_the_item() -> None:
    stop_event, started = threading.Event(), []
    limiter = CountingLimiter(stop_event.set)
    pool = make_pool(
        started.append, rate_limiter=limiter, calls_stripe=lambda item: True, stop_event=stop_event
    )
    assert list(pool.results(itertools.count())) == []
    assert started == []


def test_pool_grows_while_slots_are_free_and_stays_within_its_limit() -> None:
    threads = set()
    together = threading.Barrier(40)

    def work(item: int) -> None:
        threads.add(threading.get_ident())
        if item < 40:
            together.wait(timeout=20)  # fails unless forty threads arrive

    list(make_pool(work, calls_stripe=lambda item: True).results(iter(range(400))))
    assert 40 <= len(threads) <= MAX_THREADS


@pytest.mark.parametrize("calls_stripe", [True, False])
def test_request_uses_the_slot_taken_before_the_work_or_waits_for_one(calls_stripe: bool) -> None:
    limiter, waits_before_request = CountingLimiter(), []

    def work(item: int) -> None:
        waits_before_request.append(limiter.waits)
        with rate_limit_slot():
            pass

    pool = make_pool(work, rate_limiter=limiter, calls_stripe=lambda item: calls_stripe)
    list(pool.results(iter([0])))
    assert waits_before_request == [int(calls_stripe)]
    assert limiter.waits == 1


def test_each_item_has_its_own_context() -> None:
    entered: list[int] = []

    @contextmanager
    def context() -> Iterator[None]:
        entered.append(threading.get_ident())
        yield

    list(make_pool(lambda item: item, context=context).results(iter(range(20))))
    assert len(entered) == 20


@pytest.mark.parametrize("limit", [1, FIRST_THREADS - 2, FIRST_THREADS + 1])
def test_machine_without_further_threads_slows_the_pool_only(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = threading.Thread.start, []

    def start_up_to_the_limit(thread: threading.Thread) -> None:
        if thread.name == "flask_refunds_bulk":
            if len(started) == limit:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_up_to_the_limit)
    pool = make_pool(lambda item: item, calls_stripe=lambda item: True)
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.extend(pool.results(iter(range(100)))), daemon=True)
    reader.start()
    reader.join(60)
    assert sorted(found) == list(range(100))
    assert len(started) == limit


def test_machine_without_any_thread_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="new thread"):
        next(make_pool(lambda item: item).results(iter(range(3))))

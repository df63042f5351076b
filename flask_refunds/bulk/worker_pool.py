"""Process a stream in threads at a limited rate, with no more items in memory than the threads hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import Queue
from typing import Any, Generic, TypeVar

from ..stripe_client.rate_limit import RateLimiter, rate_limited

FIRST_THREADS = 8
MAX_THREADS = 128
"""As many as the connection pool to Stripe holds. A MongoDB client has 100 connections, each used briefly."""

_MIN_WAIT_SECONDS = 0.4
"""How long a thread should wait for its slot. If it waits less, another thread increases the throughput."""

_T = TypeVar("_T")
_R = TypeVar("_R")

Context = Callable[[], AbstractContextManager[object]]


@dataclass
class _Raised:
    error: BaseException


class _Ended:
    """A thread has ended."""


@dataclass(eq=False)
class WorkerPool(Generic[_T, _R]):
    """Processes each item in a thread, and yields the results as they arrive.

    A thread waits for a slot before it starts an item, so that waiting takes none of a call's time limit.

    :param work: processes one item.
    :param calls_stripe: whether the item is likely to cause a request to Stripe, and needs a slot.
    :param context: entered around each item, in its thread.
    :param stop_event: when it is set, no further item is started, and those in progress are finished.
    """

    work: Callable[[_T], _R]
    calls_stripe: Callable[[_T], bool]
    rate_limiter: RateLimiter
    context: Context
    stop_event: threading.Event

    def __post_init__(self) -> None:
        self._items: Iterator[_T] = iter(())
        self._items_lock = threading.Lock()
        self._results: Queue[_R | _Raised | _Ended] = Queue(maxsize=MAX_THREADS)
        self._threads = 0
        self._threads_lock = threading.Lock()

    def results(self, items: Iterator[_T]) -> Iterator[_R]:
        """Process the items. Call it once per pool.

        If the iterator is closed early, or an error is raised, the items in progress are finished first.

        :raises BaseException: the first error of ``work`` or ``items``.
        """
        self._items = items
        for _ in range(FIRST_THREADS):
            self._start_thread()
        errors: list[BaseException] = []
        ended = 0
        try:
            while ended < self._threads:
                result = self._results.get()
                if isinstance(result, _Ended):
                    ended += 1
                elif isinstance(result, _Raised):
                    errors.append(result.error)
                    self.stop_event.set()
                else:
                    yield result
        except SystemExit:
            self.stop_event.set()  # exit at once; the next run continues the items in progress
            raise
        except BaseException:
            self.stop_event.set()
            while ended < self._threads:
                ended += isinstance(self._results.get(), _Ended)
            raise
        if errors:
            raise errors[0]

    def _start_thread(self) -> None:
        with self._threads_lock:
            if self._threads == MAX_THREADS:
                return
            self._threads += 1
        try:
            # A daemon thread, so that a second interrupt ends the process at once.
            threading.Thread(target=self._run, name="flask_refunds_bulk", daemon=True).start()
        except RuntimeError:  # a container may have no more threads
            with self._threads_lock:
                self._threads -= 1
                if not self._threads:
                    raise

    def _run(self) -> None:
        try:
            while not self.stop_event.is_set():
                with self._items_lock:
                    item = next(self._items, _NO_ITEM)
                if item is _NO_ITEM:
                    break
                slots = self._wait_for_slot(item)
                if self.stop_event.is_set():
                    break  # the item wasn't started
                with self.context(), rate_limited(self.rate_limiter, slots_taken=slots):
                    self._results.put(self.work(item))
        except BaseException as error:
            self._results.put(_Raised(error))
        finally:
            self._results.put(_Ended())

    def _wait_for_slot(self, item: _T) -> int:
        """Wait for a slot if the item needs one, and start another thread if the wait was short.

        :return: how many slots were taken.
        """
        if not self.calls_stripe(item):
            return 0
        if self.rate_limiter.wait() < _MIN_WAIT_SECONDS:
            self._start_thread()
        return 1


_NO_ITEM: Any = object()

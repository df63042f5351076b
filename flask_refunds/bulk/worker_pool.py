"""Threads that work off a stream at a pace: as many as it takes, never with more at hand than is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import Queue
from typing import Any, Generic, TypeVar

from ..stripe_client.rate_limit import RateLimiter, rate_limited

FIRST_THREADS = 8
MOST_THREADS = 128
"""What the pool to Stripe holds. A MongoDB client's has 100 connections, and each is used for moments."""

_BACKLOG_SECONDS = 0.4
"""How long a thread should wait for its turn: where it waits less, more threads would get more done."""

_T = TypeVar("_T")
_R = TypeVar("_R")

Context = Callable[[], AbstractContextManager[object]]


@dataclass
class _Raised:
    error: BaseException


class _Ended:
    """A thread has no more to do."""


class WorkerPool(Generic[_T, _R]):
    """Does the same with every item, and yields what came of each as it comes.

    A turn is taken before the work begins, so that waiting eats nothing of the time that a call has.

    :param work: what is done with one item.
    :param asks_stripe: whether it is likely to ask Stripe about this item, and needs a turn.
    :param context: entered around each item, in its thread.
    :param stop_event: when it is set no further item is begun, and those under way are finished.
    """

    def __init__(
        self,
        work: Callable[[_T], _R],
        *,
        asks_stripe: Callable[[_T], bool],
        rate_limiter: RateLimiter,
        context: Context,
        stop_event: threading.Event,
    ) -> None:
        self._work = work
        self._asks_stripe = asks_stripe
        self._rate_limiter = rate_limiter
        self._context = context
        self._stop_event = stop_event
        self._items: Iterator[_T] = iter(())
        self._taking = threading.Lock()
        self._results: Queue[_R | _Raised | _Ended] = Queue(maxsize=MOST_THREADS)
        self._started = 0
        self._starting = threading.Lock()

    def results(self, items: Iterator[_T]) -> Iterator[_R]:
        """Work the items off; once only.

        Where the reader turns away, or something raises, what is under way is finished first.

        :raises BaseException: the first error of ``work`` or ``items``.
        """
        self._items = items
        for _ in range(FIRST_THREADS):
            self._start()
        errors: list[BaseException] = []
        ended = 0
        try:
            while ended < self._started:
                result = self._results.get()
                if isinstance(result, _Ended):
                    ended += 1
                elif isinstance(result, _Raised):
                    errors.append(result.error)
                    self._stop_event.set()
                else:
                    yield result
        except SystemExit:
            self._stop_event.set()  # at once: what is under way is left to who comes after us
            raise
        except BaseException:
            self._stop_event.set()
            while ended < self._started:
                ended += isinstance(self._results.get(), _Ended)
            raise
        if errors:
            raise errors[0]

    def _start(self) -> None:
        with self._starting:
            if self._started == MOST_THREADS:
                return
            self._started += 1
        # A daemon: who interrupts the process twice means it.
        threading.Thread(target=self._run, name="flask_refunds_bulk", daemon=True).start()

    def _run(self) -> None:
        try:
            while not self._stop_event.is_set():
                with self._taking:
                    item = next(self._items, _NONE)
                if item is _NONE:
                    break
                taken = self._take_turn(item)
                if self._stop_event.is_set():
                    break  # nothing was begun
                with self._context(), rate_limited(self._rate_limiter, slots_taken=int(taken)):
                    self._results.put(self._work(item))
        except BaseException as error:
            self._results.put(_Raised(error))
        finally:
            self._results.put(_Ended())

    def _take_turn(self, item: _T) -> bool:
        """Wait for a turn, if this item needs one, and call for help where there was little to wait."""
        needed = self._asks_stripe(item)
        if needed and self._rate_limiter.wait() < _BACKLOG_SECONDS:
            self._start()
        return needed


_NONE: Any = object()

"""Run a whole reconcile pass: unfinished refunds in many threads at the shared rate, then the sweep, then the
stored days of reports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

from ..core.reconcile import Reconciler, ReconcileReport
from ..core.sweep import RefundSweep, SweepReport
from ..errors import DatabaseUnavailable, StripeCallError
from ..log import LogEvent, log_event
from ..metrics.days import StoredDays
from ..storage.reconcile_queue import ReconcileQueue
from ..stripe_client.rate_limit import RateLimiter, rate_limited
from .worker_pool import Context, WorkerPool

_T = TypeVar("_T")
_R = TypeVar("_R")


class ReconcileRunner:
    """Runs reconcile passes. Parallel passes, also on other machines, share the work and the rate.

    :param rate_limiter: returns the limiter of a rate, in requests per second; of ``None``, the default.
    :param context: entered around the work on each refund, in its thread.
    """

    def __init__(
        self,
        *,
        queue: ReconcileQueue,
        reconciler: Reconciler,
        sweep: RefundSweep,
        days: StoredDays,
        rate_limiter: Callable[[float | None], RateLimiter],
        context: Context,
    ) -> None:
        self._queue = queue
        self._reconciler = reconciler
        self._sweep = sweep
        self._days = days
        self._rate_limiter = rate_limiter
        self._context = context

    def run(
        self,
        *,
        older_than: timedelta,
        rate: float | None = None,
        full: bool = False,
        stop_event: threading.Event | None = None,
        on_progress: Callable[[], None] = lambda: None,
        report: ReconcileReport | None = None,
    ) -> ReconcileReport:
        """Finish unfinished refunds, find what happened at Stripe, and list what needs review.

        :param older_than: more recent changes are left to the calls that made them.
        :param rate: requests to Stripe per second; by default 80 with a live key and 20 with a test key.
        :param full: sweep the last 60 days of Stripe, even if that was done in the last 24 hours.
        :param stop_event: set it to start nothing more; the refunds in progress are finished.
        :param on_progress: called after each refund.
        :param report: filled with what was done, also if an error is raised.
        :raises DatabaseUnavailable: 500.
        """
        stop_event = stop_event or threading.Event()
        report = report or ReconcileReport()
        limiter = self._rate_limiter(rate)
        pool = self._pool(
            self._reconciler.finish, lambda unfinished: not unfinished.is_settled, limiter, stop_event
        )
        for name in pool.results(self._reconciler.find(older_than)):
            report.counts[name] += 1
            on_progress()
        with rate_limited(limiter):
            self._run_sweep(report, full, limiter, stop_event)
        self._refresh_days()
        report.reviews = self._queue.find_needing_review()
        report.review_counts = self._queue.count_reviews()
        report.overdue_since = self._sweep.find_overdue()
        if report.overdue_since is not None:
            log_event(LogEvent.FULL_SWEEP_OVERDUE, since=report.overdue_since.isoformat())
        return report

    def _run_sweep(
        self, report: ReconcileReport, full: bool, limiter: RateLimiter, stop_event: threading.Event
    ) -> None:
        def run_all(work: Callable[[_T], _R], items: Iterator[_T]) -> Iterator[_R]:
            return self._pool(work, lambda item: True, limiter, stop_event).results(items)

        report.sweep = found = SweepReport()
        try:
            report.sweep = self._sweep.run(
                full=full, should_stop=stop_event.is_set, run_all=run_all, report=found
            )
        except StripeCallError as error:
            log_event(LogEvent.STRIPE_REQUEST_FAILED, code=error.code)
            report.sweep_error = error.code

    def _refresh_days(self) -> None:
        try:
            self._days.refresh()
        except DatabaseUnavailable as error:  # reports count what isn't stored
            log_event(LogEvent.RECONCILE_FAILED, error, code=error.code)

    def _pool(
        self,
        work: Callable[[_T], _R],
        calls_stripe: Callable[[_T], bool],
        limiter: RateLimiter,
        stop_event: threading.Event,
    ) -> WorkerPool[_T, _R]:
        return WorkerPool(
            work,
            calls_stripe=calls_stripe,
            rate_limiter=limiter,
            context=self._context,
            stop_event=stop_event,
        )

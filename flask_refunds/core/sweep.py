"""Read the account's refunds from Stripe, so that everything that happened there is found without a webhook.

An ordinary sweep reads what was created since the last one. A full sweep reads the last 60 days, because a
bank can return a refund weeks later. It is made once a day, and resumes where an earlier one was interrupted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..clock import CALL_SECONDS, Deadline
from ..errors import RefundsError, StripeCallError
from ..log import LogEvent, log_event
from ..models import StripeRefund
from ..storage.sweep_state import SweepPosition, SweepState
from .stripe_sync import StripeSync, find_shown

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway
    from ..stripe_client.parsing import RefundPage

FULL_SWEEP_PERIOD = timedelta(days=60)
"""How far back a full sweep reads. Refunds can fail 30 days after they succeeded, and pending ones after 45
(https://docs.stripe.com/refunds#failed-refunds)."""

FULL_SWEEP_INTERVAL = timedelta(hours=24)
_RETRY_INTERVAL = timedelta(hours=1)
"""When a full sweep is repeated in which a refund couldn't be stored."""
_OVERLAP = timedelta(hours=1)
"""How much an ordinary sweep reads again: a list may show a new refund late."""


_Results = list[str]
RunAll = Callable[
    [Callable[[list[StripeRefund]], _Results], Iterator[list[StripeRefund]]], Iterable[_Results]
]
"""Calls a function with each item, as ``map`` does, but in parallel, and not with all if it is stopped."""


class _Interrupted(Exception):
    """The sweep was stopped, or another machine took it over."""


@dataclass
class SweepReport:
    """What a sweep found.

    ``counts`` has, by name: ``read`` (refunds at Stripe), ``unchanged``, ``stored`` (new or changed),
    ``foreign`` (payments that aren't this app's), ``unreadable`` and ``errors``.

    :param is_full: whether it covered the last 60 days.
    :param is_complete: whether it was read to its end.
    """

    is_full: bool = False
    is_complete: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        names = ("read", "unchanged", "stored", "foreign", "unreadable", "errors")
        counts = {name: self.counts[name] for name in names}
        return {"full": self.is_full, "complete": self.is_complete, "counts": counts}


class RefundSweep:
    """Sweeps the refunds of the account that the secret key belongs to.

    :param gateway: returns the gateway, which is created when first needed.
    :param clock: returns the aware UTC time.
    """

    def __init__(
        self,
        *,
        state: SweepState,
        stripe_sync: StripeSync,
        gateway: Callable[[], Gateway],
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._stripe_sync = stripe_sync
        self._gateway = gateway
        self._clock = clock

    def run(
        self,
        *,
        full: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
        run_all: RunAll = map,
    ) -> SweepReport | None:
        """Sweep, and store what has changed.

        :param full: sweep the last 60 days, even if that was done in the last 24 hours.
        :param should_stop: asked before each page.
        :param run_all: runs the work on the payments of one page.
        :return: what was found, or ``None`` if another machine is sweeping.
        :raises StripeCallError: Stripe didn't return a page. The next sweep continues there.
        :raises DatabaseUnavailable: 500.
        """
        position = self._state.acquire()
        if position is None:
            return None
        report = SweepReport(is_full=full or self._is_full_due(position))
        try:
            if report.is_full:
                self._sweep_fully(position, report, should_stop, run_all)
            else:
                self._sweep_new(position, report, should_stop, run_all)
            report.is_complete = True
        except _Interrupted:
            pass
        finally:
            self._state.release(position)
        return report

    def _is_full_due(self, position: SweepPosition) -> bool:
        completed = position.full_completed_at
        if position.newest is None or completed is None:
            return True
        return self._clock() - completed >= FULL_SWEEP_INTERVAL

    def _sweep_new(
        self,
        position: SweepPosition,
        report: SweepReport,
        should_stop: Callable[[], bool],
        run_all: RunAll,
    ) -> None:
        newest = position.newest or self._clock()
        for page in self._pages(newest - _OVERLAP, None, should_stop):
            newest = max([newest, *(each.created for each in page.refunds)])
            self._store(page, report, run_all)
        if not report.counts["errors"] and not self._state.save(position, newest=newest):
            raise _Interrupted

    def _sweep_fully(
        self,
        position: SweepPosition,
        report: SweepReport,
        should_stop: Callable[[], bool],
        run_all: RunAll,
    ) -> None:
        since, newest, after = position.full_since, position.full_newest, position.full_after
        start = self._clock() - FULL_SWEEP_PERIOD
        if since is None or newest is None or start - since >= FULL_SWEEP_INTERVAL:
            since, newest, after = start, None, None
        for page in self._pages(since, after, should_stop):
            if newest is None:
                newest = max((each.created for each in page.refunds), default=since)
            self._store(page, report, run_all)
            reached = {"fullSince": since, "fullNewest": newest, "fullAfter": page.last_id}
            if not self._state.save(position, **reached):
                raise _Interrupted
        completed = self._clock() - (FULL_SWEEP_INTERVAL - _RETRY_INTERVAL) * bool(report.counts["errors"])
        done = {"fullSince": None, "fullNewest": None, "fullAfter": None, "fullCompletedAt": completed}
        if not self._state.save(position, newest=newest or since, **done):
            raise _Interrupted

    def _pages(
        self, since: datetime, after: str | None, should_stop: Callable[[], bool]
    ) -> Iterator[RefundPage]:
        while True:
            if should_stop():
                raise _Interrupted
            page = self._gateway().list_recent_refunds(since, after, Deadline.after(CALL_SECONDS))
            yield page
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    def _store(self, page: RefundPage, report: SweepReport, run_all: RunAll) -> None:
        """Store what has changed on one page. An error with one refund doesn't affect the others."""
        known = self._stripe_sync.find_known({each.payment_intent for each in page.refunds})
        report.counts["read"] += len(page.refunds) + len(page.unreadable)
        report.counts["unreadable"] += len(page.unreadable)
        changed: defaultdict[str, list[StripeRefund]] = defaultdict(list)
        for each in reversed(page.refunds):
            if each.payment_intent not in known:
                report.counts["foreign"] += 1
            elif find_shown(known[each.payment_intent], each):
                report.counts["unchanged"] += 1
            else:
                changed[each.payment_intent].append(each)
        # Those of one payment are stored one after the other, because they change the same purchases.
        results = list(run_all(lambda refunds: [*map(self._store_one, refunds)], iter(changed.values())))
        report.counts.update(chain.from_iterable(results))
        if len(results) < len(changed):
            raise _Interrupted

    def _store_one(self, stripe_refund: StripeRefund) -> str:
        try:
            self._stripe_sync.upsert_from_stripe(
                stripe_refund, Deadline.after(CALL_SECONDS), actor="reconcile"
            )
        except (Exception, SystemExit) as error:  # a receiver may exit
            code = error.code if isinstance(error, (RefundsError, StripeCallError)) else None
            log_event(LogEvent.RECONCILE_FAILED, error, stripe_refund_id=stripe_refund.id, code=code)
            return "errors"
        return "stored"

"""Read the account's refunds from Stripe, so that everything that happened there is found without a webhook.

An ordinary sweep reads what was created since the last one. A full sweep reads the last 60 days, because a
bank can return a refund weeks later. It is made once a day, and resumes where an earlier one was interrupted.

Stripe lists refunds newest first (https://docs.stripe.com/api/refunds/list), so what is new comes before all
known pages, unless the list shows it late. Stripe doesn't document how late that can be. Its list of events
was seconds late (https://blog.sequin.io/finding-and-fixing-eventual-consistency-with-stripe-events), so an
ordinary sweep reads up to three known pages again, and the next full sweep finds what came even later.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..clock import CALL_SECONDS, Deadline
from ..errors import PermissionMissing, RefundsError, RequestRejected, StripeCallError
from ..log import LogEvent, log_event
from ..models import RefundRecord, StripeRefund
from ..storage.sweep_state import SweepPosition, SweepState
from .payments import ACCESS_LOST
from .stripe_sync import StripeSync, find_shown

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway
    from ..stripe_client.parsing import RefundPage

FULL_SWEEP_PERIOD = timedelta(days=60)
"""How far back a full sweep reads. Refunds can fail 30 days after they succeeded, and pending ones after 45
(https://docs.stripe.com/refunds#failed-refunds)."""

FULL_SWEEP_INTERVAL = timedelta(hours=24)
FULL_SWEEP_OVERDUE = timedelta(hours=25)
"""After this time without a complete full sweep, a person must look."""
_OVERLAP = timedelta(hours=1)
_KNOWN_PAGES = 3
"""How much an ordinary sweep reads again: one hour, but at most so many pages without news."""
_MAX_FAILED = 100
"""How many refunds that can't be stored a sweep leaves for the next one, before it stops at their page."""


RunAll = Callable[[Callable[[Any], Any], Iterator[Any]], Iterable[Any]]
"""Calls a function with each item, as ``map`` does, but in parallel, and not with all if it is stopped."""


class _Interrupted(Exception):
    """The sweep was stopped, or another machine took it over."""


@dataclass
class SweepReport:
    """What a sweep found.

    ``counts`` has, by name: ``read`` (refunds at Stripe), ``unchanged``, ``stored`` (new or changed),
    ``foreign`` (payments that aren't this app's), ``unreadable`` and ``errors``.

    :param is_full: whether it covered the last 60 days, of any account.
    :param is_complete: whether it was read to its end, of every account.
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
    """Sweeps the refunds of the account that the secret key belongs to, and of its connected accounts in use.

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
        report: SweepReport | None = None,
    ) -> SweepReport | None:
        """Sweep, and store what has changed.

        :param full: sweep the last 60 days, even if that was done in the last 24 hours.
        :param should_stop: asked before each page.
        :param run_all: runs the work on the payments of one page.
        :param report: filled with what was found, also if an error is raised.
        :return: the report, or ``None`` if another machine is sweeping.
        :raises StripeCallError: Stripe didn't return a page. The next sweep continues there. An error that
            concerns one account only is raised after the others were swept.
        :raises DatabaseUnavailable: 500.
        """
        report = report or SweepReport()
        accounts: list[str | None] = [None, *self._stripe_sync.find_accounts()]
        completed: list[bool | None] = []
        failure = None
        for account in accounts:
            if account is not None and should_stop():
                break
            try:
                completed.append(self._run(self._state.of(account), full, should_stop, run_all, report))
            except (RequestRejected, PermissionMissing) as error:
                failure = failure or error
        if failure is not None:
            raise failure
        report.is_complete = len(completed) == len(accounts) and all(completed)
        return None if set(completed) == {None} else report

    def _run(
        self,
        state: SweepState,
        full: bool,
        should_stop: Callable[[], bool],
        run_all: RunAll,
        report: SweepReport,
    ) -> bool | None:
        """Sweep one account, and return whether that is complete, or ``None`` if another machine does it."""
        position = state.acquire()
        if position is None:
            return None
        is_full = full or self._is_full_due(position)
        report.is_full |= is_full
        sweep = _Sweep(
            state, position, self._stripe_sync, self._gateway, report, should_stop, run_all, is_full
        )
        try:
            sweep.run(self._clock)
        except _Interrupted:
            return False
        except PermissionMissing as error:
            if state.account is None or error.code != ACCESS_LOST:
                raise
            # Its owner has disconnected it, so there is nothing to read, now or later.
            log_event(LogEvent.STRIPE_REQUEST_FAILED, code=error.code, stripe_account=state.account)
            state.save(position, fullCompletedAt=self._clock())
        finally:
            state.release(position)
        return True

    def find_overdue(self) -> datetime | None:
        """Return since when there was no complete full sweep of an account, if one is overdue.

        :raises DatabaseUnavailable: 500.
        """
        states = map(self._state.of, (None, *self._stripe_sync.find_accounts()))
        ends = [last for state in states if (last := state.find_last_full()) is not None]
        last = min(ends, default=None)
        return last if last is not None and self._clock() - last > FULL_SWEEP_OVERDUE else None

    def _is_full_due(self, position: SweepPosition) -> bool:
        completed = position.full_completed_at
        return completed is None or self._clock() - completed >= FULL_SWEEP_INTERVAL


@dataclass
class _Sweep:
    """One sweep of an account, by the machine that holds the lease."""

    state: SweepState
    position: SweepPosition
    stripe_sync: StripeSync
    gateway: Callable[[], Gateway]
    report: SweepReport
    should_stop: Callable[[], bool]
    run_all: RunAll
    is_full: bool
    failed: list[str] = field(default_factory=list)
    """The IDs at Stripe of what couldn't be stored. The next sweep tries these refunds again."""

    def run(self, clock: Callable[[], datetime]) -> None:
        start, known = clock() - FULL_SWEEP_PERIOD, self.position.newest
        since, newest, after = self.position.full_since, self.position.full_newest, self.position.full_after
        is_resumed = since is not None and start - since < FULL_SWEEP_INTERVAL
        if is_resumed or not self.is_full:
            # Also if the rest of a full sweep can't be read: that mustn't delay what is new.
            self._retry_failed()
            known = self._sweep_new(known or newest or start)
        if not self.is_full:
            return
        if since is None or not is_resumed:
            since, after = start, None
        newest = self._sweep_fully(since, after)
        self._save(newest=max(newest, known or newest), fullSince=None, fullCompletedAt=clock())

    def _sweep_new(self, known: datetime) -> datetime:
        """Read what was created since then, and return the time of the newest refund."""
        newest, known_pages = known, 0
        for page in self._pages(known - _OVERLAP, None):
            created = [each.created for each in page.refunds]
            has_news = self._store(page.refunds) or max(created, default=known) > known
            newest = max([newest, *created])
            known_pages = 0 if has_news else known_pages + 1
            self._save()
            if known_pages == _KNOWN_PAGES:
                break
        self._save(newest=newest)
        return newest

    def _sweep_fully(self, since: datetime, after: str | None) -> datetime:
        """Read everything created since then, and return the time of the newest refund that was read.

        :param after: the ID of the last refund that an interrupted sweep has read.
        """
        newest = None
        for page in self._pages(since, after):
            if newest is None:
                newest = max((each.created for each in page.refunds), default=since)
            self._store(page.refunds)
            self._save(fullSince=since, fullNewest=newest, fullAfter=page.last_id)
        return newest or since

    def _pages(self, since: datetime, after: str | None) -> Iterator[RefundPage]:
        while True:
            if self.should_stop():
                raise _Interrupted
            gateway = self.gateway().on(self.state.account)
            page = gateway.list_recent_refunds(since, after, Deadline.after(CALL_SECONDS))
            self.report.counts["read"] += len(page.refunds) + len(page.unreadable)
            self.report.counts["unreadable"] += len(page.unreadable)
            yield page
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    def _save(self, **changes: Any) -> None:
        """Store the position. What failed so far is stored with it, so that the position can move on."""
        if not self.state.save(self.position, failed=self.failed, **changes):
            raise _Interrupted

    def _retry_failed(self) -> None:
        """Store what earlier sweeps couldn't. A full sweep finds these refunds by itself."""
        found = list(self.run_all(self._retrieve, iter(self.position.failed)))
        if len(found) < len(self.position.failed):
            raise _Interrupted
        self.report.counts["errors"] += len(self.failed)
        self._store([each for each in found if each is not None])

    def _retrieve(self, stripe_refund_id: str) -> StripeRefund | None:
        try:
            deadline = Deadline.after(CALL_SECONDS)
            return self.stripe_sync.retrieve_refund(stripe_refund_id, deadline, self.state.account)
        except StripeCallError as error:
            self._add_failed(stripe_refund_id, error)
            return None

    def _store(self, refunds: Sequence[StripeRefund]) -> bool:
        """Store what has changed of these refunds, and return whether anything has.

        An error with one refund doesn't affect the others.
        """
        known = self._find_known(refunds)
        counts, changed = self.report.counts, defaultdict[str, list[StripeRefund]](list)
        for each in reversed(refunds):
            if each.payment_intent not in known:
                counts["foreign"] += 1
            elif find_shown(known[each.payment_intent], each):
                counts["unchanged"] += 1
            elif each.id not in self.failed:
                changed[each.payment_intent].append(each)
        # Those of one payment are stored one after the other, because they change the same purchases.
        results = list(self.run_all(lambda group: [*map(self._store_one, group)], iter(changed.values())))
        counts.update(chain.from_iterable(results))
        if len(results) < len(changed) or len(self.failed) > _MAX_FAILED:
            raise _Interrupted
        return bool(changed)

    def _find_known(self, refunds: Sequence[StripeRefund]) -> dict[str, list[RefundRecord]]:
        """Return the records of this app's payments. Those of Checkout sessions are looked up once."""
        account = self.state.account
        known = self.stripe_sync.find_known(refunds, account)
        unknown = {each.payment_intent: each for each in refunds if each.payment_intent not in known}
        found = list(self.run_all(self._find_session, iter(unknown.values())))
        if len(found) < len(unknown):
            raise _Interrupted
        return known | self.stripe_sync.find_known([it for it in found if it is not None], account)

    def _find_session(self, stripe_refund: StripeRefund) -> StripeRefund | None:
        try:
            deadline = Deadline.after(CALL_SECONDS)
            payment, account = stripe_refund.payment_intent, self.state.account
            is_found = self.stripe_sync.find_sessions(payment, deadline, account)
        except StripeCallError as error:
            self._add_failed(stripe_refund.id, error)
            return None
        return stripe_refund if is_found else None

    def _store_one(self, stripe_refund: StripeRefund) -> str:
        try:
            self.stripe_sync.upsert_from_stripe(
                stripe_refund, Deadline.after(CALL_SECONDS), actor="reconcile"
            )
        except (Exception, SystemExit) as error:  # a receiver may exit
            self._add_failed(stripe_refund.id, error)
            return "errors"
        return "stored"

    def _add_failed(self, stripe_refund_id: str, error: BaseException) -> None:
        code = error.code if isinstance(error, (RefundsError, StripeCallError)) else None
        log_event(LogEvent.RECONCILE_FAILED, error, stripe_refund_id=stripe_refund_id, code=code)
        self.failed.append(stripe_refund_id)

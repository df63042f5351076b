"""Finish every refund that a crash, a timeout or Stripe left unfinished.

Any number of passes may run at once, on any number of machines. A refund whose lease another call holds is
left to that call, and work done twice has the same result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..errors import RefundInProgress, RefundsError, StripeCallError
from ..log import LogEvent, log_event
from ..models import Refund, RefundRecord, RefundStatus
from ..storage.ledger import Ledger
from ..storage.reconcile_queue import ReconcileQueue, Unfinished
from .service import CallContext, RefundService
from .sweep import SweepReport
from .transitions import RefundTransitions

PAGE = 200
PREVIEWED = 10_000
"""How many refunds a preview of a pass lists for each reason."""

NO_CALL_IN_PROGRESS_AFTER = timedelta(seconds=60)
"""After this time no call that read a record before its last change is still in progress: each takes 20 s."""


@dataclass
class ReconcileReport:
    """What one pass found and did.

    ``counts`` has, by name: ``settled`` (Stripe reported how they ended), ``open`` (still pending or
    unknown), ``followed_up`` (signals sent, or purchases verified), ``busy`` (another call works on them)
    and ``errors``.

    :param reviews: the refunds whose review is open for the longest time.
    :param review_counts: the number of all open reviews, by code.
    :param sweep: what the sweep found; ``None`` if another machine was sweeping.
    :param sweep_error: Stripe's error code, if the sweep couldn't be completed.
    :param overdue_since: when the last full sweep was complete, if that is more than 25 hours ago.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reviews: Sequence[Refund] = ()
    review_counts: Counter[str] = field(default_factory=Counter)
    sweep: SweepReport | None = None
    sweep_error: str | None = None
    overdue_since: datetime | None = None

    @property
    def is_clean(self) -> bool:
        """Whether nothing needs review, and everything could be worked on."""
        failed = self.counts["errors"] or self.sweep_error or (self.sweep and self.sweep.counts["errors"])
        return not self.reviews and not failed and self.overdue_since is None

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON shows them, and a time that is still to be rendered."""
        names = ("settled", "open", "followed_up", "busy", "errors")
        return {
            "counts": {name: self.counts[name] for name in names},
            "needsReview": dict(self.review_counts),
            "sweep": self.sweep and self.sweep.as_dict(),
            "sweepError": self.sweep_error,
            "sweepOverdueSince": self.overdue_since,
        }


class Reconciler:
    """Works on unfinished refunds.

    :param clock: returns the aware UTC time.
    :param has_listeners: returns whether this process has signal receivers. Without them, it leaves unsent
        signals to other processes.
    """

    def __init__(
        self,
        ledger: Ledger,
        queue: ReconcileQueue,
        transitions: RefundTransitions,
        service: RefundService,
        clock: Callable[[], datetime],
        has_listeners: Callable[[], bool],
    ) -> None:
        self._has_listeners = has_listeners
        self._ledger = ledger
        self._queue = queue
        self._transitions = transitions
        self._service = service
        self._clock = clock

    def find(self, older_than: timedelta) -> Iterator[Unfinished]:
        """Yield what a pass has to work on, page by page; each only once, also among parallel passes.

        :param older_than: more recent changes are left to the calls that made them. What another pass looked
            at less than half of this time ago is left to that pass.
        :raises DatabaseUnavailable: 500; while it is iterated.
        """
        started = self._clock()
        looked_before = started - older_than / 2
        while page := self._queue.find_unfinished(
            before=started - older_than,
            looked_before=looked_before,
            limit=PAGE,
            unsent=self._has_listeners(),
        ):
            for unfinished in page:
                if self._queue.look_at(unfinished, after=looked_before):
                    yield unfinished

    def preview(self, older_than: timedelta) -> tuple[list[Unfinished], int]:
        """Return what a pass has to work on, and how many more refunds changed too recently.

        :raises DatabaseUnavailable: 500.
        """
        now, unsent = self._clock(), self._has_listeners()
        found, all_found = (
            self._queue.find_unfinished(before=before, looked_before=now, limit=PREVIEWED, unsent=unsent)
            for before in (now - older_than, now)
        )
        return found, max(0, len(all_found) - len(found))

    def run(self, unfinished: Iterable[Unfinished]) -> ReconcileReport:
        """Work on these refunds one by one, and list those that need review.

        :raises DatabaseUnavailable: 500; the reviews can't be listed.
        """
        report = ReconcileReport(Counter(map(self.finish, unfinished)))
        report.reviews = self._queue.find_needing_review()
        return report

    def finish(self, unfinished: Unfinished) -> str:
        """Bring one refund as far as possible.

        :return: the name of the count in :class:`ReconcileReport`. An error is logged and doesn't raise,
            not even a receiver's ``SystemExit``: other refunds have receivers, too.
        """
        try:
            refund = self._ledger.get(unfinished.refund_id)
            was_settled = refund.status.is_settled
            if not was_settled:
                refund = self._resume(refund)
            self._follow_up(refund)
        except RefundInProgress:
            return "busy"
        except (Exception, SystemExit) as error:
            code = error.code if isinstance(error, (RefundsError, StripeCallError)) else None
            log_event(LogEvent.RECONCILE_FAILED, error, refund_id=unfinished.refund_id, code=code)
            return "errors"
        if not refund.status.is_settled:
            return "open"
        return "followed_up" if was_settled else "settled"

    def _resume(self, refund: RefundRecord) -> RefundRecord:
        if refund.status is not RefundStatus.PROCESSING or refund.review is None:
            return self._service.resume(refund, actor="reconcile")
        try:
            # Its request isn't sent again. Without a lease, a person can resolve it between two passes.
            return self._service.look_up(refund, actor="reconcile")
        except StripeCallError as error:
            log_event(LogEvent.OUTCOME_UNKNOWN, refund_id=refund.id, code=error.code, actor="reconcile")
            return refund

    def _follow_up(self, refund: RefundRecord) -> None:
        if not refund.signals_sent:
            refund = self._transitions.send_signals(refund)
        if refund.unread_since is not None and refund.status.is_settled:
            refund = self._service.resume(refund, actor="reconcile")  # an event contradicted it
        if not refund.purchases_verified and self._clock() - refund.updated_at >= NO_CALL_IN_PROGRESS_AFTER:
            self._service.add_other_parts(refund, CallContext.start("reconcile"))
            self._service.add_references(refund)
            self._transitions.verify_purchases(refund)

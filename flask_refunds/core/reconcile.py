"""Finish every refund that a crash, a timeout or Stripe left unfinished.

Any number of passes may run at once, on any number of machines. A refund whose lease another call holds is
left to that call, and work done twice has the same result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..errors import RefundInProgress, RefundsError
from ..log import LogEvent, log_event
from ..models import Refund
from ..storage.ledger import Ledger
from .service import RefundService
from .transitions import RefundTransitions

NO_CALL_IN_PROGRESS_AFTER = timedelta(seconds=60)
"""After this time no call that read a record before its last change is still in progress: each takes 20 s."""


@dataclass
class ReconcileReport:
    """What one pass found and did.

    ``counts`` has, by name: ``settled`` (Stripe reported how they ended), ``open`` (still pending or
    unknown), ``followed_up`` (signals sent, or purchases verified), ``busy`` (another call works on them) and
    ``errors``.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reviews: Sequence[Refund] = ()


class Reconciler:
    """Works on unfinished refunds.

    :param clock: returns the aware UTC time.
    """

    def __init__(
        self,
        ledger: Ledger,
        transitions: RefundTransitions,
        service: RefundService,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._transitions = transitions
        self._service = service
        self._clock = clock

    def find(self, older_than: timedelta) -> list[str]:
        """Return the IDs of the refunds that a pass would work on.

        :param older_than: more recent changes are left to the calls that made them.
        :raises DatabaseUnavailable: 500.
        """
        return self._ledger.find_unfinished(self._clock() - older_than)

    def run(
        self, refund_ids: Sequence[str], on_progress: Callable[[str], None] = lambda refund_id: None
    ) -> ReconcileReport:
        """Work on these refunds, and list those that need review.

        :param on_progress: called with each ID when it is done.
        :raises DatabaseUnavailable: 500; the reviews can't be listed.
        """
        report = ReconcileReport()
        for refund_id in refund_ids:
            report.counts[self._finish(refund_id)] += 1
            on_progress(refund_id)
        report.reviews = self._ledger.find_needing_review()
        return report

    def _finish(self, refund_id: str) -> str:
        """Bring one refund as far as possible. An error with one refund doesn't affect the others."""
        try:
            refund = self._ledger.get(refund_id)
            was_settled = refund.status.is_settled
            if not was_settled:
                refund = self._service.resume(refund, actor="reconcile")
            self._follow_up(refund)
        except RefundInProgress:
            return "busy"
        except Exception as error:
            code = error.code if isinstance(error, RefundsError) else None
            log_event(LogEvent.RECONCILE_FAILED, error, refund_id=refund_id, code=code)
            return "errors"
        if not refund.status.is_settled:
            return "open"
        return "followed_up" if was_settled else "settled"

    def _follow_up(self, refund: Refund) -> None:
        if not refund.signals_sent:
            refund = self._transitions.send_signals(refund)
        if not refund.purchases_verified and self._clock() - refund.updated_at >= NO_CALL_IN_PROGRESS_AFTER:
            self._transitions.verify_purchases(refund)

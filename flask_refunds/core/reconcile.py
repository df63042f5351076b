"""Brings every refund that a crash, a timeout or Stripe left open to its end, without a person.

Any number of these may run at once, on any number of machines: a row that a call owns is left to it, and
whatever two of them do twice has the same result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..errors import RefundInProgress, RefundsError
from ..log import Decision, decided
from ..models import Refund
from ..storage.ledger import Ledger
from .service import RefundService
from .transitions import Books

CALLS_ARE_OVER = timedelta(seconds=60)
"""After so long no call that saw a row before its last change is still at work: each has 20 s."""


@dataclass
class Report:
    """What one pass found and did.

    ``counts`` has, by name: ``settled`` (came to their end), ``open`` (still pending at Stripe, or unknown),
    ``tidied`` (announced or checked), ``busy`` (another call works on them) and ``errors``.
    """

    counts: Counter[str] = field(default_factory=Counter)
    attention: Sequence[Refund] = ()


class Reconciler:
    """One pass over what is unfinished.

    :param clock: the aware UTC time.
    """

    def __init__(
        self, ledger: Ledger, books: Books, service: RefundService, clock: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._books = books
        self._service = service
        self._clock = clock

    def find(self, older_than: timedelta) -> list[str]:
        """The ids of the refunds that a pass would work on.

        :param older_than: what changed more recently is left to the calls that changed it.
        :raises DatabaseUnavailable: 500.
        """
        return self._ledger.find_unfinished(self._clock() - older_than)

    def run(
        self, refund_ids: Sequence[str], on_progress: Callable[[str], None] = lambda refund_id: None
    ) -> Report:
        """Work on these refunds, and say what needs a person.

        :param on_progress: called with each id when it is done.
        :raises DatabaseUnavailable: 500; what needs a person cannot be listed.
        """
        report = Report()
        for refund_id in refund_ids:
            report.counts[self._finish(refund_id)] += 1
            on_progress(refund_id)
        report.attention = self._ledger.find_attention()
        return report

    def _finish(self, refund_id: str) -> str:
        """Bring one refund as far as it gets; what fails for one does not keep the others waiting."""
        try:
            refund = self._ledger.get(refund_id)
            was_settled = refund.status.is_settled
            if not was_settled:
                refund = self._service.resume(refund, by="reconcile")
            self._tidy(refund)
        except RefundInProgress:
            return "busy"
        except Exception as error:
            code = error.code if isinstance(error, RefundsError) else None
            decided(Decision.NOT_RECONCILED, error, refund_id=refund_id, code=code)
            return "errors"
        if not refund.status.is_settled:
            return "open"
        return "tidied" if was_settled else "settled"

    def _tidy(self, refund: Refund) -> None:
        if not refund.announced:
            refund = self._books.announce(refund)
        if not refund.checked and self._clock() - refund.updated_at >= CALLS_ARE_OVER:
            self._books.check(refund)

"""What a person decides of a refund that no machine may decide."""

from __future__ import annotations

from ..errors import NothingToResolve
from ..log import Decision, decided
from ..models import Refund, RefundStatus
from ..storage.ledger import Ledger
from .service import Ask, Outcome, RefundService
from .transitions import Books


class AttentionDesk:
    """Takes the decisions, and writes into the ledger who took them and why."""

    def __init__(self, ledger: Ledger, books: Books, service: RefundService) -> None:
        self._ledger = ledger
        self._books = books
        self._service = service

    def fail(self, refund_id: str, *, by: str, why: str) -> Refund:
        """Close the case of a refund from which the customer has no money: it is failed, or now becomes so.

        :param by: who decided.
        :param why: what he found, for the history.
        :raises NothingToResolve: 400; also for a refund that succeeded.
        :raises DatabaseUnavailable: 500.
        """
        refund = self._find(refund_id)
        if refund.status is RefundStatus.PROCESSING:
            return _closed(self._books.give_up(refund, by=by, why=why), refund_id, by=by)
        if not refund.status.ended_unpaid:
            raise NothingToResolve(f"{refund_id} is {refund.status.value} at Stripe, not failed.")
        return self.dismiss(refund_id, by=by, why=why)

    def dismiss(self, refund_id: str, *, by: str, why: str) -> Refund:
        """Close the case of a refund that is in order as it stands.

        :raises NothingToResolve: 400; also for a refund of which nobody knows how it ended.
        :raises DatabaseUnavailable: 500.
        """
        refund = self._find(refund_id)
        if refund.status is RefundStatus.PROCESSING:
            raise NothingToResolve(f"Nobody knows how {refund_id} ended; say --failed or --retry.")
        return _closed(self._ledger.dismiss(refund, by=by, why=why), refund_id, by=by)

    def retry(self, refund_id: str, *, by: str, why: str) -> Outcome:
        """Close a case and make the refund anew, under the next number.

        :raises NothingToResolve: 400; also for a refund that succeeded.
        :raises RefundsError: what :meth:`RefundService.refund` raises.
        """
        refund = self._find(refund_id)
        if not refund.purchase_ids:
            raise NothingToResolve(f"{refund_id} names no purchase.")
        self.fail(refund_id, by=by, why=why)
        ask = Ask(requested_by=by, source="command", reason=refund.reason, note=why, bulk=refund.bulk)
        return self._service.refund(refund.purchase_ids[0], ask)

    def _find(self, refund_id: str) -> Refund:
        refund = self._ledger.find(refund_id)
        if refund is None:
            raise NothingToResolve(f"There is no refund {refund_id}.")
        if refund.attention is None:
            raise NothingToResolve(f"{refund_id} is {refund.status.value} and asks for nobody.")
        return refund


def _closed(refund: Refund | None, refund_id: str, *, by: str) -> Refund:
    if refund is None:
        raise NothingToResolve(f"{refund_id} is being worked on, or has just changed; look again.")
    decided(Decision.RESOLVED, refund_id=refund_id, status=refund.status.value, by=by)
    return refund

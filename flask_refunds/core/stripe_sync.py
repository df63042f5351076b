"""Refunds that Stripe shows, whoever made them: which row they belong to, or which number they get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..clock import Deadline
from ..errors import OutcomeUnknown
from ..models import Refund, StripeRefund, is_payment_intent, next_number
from ..storage.ledger import Ledger, NumberTaken
from ..storage.purchases import Purchases
from .transitions import Books

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

_TRIES = 3


class Intake:
    """Takes in what Stripe shows of a payment.

    :param gateway: gives the gateway when it is first needed.
    """

    def __init__(
        self, ledger: Ledger, purchases: Purchases, gateway: Callable[[], Gateway], books: Books
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._gateway = gateway
        self._books = books

    def knows(self, payment_intent: str) -> bool:
        """Whether a payment is one of this shop's.

        :raises DatabaseUnavailable: 500.
        """
        if not is_payment_intent(payment_intent):
            return False
        return bool(self._ledger.read_log(payment_intent) or self._purchases.ids_of(payment_intent))

    def list(self, payment_intent: str, deadline: Deadline) -> list[StripeRefund]:
        """Every refund of a payment that Stripe shows, oldest first.

        :raises StripeAnswer: they could not be had, all of them.
        """
        return self._gateway().list_refunds(payment_intent, deadline)

    def take_in(self, fact: StripeRefund, deadline: Deadline, *, by: str) -> Refund:
        """Bring the books up to a refund that Stripe shows.

        :param by: who brought the news, for the history.
        :return: the row as it now is.
        :raises StripeAnswer: Stripe would not say what the payment had received, or too many write its log.
        :raises DatabaseUnavailable: 500; the same fact may be taken in again.
        """
        for _ in range(_TRIES):
            log = self._ledger.read_log(fact.payment_intent)
            known = _find_row(log, fact)
            if known is not None:
                return self._update(known, fact, by=by)
            captured = self._gateway().captured(fact.payment_intent, deadline)
            try:
                return self._books.record(fact, next_number(log), captured=captured, by=by)
            except NumberTaken:
                continue
        raise OutcomeUnknown("ledger_busy", "Too many calls write this payment's log.")

    def _update(self, known: Refund, fact: StripeRefund, *, by: str) -> Refund:
        current = self._books.apply(known, fact, by=by)
        if current is known and not known.is_ours:
            # Nothing new, unless a crash kept the purchases from following when it was.
            self._books.align(known.payment_intent)
        return current


def _find_row(log: Sequence[Refund], fact: StripeRefund) -> Refund | None:
    """The row that knows this refund, or else the one that asked for it and knows none yet.

    Two at Stripe may bear one row's id: where its key was forgotten, or the ledger was lost.
    """
    known = [row for row in log if row.stripe_refund_id == fact.id]
    asked = [row for row in log if row.id == fact.refund_id and row.stripe_refund_id is None]
    return next(iter(known + asked), None)

"""Store refunds that Stripe shows: in the record that requested them, or as external refunds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..clock import Deadline
from ..errors import OutcomeUnknown
from ..models import Refund, StripeRefund, is_payment_intent, next_number
from ..storage.ledger import Ledger, NumberTaken
from ..storage.purchases import Purchases
from .transitions import RefundTransitions

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

_ATTEMPTS = 3


class StripeSync:
    """Brings the ledger up to date with what Stripe shows of a payment.

    :param gateway: returns the gateway, which is created when first needed.
    """

    def __init__(
        self,
        ledger: Ledger,
        purchases: Purchases,
        gateway: Callable[[], Gateway],
        transitions: RefundTransitions,
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._gateway = gateway
        self._transitions = transitions

    def is_known_payment(self, payment_intent: str) -> bool:
        """Return whether a payment belongs to this app.

        :raises DatabaseUnavailable: 500.
        """
        if not is_payment_intent(payment_intent):
            return False
        return bool(self._ledger.list_for_payment(payment_intent) or self._purchases.ids_of(payment_intent))

    def list_refunds(self, payment_intent: str, deadline: Deadline) -> list[StripeRefund]:
        """Return every refund of a payment that Stripe shows, oldest first.

        :raises StripeCallError: the list isn't available, or not completely.
        """
        return self._gateway().list_refunds(payment_intent, deadline)

    def upsert_from_stripe(self, stripe_refund: StripeRefund, deadline: Deadline, *, actor: str) -> Refund:
        """Store a refund that Stripe shows.

        :param actor: what brought it, for the history.
        :return: the refund record as it is now.
        :raises StripeCallError: Stripe didn't return the payment's amount, or other calls kept adding
            records.
        :raises DatabaseUnavailable: 500; the same refund can be stored again.
        """
        for _ in range(_ATTEMPTS):
            refunds = self._ledger.list_for_payment(stripe_refund.payment_intent)
            known = _find_record(refunds, stripe_refund)
            if known is not None:
                return self._update(known, stripe_refund, actor=actor)
            amount_received = self._gateway().retrieve_amount_received(stripe_refund.payment_intent, deadline)
            try:
                return self._transitions.record_external(
                    stripe_refund, next_number(refunds), amount_received=amount_received, actor=actor
                )
            except NumberTaken:
                continue
        raise OutcomeUnknown("ledger_busy", "Too many calls are adding refunds to this payment.")

    def _update(self, known: Refund, stripe_refund: StripeRefund, *, actor: str) -> Refund:
        current = self._transitions.apply(known, stripe_refund, actor=actor)
        if current is known and not known.created_here:
            # Nothing changed, but a crash may have prevented the purchases from being marked earlier.
            self._transitions.sync_purchases(known.payment_intent)
        return current


def _find_record(refunds: Sequence[Refund], stripe_refund: StripeRefund) -> Refund | None:
    """Return the record of this refund: by its ID at Stripe, or else the one that requested it and has none
    yet.

    Two refunds at Stripe can carry one record's ID, after Stripe forgot its key or the ledger was restored.
    """
    known = [each for each in refunds if each.stripe_refund_id == stripe_refund.id]
    requested = [each for each in refunds if each.id == stripe_refund.refund_id and not each.stripe_refund_id]
    return next(iter(known + requested), None)

"""Preview a refund. No money moves, and nothing is stored but what a charge or session refers to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..clock import CALL_SECONDS, Deadline
from ..errors import PurchaseNotFound, PurchaseNotRefundable, StripeCallError
from ..models import Failure, Payment, Refund
from ..payment_refunds import next_number
from ..purchase_fields import COMPLETED
from ..storage.purchases import Purchase, Purchases
from .payments import PaymentResolver, payment_errors, rejection_error

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway


NOT_CHARGED = "payment_intent_unexpected_state"
"""Stripe's code for a refund of a payment that wasn't captured."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The payment that would be refunded, and the refunds that it had so far.

    The refunds were read before the payment, so that :attr:`number` can lock what is left of it.
    """

    payment: Payment
    refunds: Sequence[Refund]
    purchase_id: Any

    @property
    def number(self) -> int:
        """The number that the payment's next refund gets."""
        return next_number(self.refunds)


class Previewer:
    """Looks up the payment of a purchase at Stripe.

    :param gateway: returns the gateway, which is created when first needed.
    """

    def __init__(
        self, purchases: Purchases, payments: PaymentResolver, gateway: Callable[[], Gateway]
    ) -> None:
        self._purchases = purchases
        self._payments = payments
        self._gateway = gateway

    def preview(self, purchase_id: Any) -> Preview:
        """Return what refunding this purchase would do.

        :param purchase_id: a value, or an :class:`IdText`.
        :raises PurchaseIdAmbiguous: 400.
        :raises PurchaseNotFound: 404.
        :raises PurchaseNotRefundable: 400.
        :raises PaymentIntentMissing: 400.
        :raises PaymentUnknown: 400; Stripe doesn't know the payment.
        :raises RefundFailed: 400; nothing of the payment was captured.
        :raises StripeUnavailable: 503.
        :raises StripeRateLimited: 503.
        :raises StripeKeyRejected: 500.
        :raises DatabaseUnavailable: 500.
        """
        purchase = self._purchases.find(purchase_id)
        if purchase is None:
            raise PurchaseNotFound
        if purchase.status != COMPLETED:
            raise PurchaseNotRefundable
        purchase = self._payments.complete(purchase, Deadline.after(CALL_SECONDS))
        payment = self.retrieve_payment(purchase)
        if not payment.amount_received:
            raise rejection_error(Failure(NOT_CHARGED, "Nothing was captured."))
        return Preview(payment, purchase.refunds, purchase.document["_id"])

    def retrieve_payment(self, purchase: Purchase) -> Payment:
        """Return a purchase's payment as Stripe shows it now, and what its dispute means if it has one.

        :raises PaymentIntentMissing: 400.
        :raises PaymentUnknown: 400; Stripe doesn't know the payment.
        :raises StripeUnavailable: 503.
        :raises StripeRateLimited: 503.
        :raises StripeKeyRejected: 500.
        """
        deadline = Deadline.after(CALL_SECONDS)
        payment = self._payments.complete(purchase, deadline).payment_intent or ""
        gateway = self._gateway().on(purchase.stripe_account)
        with payment_errors(payment):
            found = gateway.retrieve_payment(payment, deadline)
        if not found.disputed:
            return found
        with suppress(StripeCallError):  # such as a key that may not read disputes
            return replace(found, dispute=gateway.find_dispute(payment, deadline))
        return found

"""Preview a refund. Nothing is stored and no money moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..clock import CALL_SECONDS, Deadline
from ..errors import PaymentIntentMissing, PurchaseNotFound, PurchaseNotRefundable
from ..models import Payment, Refund, next_number
from ..purchase_fields import COMPLETED
from ..storage.purchases import Purchases
from .partial import retrieve_payment

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway


@dataclass(frozen=True, slots=True)
class Preview:
    """The payment that would be refunded, and the refunds that it had so far.

    The refunds were read before the payment, so that :attr:`number` can lock what is left of it.
    """

    payment: Payment
    refunds: Sequence[Refund]

    @property
    def number(self) -> int:
        """The number that the payment's next refund gets."""
        return next_number(self.refunds)


class Previewer:
    """Looks up the payment of a purchase at Stripe.

    :param gateway: returns the gateway, which is created when first needed.
    """

    def __init__(self, purchases: Purchases, gateway: Callable[[], Gateway]) -> None:
        self._purchases = purchases
        self._gateway = gateway

    def preview(self, purchase_id: Any) -> Preview:
        """Return what refunding this purchase would do.

        :param purchase_id: a value, or an :class:`IdText`.
        :raises PurchaseIdAmbiguous: 400.
        :raises PurchaseNotFound: 404.
        :raises PurchaseNotRefundable: 400.
        :raises PaymentIntentMissing: 400.
        :raises PaymentUnknown: 400; Stripe doesn't know the payment.
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
        if purchase.payment_intent is None:
            raise PaymentIntentMissing
        return Preview(self.retrieve_payment(purchase.payment_intent), purchase.refunds)

    def retrieve_payment(self, payment_intent: str) -> Payment:
        """Return a payment as Stripe shows it now.

        :raises PaymentUnknown: 400; Stripe doesn't know the payment.
        :raises StripeUnavailable: 503.
        :raises StripeRateLimited: 503.
        :raises StripeKeyRejected: 500.
        """
        return retrieve_payment(self._gateway(), payment_intent, Deadline.after(CALL_SECONDS))

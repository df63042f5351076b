"""Preview a refund. Nothing is stored and no money moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..clock import CALL_SECONDS, Deadline
from ..errors import (
    KeyRejected,
    OutcomeUnknown,
    PaymentIntentMissing,
    PaymentUnknown,
    PurchaseNotFound,
    PurchaseNotRefundable,
    RateLimited,
    RequestRejected,
    StripeKeyRejected,
    StripeRateLimited,
    StripeUnavailable,
)
from ..models import Payment, Refund
from ..purchase_fields import COMPLETED
from ..storage.purchases import Purchases

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

_UNAVAILABLE = (
    "Stripe couldn't be reached to look up this payment. Nothing was refunded. Try again in a few seconds."
)


@dataclass(frozen=True, slots=True)
class Preview:
    """The payment that would be refunded, and the refunds that it had so far."""

    payment: Payment
    refunds: Sequence[Refund]


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
        try:
            return self._gateway().retrieve_payment(payment_intent, Deadline.after(CALL_SECONDS))
        except RequestRejected as rejection:
            raise PaymentUnknown from rejection
        except RateLimited as limited:
            raise StripeRateLimited.by_code(limited.code) from limited
        except KeyRejected as rejected:
            raise StripeKeyRejected from rejected
        except OutcomeUnknown as unknown:
            raise StripeUnavailable(_UNAVAILABLE) from unknown

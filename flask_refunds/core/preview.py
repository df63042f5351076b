"""What a refund would do, before anybody asks for it. Nothing is written and no money moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bson import ObjectId

from ..clock import CALL_SECONDS, Deadline
from ..errors import (
    KeyRejected,
    OutcomeUnknown,
    PaymentIntentMissing,
    PaymentUnknown,
    PurchaseNotFound,
    PurchaseNotRefundable,
    Refused,
    StripeKeyRejected,
    StripeRateLimited,
    StripeUnavailable,
    Throttled,
)
from ..models import Payment, Refund
from ..storage.ledger import Ledger
from ..storage.purchases import COMPLETED, Purchases

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

_UNAVAILABLE = (
    "Stripe could not be asked about this payment. Nothing was refunded; try again in a few seconds."
)


@dataclass(frozen=True, slots=True)
class Preview:
    """The payment that a refund would give back, and the refunds that it had so far."""

    payment: Payment
    refunds: Sequence[Refund]


class Previewer:
    """Asks Stripe about the payment of a purchase.

    :param gateway: gives the gateway when it is first needed.
    """

    def __init__(self, ledger: Ledger, purchases: Purchases, gateway: Callable[[], Gateway]) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._gateway = gateway

    def preview(self, purchase_id: ObjectId) -> Preview:
        """What refunding this purchase would do.

        :raises PurchaseNotFound: 404.
        :raises PurchaseNotRefundable: 400.
        :raises PaymentIntentMissing: 400.
        :raises PaymentUnknown: 400; Stripe does not know the payment.
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
        payment = self.ask_stripe(purchase.payment_intent)
        return Preview(payment, self._ledger.read_log(purchase.payment_intent))

    def ask_stripe(self, payment_intent: str) -> Payment:
        """A payment as it is now.

        :raises PaymentUnknown: 400; Stripe does not know the payment.
        :raises StripeUnavailable: 503.
        :raises StripeRateLimited: 503.
        :raises StripeKeyRejected: 500.
        """
        try:
            return self._gateway().payment(payment_intent, Deadline.after(CALL_SECONDS))
        except Refused as refused:
            raise PaymentUnknown from refused
        except Throttled as throttled:
            raise StripeRateLimited from throttled
        except KeyRejected as rejected:
            raise StripeKeyRejected from rejected
        except OutcomeUnknown as unknown:
            raise StripeUnavailable(_UNAVAILABLE) from unknown

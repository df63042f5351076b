"""Find out at Stripe which payment a purchase has, if it holds a charge or a Checkout session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..advice import advise_rejected, hint_of, is_of_other_mode
from ..clock import Deadline
from ..errors import (
    KeyRejected,
    OutcomeUnknown,
    PaymentIntentMissing,
    PaymentUnknown,
    PermissionMissing,
    PurchaseNotRefundable,
    RateLimited,
    RefundFailed,
    RefundsError,
    RequestRejected,
    StripeCallError,
    StripeKeyRejected,
    StripeRateLimited,
    StripeUnavailable,
)
from ..log import LogEvent, log_event
from ..models import Failure, Refund, is_payment_intent
from ..purchase_fields import COMPLETED
from ..storage.purchases import Purchase, Purchases

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

_UNAVAILABLE = (
    "Stripe couldn't be reached to look up this payment. Nothing was refunded. Try again in a few seconds."
)
_NOT_PAID = (
    "This Checkout session has no payment intent: it isn't paid, or it started a subscription, whose "
    "payments belong to invoices."
)
_MAY_NOT_READ = "The key needs a permission to read {}. Add it in Stripe's Dashboard (Developers, API keys)."


UNKNOWN_AT_STRIPE = "resource_missing"
"""Stripe's code for a payment that the key can't see."""
ACCESS_LOST = "account_invalid"
"""Stripe's code for a connected account that the key has no access to."""


class PaymentResolver:
    """Completes purchases with their payment. Each reference is read at Stripe once, and remembered.

    :param gateway: returns the gateway, which is created when first needed.
    """

    def __init__(self, purchases: Purchases, gateway: Callable[[], Gateway]) -> None:
        self._purchases = purchases
        self._gateway = gateway

    def complete(self, purchase: Purchase, deadline: Deadline) -> Purchase:
        """Return a purchase with its payment. If that is known, this costs nothing.

        :raises PurchaseNotRefundable: 400; it isn't completed, and its payment isn't known.
        :raises PaymentIntentMissing: 400; it holds no payment.
        :raises PaymentUnknown: 400; Stripe doesn't know what it holds.
        :raises StripeUnavailable: 503.
        :raises StripeRateLimited: 503.
        :raises StripeKeyRejected: 500.
        :raises RecordUnreadable: 500; a refund of the payment can't be read.
        :raises DatabaseUnavailable: 500.
        """
        if purchase.payment_intent is not None:
            return purchase
        if purchase.status != COMPLETED:
            raise PurchaseNotRefundable
        if purchase.reference is None:
            raise PaymentIntentMissing(hint=self._purchases.describe_payment(purchase))
        with payment_errors(purchase.reference):
            gateway = self._gateway().on(purchase.stripe_account)
            payment = gateway.find_payment(purchase.reference, deadline)
        if payment is None:
            raise PaymentIntentMissing(hint=_NOT_PAID)
        self._purchases.references.add(payment, [purchase.reference])
        return self._purchases.with_payment(purchase, payment)

    def find_sessions(self, payment: str, deadline: Deadline, account: str | None = None) -> bool:
        """Remember the Checkout session of a payment intent, which Stripe's refunds don't name.

        This reads Stripe only if your app stores Checkout sessions, and once for each payment.

        :param account: the connected account that has the payment.
        :return: whether there is one.
        :raises StripeCallError: Stripe doesn't tell. A key that may not read sessions finds none.
        :raises DatabaseUnavailable: 500.
        """
        if not is_payment_intent(payment) or not self._purchases.hold_sessions():
            return False
        references = self._purchases.references
        if not references.find([payment]):
            try:
                sessions = self._gateway().on(account).list_sessions(payment, deadline)
            except PermissionMissing as error:
                log_event(LogEvent.STRIPE_REQUEST_FAILED, code=error.code)
                return False
            references.add(payment, [*sessions, payment])
        return len(references.of([payment])[payment]) > 1


@contextmanager
def payment_errors(payment: str) -> Iterator[None]:
    """Raise what prevented reading a payment as the error of a refund that wasn't made.

    :param payment: its ID, or a reference to it.
    """
    try:
        yield
    except (KeyRejected, RateLimited, RequestRejected) as error:
        failure = Failure(error.code, error.message, error.outcome)
        raise rejection_error(failure, hint=_missing_permission(error, payment)) from error
    except OutcomeUnknown as unknown:
        raise StripeUnavailable(_UNAVAILABLE, stripe_code=unknown.code) from unknown


def rejection_error(
    failure: Failure, *, refund: Refund | None = None, hint: str | None = None
) -> RefundsError:
    """Return the error for a request that Stripe didn't execute, the same for refunds and previews.

    :param hint: replaces the advice for Stripe's code.
    """
    code, advised = failure.code, hint_of(advise_rejected(failure.code, failure.message))
    if failure.outcome == RateLimited.outcome:
        return StripeRateLimited.by_code(code, refund=refund)
    if failure.outcome == KeyRejected.outcome:
        return StripeKeyRejected(refund=refund, hint=hint or advised, stripe_code=code)
    if code != UNKNOWN_AT_STRIPE:
        return RefundFailed(refund=refund, hint=advised, stripe_code=code)
    message = RefundFailed.default_message if refund else None
    known = advised if is_of_other_mode(failure.message) else None
    return PaymentUnknown(message, refund=refund, hint=known, stripe_code=code)


def _missing_permission(error: StripeCallError, payment: str) -> str | None:
    names = {"pi": "Payment Intents", "cs": "Checkout Sessions"}
    if not isinstance(error, PermissionMissing) or error.code != "permission_denied":
        return None
    return _MAY_NOT_READ.format(names.get(payment[:2], "Charges"))

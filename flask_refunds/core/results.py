"""The results of refund calls, and the errors for refunds that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import (
    KeyRejected,
    PaymentUnknown,
    PurchaseNotRefundable,
    RateLimited,
    RefundFailed,
    RefundsError,
    StripeKeyRejected,
    StripeRateLimited,
)
from ..models import Refund, RefundRecord, RefundStatus, ReviewCode

ALREADY_REFUNDED = "charge_already_refunded"
"""Stripe's code for a payment of which nothing is left."""
UNKNOWN_AT_STRIPE = "resource_missing"
"""Stripe's code for a payment that the key can't see."""

_STATUS_REJECTED = (
    "The money was refunded, but the database rejected the purchase's new status, or couldn't write it."
)
_NOT_MARKED_YET = (
    "The money was refunded. The purchase isn't marked, because it was changed meanwhile, "
    "or because the refunds known so far don't cover its payment. Reconcile looks again."
)


@dataclass(frozen=True, slots=True)
class RefundResult:
    """The refund, and the requested purchase as it is now.

    :param is_marked: whether the purchase has the status of refunded ones.
    :param replayed: whether an earlier call requested this part, and this one only repeated it.
    """

    refund: Refund
    purchase: Mapping[str, Any]
    is_marked: bool
    replayed: bool = False

    @property
    def hint(self) -> str | None:
        """Why the purchase isn't marked although the refund succeeded; ``None`` if it is, or needn't be."""
        refund = self.refund
        if refund.status is not RefundStatus.SUCCEEDED or self.is_marked:
            return None
        if refund.review is not None and refund.review.code is ReviewCode.PURCHASE_NOT_UPDATED:
            return _STATUS_REJECTED
        return _NOT_MARKED_YET if refund.takes_rest or refund.closed_purchase_ids else None


def error_of(refund: RefundRecord) -> RefundsError:
    """Return the error for a refund that failed or was canceled."""
    failure = refund.failure
    if failure is not None and failure.code == ALREADY_REFUNDED:
        return PurchaseNotRefundable(refund=refund)
    if failure is not None and failure.outcome == RateLimited.outcome:
        return StripeRateLimited.by_code(failure.code, refund=refund)
    if failure is not None and failure.outcome == KeyRejected.outcome:
        return StripeKeyRejected(refund=refund)
    unknown = failure is not None and failure.code == UNKNOWN_AT_STRIPE
    return RefundFailed(refund=refund, hint=PaymentUnknown.default_hint if unknown else None)

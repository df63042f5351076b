"""The results of refund calls, and the errors for refunds that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..advice import KEY_CODES, advise, advise_rejected, hint_of
from ..errors import PurchaseNotRefundable, RefundFailed, RefundsError
from ..models import Refund, RefundRecord, RefundStatus, ReviewCode
from .payments import rejection_error

ALREADY_REFUNDED = "charge_already_refunded"
"""Stripe's code for a payment of which nothing is left."""

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
    :param unknown_code: why the outcome is unknown, if it is.
    """

    refund: Refund
    purchase: Mapping[str, Any]
    is_marked: bool
    replayed: bool = False
    unknown_code: str | None = None

    @property
    def hint(self) -> str | None:
        """Why the purchase isn't marked although the refund succeeded, or why Stripe can't be asked."""
        refund = self.refund
        if self.unknown_code in KEY_CODES:
            return hint_of(advise_rejected(self.unknown_code))
        if refund.status is not RefundStatus.SUCCEEDED or self.is_marked:
            return None
        if refund.review is not None and refund.review.code is ReviewCode.PURCHASE_NOT_UPDATED:
            return _STATUS_REJECTED
        return _NOT_MARKED_YET if refund.takes_rest or refund.closed_purchase_ids else None


def error_of(refund: RefundRecord) -> RefundsError:
    """Return the error for a refund that failed or was canceled."""
    failure = refund.failure
    if failure is None:
        return RefundFailed(refund=refund, hint=hint_of(advise(refund)))
    if failure.code == ALREADY_REFUNDED:
        hint = hint_of(advise(refund))
        return PurchaseNotRefundable(refund=refund, hint=hint, stripe_code=failure.code)
    if refund.stripe_refund_id is None:
        return rejection_error(failure, refund=refund)
    return RefundFailed(refund=refund, hint=hint_of(advise(refund)), stripe_code=failure.code)

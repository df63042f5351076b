"""Decide whether a part of a payment may be refunded. Nothing here moves money.

A caller says what it saw: how much was left, and the number of the next refund. The order makes this a
lock: the payment's refunds are read first, then Stripe's charge. If both are as the caller saw them, the
refund takes the next number of the refunds that were read. A call that finds that number taken starts again
from the top.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..clock import Deadline
from ..errors import (
    InvalidRequest,
    PurchaseNotRefundable,
    RefundableChanged,
    RefundAmbiguous,
    RefundInProgress,
)
from ..models import Part, Payment, RefundRecord, RefundRequest, RefundStatus
from ..money import require_multiple
from ..payment_refunds import find_active, next_number
from ..purchase_fields import COMPLETED
from ..storage.purchases import Purchase
from .payments import payment_errors

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway


class PartialRefunds:
    """Compares what the caller of a partial refund saw with the payment as it is now.

    :param gateway: returns the gateway, which is created when first needed.
    """

    def __init__(self, gateway: Callable[[], Gateway]) -> None:
        self._gateway = gateway

    def find_earlier(
        self,
        purchase: Purchase,
        refunds: Sequence[RefundRecord],
        request: RefundRequest,
        deadline: Deadline,
    ) -> RefundRecord | None:
        """Return the refund that an earlier, equal call made, or ``None`` if a new one may be made.

        :param refunds: all of the payment's, read before this call.
        :raises RefundInProgress: 409; the outcome of an earlier refund is unknown.
        :raises PurchaseNotRefundable: 400.
        :raises RefundableChanged: 409; the caller saw something else.
        :raises RefundAmbiguous: 409; there is an equal refund, and the caller's view fits another one.
        :raises InvalidRequest: 400; Stripe doesn't accept the amount in the payment's currency.
        :raises RefundsError: as :func:`payment_errors` does.
        """
        part = _part_of(request)
        equal = [each for each in refunds if _is_equal(each, purchase.document["_id"], request)]
        earlier = find_active(equal)
        if earlier is not None and (part.number or earlier.status is RefundStatus.PROCESSING):
            return earlier
        require_none_processing(refunds)
        if purchase.status != COMPLETED:
            if earlier is not None:
                return earlier
            raise PurchaseNotRefundable(refund=refunds[-1] if refunds else None)
        payment = self._retrieve(purchase.payment_intent or "", purchase.stripe_account, deadline)
        if earlier is None:
            _require_same_view(part, payment, next_number(refunds), is_repeated=bool(equal))
        elif payment.refundable == part.refundable:
            raise RefundAmbiguous(refund=earlier)
        return earlier

    def repeat(
        self, refund: RefundRecord, refunds: Sequence[RefundRecord], deadline: Deadline
    ) -> Part | None:
        """Return the same part of the payment as it is now; ``None`` if it wasn't a part.

        :param refunds: all of the payment's, read before this call.
        :raises RefundsError: as :func:`payment_errors` does.
        """
        if refund.part is None:
            return None
        payment = self._retrieve(refund.payment_intent, refund.stripe_account, deadline)
        return replace(refund.part, refundable=payment.refundable, number=next_number(refunds))

    def _retrieve(self, payment: str, account: str | None, deadline: Deadline) -> Payment:
        with payment_errors(payment):
            return self._gateway().on(account).retrieve_payment(payment, deadline)


def require_none_processing(refunds: Sequence[RefundRecord]) -> None:
    """Check that the outcome of each of a payment's refunds is known.

    :raises RefundInProgress: 409.
    """
    for each in refunds:
        if each.status is RefundStatus.PROCESSING:
            raise RefundInProgress(refund=each)


def _part_of(request: RefundRequest) -> Part:
    if request.part is None:
        raise ValueError("The request is for all that is left of the payment.")
    return request.part


def _is_equal(refund: RefundRecord, purchase_id: Any, request: RefundRequest) -> bool:
    """Return whether an equal call of the same caller requested a refund."""
    made, part = refund.part, _part_of(request)
    if made is None or part.number not in (None, made.number, refund.number):
        return False
    return (
        (refund.source, refund.requested_by) == (request.source, request.requested_by)
        and (refund.request.get("reason"), refund.note) == (request.reason, request.note)
        and request.instructions_email in (None, refund.request.get("instructions_email"))
        and (made.amount, made.refundable) == (part.amount, part.refundable)
        and made.mark_refunded == part.mark_refunded
        and list(refund.purchase_ids) == [purchase_id]
    )


def _require_same_view(part: Part, payment: Payment, number: int, *, is_repeated: bool) -> None:
    """Check that a caller saw the payment as it is now.

    :param number: the number of the payment's next refund.
    :param is_repeated: whether the same call made a refund that failed: then its number is taken.
    """
    is_same_number = part.number in (None, number) or is_repeated
    if payment.refundable != part.refundable or not is_same_number:
        raise RefundableChanged(refundable=payment.refundable, number=number)
    try:
        require_multiple(part.amount, payment.currency)
    except ValueError as error:
        raise InvalidRequest(f"amount must be {error}. Nothing was refunded.") from None

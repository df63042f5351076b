"""Plan a bulk run. A plan refunds nothing, and stores nothing but what references refer to."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from ..advice import advise_rejected, hint_of
from ..core.preview import NOT_CHARGED, Previewer
from ..errors import (
    PaymentIntentMissing,
    PaymentUnknown,
    RefundFailed,
    StripeRateLimited,
    StripeUnavailable,
)
from ..models import Payment
from ..storage.purchases import Purchase
from .classify import BulkItem, BulkResult, Result, count_by_value

_ATTEMPTS = 8


@dataclass
class BulkPlan:
    """What a run would do.

    :param purchases: the number of purchases.
    :param refundable: how many of them would be refunded.
    :param payments: how many payments those have.
    :param amounts: what would be refunded, in minor units by currency; ``None`` if Stripe wasn't asked.
    :param others: how many purchases would have another result, by result.
    :param partly_refunded: how many of the payments to refund were refunded in part before.
    :param refunded_before: what those refunds return, in minor units by currency.
    :param disputed: how many of the payments to refund are disputed, as far as Stripe tells not charged back.
    """

    name: str
    purchases: int
    refundable: int = 0
    payments: int = 0
    amounts: Counter[str] | None = None
    others: Counter[Result] = field(default_factory=Counter)
    partly_refunded: int = 0
    refunded_before: Counter[str] = field(default_factory=Counter)
    disputed: int = 0
    _looked_up: set[str] = field(default_factory=set)
    """The payments that weren't known before Stripe was asked: several items may be primary for one."""

    def add(self, item: BulkItem, payment: Payment | None) -> None:
        """Count a purchase.

        :param payment: its payment at Stripe, if Stripe was asked.
        """
        if item.result is not None:
            self.others[item.result.result] += 1
            return
        self.refundable += 1
        if payment is not None and item.purchase is not None and item.purchase.payment_intent is None:
            if payment.id in self._looked_up:
                return
            self._looked_up.add(payment.id)
        self.payments += item.is_primary
        if payment is not None and self.amounts is not None:
            self.amounts[payment.currency] += payment.refundable
            self.disputed += payment.disputed
            if payment.refunded:
                self.partly_refunded += 1
                self.refunded_before[payment.currency] += payment.refunded

    def as_dict(self) -> dict[str, Any]:
        """Return the plan for JSON."""
        return {
            "name": self.name,
            "purchases": self.purchases,
            "refundable": self.refundable,
            "payments": self.payments,
            "amounts": None if self.amounts is None else dict(sorted(self.amounts.items())),
            "others": count_by_value(self.others),
            "partlyRefunded": None if self.amounts is None else self.partly_refunded,
            "refundedBefore": None if self.amounts is None else dict(sorted(self.refunded_before.items())),
            "disputed": None if self.amounts is None else self.disputed,
        }


def check_payment(
    previewer: Previewer, item: BulkItem, stop_event: threading.Event
) -> tuple[BulkItem, Payment | None]:
    """Check at Stripe what is left of an item's payment. The app's own amounts don't tell, and a part may
    have been refunded already.

    :return: the item, with a result if nothing can be refunded, and the payment.
    :raises StripeUnavailable: 503.
    :raises StripeRateLimited: 503.
    :raises StripeKeyRejected: 500.
    """
    if not needs_check(item) or item.purchase is None:
        return item, None
    try:
        payment = _retrieve(previewer, item.purchase, stop_event)
    except PaymentUnknown as unknown:
        return _with_result(item, Result.PAYMENT_UNKNOWN, unknown.message), None
    except PaymentIntentMissing as missing:
        return _with_result(item, Result.NO_PAYMENT, missing.hint or missing.message), None
    except RefundFailed as failed:
        return _with_result(item, Result.FAILED, failed.hint or failed.message), None
    if not payment.amount_received:
        return _with_result(item, Result.FAILED, hint_of(advise_rejected(NOT_CHARGED))), None
    if payment.refundable <= 0:
        return _with_result(item, Result.ALREADY_REFUNDED, "It was refunded at Stripe."), None
    if payment.dispute == "chargeback":
        message = "The customer's bank has taken the payment back: answer the dispute in Stripe."
        return _with_result(item, Result.CHARGED_BACK, message), None
    return item, payment


def needs_check(item: BulkItem) -> bool:
    """Return whether the amount must be checked at Stripe: once per payment."""
    return item.result is None and item.is_primary


def _retrieve(previewer: Previewer, purchase: Purchase, stop_event: threading.Event) -> Payment:
    for attempt in range(1, _ATTEMPTS):
        try:
            return previewer.retrieve_payment(purchase)
        except (StripeRateLimited, StripeUnavailable):
            if stop_event.wait(attempt / 2):
                raise
    return previewer.retrieve_payment(purchase)


def _with_result(item: BulkItem, result: Result, message: str) -> BulkItem:
    return replace(item, result=BulkResult(item.purchase_id, result, message=message))

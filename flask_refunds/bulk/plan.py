"""What a bulk run would do. Nothing is written and no money moves."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.preview import Previewer
from ..errors import PaymentUnknown, StripeRateLimited, StripeUnavailable
from ..models import Payment
from .classify import BulkResult, Case, Result

_TRIES = 8


@dataclass
class BulkPlan:
    """What a run would do.

    :param purchases: how many it is about.
    :param refundable: how many of them it would refund.
    :param payments: how many payments paid for those.
    :param amounts: what would go back, in minor units by currency; ``None`` where Stripe was not asked.
    :param others: the rest, counted by what they are.
    """

    name: str
    purchases: int
    refundable: int = 0
    payments: int = 0
    amounts: Counter[str] | None = None
    others: Counter[Result] = field(default_factory=Counter)

    def add(self, case: Case, payment: Payment | None) -> None:
        """Count one more purchase.

        :param payment: what Stripe said of it, where it was asked.
        """
        if case.result is not None:
            self.others[case.result.result] += 1
            return
        self.refundable += 1
        self.payments += case.is_primary
        if payment is not None and self.amounts is not None:
            self.amounts[payment.currency] += payment.refundable

    def as_dict(self) -> dict[str, Any]:
        """Return the plan for JSON."""
        return {
            "name": self.name,
            "purchases": self.purchases,
            "refundable": self.refundable,
            "payments": self.payments,
            "amounts": None if self.amounts is None else dict(sorted(self.amounts.items())),
            "others": {result.value: self.others[result] for result in Result if self.others[result]},
        }


def ask_stripe(previewer: Previewer, case: Case, stop_event: threading.Event) -> tuple[Case, Payment | None]:
    """What Stripe says of a case's payment. Only Stripe knows what is left of it: the host's amounts are the
    host's, and a part may have gone back already.

    :return: the case, which has a result where Stripe will refund nothing, and the payment.
    :raises StripeUnavailable: 503.
    :raises StripeRateLimited: 503.
    :raises StripeKeyRejected: 500.
    """
    if not needs_asking(case) or case.payment_intent is None:
        return case, None
    try:
        payment = _ask_patiently(previewer, case.payment_intent, stop_event)
    except PaymentUnknown as unknown:
        return _ended(case, Result.PAYMENT_UNKNOWN, unknown.message), None
    if payment.refundable <= 0:
        return _ended(case, Result.ALREADY_REFUNDED, "It was refunded at Stripe."), None
    return case, payment


def needs_asking(case: Case) -> bool:
    """Whether only Stripe knows what would go back; one purchase of a payment asks for all."""
    return case.result is None and case.is_primary


def _ask_patiently(previewer: Previewer, payment_intent: str, stop_event: threading.Event) -> Payment:
    for pause in range(1, _TRIES):
        try:
            return previewer.retrieve_payment(payment_intent)
        except (StripeRateLimited, StripeUnavailable):
            if stop_event.wait(pause / 2):
                raise
    return previewer.retrieve_payment(payment_intent)


def _ended(case: Case, result: Result, message: str) -> Case:
    return replace(case, result=BulkResult(case.purchase_id, result, message=message))

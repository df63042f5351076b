"""Classify the purchases of a bulk run by what the database already tells, some hundred at a time."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..errors import RecordUnreadable
from ..models import Refund, RefundRecord, RefundStatus
from ..payment_refunds import find_active
from ..purchase_fields import COMPLETED, REFUNDED, read_field
from ..storage.ledger import Ledger
from ..storage.purchase_ids import sort_key
from ..storage.purchases import Purchase, Purchases

BATCH = 200


class Result(str, Enum):
    """The result of a bulk run for one purchase."""

    REFUNDED = "refunded"
    """This run refunded it, now or when it was started before."""
    PENDING = "pending"
    """Stripe accepted the refund and hasn't completed it yet."""
    ALREADY_REFUNDED = "already_refunded"
    """It was refunded otherwise, or with another purchase of the same payment."""
    NOT_COMPLETED = "not_completed"
    """The purchase has another status than completed, such as pending or failed."""
    NO_PAYMENT = "no_payment"
    """The purchase has no payment."""
    PAYMENT_UNKNOWN = "payment_unknown"
    """Stripe doesn't know its payment; in plans only."""
    CHARGED_BACK = "charged_back"
    """The customer's bank has taken the payment back, so Stripe would reject a refund; in plans only."""
    NOT_FOUND = "not_found"
    """The purchase doesn't exist."""
    FAILED = "failed"
    """Stripe rejected the refund, or it failed; nothing was refunded."""
    RATE_LIMITED = "rate_limited"
    """Stripe received too many requests until the end of the run; nothing was refunded."""
    IN_PROGRESS = "in_progress"
    """Another call worked on it until the end of the run."""
    NEEDS_REVIEW = "needs_review"
    """The outcome of an earlier attempt can't be found out any more; it wasn't tried again."""
    UNKNOWN = "unknown"
    """The outcome isn't known yet; reconcile, or the same run again, finds it out."""


TO_RETRY = frozenset({Result.RATE_LIMITED, Result.IN_PROGRESS, Result.UNKNOWN})
"""Results that may change within moments."""
INCOMPLETE = TO_RETRY | {Result.FAILED, Result.NEEDS_REVIEW}
"""Results that need a review, or another run."""


def count_by_value(counts: Mapping[Result, int]) -> dict[str, int]:
    """Return the results that occurred, by their text, in the order of :class:`Result`."""
    return {result.value: counts[result] for result in Result if counts.get(result)}


@dataclass(frozen=True, slots=True)
class BulkResult:
    """The result of a bulk run for one purchase.

    :param refund: the refund record, if there is one.
    :param amount: what this run refunds with this purchase, in minor units. Only one purchase of a payment
        has the amount.
    :param currency: the lowercase ISO 4217 code.
    :param message: the reason, where the purchase wasn't refunded.
    """

    purchase_id: Any
    result: Result
    refund: Refund | None = None
    amount: int | None = None
    currency: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class BulkItem:
    """A purchase of a run: its result, or ``None`` if it is to be refunded.

    :param purchase: the purchase to refund, which has a payment, or a reference to one.
    :param is_primary: whether it is the first of the run's completed purchases with this payment, as far as
        is known.
    """

    purchase_id: Any
    purchase: Purchase | None = None
    is_primary: bool = True
    result: BulkResult | None = None


class Classifier:
    """Separates the purchases with a known result from those to refund.

    :param name: the bulk run's name.
    :param purchase_ids: all purchases of the run.
    """

    def __init__(self, ledger: Ledger, purchases: Purchases, name: str, purchase_ids: Container[Any]) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._name = name
        self._purchase_ids = purchase_ids

    def classify(self, purchase_ids: Sequence[Any]) -> Iterator[BulkItem]:
        """Yield an item for each of these purchases, in a few round trips.

        :param purchase_ids: some hundreds at most.
        :raises DatabaseUnavailable: 500.
        """
        purchases = self._purchases.find_many(purchase_ids)
        refunds = self._ledger.list_for_payments(
            {each.payment_intent for each in purchases.values() if each.payment_intent}
        )
        for purchase_id in purchase_ids:
            purchase = purchases.get(purchase_id)
            if purchase is None:
                yield _classified(purchase_id, Result.NOT_FOUND, "The purchase doesn't exist.")
            else:
                yield self._classify(purchase_id, purchase, refunds.get(purchase.payment_intent or "", []))

    def result_for(self, purchase_id: Any, refund: Refund) -> BulkResult:
        """Return the result of a purchase with a refund that hasn't failed."""
        # A purchase that was added later isn't among them, so that the amount counts once.
        first = [each for each in refund.purchase_ids if each in self._purchase_ids][:1]
        created_by_run = refund.bulk_run == self._name and [purchase_id] == first
        amount, currency = (refund.amount, refund.currency) if created_by_run else (None, None)
        if refund.status is RefundStatus.PROCESSING and refund.review is not None:
            message = refund.review.recommended_action
            return BulkResult(purchase_id, Result.NEEDS_REVIEW, refund, message=message)
        if refund.status is RefundStatus.PROCESSING:
            message = "The outcome isn't known yet. Run the same run again, or wait for reconcile."
            return BulkResult(purchase_id, Result.UNKNOWN, refund, message=message)
        if refund.status is not RefundStatus.SUCCEEDED:
            message = f"The refund's status at Stripe is {refund.status.value}."
            return BulkResult(purchase_id, Result.PENDING, refund, amount, currency, message)
        if not created_by_run:
            message = f"It was refunded with {refund.id}."
            return BulkResult(purchase_id, Result.ALREADY_REFUNDED, refund, message=message)
        return BulkResult(purchase_id, Result.REFUNDED, refund, amount, currency)

    def _classify(
        self, purchase_id: Any, purchase: Purchase, refunds: Sequence[RefundRecord] | None
    ) -> BulkItem:
        if refunds is None:
            return _classified(purchase_id, Result.NEEDS_REVIEW, RecordUnreadable.default_message)
        active = find_active(refunds, self._name)
        if purchase.status is None:
            word = read_field(purchase.document, self._purchases.fields.status)
            return _classified(purchase_id, Result.NOT_COMPLETED, f"Its status is {word}.")
        if active is not None and not _needs_service(active, purchase):
            return BulkItem(purchase_id, result=self.result_for(purchase_id, active))
        if active is None and purchase.status == REFUNDED:
            external = refunds[-1] if refunds and not refunds[-1].created_here else None
            return _classified(purchase_id, Result.ALREADY_REFUNDED, "It was refunded elsewhere.", external)
        if purchase.payment_intent is None and purchase.reference is None:
            return _classified(purchase_id, Result.NO_PAYMENT, self._purchases.describe_payment(purchase))
        siblings = [each.purchase_id for each in purchase.completed] or purchase.ids
        return BulkItem(purchase_id, purchase, self._is_primary(purchase_id, siblings))

    def _is_primary(self, purchase_id: Any, siblings: Iterable[object]) -> bool:
        ids = [each for each in siblings if each in self._purchase_ids]
        return bool(purchase_id == min(ids, key=sort_key, default=purchase_id))


def _needs_service(active: RefundRecord, purchase: Purchase) -> bool:
    """Return whether the service must continue an existing refund, or refund what a part left: its outcome is
    unknown, or the purchase is still completed."""
    if active.status is RefundStatus.PROCESSING:
        return True
    may_be_left = active.status is RefundStatus.SUCCEEDED or active.part is not None
    return may_be_left and purchase.status == COMPLETED


def _classified(purchase_id: Any, result: Result, message: str, refund: Refund | None = None) -> BulkItem:
    return BulkItem(purchase_id, result=BulkResult(purchase_id, result, refund, message=message))

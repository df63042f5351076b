"""Which purchases of a bulk run have their result in the transitions already, some hundred at a time."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from bson import ObjectId

from ..models import Refund, RefundStatus, find_active
from ..storage.ledger import Ledger
from ..storage.purchases import COMPLETED, REFUNDED, Purchase, Purchases

BATCH = 200


class Result(str, Enum):
    """What a bulk run comes to for one purchase."""

    REFUNDED = "refunded"
    """By this run, now or when it was started before."""
    PENDING = "pending"
    """Stripe has accepted it and has not made it yet."""
    ALREADY_REFUNDED = "already_refunded"
    """Otherwise, or with another purchase of the same payment."""
    NOT_COMPLETED = "not_completed"
    """The purchase is pending, failed, or whatever else the host says."""
    NO_PAYMENT = "no_payment"
    """The purchase names no payment intent."""
    PAYMENT_UNKNOWN = "payment_unknown"
    """Stripe does not know its payment; only before a run."""
    NOT_FOUND = "not_found"
    """There is no such purchase."""
    FAILED = "failed"
    """Stripe would not make it; nothing was refunded."""
    RATE_LIMITED = "rate_limited"
    """Stripe was too busy to the end; nothing was refunded."""
    IN_PROGRESS = "in_progress"
    """Another call held it to the end."""
    NEEDS_REVIEW = "needs_review"
    """Nobody can tell any more whether an earlier try was made; it was not tried again."""
    UNKNOWN = "unknown"
    """Nobody knows yet how it ended; reconcile, or the same run again, finds out."""


TO_RETRY = frozenset({Result.RATE_LIMITED, Result.IN_PROGRESS, Result.UNKNOWN})
"""What may be otherwise in a moment."""
INCOMPLETE = TO_RETRY | {Result.FAILED, Result.NEEDS_REVIEW}
"""What a person must look at, or run again."""


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What a bulk run came to for one purchase.

    :param refund: the ledger's row, where there is one.
    :param amount: what this run gives back with this purchase, in minor units; a payment's amount stands at
        one of its purchases only.
    :param currency: its ISO 4217 code, lowercase.
    :param message: in words, where it is no success.
    """

    purchase_id: ObjectId
    result: Result
    refund: Refund | None = None
    amount: int | None = None
    currency: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A purchase of a run: its result, or ``None`` where it is to be refunded.

    :param payment_intent: what is to be refunded.
    :param is_primary: whether it is the first of the run's purchases that its payment paid.
    """

    purchase_id: ObjectId
    payment_intent: str | None = None
    is_primary: bool = True
    result: BulkResult | None = None


class Classifier:
    """Tells the results that are known from those to be had.

    :param name: the bulk run's.
    :param chosen: all of its purchases.
    """

    def __init__(self, ledger: Ledger, purchases: Purchases, name: str, chosen: Container[ObjectId]) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._name = name
        self._chosen = chosen

    def look_at(self, purchase_ids: Sequence[ObjectId]) -> Iterator[Case]:
        """The cases of these purchases, in three round trips.

        :param purchase_ids: some hundreds at most.
        :raises DatabaseUnavailable: 500.
        """
        found = self._purchases.find_many(purchase_ids)
        logs = self._ledger.list_for_payments(
            {each.payment_intent for each in found.values() if each.payment_intent}
        )
        for purchase_id in purchase_ids:
            purchase = found.get(purchase_id)
            if purchase is None:
                yield _known(purchase_id, Result.NOT_FOUND, "There is no such purchase.")
            else:
                yield self._look(purchase_id, purchase, logs.get(purchase.payment_intent or "", []))

    def settle(self, purchase_id: ObjectId, refund: Refund) -> BulkResult:
        """The result of a purchase that a refund gave back, or is about to."""
        mine = refund.bulk_run == self._name and self._is_primary(purchase_id, refund.purchase_ids)
        if refund.status is RefundStatus.PROCESSING and refund.review is not None:
            return BulkResult(
                purchase_id, Result.NEEDS_REVIEW, refund, message=refund.review.recommended_action
            )
        if refund.status is RefundStatus.PROCESSING:
            words = "Nobody knows yet how it ended. Run the same again, or let reconcile find out."
            return BulkResult(purchase_id, Result.UNKNOWN, refund, message=words)
        if refund.status is not RefundStatus.SUCCEEDED:
            words = f"Stripe says {refund.status.value}."
            return self._with_amount(purchase_id, Result.PENDING, refund, words, mine=mine)
        if not mine:
            words = f"It went back with {refund.id}."
            return BulkResult(purchase_id, Result.ALREADY_REFUNDED, refund, message=words)
        return self._with_amount(purchase_id, Result.REFUNDED, refund, None, mine=True)

    def _with_amount(
        self, purchase_id: ObjectId, result: Result, refund: Refund, words: str | None, *, mine: bool
    ) -> BulkResult:
        amount, currency = (refund.amount, refund.currency) if mine else (None, None)
        return BulkResult(purchase_id, result, refund, amount, currency, words)

    def _look(self, purchase_id: ObjectId, purchase: Purchase, log: Sequence[Refund]) -> Case:
        live = find_active(log)
        if live is not None and not _is_to_do(live, purchase):
            return Case(purchase_id, result=self.settle(purchase_id, live))
        if live is None and purchase.status == REFUNDED:
            words = "It was refunded elsewhere."
            elsewhere = log[-1] if log and not log[-1].created_here else None
            return _known(purchase_id, Result.ALREADY_REFUNDED, words, elsewhere)
        if live is None and purchase.status != COMPLETED:
            return _known(purchase_id, Result.NOT_COMPLETED, f"Its status is {purchase.status}.")
        if purchase.payment_intent is None:
            return _known(purchase_id, Result.NO_PAYMENT, "It names no payment intent.")
        return Case(purchase_id, purchase.payment_intent, self._is_primary(purchase_id, purchase.ids))

    def _is_primary(self, purchase_id: ObjectId, together: Iterable[object]) -> bool:
        chosen = [each for each in together if isinstance(each, ObjectId) and each in self._chosen]
        return purchase_id == min(chosen, default=purchase_id)


def _is_to_do(live: Refund, purchase: Purchase) -> bool:
    """Whether the service must look at a refund that there is: nobody knows its end, or a crash kept the
    purchase from following it."""
    if live.status is RefundStatus.PROCESSING:
        return True
    return live.status is RefundStatus.SUCCEEDED and purchase.status == COMPLETED


def _known(purchase_id: ObjectId, result: Result, message: str, refund: Refund | None = None) -> Case:
    return Case(purchase_id, result=BulkResult(purchase_id, result, refund, message=message))

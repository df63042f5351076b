"""The output of ``flask refunds bulk``: the plan, the result of each purchase, and the summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..bulk import BulkPlan, BulkResult, BulkSummary, Result
from ..models import id_text
from ..money import decimal_amount
from .csv_output import decimal_cell

COLUMNS = (
    *("purchaseId", "result", "refundId", "status", "amount", "currency", "amountDecimal"),
    *("code", "message"),
)

_DESCRIPTIONS = {
    Result.REFUNDED: "refunded",
    Result.PENDING: "pending: Stripe accepted them and hasn't completed them",
    Result.ALREADY_REFUNDED: "already refunded, or refunded with another purchase of the same payment",
    Result.NOT_COMPLETED: "not completed, so they can't be refunded",
    Result.NO_PAYMENT: "without a payment intent",
    Result.PAYMENT_UNKNOWN: "with a payment that Stripe doesn't know",
    Result.CHARGED_BACK: "charged back: don't refund them, answer the disputes in Stripe",
    Result.NOT_FOUND: "not found",
    Result.FAILED: "failed: nothing was refunded",
    Result.RATE_LIMITED: "not refunded: Stripe's rate limit was exceeded",
    Result.IN_PROGRESS: "not refunded: another call was working on them",
    Result.NEEDS_REVIEW: "need review: see flask refunds list --needs-review",
    Result.UNKNOWN: "unknown: run the same command again, or run flask refunds reconcile",
}
_PLAN_DESCRIPTIONS = _DESCRIPTIONS | {Result.REFUNDED: "already refunded by this run"}


def plan_lines(plan: BulkPlan) -> Iterator[str]:
    """Yield the lines of a plan."""
    yield f"Bulk run {plan.name}: {_count(plan.purchases, 'purchase')}."
    yield _line(plan.refundable, f"to refund, from {_count(plan.payments, 'payment')}{_sums(plan.amounts)}")
    if plan.partly_refunded:
        yield _line(
            plan.partly_refunded, f"of these payments are partly refunded{_sums(plan.refunded_before)} before"
        )
    if plan.disputed:
        yield _line(plan.disputed, "of these payments are disputed: look at them in Stripe before you refund")
    for result in Result:
        if plan.others[result]:
            yield _line(plan.others[result], _PLAN_DESCRIPTIONS[result])


def summary_lines(summary: BulkSummary) -> Iterator[str]:
    """Yield the lines of a summary."""
    yield f"Bulk run {summary.name}: {_count(summary.purchases, 'purchase')}{_sums(summary.amounts)}."
    for result in Result:
        if summary.counts[result]:
            yield _line(summary.counts[result], _DESCRIPTIONS[result])
    if summary.unprocessed:
        yield _line(summary.unprocessed, "not processed: run the same command again")


def result_row(result: BulkResult) -> list[Any]:
    """Return a purchase's result in the order of :data:`COLUMNS`."""
    refund = result.refund
    return [
        id_text(result.purchase_id),
        result.result.value,
        refund.id if refund else None,
        refund.status.value if refund else None,
        result.amount,
        result.currency,
        decimal_cell(result.amount, result.currency),
        refund.failure.code if refund and refund.failure else None,
        result.message,
    ]


def _line(count: int, description: str) -> str:
    return f"{count:>8}  {description}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _sums(amounts: Mapping[str, int] | None) -> str:
    if not amounts:
        return ""
    sums = (f"{decimal_amount(each, code)} {code.upper()}" for code, each in sorted(amounts.items()))
    return f": {', '.join(sums)}"

"""What ``flask refunds bulk`` says: the plan, a row for each purchase, and what it came to."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ..bulk import BulkPlan, BulkResult, BulkSummary, Result
from ..money import decimal_amount
from .csv_output import csv_cell, standard_output

COLUMNS = (
    *("purchaseId", "result", "refundId", "status", "amount", "currency", "amountDecimal"),
    *("code", "message"),
)

_WORDS = {
    Result.REFUNDED: "refunded",
    Result.PENDING: "pending: Stripe has accepted them and has not made them yet",
    Result.ALREADY_REFUNDED: "refunded already, or with another purchase of the same payment",
    Result.NOT_COMPLETED: "not completed, so there is nothing to refund",
    Result.NO_PAYMENT: "without a payment intent",
    Result.PAYMENT_UNKNOWN: "paid by a payment that Stripe does not know",
    Result.NOT_FOUND: "not there",
    Result.FAILED: "failed: nothing was refunded",
    Result.RATE_LIMITED: "not refunded: Stripe was too busy to the end",
    Result.IN_PROGRESS: "held by another call to the end",
    Result.NEEDS_REVIEW: "need a person: see flask refunds list --needs-review",
    Result.UNKNOWN: "unknown: run the same again, or let flask refunds reconcile find out",
}
_DONE_BEFORE = {Result.REFUNDED: "refunded by this run before"}


def plan_lines(plan: BulkPlan) -> Iterator[str]:
    """What a run would do, for a person."""
    yield f"Bulk run {plan.name}: {_count(plan.purchases, 'purchase')}."
    yield _line(
        plan.refundable, f"to refund, paid by {_count(plan.payments, 'payment')}{_sums(plan.amounts)}"
    )
    for result in Result:
        if plan.others[result]:
            yield _line(plan.others[result], (_WORDS | _DONE_BEFORE)[result])


def summary_lines(summary: BulkSummary) -> Iterator[str]:
    """What a run came to, for a person."""
    yield f"Bulk run {summary.name}: {_count(summary.purchases, 'purchase')}{_sums(summary.amounts)}."
    for result in Result:
        if summary.counts[result]:
            yield _line(summary.counts[result], _WORDS[result])
    if summary.unprocessed:
        yield _line(summary.unprocessed, "not reached: run the same again")


def render_plan(plan: BulkPlan) -> dict[str, Any]:
    """A plan for programs."""
    return {
        "name": plan.name,
        "purchases": plan.purchases,
        "refundable": plan.refundable,
        "payments": plan.payments,
        "amounts": None if plan.amounts is None else dict(sorted(plan.amounts.items())),
        "others": _by_name(plan.others),
    }


def render_summary(summary: BulkSummary) -> dict[str, Any]:
    """A summary for programs."""
    return {
        "name": summary.name,
        "purchases": summary.purchases,
        "results": _by_name(summary.counts),
        "amounts": dict(sorted(summary.amounts.items())),
        "unprocessed": summary.unprocessed,
    }


class Rows:
    """The results as CSV, each written at once.

    :param path: where they are until they are whole; ``None`` for standard output.
    """

    def __init__(self, target: TextIO, path: Path | None) -> None:
        self.path = path
        self.whole = False
        self._target = target
        self._writer = csv.writer(target)
        self._writer.writerow(COLUMNS)

    def write(self, result: BulkResult) -> None:
        """Write a row."""
        row = _row(result)
        self._writer.writerow([csv_cell(row[name]) for name in COLUMNS])
        self._target.flush()


@contextmanager
def results_file(output: Path | None) -> Iterator[Rows]:
    """Where the rows go: standard output, or a file that takes its name once they are said to be whole.

    Until then, and for good where the run ends early, they are in a file beside it that ends in ``.part``.

    :raises OSError: it cannot be written.
    """
    if output is None:
        with standard_output() as target:
            yield Rows(target, None)
        return
    handle, part = tempfile.mkstemp(dir=output.parent, prefix=f"{output.name}.", suffix=".part")
    with open(handle, "w", encoding="utf-8", newline="") as target:
        rows = Rows(target, Path(part))
        yield rows
    if rows.whole:
        os.replace(part, output)


def _row(result: BulkResult) -> Mapping[str, Any]:
    refund, known = result.refund, result.amount is not None and result.currency is not None
    return {
        "purchaseId": str(result.purchase_id),
        "result": result.result.value,
        "refundId": refund.id if refund else None,
        "status": refund.status.value if refund else None,
        "amount": result.amount,
        "currency": result.currency,
        "amountDecimal": decimal_amount(result.amount or 0, result.currency or "") if known else None,
        "code": refund.failure.code if refund and refund.failure else None,
        "message": result.message,
    }


def _line(count: int, words: str) -> str:
    return f"{count:>8}  {words}"


def _count(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _sums(amounts: Mapping[str, int] | None) -> str:
    if not amounts:
        return ""
    sums = (f"{decimal_amount(each, code)} {code.upper()}" for code, each in sorted(amounts.items()))
    return f": {', '.join(sums)}"


def _by_name(counts: Mapping[Result, int]) -> dict[str, int]:
    return {result.value: counts[result] for result in Result if counts.get(result)}

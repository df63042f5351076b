"""``flask refunds export``: the whole ledger, for accountants and auditors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..extension import current_refunds
from ..models import Refund, id_text
from ..schemas.rendering import render_refund, to_json
from ..storage.search import RefundFilter
from .atomic_file import open_output
from .csv_output import decimal_cell, write_row
from .errors import fail, refunds_command
from .options import filter_options

COLUMNS = (
    *("id", "paymentIntent", "purchaseIds", "status", "amount", "currency", "amountDecimal"),
    *("requestedAmount", "reason", "note", "requestedBy", "source", "bulkRun", "isFull", "stripeRefundId"),
    *("failureCode", "failureMessage", "reviewCode", "createdAt", "updatedAt", "settledAt"),
    *("charge", "balanceTransaction", "failureBalanceTransaction", "destination", "reference"),
    *("referenceType", "referenceStatus", "receiptNumber", "pendingReason"),
    *("presentmentAmount", "presentmentCurrency"),
)


@refunds_command("export")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="csv: one row per refund. jsonl: one JSON object per refund, with its history.",
)
@filter_options
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file, which gets its name when it is complete. [standard output]",
)
def export(format_: str, filters: RefundFilter, output: Path | None) -> None:
    """Export refunds, newest first, in UTF-8.

    amount is in the currency's minor unit, amountDecimal in its major unit. requestedAmount, in the minor
    unit, is what a partial refund requested. Times are ISO 8601 in UTC. In CSV, text that a spreadsheet would
    take as a formula gets a ' in front.
    """
    refunds = current_refunds().refund_search.stream(filters)
    try:
        with open_output(output) as file:
            if format_ == "csv":
                write_row(file.stream, COLUMNS)
            for refund in refunds:
                if format_ == "csv":
                    fields = _flatten(refund)
                    write_row(file.stream, [fields[name] for name in COLUMNS])
                else:
                    file.stream.write(to_json(render_refund(refund, history=True)) + "\n")
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"Can't write to {output or 'standard output'}: {error.strerror}.")


def _flatten(refund: Refund) -> dict[str, Any]:
    failure, review = refund.failure, refund.review
    rendered = render_refund(refund)
    return rendered | {
        **rendered["details"],
        "purchaseIds": " ".join(map(id_text, refund.purchase_ids)),
        "amountDecimal": decimal_cell(refund.amount, refund.currency),
        "requestedAmount": refund.part.amount if refund.part else None,
        "isFull": {True: "true", False: "false"}.get(refund.is_full) if refund.amount is not None else None,
        "failureCode": failure.code if failure else None,
        "failureMessage": failure.message if failure else None,
        "reviewCode": review.code.value if review else None,
    }

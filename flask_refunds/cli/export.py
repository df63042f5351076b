"""``flask refunds export``: the ledger for accountants and auditors, however long it is."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
from flask.cli import with_appcontext

from ..extension import current_refunds
from ..models import Refund
from ..money import decimal_amount
from ..schemas.rendering import render_refund, to_json
from ..storage.search import RefundFilter
from .csv_output import csv_cell, standard_output
from .errors import fail, reporting_errors
from .options import filter_options

COLUMNS = (
    *(
        "id",
        "paymentIntent",
        "purchaseIds",
        "status",
        "amount",
        "currency",
        "amountDecimal",
        "reason",
        "note",
    ),
    *("requestedBy", "source", "bulkRun", "stripeRefundId", "failureCode", "failureMessage", "reviewCode"),
    *("createdAt", "updatedAt", "settledAt"),
)


@click.command("export")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="csv: a row each. jsonl: a JSON object each, with its history.",
)
@filter_options
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file, which appears once it is whole. [standard output]",
)
@with_appcontext
@reporting_errors
def export(format_: str, wanted: RefundFilter, output: Path | None) -> None:
    """Write out the ledger, newest first, in UTF-8.

    amount is in the currency's minor unit, amountDecimal in its major one. Times are ISO 8601, UTC. Text
    that a spreadsheet would take for a formula gets a ' in front.
    """
    found = current_refunds().refund_search.stream(wanted)
    try:
        with _opened(output) as target:
            write = _write_csv if format_ == "csv" else _write_jsonl
            write(target, found)
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"{output or 'The output'} cannot be written: {error.strerror}.")


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Where to write: standard output, or a file that takes its name once it is whole."""
    if output is None:
        with standard_output() as target:
            yield target
        return
    handle, partial = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as target:
            yield target
        os.replace(partial, output)
    except BaseException:
        os.unlink(partial)
        raise


def _write_csv(target: TextIO, found: Iterable[Refund]) -> None:
    writer = csv.writer(target)
    writer.writerow(COLUMNS)
    for refund in found:
        fields = _flat(refund)
        writer.writerow([csv_cell(fields[name]) for name in COLUMNS])


def _write_jsonl(target: TextIO, found: Iterable[Refund]) -> None:
    for refund in found:
        target.write(to_json(render_refund(refund, history=True)) + "\n")


def _flat(refund: Refund) -> dict[str, Any]:
    failure, review = refund.failure, refund.review
    known = refund.amount is not None and refund.currency is not None
    return render_refund(refund) | {
        "purchaseIds": " ".join(map(str, refund.purchase_ids)),
        "amountDecimal": decimal_amount(refund.amount or 0, refund.currency or "") if known else None,
        "failureCode": failure.code if failure else None,
        "failureMessage": failure.message if failure else None,
        "reviewCode": review.code.value if review else None,
    }

"""``flask refunds bulk``: many refunds in one run, which can be stopped and continued."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ..bulk import BulkPlan, BulkSummary
from ..errors import DatabaseUnavailable, InvalidRequest, RefundsError, StripeKeyRejected
from ..extension import current_refunds
from ..models import Reason, RefundRequest, is_bulk_name
from ..schemas.inputs import parse_bulk_name, parse_note
from ..storage.purchase_ids import PurchaseIds
from ..storage.search import PurchaseFilter
from .atomic_file import Output, open_output
from .bulk_report import COLUMNS, plan_lines, result_row, summary_lines
from .csv_output import write_row
from .errors import EXIT_NEEDS_REVIEW, fail, refunds_command
from .id_file import read_ids
from .interrupts import stop_on_signals
from .options import (
    actor_option,
    as_json_option,
    note_option,
    parsed_by,
    range_options,
    rate_option,
    reason_option,
)
from .output import print_json
from .progress import progress

_CONTINUE = "The ledger has every refund, and none was made twice. Run the same command again to continue."
_STOPPED_BY = {
    DatabaseUnavailable: "The database is unavailable.",
    StripeKeyRejected: "Stripe rejected STRIPE_SECRET_KEY.",
}
_STOPPING = "Stopping when the refunds in progress are finished, in at most 20 s."


@refunds_command("bulk")
@click.argument("file", required=False, type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--content", metavar="ID", help="Instead of FILE: the purchases of this content.")
@range_options
@click.option(
    "--name",
    callback=parsed_by(parse_bulk_name),
    help="The run's name in the ledger. [FILE without its extension, or content-ID]",
)
@reason_option
@note_option
@actor_option
@rate_option
@click.option("--dry-run", is_flag=True, help="Print what would be refunded, and refund nothing.")
@click.option("--skip-amounts", is_flag=True, help="Don't ask Stripe what is refundable of each payment.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="A CSV file for the result of each purchase; - for standard output. [NAME.csv]",
)
@as_json_option
def bulk(
    file: str | None,
    content: str | None,
    since: datetime | None,
    until: datetime | None,
    name: str | None,
    reason: Reason | None,
    note: str | None,
    actor: str,
    rate: float | None,
    dry_run: bool,
    skip_amounts: bool,
    yes: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Refund many purchases in full.

    FILE has one purchase ID per line; - is standard input. Instead of FILE, use --content, or --from and --to
    for the purchases created in that time, or all three.

    It prints a plan and asks for confirmation first. Ctrl-C stops it when the refunds in progress are
    finished. Run the same command again to continue.

    Exits with 0 if every purchase has its result and none failed, with 1 if some need review or another run,
    and with 2 if the run was rejected, stopped or couldn't continue.
    """
    if (file is None) == (content is None and since is None and until is None):
        raise click.UsageError("Use either FILE, or --content, --from and --to.")
    if (since is None) != (until is None):
        raise click.UsageError("Use --from and --to together.")
    if output == "-" and as_json:
        raise click.UsageError("Use either --json or --output -, because both use standard output.")
    name = name or _default_name(file, content if since is None else None)
    path = None if output == "-" else Path(output or f"{name}.csv")
    if file is not None and path is not None and _is_same(file, path):
        raise click.UsageError(f"The results would replace {file}. Name another file with --output.")
    request = RefundRequest(actor, "cli", reason, parse_note(note), bulk_run=name)
    if not yes and not dry_run and not sys.stdin.isatty():
        fail("Can't prompt: stdin is not a terminal. Use --yes or --dry-run.")
    purchase_ids = _find(content, since, until) if file is None else _read_file(file)
    run = _Run(name, purchase_ids, request, rate, path, as_json)
    plan = run.plan(amounts=not skip_amounts)
    if dry_run:
        run.print(["Dry run: nothing was refunded."], plan.as_dict())
        return
    if not yes:  # also if the plan found nothing, because it may change meanwhile
        _confirm(plan)
    run.refund()


@dataclass
class _Run:
    """One run of the command.

    :param path: the file for the results; ``None`` for standard output.
    """

    name: str
    purchase_ids: PurchaseIds
    request: RefundRequest
    rate: float | None
    path: Path | None
    as_json: bool

    def plan(self, *, amounts: bool) -> BulkPlan:
        """Return the plan, and print it for people."""
        label = "Asking Stripe" if amounts else "Planning"
        with stop_on_signals(_STOPPING) as stop_event, progress(len(self.purchase_ids), label) as step:
            plan = current_refunds().bulk.plan(
                self.name,
                self.purchase_ids,
                rate=self.rate,
                amounts=amounts,
                stop_event=stop_event,
                on_progress=step,
            )
        if stop_event.is_set():
            fail("Interrupted. Nothing was refunded.")
        self.print(plan_lines(plan))
        return plan

    def refund(self) -> None:
        """Make the refunds, write their results, print the summary and exit."""
        summary = BulkSummary(self.name, len(self.purchase_ids))
        try:
            with open_output(self.path, keep_partial=True) as output:
                stopped_by = self._write_results(output, summary)
                output.complete = stopped_by is None
        except OSError as error:
            fail(f"Can't write to {self.path or 'standard output'}: {error.strerror}. {_CONTINUE}")
        lines = list(summary_lines(summary))
        if self.path is not None and not summary.unprocessed:
            lines.append(f"Results: {self.path}")
        written = output.partial if stopped_by else self.path
        self.print(lines, summary.as_dict() | {"output": str(written or self.path)})
        if stopped_by:
            partial = f" Results so far: {written}." if written else ""
            fail(f"{stopped_by}{partial} {_CONTINUE}")
        sys.exit(EXIT_NEEDS_REVIEW if summary.incomplete else 0)

    def _write_results(self, output: Output, summary: BulkSummary) -> str | None:
        """Make the refunds, and return what stopped them, if anything did."""
        write_row(output.stream, COLUMNS)
        with stop_on_signals(_STOPPING) as stop_event, progress(len(self.purchase_ids), "Refunding") as step:
            try:
                for result in current_refunds().bulk.run(
                    self.purchase_ids, self.request, rate=self.rate, stop_event=stop_event
                ):
                    summary.add(result)
                    write_row(output.stream, result_row(result))
                    output.stream.flush()
                    step()
            except RefundsError as error:
                # The other messages are about one refund, and say that nothing was refunded.
                return " ".join(filter(None, (_STOPPED_BY.get(type(error), str(error)), error.hint)))
            return "Interrupted." if stop_event.is_set() and summary.unprocessed else None

    def print(self, lines: Iterable[str], json: Mapping[str, Any] | None = None) -> None:
        """Print lines for people, or JSON for programs."""
        if self.as_json and json is not None:
            print_json(json)
        for line in () if self.as_json else lines:
            click.echo(line, err=self.path is None)


def _default_name(file: str | None, content: str | None) -> str:
    name = Path(file).stem if file else f"content-{content}"
    if file == "-" or (file is None and content is None) or not is_bulk_name(name):
        raise click.UsageError("Name the run with --name.")
    return name


def _is_same(file: str, path: Path) -> bool:
    try:
        return path.samefile(file)
    except OSError:
        return False  # one of them doesn't exist


def _read_file(file: str) -> PurchaseIds:
    try:
        with click.open_file(file, encoding="utf-8") as lines:
            return read_ids(lines, current_refunds().purchases.resolve)
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} isn't UTF-8 text. Nothing was refunded.") from None
    except OSError as error:
        raise InvalidRequest(f"Can't read {file}: {error.strerror}. Nothing was refunded.") from None


def _find(content: str | None, since: datetime | None, until: datetime | None) -> PurchaseIds:
    filters = PurchaseFilter(content=content, since=since, until=until)
    purchase_ids = current_refunds().purchase_search.find_ids(filters)
    if not purchase_ids:
        raise InvalidRequest("No purchases match. Nothing was refunded.")
    return purchase_ids


def _confirm(plan: BulkPlan) -> None:
    question = f"Type the run's name to refund {plan.refundable} purchases"
    try:
        typed = click.prompt(question, default="", show_default=False, err=True)
    except click.Abort:
        typed = ""
    if typed != plan.name:
        fail(f"The text isn't {plan.name}. Nothing was refunded.")

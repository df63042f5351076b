"""``flask refunds bulk``: many refunds in one run, which may be ended and started again."""

from __future__ import annotations

import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
from flask.cli import with_appcontext

from ..bulk import BulkPlan, BulkSummary
from ..errors import InvalidRequest, RefundsError
from ..extension import Refunds, current_refunds
from ..models import Reason, RefundRequest, is_bulk_name
from ..schemas.inputs import parse_bulk_name, parse_end, parse_moment, parse_note
from ..storage.purchase_ids import PurchaseIds
from ..storage.search import PurchaseFilter
from .bulk_report import Rows, plan_lines, render_plan, render_summary, results_file, summary_lines
from .errors import EXIT_NEEDS_REVIEW, fail, reporting_errors
from .id_file import read_ids
from .interrupts import stop_on_signals
from .options import actor_option, as_json_option, reading
from .output import print_json
from .progress import progress

_GO_ON = "Nothing is lost and nothing was made twice: run the same command again, and it goes on."
_NOBODY = "Nobody can be asked here: add --yes, or --dry-run. Nothing was refunded."


def _read_span(
    context: click.Context, option: click.Parameter, given: tuple[str, str] | None
) -> tuple[datetime, datetime] | None:
    try:
        span = None if given is None else (parse_moment(given[0]), parse_end(given[1]))
    except ValueError as error:
        raise click.BadParameter(f"must be {error}", context, option) from None
    if span is not None and span[0] >= span[1]:
        raise click.BadParameter("ends before it begins", context, option)
    return span


@click.command("bulk")
@click.argument("file", required=False, type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--content", metavar="ID", help="In place of a file: everyone who bought this.")
@click.option(
    "--paid-between",
    nargs=2,
    metavar="FROM TO",
    callback=_read_span,
    help="In place of a file, or beside --content: made then; days (the second is part of it) or times.",
)
@click.option(
    "--name",
    callback=reading(parse_bulk_name),
    help="The run's name in the ledger. [the file's name without its ending, or content-ID]",
)
@click.option(
    "--reason", type=click.Choice(get_args(Reason)), help="Told to Stripe; fraudulent blocks the cards."
)
@click.option("--note", help="Kept in the ledger, never sent to the customers; at most 500 characters.")
@actor_option("Who refunds.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0.1),
    help="Requests to Stripe a second, of all runs together. [80 live, 20 test]",
)
@click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")
@click.option("--skip-amounts", is_flag=True, help="Do not ask Stripe first how much each payment has left.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="A file for the results, a row for each purchase; - for standard output. [NAME.csv]",
)
@as_json_option
@with_appcontext
@reporting_errors
def bulk(**options: Any) -> None:
    """Refund many purchases in full: those whose ids stand in FILE, one a line (- for standard input), or all
    that --content and --paid-between find.

    Says first what it would do, and asks. Ctrl-C stops it once the refunds under way are finished; run the
    same command again, and it goes on.

    Exits with 0 where every purchase has its result and none failed, with 1 where something needs a person or
    another run, with 2 where it was refused, stopped or could not go on.
    """
    _Command(current_refunds(), **options).run()


class _Command:
    """One call of the command; the parameters are its options."""

    def __init__(
        self,
        refunds: Refunds,
        *,
        file: str | None,
        content: str | None,
        paid_between: tuple[datetime, datetime] | None,
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
        if (file is None) == (content is None and paid_between is None):
            raise click.UsageError("Say a file, or --content and --paid-between or one of them.")
        self._refunds = refunds
        self._name = name or _name_of(file, content if paid_between is None else None)
        self._ask = RefundRequest(actor, "cli", reason, parse_note(note), bulk_run=self._name)
        self._choose = partial(_choose, refunds, file, content, paid_between)
        self._rate = rate
        self._amounts = not skip_amounts
        self._dry_run = dry_run
        self._yes = yes
        self._output = None if output == "-" else Path(output or f"{self._name}.csv")
        self._as_json = as_json
        if output == "-" and as_json:
            raise click.UsageError("Standard output takes the rows or --json, not both.")

    def run(self) -> None:
        """Plan, ask, refund, and tell."""
        if not self._yes and not self._dry_run and not sys.stdin.isatty():
            fail(_NOBODY)
        chosen = self._choose()
        plan = self._plan(chosen)
        if self._dry_run:
            if self._as_json:
                print_json(render_plan(plan))
            else:
                self._say("Nothing was refunded (dry run).")
            return
        if plan.refundable and not self._yes:
            self._confirm(plan)
        summary = BulkSummary(self._name, len(chosen))
        stopped_by = self._refund(chosen, summary)
        self._tell(summary)
        if stopped_by:
            fail(f"{stopped_by} {_GO_ON}")
        sys.exit(EXIT_NEEDS_REVIEW if summary.incomplete else 0)

    def _plan(self, chosen: PurchaseIds) -> BulkPlan:
        label = "Asking Stripe" if self._amounts else "Looking"
        with stop_on_signals() as stop_event, progress(len(chosen), label) as step:
            plan = self._refunds.bulk.plan(
                self._name,
                chosen,
                rate=self._rate,
                amounts=self._amounts,
                stop_event=stop_event,
                on_progress=step,
            )
        if stop_event.is_set():
            fail("Interrupted. Nothing was refunded.")
        if not self._as_json:
            for line in plan_lines(plan):
                self._say(line)
        return plan

    def _confirm(self, plan: BulkPlan) -> None:
        words = f"Type the run's name to refund {plan.refundable} purchases"
        try:
            typed = click.prompt(words, default="", show_default=False, err=True)
        except click.Abort:
            typed = ""
        if typed != self._name:
            fail(f"That is not {self._name}. Nothing was refunded.")

    def _refund(self, chosen: PurchaseIds, summary: BulkSummary) -> str | None:
        """Make the refunds.

        :return: what stopped them, if something did.
        """
        try:
            with results_file(self._output) as rows:
                stopped_by = self._work_off(chosen, summary, rows)
                rows.whole = stopped_by is None
        except OSError as error:
            fail(f"{self._output or 'The output'} cannot be written: {error.strerror}. {_GO_ON}")
        if stopped_by and rows.path:
            return f"{stopped_by} The rows so far: {rows.path}."
        return stopped_by

    def _work_off(self, chosen: PurchaseIds, summary: BulkSummary, rows: Rows) -> str | None:
        with stop_on_signals() as stop_event, progress(len(chosen), "Refunding") as step:
            try:
                for result in self._refunds.bulk.run(
                    chosen, self._ask, rate=self._rate, stop_event=stop_event
                ):
                    summary.add(result)
                    rows.write(result)
                    step()
            except RefundsError as error:
                return str(error)
            return "Interrupted." if stop_event.is_set() and summary.unprocessed else None

    def _tell(self, summary: BulkSummary) -> None:
        if self._as_json:
            print_json(render_summary(summary) | {"output": str(self._output)})
            return
        for line in summary_lines(summary):
            self._say(line)
        if self._output is not None and not summary.unprocessed:
            self._say(f"A row for each purchase: {self._output}")

    def _say(self, line: str) -> None:
        # Standard output is the rows' where they are wanted there.
        click.echo(line, err=self._output is None)


def _name_of(file: str | None, content: str | None) -> str:
    """The run's name, where none is given."""
    name = Path(file).stem if file else f"content-{content}"
    if file == "-" or (file is None and content is None) or not is_bulk_name(name):
        raise click.UsageError("Name the run: --name.")
    return name


def _choose(
    refunds: Refunds, file: str | None, content: str | None, span: tuple[datetime, datetime] | None
) -> PurchaseIds:
    return _from_file(file) if file else _from_shop(refunds, content, span)


def _from_file(file: str) -> PurchaseIds:
    try:
        with click.open_file(file, encoding="utf-8") as lines:
            return read_ids(lines)
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} is no text in UTF-8. Nothing was refunded.") from None
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}. Nothing was refunded.") from None


def _from_shop(refunds: Refunds, content: str | None, span: tuple[datetime, datetime] | None) -> PurchaseIds:
    since, until = span or (None, None)
    wanted = PurchaseFilter(content=content, since=since, until=until)
    chosen = refunds.purchase_search.find_ids(wanted)
    if not chosen:
        raise InvalidRequest("There is no such purchase. Nothing was refunded.")
    return chosen

"""``flask refunds …``: what operators run."""

from __future__ import annotations

import getpass
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import wraps
from typing import Any

import click
from flask.cli import with_appcontext

from .errors import RefundsError
from .extension import current_refunds
from .models import Refund
from .pace import LIVE_RATE, TEST_RATE, Pace, paced
from .reconcile import Report

EXIT_ATTENTION = 1
"""Something needs a person."""
EXIT_FAILED = 2
"""The command could not do its work."""


def reporting_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Tell the library's errors in words, without a trace."""

    @wraps(command)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RefundsError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(EXIT_FAILED)

    return told


@click.command("reconcile")
@click.option("--every", type=click.FloatRange(min=1), help="Stay, and pass again after so many seconds.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=60,
    show_default=True,
    help="Leave alone what changed in the last so many seconds.",
)
@click.option(
    "--rate", type=click.FloatRange(min=0.1), help="Requests to Stripe a second. [80 live, 20 test]"
)
@click.option("--dry-run", is_flag=True, help="Say what there is to do, and do nothing.")
@with_appcontext
@reporting_errors
def reconcile(every: float | None, older_than: float, rate: float | None, dry_run: bool) -> None:
    """Bring every unfinished refund to its end. Run it every minute or so, anywhere, any number at once.

    Exits with 1 where something needs a person, with 2 where it could not work, else with 0.
    """
    one_pass = _list_unfinished if dry_run else _reconcile_once
    stopped = _stop_on_signals() if every else None
    while True:
        needs_a_person = one_pass(timedelta(seconds=older_than), rate)
        if stopped is None:
            sys.exit(EXIT_ATTENTION if needs_a_person else 0)
        if stopped.wait(every):
            return


def _stop_on_signals() -> threading.Event:
    """Set when the process is told to end, so that a pass under way is finished first."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


def _reconcile_once(older_than: timedelta, rate: float | None) -> bool:
    refunds = current_refunds()
    found = refunds.reconciler.find(older_than)
    pace = Pace(rate or (LIVE_RATE if refunds.settings.livemode else TEST_RATE))
    with paced(pace), _progress(found) as step:
        report = refunds.reconciler.run(found, step)
    _tell_attention(report.attention)
    click.echo(_summary(len(found), report))
    return bool(report.attention)


def _list_unfinished(older_than: timedelta, rate: float | None) -> bool:
    refunds = current_refunds()
    found = refunds.reconciler.find(older_than)
    for refund_id in found:
        refund = refunds.ledger.get(refund_id)
        click.echo(f"{refund_id}  {refund.status.value}  since {refund.updated_at:%Y-%m-%d %H:%M:%S}Z")
    attention = refunds.ledger.find_attention()
    _tell_attention(attention)
    click.echo(f"{len(found)} unfinished, {len(attention)} need a person; nothing was done (dry run).")
    return bool(attention)


def _progress(found: Sequence[str]) -> Any:
    """A context that gives a function to call at each step; it draws on a terminal only."""
    if not found or not sys.stderr.isatty():
        return nullcontext(lambda refund_id: None)
    return _Bar(len(found))


class _Bar:
    def __init__(self, length: int) -> None:
        self._bar = click.progressbar(length=length, label="Reconciling", file=sys.stderr)

    def __enter__(self) -> Callable[[str], None]:
        self._bar.__enter__()
        return lambda refund_id: self._bar.update(1)

    def __exit__(self, *exc: Any) -> None:
        self._bar.__exit__(*exc)


def _tell_attention(refunds: Sequence[Refund]) -> None:
    for refund in refunds:
        attention = refund.attention
        if attention is None:
            continue
        click.echo(
            f"{refund.id}  {refund.status.value}  {attention.why} since {attention.since:%Y-%m-%d %H:%M}Z"
        )
        click.echo(f"    {attention.what_to_do}")


def _summary(found: int, report: Report) -> str:
    counts = report.counts
    parts = [
        f"{counts['settled']} settled",
        f"{counts['open']} still open",
        f"{counts['tidied']} tidied",
        f"{counts['busy']} busy",
        f"{counts['errors']} errors",
        f"{len(report.attention)} need a person",
    ]
    return f"{found} looked at: {', '.join(parts)}."


@click.command("resolve")
@click.argument("refund_id")
@click.option(
    "--retry", "verdict", flag_value="retry", help="Close it and refund anew, under the next number."
)
@click.option("--failed", "verdict", flag_value="failed", help="Close it: no money went, or it came back.")
@click.option("--done", "verdict", flag_value="done", help="Close it: it was looked at and is in order.")
@click.option("--why", required=True, help="What you found; kept in the ledger.")
@click.option("--by", default=getpass.getuser, help="Who decides. [your user name here]")
@with_appcontext
@reporting_errors
def resolve(refund_id: str, verdict: str | None, why: str, by: str) -> None:
    """Settle a refund that asks for a person, by what you found at Stripe."""
    desk = current_refunds().attention
    who = f"command:{by}"
    if verdict == "retry":
        outcome = desk.retry(refund_id, by=who, why=why)
        click.echo(f"{refund_id} is closed; {outcome.refund.id} is {outcome.refund.status.value}.")
    elif verdict == "failed":
        click.echo(f"{refund_id} is closed as {desk.fail(refund_id, by=who, why=why).status.value}.")
    elif verdict == "done":
        click.echo(
            f"{refund_id} is dealt with; it stays {desk.dismiss(refund_id, by=who, why=why).status.value}."
        )
    else:
        raise click.UsageError("Say one of --retry, --failed and --done.")

"""``flask refunds reconcile``: every unfinished refund comes to its end."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import timedelta

import click
from flask.cli import with_appcontext

from ..core.reconcile import ReconcileReport
from ..extension import current_refunds
from ..stripe_client.rate_limit import rate_limited
from .errors import EXIT_NEEDS_REVIEW, print_reviews, reporting_errors
from .progress import progress


@click.command("reconcile")
@click.option("--interval", type=click.FloatRange(min=1), help="Stay, and pass again after so many seconds.")
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
def reconcile(interval: float | None, older_than: float, rate: float | None, dry_run: bool) -> None:
    """Bring every unfinished refund to its end. Run it every minute or so, anywhere, any number at once.

    Exits with 1 where something needs a person, with 2 where it could not work, else with 0.
    """
    one_pass = _list_unfinished if dry_run else _reconcile_once
    stop_event = _stop_on_signals() if interval else None
    while True:
        needs_review = one_pass(timedelta(seconds=older_than), rate)
        if stop_event is None:
            sys.exit(EXIT_NEEDS_REVIEW if needs_review else 0)
        if stop_event.wait(interval):
            return


def _stop_on_signals() -> threading.Event:
    """Set when the process is told to end, so that a pass under way is finished first."""
    stop_event = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_event.set())
    return stop_event


def _reconcile_once(older_than: timedelta, rate: float | None) -> bool:
    refunds = current_refunds()
    found = refunds.reconciler.find(older_than)
    with rate_limited(refunds.rate_limiter(rate)), progress(len(found), "Reconciling") as step:
        report = refunds.reconciler.run(found, lambda refund_id: step())
    print_reviews(report.reviews)
    click.echo(_summary(len(found), report))
    return bool(report.reviews)


def _list_unfinished(older_than: timedelta, rate: float | None) -> bool:
    refunds = current_refunds()
    found = refunds.reconciler.find(older_than)
    for refund_id in found:
        refund = refunds.ledger.get(refund_id)
        click.echo(f"{refund_id}  {refund.status.value}  since {refund.updated_at:%Y-%m-%d %H:%M:%S}Z")
    reviews = refunds.ledger.find_needing_review()
    print_reviews(reviews)
    click.echo(f"{len(found)} unfinished, {len(reviews)} need a person; nothing was done (dry run).")
    return bool(reviews)


def _summary(found: int, report: ReconcileReport) -> str:
    counts = report.counts
    parts = [
        f"{counts['settled']} settled",
        f"{counts['open']} still open",
        f"{counts['followed_up']} followed up",
        f"{counts['busy']} busy",
        f"{counts['errors']} errors",
        f"{len(report.reviews)} need a person",
    ]
    return f"{found} looked at: {', '.join(parts)}."

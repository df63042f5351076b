"""``flask refunds reconcile``: finish every unfinished refund."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import click

from ..extension import current_refunds
from ..stripe_client.rate_limit import rate_limited
from .errors import EXIT_NEEDS_REVIEW, refunds_command
from .interrupts import stop_on_signals
from .options import rate_option
from .output import format_time, print_reviews
from .progress import progress


@refunds_command("reconcile")
@click.option("--interval", type=click.FloatRange(min=1), help="Repeat, with a pause of this many seconds.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=60,
    show_default=True,
    help="Skip refunds that changed less than this many seconds ago.",
)
@rate_option
@click.option("--dry-run", is_flag=True, help="Print the unfinished refunds, and change nothing.")
def reconcile(interval: float | None, older_than: float, rate: float | None, dry_run: bool) -> None:
    """Finish every unfinished refund. Run it about once a minute; several at once are safe.

    Exits with 1 if a refund needs review, with 2 if it couldn't run, else with 0.
    """
    one_pass = partial(_print_unfinished if dry_run else _reconcile, older_than, rate)
    if interval is None:
        sys.exit(EXIT_NEEDS_REVIEW if one_pass() else 0)
    with stop_on_signals("Stopping after the current pass.") as stop_event:
        one_pass()
        while not stop_event.wait(interval):
            one_pass()


def _reconcile(older_than: float, rate: float | None) -> bool:
    """Make one pass, and return whether a refund needs review."""
    refunds = current_refunds()
    found, skipped = _find(older_than)
    with rate_limited(refunds.rate_limiter(rate)), progress(len(found), "Reconciling") as step:
        report = refunds.reconciler.run(found, lambda refund_id: step())
    print_reviews(report.reviews)
    counts = report.counts
    click.echo(
        f"{len(found)} processed: {counts['settled']} settled, {counts['open']} still open, "
        f"{counts['followed_up']} followed up, {counts['busy']} busy, {counts['errors']} errors, "
        f"{len(report.reviews)} need review{skipped}."
    )
    return bool(report.reviews)


def _print_unfinished(older_than: float, rate: float | None) -> bool:
    """Print what a pass would work on, and return whether a refund needs review."""
    ledger = current_refunds().ledger
    found, skipped = _find(older_than)
    for refund_id in found:
        refund = ledger.get(refund_id)
        click.echo(f"{refund_id}  {refund.status.value}  since {format_time(refund.updated_at)}")
    reviews = ledger.find_needing_review()
    print_reviews(reviews)
    click.echo(f"Dry run: {len(found)} unfinished, {len(reviews)} need review{skipped}.")
    return bool(reviews)


def _find(older_than: float) -> tuple[Sequence[str], str]:
    """Return the refunds to work on, and a note about those that changed too recently."""
    reconciler = current_refunds().reconciler
    found = reconciler.find(timedelta(seconds=older_than))
    skipped = set(reconciler.find(timedelta(0))).difference(found) if older_than else ()
    return found, f", {len(skipped)} skipped (changed in the last {older_than:g} s)" if skipped else ""

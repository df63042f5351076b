"""``flask refunds reconcile``: finish every unfinished refund, and find what happened at Stripe."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import click

from ..advice import KEY_CODES, REJECTED
from ..core.reconcile import ReconcileReport
from ..errors import DatabaseUnavailable
from ..extension import current_refunds
from ..models import Refund
from ..schemas.inputs import parse_moment
from ..schemas.rendering import render, render_refund
from .errors import EXIT_NEEDS_REVIEW, fail, refunds_command
from .interrupts import stop_on_signals
from .options import as_json_option, parsed_by, rate_option
from .output import format_time, print_json, print_reviews
from .progress import progress

_STOPPING = "Stopping when the refunds in progress are finished, in at most 20 s."


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
@click.option(
    "--full", is_flag=True, help="List all of the last 60 days' refunds at Stripe, not only new ones."
)
@click.option(
    "--all",
    "check_all",
    is_flag=True,
    help="With --since: check settled refunds again too, as after a restore from a backup. Implies --full.",
)
@click.option(
    "--since",
    metavar="DAY|TIME",
    callback=parsed_by(parse_moment),
    help="With --all: check again what changed or was checked since then, such as the time of the backup.",
)
@click.option("--dry-run", is_flag=True, help="Print the unfinished refunds, and change nothing.")
@as_json_option
def reconcile(
    interval: float | None,
    older_than: float,
    rate: float | None,
    full: bool,
    check_all: bool,
    since: datetime | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Finish every unfinished refund. Run it about once a minute; several at once are safe.

    It also lists the refunds at Stripe: the new ones, and once a day those of the last 60 days.

    Exits with 1 if a refund needs review or couldn't be worked on, with 2 if it couldn't run or was
    interrupted, else with 0.
    """
    if check_all != (since is not None):
        raise click.UsageError("Use --all and --since together.")
    if dry_run and (full or check_all):
        raise click.UsageError("Use --dry-run without --full and --all.")
    if since is not None:
        count = current_refunds().queue.mark_purchases_unverified(since)
        current_refunds().days.discard()
        click.echo(
            f"Checking again: {count} that changed or were checked since {format_time(since)}.", err=True
        )
    command = _Command(timedelta(seconds=older_than), rate, as_json)
    with stop_on_signals(_STOPPING) as stop_event:
        is_clean = command.preview() if dry_run else command.run(full or check_all, stop_event)
        while interval is not None and not stop_event.wait(interval):
            _ = command.preview() if dry_run else command.run(False, stop_event)
    if interval is None and stop_event.is_set():
        fail("Interrupted. The next pass continues.")
    sys.exit(EXIT_NEEDS_REVIEW if interval is None and not is_clean else 0)


@dataclass(frozen=True)
class _Command:
    older_than: timedelta
    rate: float | None
    as_json: bool

    def run(self, full: bool, stop_event: threading.Event) -> bool:
        """Make one pass, and return whether nothing needs review and everything could be worked on."""
        refunds, report = current_refunds(), ReconcileReport()
        found, skipped = refunds.reconciler.preview(self.older_than)
        try:
            with progress(len(found), "Reconciling") as step:
                refunds.reconcile_runner.run(
                    older_than=self.older_than,
                    rate=self.rate,
                    full=full,
                    stop_event=stop_event,
                    on_progress=step,
                    report=report,
                )
        except DatabaseUnavailable:
            click.echo(f"{_count_line(report)}.", err=self.as_json)
            if report.sweep is not None:
                click.echo(_sweep_line(report), err=self.as_json)
            raise
        if self.as_json:
            reviews = [render_refund(refund) for refund in report.reviews]
            print_json(render(report.as_dict()) | {"skipped": skipped, "reviews": reviews})
            return report.is_clean
        need_review = f"{report.review_counts.total()} need review"
        click.echo(f"{_count_line(report)}, {need_review}{self._describe(skipped)}.")
        click.echo(_sweep_line(report))
        _print_overdue(report.overdue_since)
        _print_reviews(report.review_counts, report.reviews)
        return report.is_clean

    def preview(self) -> bool:
        """Print what a pass would work on, and return whether nothing is to be done by hand."""
        refunds = current_refunds()
        found, skipped = refunds.reconciler.preview(self.older_than)
        unfinished = (refunds.ledger.get(each.refund_id) for each in found)
        reviews, review_counts = refunds.queue.find_needing_review(), refunds.queue.count_reviews()
        report = ReconcileReport(reviews=reviews, overdue_since=refunds.sweep.find_overdue())
        if self.as_json:
            print_json(
                {
                    "unfinished": [render_refund(refund) for refund in unfinished],
                    "needsReview": review_counts,
                    "skipped": skipped,
                    "sweepOverdueSince": render(report.overdue_since),
                    "reviews": [render_refund(refund) for refund in reviews],
                }
            )
            return report.is_clean
        for refund in unfinished:
            click.echo(f"{refund.id}  {refund.status.value}  since {format_time(refund.updated_at)}")
        click.echo(
            f"Dry run: {len(found)} unfinished, {review_counts.total()} need review{self._describe(skipped)}."
        )
        _print_overdue(report.overdue_since)
        _print_reviews(review_counts, reviews)
        return report.is_clean

    def _describe(self, skipped: int) -> str:
        seconds = self.older_than.total_seconds()
        return f", {skipped} skipped (changed in the last {seconds:g} s)" if skipped else ""


def _count_line(report: ReconcileReport) -> str:
    counts = report.counts
    return (
        f"{counts.total()} processed: {counts['settled']} settled, {counts['open']} still open, "
        f"{counts['followed_up']} followed up, {counts['busy']} busy, {counts['errors']} errors"
    )


def _sweep_line(report: ReconcileReport) -> str:
    if report.sweep is None:
        return "Stripe: another machine is listing the refunds."
    counts = report.sweep.counts
    if report.sweep_error and not counts["read"]:
        key = f" {REJECTED[report.sweep_error].happened}" if report.sweep_error in KEY_CODES else ""
        return (
            f"Stripe: the refunds couldn't be listed ({report.sweep_error}).{key} The next pass tries again."
        )
    what = "the last 60 days" if report.sweep.is_full else "new ones"
    cause = f" Stripe didn't list the rest ({report.sweep_error})." if report.sweep_error else ""
    end = "." if report.sweep.is_complete else f".{cause} The next pass continues."
    return (
        f"Stripe: {counts['read']} refunds listed ({what}): {counts['stored']} stored, "
        f"{counts['unchanged']} unchanged, {counts['foreign']} foreign, {counts['unreadable']} unreadable, "
        f"{counts['errors']} errors{end}"
    )


def _print_overdue(since: datetime | None) -> None:
    if since is not None:
        click.echo(
            f"Stripe: the last 60 days weren't listed completely since {format_time(since)}. "
            "Changes at Stripe may be missing. See the log for the cause."
        )


def _print_reviews(counts: Counter[str], reviews: Sequence[Refund]) -> None:
    if counts:
        by_code = ", ".join(f"{count} {code}" for code, count in counts.most_common())
        click.echo(f"Reviews: {by_code}.")
    print_reviews(reviews)
    if counts.total() > len(reviews):
        click.echo(f"Only the {len(reviews)} oldest reviews are printed.")

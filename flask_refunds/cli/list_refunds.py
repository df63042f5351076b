"""``flask refunds list``: the ledger, newest first."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..extension import current_refunds
from ..models import Refund
from ..schemas.cursors import DEFAULT_LIMIT, write_cursor
from ..schemas.rendering import render_refund
from ..storage.search import RefundFilter
from .errors import reporting_errors
from .options import as_json_option, filter_options
from .output import moment, money, print_json, print_table

MOST = 1000
_HEADERS = ("Refund", "Status", "Amount", "Reason", "Requested by", "Asked for", "ReviewRequest")


@click.command("list")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, MOST),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="How many at most.",
)
@as_json_option
@with_appcontext
@reporting_errors
def list_refunds(wanted: RefundFilter, limit: int, as_json: bool) -> None:
    """List refunds, newest first. For all of them, there is export."""
    page = current_refunds().refund_search.page(wanted, limit)
    if as_json:
        shown = [render_refund(refund) for refund in page.items]
        print_json({"refunds": shown, "totalRefunds": page.total, "nextCursor": write_cursor(page.next)})
        return
    if page.items:
        print_table(_HEADERS, [_row(refund) for refund in page.items])
    click.echo(f"{len(page.items)} of {page.total}.", err=True)


def _row(refund: Refund) -> list[str]:
    return [
        refund.id,
        refund.status.value,
        money(refund),
        refund.reason or "",
        refund.requested_by or "",
        moment(refund.created_at),
        refund.review.code.value if refund.review else "",
    ]

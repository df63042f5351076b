"""``flask refunds list``: refunds, newest first."""

from __future__ import annotations

import click

from ..extension import current_refunds
from ..models import Refund
from ..schemas.cursors import DEFAULT_LIMIT, read_cursor, write_cursor
from ..schemas.rendering import render_refund, render_total
from ..storage.search import RefundCursor, RefundFilter
from .errors import refunds_command
from .options import as_json_option, filter_options, parsed_by
from .output import format_amount, format_time, print_json, print_table

MAX_LIMIT = 1000
_HEADERS = ("Refund", "Status", "Amount", "Reason", "Requested by", "Created", "Review")


@refunds_command("list")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="The maximum number of refunds.",
)
@click.option(
    "--after",
    metavar="CURSOR",
    callback=parsed_by(read_cursor),
    help="Continue a list at the cursor of its next page.",
)
@as_json_option
def list_refunds(filters: RefundFilter, limit: int, after: RefundCursor | None, as_json: bool) -> None:
    """List refunds, newest first. Use export to get all of them."""
    page = current_refunds().refund_search.page(filters, limit, after=after)
    if as_json:
        refunds = [render_refund(refund) for refund in page.items]
        totals = render_total("totalRefunds", page.total)
        print_json({"refunds": refunds, **totals, "nextCursor": write_cursor(page.next)})
        return
    if page.items:
        print_table(_HEADERS, [_row(refund) for refund in page.items])
    total = f" of {page.total.number:,}{'+' * page.total.is_lower_bound}" if page.total else ""
    click.echo(f"{len(page.items)}{total}.", err=True)
    if page.next is not None:
        click.echo(f"Next page: --after {write_cursor(page.next)}", err=True)


def _row(refund: Refund) -> list[str]:
    return [
        refund.id,
        refund.status.value,
        format_amount(refund),
        refund.reason or "",
        refund.requested_by or "",
        format_time(refund.created_at),
        refund.review.code.value if refund.review else "",
    ]

"""``flask refunds resolve``: a person settles what no machine may decide."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..extension import current_refunds
from .errors import reporting_errors
from .options import by_option


@click.command("resolve")
@click.argument("refund_id")
@click.option(
    "--retry", "verdict", flag_value="retry", help="Close it and refund anew, under the next number."
)
@click.option("--failed", "verdict", flag_value="failed", help="Close it: no money went, or it came back.")
@click.option("--done", "verdict", flag_value="done", help="Close it: it was looked at and is in order.")
@click.option("--why", required=True, help="What you found; kept in the ledger.")
@by_option("Who decides.")
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

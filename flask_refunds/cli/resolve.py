"""``flask refunds resolve``: resolve a refund that needs review."""

from __future__ import annotations

import click

from ..core.resolution import Person
from ..extension import current_refunds
from ..schemas.inputs import parse_comment
from .errors import refunds_command
from .options import actor_option


@refunds_command("resolve")
@click.argument("refund_id")
@click.option(
    "--retry",
    is_flag=True,
    help="Refund again, under the next number. The review closes when Stripe accepts that refund.",
)
@click.option("--failed", is_flag=True, help="Close the review: the customer received nothing.")
@click.option("--dismiss", is_flag=True, help="Close the review: the refund needs no change.")
@click.option(
    "--checked",
    is_flag=True,
    help="With --failed or --retry, if Stripe can't be read: its Dashboard doesn't show the refund.",
)
@click.option("--comment", required=True, help="Your findings; stored in the refund's history.")
@actor_option
def resolve(
    refund_id: str, retry: bool, failed: bool, dismiss: bool, checked: bool, comment: str, actor: str
) -> None:
    """Resolve a refund that needs review, by what you found at Stripe."""
    if retry + failed + dismiss != 1:
        raise click.UsageError("Use one of --retry, --failed and --dismiss.")
    reviews, person = current_refunds().manual_review, Person(actor, "cli", parse_comment(comment))
    if retry:
        refund = reviews.retry(refund_id, person, checked=checked).refund
        state = "closed" if refund.stripe_refund_id else "open until Stripe accepts the new refund"
        click.echo(f"The review of {refund_id} is {state}. {refund.id} is {refund.status.value}.")
    elif failed:
        refund = reviews.fail(refund_id, person, checked=checked)
        click.echo(f"The review of {refund_id} is closed. The refund is {refund.status.value}.")
    else:
        refund = reviews.dismiss(refund_id, person)
        click.echo(f"The review of {refund_id} is closed. The refund stays {refund.status.value}.")

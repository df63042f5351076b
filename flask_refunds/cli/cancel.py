"""``flask refunds cancel``: cancel a refund that waits for the customer."""

from __future__ import annotations

import click

from ..core.resolution import Person
from ..extension import current_refunds
from ..schemas.inputs import parse_comment
from .errors import refunds_command
from .options import actor_option


@refunds_command("cancel")
@click.argument("refund_id")
@click.option("--comment", required=True, help="Why you cancel it; stored in the refund's history.")
@actor_option
def cancel(refund_id: str, comment: str, actor: str) -> None:
    """Cancel a refund that waits for the customer (requires_action).

    The purchase stays completed, and can be refunded again.
    """
    person = Person(actor, "cli", parse_comment(comment))
    refund = current_refunds().cancellation.cancel(refund_id, person)
    click.echo(f"{refund.id} is {refund.status.value}. The customer gets nothing from it.")

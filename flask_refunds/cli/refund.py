"""``flask refunds refund``: refund one purchase, as the HTTP endpoint does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from ..core.results import RefundResult
from ..errors import (
    DatabaseUnavailable,
    PaymentIntentMissing,
    PurchaseNotFound,
    PurchaseNotRefundable,
    RefundAmbiguous,
    RefundFailed,
    RefundInProgress,
    RefundsError,
)
from ..extension import current_refunds
from ..models import Reason, RefundRequest, RefundStatus
from ..schemas.inputs import parse_address, parse_note, parse_purchase_id
from ..schemas.rendering import render_result
from .errors import fail, refunds_command
from .options import actor_option, as_json_option, note_option, reason_option
from .output import format_amount, print_json
from .part import read_part

_MESSAGES = {
    RefundStatus.SUCCEEDED: "Refunded {amount}: {id} succeeded.",
    RefundStatus.PENDING: "Pending: Stripe accepted {id} ({amount}) and hasn't completed it.",
    RefundStatus.REQUIRES_ACTION: "Pending: {id} ({amount}) waits for the customer to act.",
    RefundStatus.PROCESSING: (
        "Submitted: the outcome of {id} is unknown. Run the same command again; it can't refund twice."
    ),
}
_INTERRUPTED = (
    "Interrupted. The refund may have been made, and can't be made twice. "
    "Run the same command again in a minute, or run flask refunds reconcile."
)


@refunds_command("refund")
@click.argument("purchase_id")
@click.option(
    "--amount", metavar="DECIMAL", help="Refund this part of the payment, such as 5.00. [all that is left]"
)
@click.option("--refundable", metavar="DECIMAL", help="What was left when you decided on the amount.")
@click.option("--number", type=int, help="The refund's number, which tells two equal parts apart.")
@click.option("--mark-refunded", is_flag=True, help="Mark the purchase as refunded, although a rest remains.")
@click.option(
    "--instructions-email",
    metavar="ADDRESS",
    help="The customer's e-mail address, if the payment method has no way back.",
)
@reason_option
@note_option
@actor_option
@click.option("--yes", is_flag=True, help="Don't ask for confirmation with a live key.")
@as_json_option
def refund(
    purchase_id: str,
    amount: str | None,
    refundable: str | None,
    number: int | None,
    mark_refunded: bool,
    instructions_email: str | None,
    reason: Reason | None,
    note: str | None,
    actor: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Refund a completed purchase in full, or in part, or continue the refund that it already has.

    Partial refunds need REFUNDS_ALLOW_PARTIAL. With --amount and without --refundable, the command shows what
    is left and the number of the next refund, and refunds nothing.

    Exits with 0 if the refund succeeded, is pending or was submitted, and with 2 if it was rejected or not
    confirmed.
    """
    texts = {"amount": amount, "refundable": refundable}
    options = {"number": number, "markRefunded": mark_refunded or None}
    part = read_part(purchase_id, _given(texts), _given(options))
    email = parse_address(instructions_email)
    request = RefundRequest(actor, "cli", reason, parse_note(note), part=part, instructions_email=email)
    settings = current_refunds().settings
    if settings.livemode and not yes:
        _confirm(purchase_id, amount)
    result = _refund(purchase_id, request)
    made = result.refund
    if as_json:
        print_json(
            render_result(
                made, result.purchase, result.hint, settings.purchase_fields, replayed=result.replayed
            )
        )
    else:
        message = _MESSAGES[made.status].format(id=made.id, amount=format_amount(made))
        replayed = "An earlier, equal command requested it." if result.replayed else None
        click.echo(" ".join(filter(None, (message, replayed, result.hint))))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _confirm(purchase_id: str, amount: str | None) -> None:
    if not sys.stdin.isatty():
        fail("Can't prompt: stdin is not a terminal. Use --yes to refund with a live key.")
    how_much = f"{amount} of purchase {purchase_id}" if amount else f"purchase {purchase_id} in full"
    if not click.confirm(f"The Stripe key is live. Refund {how_much}?", err=True):
        fail("Nothing was refunded.")


def _refund(purchase_id: str, request: RefundRequest) -> RefundResult:
    try:
        return current_refunds().service.refund(parse_purchase_id(purchase_id), request)
    except KeyboardInterrupt:
        fail(_INTERRUPTED)
    except DatabaseUnavailable:
        raise
    except RefundsError as error:
        fail(" ".join(filter(None, (_explain(error), error.hint))))


def _explain(error: RefundsError) -> str:
    """Return an error's message with whether money moved, and what to do."""
    found = error.refund
    if error.details:
        return f"{error} Run the command again without --refundable to see what is left now."
    if isinstance(error, RefundAmbiguous):
        return "An equal refund was made before. Add --number to say which one this is. Nothing was refunded."
    if isinstance(error, RefundInProgress):
        return f"{error} by another call. This command refunded nothing. Run it again in a minute."
    if isinstance(error, PurchaseNotRefundable) and found and not found.status.is_failed_or_canceled:
        return f"{error}, and this one is refunded: see {found.id}. This command refunded nothing."
    if isinstance(error, RefundFailed) and found:
        reason = found.failure.message if found.failure else f"The refund is {found.status.value}."
        return f"{error}: {reason.rstrip('.')}. Nothing was refunded."
    if isinstance(error, (PurchaseNotFound, PurchaseNotRefundable, PaymentIntentMissing)):
        return f"{error}. Nothing was refunded."
    return str(error)

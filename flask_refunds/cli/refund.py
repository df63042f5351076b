"""``flask refunds refund``: what the endpoint does, from a shell."""

from __future__ import annotations

import sys
from typing import get_args

import click
from flask.cli import with_appcontext

from ..core.service import RefundResult
from ..errors import (
    PurchaseNotFound,
    PurchaseNotRefundable,
    RefundFailed,
    RefundInProgress,
    RefundsError,
)
from ..extension import Refunds, current_refunds
from ..models import Reason, Refund, RefundRequest, RefundStatus
from ..schemas.inputs import parse_note, parse_purchase_id
from ..schemas.rendering import render, render_refund
from .errors import fail, reporting_errors
from .options import actor_option, as_json_option
from .output import money, print_json

_WORDS = {
    RefundStatus.SUCCEEDED: "Refunded {money}: {id} has succeeded.",
    RefundStatus.PENDING: "Pending: Stripe has accepted {id} ({money}) and has not made it yet.",
    RefundStatus.REQUIRES_ACTION: "Pending: {id} ({money}) waits for the customer to act.",
    RefundStatus.PROCESSING: (
        "Submitted: nobody knows yet how {id} ended. Run the same command again; it cannot be made twice."
    ),
}
_INTERRUPTED = (
    "Interrupted. The refund may have been made, and cannot be made twice: "
    "run the same command again in a minute, or let flask refunds reconcile finish it."
)


@click.command("refund")
@click.argument("purchase_id")
@click.option(
    "--reason", type=click.Choice(get_args(Reason)), help="Told to Stripe; fraudulent blocks the card."
)
@click.option("--note", help="Kept in the ledger, never sent to the customer; at most 500 characters.")
@actor_option("Who refunds.")
@click.option("--yes", is_flag=True, help="Do not ask, even with a live key.")
@as_json_option
@with_appcontext
@reporting_errors
def refund(
    purchase_id: str, reason: Reason | None, note: str | None, actor: str, yes: bool, as_json: bool
) -> None:
    """Refund a completed purchase in full, or go on with the refund that it already has.

    Exits with 0 where Stripe has it (succeeded, pending) or may have it (submitted), with 2 where it refused,
    or nobody was asked.
    """
    refunds = current_refunds()
    ask = RefundRequest(requested_by=actor, source="cli", reason=reason, note=parse_note(note))
    if refunds.settings.livemode and not yes:
        _confirm(purchase_id)
    outcome = _refund(refunds, purchase_id, ask)
    if as_json:
        print_json({"refund": render_refund(outcome.refund), "purchase": render(outcome.purchase)})
    else:
        made = outcome.refund
        click.echo(_WORDS[made.status].format(id=made.id, money=money(made)))


def _confirm(purchase_id: str) -> None:
    if not sys.stdin.isatty():
        fail("The key is live and nobody can be asked: add --yes. Nothing was refunded.")
    if not click.confirm(f"The key is live. Refund all that purchase {purchase_id} was paid with?", err=True):
        fail("Nothing was refunded.")


def _refund(refunds: Refunds, purchase_id: str, ask: RefundRequest) -> RefundResult:
    try:
        return refunds.service.refund(parse_purchase_id(purchase_id), ask)
    except KeyboardInterrupt:
        fail(_INTERRUPTED)
    except RefundsError as error:
        fail(_words(error))


def _words(error: RefundsError) -> str:
    """What an error means to who asked, where its own words leave open whether money moved."""
    found = error.refund
    if isinstance(error, RefundInProgress):
        return f"{error}: another call works on it. This command refunded nothing; run it again in a minute."
    if (
        isinstance(error, PurchaseNotRefundable)
        and found is not None
        and not found.status.is_failed_or_canceled
    ):
        return f"{error}, and this one is refunded: see {found.id}. This command refunded nothing."
    if isinstance(error, RefundFailed) and found is not None:
        return f"{error}: {_why(found)} Nothing was refunded; it may be tried again."
    if isinstance(error, (PurchaseNotFound, PurchaseNotRefundable, RefundFailed)):
        return f"{error}. Nothing was refunded."
    return str(error)


def _why(failed: Refund) -> str:
    return failed.failure.message if failed.failure else f"it is {failed.status.value}."

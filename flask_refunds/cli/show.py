"""``flask refunds show``: everything that the ledger stores about a refund."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from ..advice import advise, customer_message
from ..errors import PurchaseNotFound, RefundNotFound
from ..extension import current_refunds
from ..models import Refund, id_text, is_reference
from ..refund_details import RefundDetails
from ..schemas.inputs import parse_purchase_id
from ..schemas.rendering import render_refund
from .errors import refunds_command
from .options import as_json_option
from .output import format_amount, format_time, print_fields, print_json, print_table


@refunds_command("show")
@click.argument("id_", metavar="ID")
@as_json_option
def show(id_: str, as_json: bool) -> None:
    """Show a refund with its history, and what to do about it.

    ID is a refund ID (pi_…:1), a payment ID (pi_…, or a charge or Checkout session of your purchases) or a
    purchase ID. The last two show all refunds of the payment.
    """
    refunds = _find(id_)
    if as_json:
        print_json({"refunds": [render_refund(refund, history=True) for refund in refunds]})
        return
    for number, refund in enumerate(refunds):
        if number:
            click.echo()
        _print(refund)
    if not refunds:
        click.echo("No refunds.")


def _find(id_: str) -> Sequence[Refund]:
    refunds = current_refunds()
    ledger = refunds.ledger
    refund = ledger.find(id_) if ":" in id_ else None
    if refund is not None:
        return [refund]
    if is_reference(id_):
        return ledger.list_for_payment(refunds.purchases.references.around(id_)[0])
    if is_reference(id_.partition(":")[0]):
        raise RefundNotFound
    purchase = refunds.purchases.find(parse_purchase_id(id_))
    if purchase is None:
        raise PurchaseNotFound
    return purchase.refunds


def _print(refund: Refund) -> None:
    failure, review, advice = refund.failure, refund.review, advise(refund)
    print_fields(
        [
            ("Refund", refund.id),
            ("Status", refund.status.value),
            ("Amount", format_amount(refund)),
            ("Purchases", " ".join(map(id_text, refund.purchase_ids))),
            ("Reason", refund.reason or ""),
            ("Note", refund.note or ""),
            ("Requested by", refund.requested_by or ""),
            ("Source", refund.source),
            ("Bulk run", refund.bulk_run or ""),
            ("Stripe refund", refund.stripe_refund_id or ""),
            *_details(refund.details),
            ("Failure", f"{failure.message} ({failure.code})" if failure else ""),
            ("Review", f"{review.message} ({review.code.value})" if review else ""),
            ("Review since", format_time(review.since) if review else ""),
            ("What happened", advice.happened),
            ("The money", advice.money),
            ("What to do", review.recommended_action if review else advice.action),
            ("Answer", customer_message(refund)),
        ]
    )
    print_table(("Time", "Status", "Actor", "Stripe request", "Comment"), list(map(_entry, refund.history)))


def _details(details: RefundDetails) -> list[tuple[str, str]]:
    reference = details.reference or details.reference_status
    kind = f" ({details.reference_type})" if details.reference and details.reference_type else ""
    asked = f"e-mail to {details.action_email}" if details.action_email else ""
    until = f"until {format_time(details.action_expires_at)}" if details.action_expires_at else ""
    return [
        ("Goes to", (details.destination or "") + (", as a reversal" if details.is_reversal else "")),
        ("Reference", f"{reference}{kind}" if reference else ""),
        ("Receipt", details.receipt_number or ""),
        ("Pending", details.pending_reason or ""),
        ("To act", ", ".join(filter(None, (asked, until)))),
        (
            "Balance",
            " ".join(filter(None, (details.balance_transaction, details.failure_balance_transaction))),
        ),
    ]


def _entry(entry: Mapping[str, Any]) -> list[str]:
    return [
        format_time(entry["at"]),
        entry["status"],
        entry.get("actor") or "",
        entry.get("stripeRequestId") or "",
        entry.get("comment") or entry.get("review") or _news(entry.get("details", {})),
    ]


def _news(details: Mapping[str, Any]) -> str:
    """Return what Stripe told apart from the status, as ``reference: 7492…``."""
    return ", ".join(f"{name}: {value}" for name, value in details.items())

"""``flask refunds show``: everything that the ledger knows of a refund."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from flask.cli import with_appcontext

from ..errors import PurchaseNotFound, RefundNotFound
from ..extension import Refunds, current_refunds
from ..models import Refund, RefundStatus
from ..schemas.inputs import parse_purchase_id
from ..schemas.rendering import render_refund
from .errors import reporting_errors
from .options import as_json_option
from .output import moment, money, print_fields, print_json, print_table

_OPEN = {
    RefundStatus.PROCESSING: "Nobody knows yet how it ended: flask refunds reconcile finds out.",
    RefundStatus.PENDING: "Stripe has not made it yet: flask refunds reconcile asks how it stands.",
    RefundStatus.REQUIRES_ACTION: "Stripe waits for the customer, whom it has written to.",
}


@click.command("show")
@click.argument("id_", metavar="ID")
@as_json_option
@with_appcontext
@reporting_errors
def show(id_: str, as_json: bool) -> None:
    """Show a refund with its history, and what to do about it.

    ID is a refund's (pi_…:1), a payment intent's (pi_…) or a purchase's; the last two show all its refunds.
    """
    found = _find(current_refunds(), id_)
    if as_json:
        print_json({"refunds": [render_refund(refund, history=True) for refund in found]})
        return
    for number, refund in enumerate(found):
        if number:
            click.echo()
        _print(refund)
    if not found:
        click.echo("It has no refund.")


def _find(refunds: Refunds, id_: str) -> Sequence[Refund]:
    if ":" in id_:
        refund = refunds.ledger.find(id_)
        if refund is None:
            raise RefundNotFound
        return [refund]
    if id_.startswith("pi_"):
        return refunds.ledger.list_for_payment(id_)
    purchase = refunds.purchases.find(parse_purchase_id(id_))
    if purchase is None:
        raise PurchaseNotFound
    return refunds.ledger.list_for_payment(purchase.payment_intent) if purchase.payment_intent else []


def _print(refund: Refund) -> None:
    failure, review = refund.failure, refund.review
    print_fields(
        [
            ("Refund", refund.id),
            ("Status", refund.status.value),
            ("Amount", money(refund)),
            ("Purchases", " ".join(map(str, refund.purchase_ids))),
            ("Reason", refund.reason or ""),
            ("Note", refund.note or ""),
            ("Requested by", refund.requested_by or ""),
            ("Source", refund.source),
            ("Bulk run", refund.bulk_run or ""),
            ("At Stripe", refund.stripe_refund_id or ""),
            ("Failure", f"{failure.message} ({failure.code})" if failure else ""),
            ("Asks for", f"a person since {moment(review.since)} ({review.code})" if review else ""),
            ("What to do", review.recommended_action if review else _OPEN.get(refund.status, "")),
        ]
    )
    print_table(("Time", "Status", "By", "Stripe's request", "Remark"), list(map(_entry, refund.history)))


def _entry(entry: Mapping[str, Any]) -> list[str]:
    remark = entry.get("comment") or entry.get("review") or ""
    return [
        moment(entry["at"]),
        entry["status"],
        entry.get("actor") or "",
        entry.get("stripeRequestId") or "",
        remark,
    ]

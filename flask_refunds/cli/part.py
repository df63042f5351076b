"""Read the options of a partial refund, with amounts in the currency's own decimals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequest, PurchaseNotFound
from ..extension import current_refunds
from ..models import Part
from ..money import decimal_amount, parse_amount
from ..schemas.inputs import parse_part, parse_purchase_id
from ..storage.purchases import Purchase
from .errors import fail


def read_part(purchase_id: str, texts: Mapping[str, str], options: Mapping[str, Any]) -> Part | None:
    """Return the part that a command names, or ``None`` for all that is left of the payment.

    With only an amount, print what is left, and exit.

    :param texts: ``amount`` and ``refundable`` as typed, if given.
    :param options: the other fields of a part, as in JSON.
    :raises RefundsError: nothing was refunded.
    """
    settings = current_refunds().settings
    if not texts or not settings.refunds_allow_partial:
        return parse_part({**texts, **options}, allowed=settings.refunds_allow_partial)
    purchase = current_refunds().purchases.find(parse_purchase_id(purchase_id))
    if purchase is None:
        raise PurchaseNotFound
    if "refundable" not in texts:
        _show_refundable(purchase)
    currency = _find_currency(purchase)
    amounts = {name: _parse(name, text, currency) for name, text in texts.items()}
    return parse_part({**amounts, **options}, allowed=True)


def _show_refundable(purchase: Purchase) -> None:
    preview = current_refunds().previewer.preview(purchase.document["_id"])
    left = decimal_amount(preview.payment.refundable, preview.payment.currency)
    fail(
        f"{left} {preview.payment.currency.upper()} can be refunded. Nothing was refunded. "
        f"Add --refundable {left} --number {preview.number} to refund the amount."
    )


def _find_currency(purchase: Purchase) -> str:
    """Return the currency of a purchase's payment, from its refunds or else from Stripe."""
    known = [each.currency for each in purchase.refunds if each.currency]
    if known:
        return known[0]
    return current_refunds().previewer.retrieve_payment(purchase).currency


def _parse(name: str, text: str, currency: str) -> int:
    try:
        return parse_amount(text, currency)
    except ValueError as error:
        raise InvalidRequest(f"--{name} must be {error}. Nothing was refunded.") from None

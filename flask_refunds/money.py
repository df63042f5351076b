"""Amounts in major units, for display. All other code uses Stripe's minor units."""

from __future__ import annotations

from decimal import Decimal

# Stripe's decimals differ from ISO 4217's: Stripe counts ISK and UGX, which have no decimals, in hundredths
# (https://docs.stripe.com/currencies#special-cases).
_ZERO_DECIMAL = {
    *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
    *("pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"),
}
_THREE_DECIMAL = {"bhd", "jod", "kwd", "omr", "tnd"}


def decimal_amount(amount: int, currency: str) -> str:
    """Return an amount in the currency's major unit, with all decimals: ``20.00``, or ``2000`` for yen.

    :param amount: in Stripe's minor units (https://docs.stripe.com/currencies#minor-units).
    :param currency: a lowercase ISO 4217 code.
    """
    decimals = 0 if currency in _ZERO_DECIMAL else 3 if currency in _THREE_DECIMAL else 2
    return f"{Decimal(amount).scaleb(-decimals):.{decimals}f}"

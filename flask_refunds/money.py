"""Amounts as people write them. Money is counted in minor units everywhere else."""

from __future__ import annotations

from decimal import Decimal

# Stripe's own exponents, not ISO 4217's: ISK and UGX have no decimals any more, and Stripe still counts
# both in hundredths (https://docs.stripe.com/currencies#special-cases).
_ZERO_DECIMAL = {
    *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
    *("pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"),
}
_THREE_DECIMAL = {"bhd", "jod", "kwd", "omr", "tnd"}


def decimal_amount(amount: int, currency: str) -> str:
    """An amount in the currency's major unit, all its decimals written: ``20.00``, ``2000`` for yen.

    :param amount: in minor units, as Stripe counts them (https://docs.stripe.com/currencies#minor-units).
    :param currency: an ISO 4217 code, lowercase.
    """
    decimals = 0 if currency in _ZERO_DECIMAL else 3 if currency in _THREE_DECIMAL else 2
    return f"{Decimal(amount).scaleb(-decimals):.{decimals}f}"

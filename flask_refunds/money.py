"""Amounts in major units, as people read and type them. All other code uses Stripe's minor units."""

from __future__ import annotations

import re
from decimal import Decimal

# Stripe's decimals differ from ISO 4217's: Stripe counts ISK and UGX, which have no decimals, in hundredths
# (https://docs.stripe.com/currencies#special-cases).
_ZERO_DECIMAL = {
    *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
    *("pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"),
}
_THREE_DECIMAL = {"bhd", "jod", "kwd", "omr", "tnd"}
_WHOLE_ONLY = {"isk", "ugx"}
_MAJOR_UNITS = re.compile(r"(\d{1,16})(?:\.(\d{1,3}))?", re.ASCII)


def decimal_amount(amount: int, currency: str) -> str:
    """Return an amount in the currency's major unit, with all decimals: ``20.00``, or ``2000`` for yen.

    :param amount: in Stripe's minor units (https://docs.stripe.com/currencies#minor-units).
    :param currency: a lowercase ISO 4217 code.
    """
    decimals = _decimals(currency)
    return f"{Decimal(amount).scaleb(-decimals):.{decimals}f}"


def parse_amount(text: str, currency: str) -> int:
    """Parse an amount in the currency's major unit, such as ``5.00``, and return it in Stripe's minor units.

    :param currency: a lowercase ISO 4217 code.
    :raises ValueError: says what it must be.
    """
    found, decimals = _MAJOR_UNITS.fullmatch(text), _decimals(currency)
    if found is None or len(found[2] or "") > decimals:
        allowed = f"at most {decimals} decimals" if decimals else "without decimals"
        raise ValueError(
            f"an amount in {currency.upper()}, {allowed}, such as {decimal_amount(500, currency)}"
        )
    amount = int(Decimal(text).scaleb(decimals))
    require_multiple(amount, currency)
    return amount


def require_multiple(amount: int, currency: str) -> None:
    """Check that Stripe accepts an amount in this currency.

    Stripe counts ISK and UGX in hundredths and accepts no fractions. It counts five currencies in
    thousandths, of which the last digit must be 0 (https://docs.stripe.com/currencies#special-cases).

    :raises ValueError: says what it must be.
    """
    step = 100 if currency in _WHOLE_ONLY else 10 if currency in _THREE_DECIMAL else 1
    if amount % step:
        raise ValueError(f"a multiple of {decimal_amount(step, currency)} {currency.upper()}")


def _decimals(currency: str) -> int:
    return 0 if currency in _ZERO_DECIMAL else 3 if currency in _THREE_DECIMAL else 2

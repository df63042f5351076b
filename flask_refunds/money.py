"""Amounts in major units, as people read and type them. All other code uses Stripe's minor units."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from bson import Decimal128

# Stripe's decimals differ from ISO 4217's: Stripe counts ISK and UGX, which have no decimals, in hundredths
# (https://docs.stripe.com/currencies#special-cases).
_ZERO_DECIMAL = {
    *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
    *("pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"),
}
_THREE_DECIMAL = {"bhd", "jod", "kwd", "omr", "tnd"}
_WHOLE_ONLY = {"isk", "ugx"}
_MAJOR_UNITS = re.compile(r"(\d{1,16})(?:\.(\d{1,3}))?", re.ASCII)
_CURRENCY = re.compile(r"[a-z]{3}", re.ASCII)
_MAX_DIGITS = 20
_MAX_TEXT = 40


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


def stored_amount(amount: Any, currency: Any, *, in_minor_units: bool) -> str | None:
    """Return an amount that an app stored as text with its currency: ``19.90 EUR``.

    :param amount: a number of any type, or text.
    :param currency: the currency's code in any case, or anything else.
    :return: ``None`` if it isn't an amount. Without a known currency, minor units can't be converted.
    """
    number = _number(amount)
    if number is None:
        return amount[:_MAX_TEXT] if isinstance(amount, str) else None
    if not number.is_finite() or abs(number.adjusted()) > _MAX_DIGITS:
        return None
    code = currency.strip().lower() if isinstance(currency, str) else ""
    if not _CURRENCY.fullmatch(code):
        unit = "minor units" if in_minor_units else currency[:_MAX_TEXT] if isinstance(currency, str) else ""
        return f"{number:f} {unit}".rstrip()
    decimals = _decimals(code)
    number = number.scaleb(-decimals) if in_minor_units else number
    shown = max(decimals, -int(number.normalize().as_tuple().exponent))
    return f"{number:.{shown}f} {code.upper()}"


def minor_amount(amount: Any, currency: str, *, in_minor_units: bool) -> Decimal | None:
    """Return an amount that an app stored in Stripe's minor units, or ``None`` if it isn't a number.

    :param currency: a lowercase ISO 4217 code.
    """
    number = _number(amount)
    if number is None or not number.is_finite():
        return None
    return number if in_minor_units else number.scaleb(_decimals(currency))


def _number(amount: Any) -> Decimal | None:
    if isinstance(amount, Decimal128):
        return amount.to_decimal()
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str)):
        return None
    try:
        number = Decimal(str(amount))
    except InvalidOperation:
        return None
    return number.normalize() if isinstance(amount, float) else number


def _decimals(currency: str) -> int:
    return 0 if currency in _ZERO_DECIMAL else 3 if currency in _THREE_DECIMAL else 2

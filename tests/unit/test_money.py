from __future__ import annotations

from typing import Any

import pytest
from bson import Decimal128, Int64

from flask_refunds.money import decimal_amount, parse_amount, stored_amount

# The lists of https://docs.stripe.com/currencies (zero-decimal, three-decimal, special cases).
ZERO_DECIMAL = (
    *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
    *("pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"),
)
THREE_DECIMAL = ("bhd", "jod", "kwd", "omr", "tnd")
WHOLE_AMOUNTS_IN_HUNDREDTHS = ("isk", "ugx")
ZERO_DECIMAL_FOR_PAYOUTS_ONLY = ("huf", "twd")


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        (1999, "usd", "19.99"),
        (5, "usd", "0.05"),
        (0, "eur", "0.00"),
        *((5000, currency, "5000") for currency in ZERO_DECIMAL),
        *((5120, currency, "5.120") for currency in THREE_DECIMAL),
        *((500, currency, "5.00") for currency in WHOLE_AMOUNTS_IN_HUNDREDTHS),
        *((10045, currency, "100.45") for currency in ZERO_DECIMAL_FOR_PAYOUTS_ONLY),
        (9_007_199_254_740_993, "usd", "90071992547409.93"),  # not exact as a float
    ],
)
def test_decimal_amount_has_the_decimals_of_the_currency_at_stripe(
    amount: int, currency: str, expected: str
) -> None:
    assert decimal_amount(amount, currency) == expected


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    [
        ("5.00", "usd", 500),
        ("5", "usd", 500),
        ("0.5", "eur", 50),
        ("29.99", "usd", 2999),
        ("90071992547409.93", "usd", 9_007_199_254_740_993),
        *(("500", currency, 500) for currency in ZERO_DECIMAL),
        *(("5.12", currency, 5120) for currency in THREE_DECIMAL),
        *(("5.120", currency, 5120) for currency in THREE_DECIMAL),
        *(("5", currency, 500) for currency in WHOLE_AMOUNTS_IN_HUNDREDTHS),
        *(("5.00", currency, 500) for currency in WHOLE_AMOUNTS_IN_HUNDREDTHS),
        *(("100.45", currency, 10045) for currency in ZERO_DECIMAL_FOR_PAYOUTS_ONLY),
    ],
)
def test_typed_amount_is_parsed_in_the_decimals_of_the_currency(
    text: str, currency: str, amount: int
) -> None:
    assert parse_amount(text, currency) == amount
    assert parse_amount(decimal_amount(amount, currency), currency) == amount


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        *((text, "usd") for text in ("", " 5", "5 ", "5,00", "5.", ".5", "-5", "+5", "5e2", "5.001", "NaN")),
        *((text, "usd") for text in ("\u0665", "1_0", "1'000", "12345678901234567", "0x5", "5.00\n", "$5")),
        *(("500.0", currency) for currency in ZERO_DECIMAL),
        *(("5.1234", currency) for currency in THREE_DECIMAL),
        *(("5.124", currency) for currency in THREE_DECIMAL),
        *(("5.50", currency) for currency in WHOLE_AMOUNTS_IN_HUNDREDTHS),
        ("100.455", "huf"),
    ],
)
def test_typed_amount_that_the_currency_does_not_have_is_rejected(text: str, currency: str) -> None:
    with pytest.raises(ValueError, match=f"{currency.upper()}"):
        parse_amount(text, currency)


@pytest.mark.parametrize(
    ("amount", "currency", "in_major", "in_minor"),
    [
        (1950, "EUR", "1950.00 EUR", "19.50 EUR"),
        (19.5, "eur", "19.50 EUR", "0.195 EUR"),
        (19.999, " usd ", "19.999 USD", "0.19999 USD"),
        (5, "jpy", "5 JPY", "5 JPY"),
        (5120, "KWD", "5120.000 KWD", "5.120 KWD"),
        (Int64(-250), "isk", "-250.00 ISK", "-2.50 ISK"),
        (Decimal128("20.10"), "chf", "20.10 CHF", "0.201 CHF"),
        ("7.5", "usd", "7.50 USD", "0.075 USD"),
        (0, "usd", "0.00 USD", "0.00 USD"),
        (48.0, None, "48", "48 minor units"),
        (19.99, "", "19.99", "19.99 minor units"),
        (3, "\u20ac", "3 \u20ac", "3 minor units"),
        (3, 978, "3", "3 minor units"),
        ("19,50 \u20ac", "eur", "19,50 \u20ac", "19,50 \u20ac"),
        ("9" * 99 + "x", None, "9" * 40, "9" * 40),
        *((each, "usd", None, None) for each in (None, True, [], {}, float("nan"), float("inf"), "1e99")),
        *((Decimal128(each), "usd", None, None) for each in ("NaN", "sNaN", "-Infinity", "1E-6000")),
    ],
)
def test_stored_amount_is_text_whatever_its_type(
    amount: Any, currency: Any, in_major: str | None, in_minor: str | None
) -> None:
    assert stored_amount(amount, currency, in_minor_units=False) == in_major
    assert stored_amount(amount, currency, in_minor_units=True) == in_minor

from __future__ import annotations

import pytest

from flask_refunds.money import decimal_amount

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

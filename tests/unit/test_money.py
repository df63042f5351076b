from __future__ import annotations

import pytest

from flask_refunds.money import decimal_amount


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (1999, "usd", "19.99"),
        (5, "usd", "0.05"),
        (0, "eur", "0.00"),
        (500, "jpy", "500"),
        (5120, "kwd", "5.120"),
        (500, "isk", "5.00"),  # no decimals in ISO 4217, hundredths at Stripe
        (500, "ugx", "5.00"),
        (9_007_199_254_740_993, "usd", "90071992547409.93"),  # what a float cannot hold
    ],
)
def test_amounts_as_people_write_them(amount: int, currency: str, written: str) -> None:
    assert decimal_amount(amount, currency) == written

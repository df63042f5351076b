"""What apps see of a refund."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from flask_refunds.models import Refund, RefundStatus
from tests.unit.refund_harness import CREATE, RefundHarness
from tests.unit.stripe_stub import refund_object

PROTOCOL = {"lease_token", "lease_expires_at", "attempts", "request", "signals_sent", "purchases_verified"}


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (2000, "usd", "20.00 USD"),
        (5, "eur", "0.05 EUR"),
        (2000, "jpy", "2000 JPY"),
        (12345, "kwd", "12.345 KWD"),
        (500, "isk", "5.00 ISK"),
        (None, None, None),
    ],
)
def test_amount_is_shown_as_people_write_it(
    harness: RefundHarness, amount: int | None, currency: str | None, text: str | None
) -> None:
    refund = replace(
        harness.refund((*CREATE, (200, refund_object()))).refund, amount=amount, currency=currency
    )
    assert refund.amount_text == text


def test_refund_has_no_fields_of_the_protocol(harness: RefundHarness) -> None:
    assert not PROTOCOL & {field.name for field in fields(Refund)}
    shown = repr(harness.refund((*CREATE, (200, refund_object()))).refund)
    assert "status=" in shown
    assert not [name for name in PROTOCOL if f"{name}=" in shown]


def test_status_is_its_word_as_text() -> None:
    assert str(RefundStatus.REQUIRES_ACTION) == f"{RefundStatus.REQUIRES_ACTION}" == "requires_action"

"""Parts by every way in: in currencies that Stripe counts differently, to the last unit, and repeated."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from bson import ObjectId
from celery import Celery, current_app

from flask_refunds import celery as tasks
from flask_refunds import preview_refund, refund_purchase
from flask_refunds.testing import Fault, StripeSandbox
from tests.integration.test_partial import AMOUNT, amounts, make_shop
from tests.shop import Shop

CURRENCIES = {"usd": (2, 1), "jpy": (0, 1), "kwd": (3, 10), "isk": (2, 100), "ugx": (2, 100), "huf": (2, 1)}
"""The decimals of each currency at Stripe, and its last unit in minor units."""


@dataclass
class Call:
    """A part to refund: the amount, what is left, and the number."""

    purchase: ObjectId
    currency: str
    amount: int
    left: int
    number: int

    @property
    def fields(self) -> dict[str, int]:
        return {"amount": self.amount, "refundable": self.left, "number": self.number}


def show(amount: int, currency: str) -> str:
    """Return an amount with the decimals of its currency."""
    decimals, _ = CURRENCIES[currency]
    text = str(amount).zfill(decimals + 1)
    return f"{text[:-decimals]}.{text[-decimals:]}" if decimals else text


def by_http(shop: Shop, call: Call) -> Any:
    answer = shop.refund(call.purchase, json=call.fields)
    assert answer.status_code in (200, 202), answer.text
    return answer.json["refund"]["amount"]


def by_python(shop: Shop, call: Call) -> Any:
    with shop.app.app_context():
        return refund_purchase(call.purchase, **call.fields).refund.amount


def by_task(shop: Shop, call: Call) -> Any:
    previous = current_app._get_current_object()
    Celery("tests").set_default()
    try:
        with shop.app.app_context():
            task = tasks.refund_purchase.apply((str(call.purchase),), {**call.fields, "rate": 1000})
            return task.get()["amount"]
    finally:
        previous.set_current()
        previous.set_default()


def by_command(shop: Shop, call: Call) -> Any:
    amount, left = show(call.amount, call.currency), show(call.left, call.currency)
    options = ("--amount", amount, "--refundable", left, "--number", str(call.number), "--json")
    result = shop.flask("refund", str(call.purchase), *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)["refund"]["amount"]


WAYS = [by_http, by_python, by_task, by_command]


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    return make_shop(database, sandbox)


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("currency", CURRENCIES)
def test_last_unit_is_refunded_by_every_way_in(
    shop: Shop, sandbox: StripeSandbox, currency: str, by: Callable[[Shop, Call], Any]
) -> None:
    _, unit = CURRENCIES[currency]
    paid = unit * (2999 if unit < 100 else 29)
    payment = sandbox.create_payment(paid, currency)
    purchase = shop.add_purchase(payment)
    parts, left = [5 * unit, paid - 6 * unit, unit], paid
    for number, amount in enumerate(parts, 1):
        assert shop.status_of(purchase) == "completed"
        with shop.app.app_context():
            preview = preview_refund(purchase)
        assert (preview.payment.refundable, preview.number) == (left, number)
        shown = shop.flask("refund", str(purchase), "--amount", "1").output
        assert f"{show(left, currency)} {currency.upper()} can be refunded." in shown
        assert by(shop, Call(purchase, currency, amount, left, number)) == amount
        left -= amount

    assert (amounts(sandbox, payment), shop.status_of(purchase)) == (parts, "refunded")
    answer = shop.client.get("/api/payments/admin/all", headers=shop.headers())
    listed = answer.json["purchases"][0]["_refunds"]
    assert (listed["refundedAmount"], listed["refundedCurrency"]) == (paid, currency)
    texts = [show(each, currency) for each in parts]
    rows = list(csv.DictReader(io.StringIO(shop.flask("export").stdout)))
    assert [(row["amount"], row["amountDecimal"]) for row in rows[::-1]] == [
        (str(each), text) for each, text in zip(parts, texts, strict=True)
    ]
    _, *lines = shop.flask("list").stdout.splitlines()
    for text, line in zip(texts, reversed(lines), strict=True):
        assert f"  {text} {currency.upper()}  " in line


@pytest.mark.parametrize("by", WAYS)
def test_call_after_a_lost_answer_is_the_same_refund_and_an_equal_part_another(
    shop: Shop, sandbox: StripeSandbox, by: Callable[[Shop, Call], Any]
) -> None:
    payment = sandbox.create_payment(AMOUNT)
    first = Call(shop.add_purchase(payment), "usd", 500, AMOUNT, 1)
    sandbox.inject(Fault.RESPONSE_LOST, times=2)
    assert by(shop, first) == (500 if by is by_task else None)  # the task repeats itself
    for _ in range(2):
        assert by(shop, first) == 500
    assert amounts(sandbox, payment) == [500]
    assert by(shop, Call(first.purchase, "usd", 500, AMOUNT - 500, 2)) == 500
    assert amounts(sandbox, payment) == [500, 500]

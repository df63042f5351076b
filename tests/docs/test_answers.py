"""The answers that the documentation shows are those that are given."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from bson import ObjectId

from flask_refunds.testing import StripeSandbox
from tests.docs.answers import differences
from tests.docs.pages import BLOCKS, Block
from tests.shop import Shop, make_app

ANSWERS = [block for block in BLOCKS if block.kind == "json" and block.page != "docs/quickstart.md"]
"""The quickstart's own are compared where it is followed."""

UNTOUCHED = ObjectId()
"""A purchase that nobody has refunded yet."""


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """A shop where everything has happened that an answer may show."""
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
    course = database.contents.insert_one({"title": "Pruning", "type": "course"}).inserted_id
    bought = {"user": shop.add_user(name="Ada", email="ada@shop.example"), "content": course}
    for currency, reason in (("usd", "duplicate"), ("jpy", None), ("usd", None)):
        purchase = shop.add_purchase(sandbox.create_payment(1999, currency), **bought)
        shop.refund(purchase, json={"reason": reason} if reason else None)
    shop.refund(shop.add_purchase(sandbox.create_payment(1999, card="4000000000007726"), **bought))
    shop.add_purchase(sandbox.create_payment(4800), _id=UNTOUCHED, **bought)
    return shop


@pytest.mark.parametrize("block", ANSWERS, ids=str)
def test_an_answer_is_as_it_is_shown(block: Block, shop: Shop) -> None:
    asked = re.match(r"`(GET|POST) (/\S+)`", block.heading)
    assert asked, f"whose answer is this? {block.heading}"
    path = asked[2]
    path = path.replace("<purchaseId>", str(UNTOUCHED)).replace("<refundId>", shop.rows()[0]["_id"])
    answer = shop.client.open(f"/api/payments{path}", method=asked[1], headers=shop.headers())
    assert answer.status_code == 200, answer.text
    assert differences(json.loads(block.text), answer.get_json()) == []


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        ({"a": 1}, {}),
        ({}, {"a": 1}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": True}),
        ([{"a": 1}], [{"a": []}]),
        ({"a": {"b": 1, "…": 1}}, {"a": {"c": 1}}),
        ({"a": 1}, [1]),
    ],
)
def test_another_shape_is_noticed(shown: Any, real: Any) -> None:
    assert differences(shown, real)


def test_the_same_shape_is_none() -> None:
    assert differences({"a": 1, "b": None, "…": "as stored"}, {"a": 2.5, "b": "x", "c": ObjectId()}) == []

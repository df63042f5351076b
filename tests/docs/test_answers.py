"""The responses in the documentation have the shape of the real ones."""

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
"""test_quickstart.py compares those of the quickstart."""

UNTOUCHED = ObjectId()
"""A purchase without a refund."""


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """Return a shop with one refund of each kind that a response shows."""
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
def test_documented_response_has_the_shape_of_the_real_one(block: Block, shop: Shop) -> None:
    endpoint = re.match(r"`(GET|POST) (/\S+)`", block.heading)
    assert endpoint, f"the heading names no endpoint: {block.heading}"
    path = endpoint[2]
    path = path.replace("<purchaseId>", str(UNTOUCHED)).replace("<refundId>", shop.records()[0]["_id"])
    response = shop.client.open(f"/api/payments{path}", method=endpoint[1], headers=shop.headers())
    assert response.status_code == 200, response.text
    assert differences(json.loads(block.text), response.get_json()) == []


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
def test_different_shape_is_reported(shown: Any, real: Any) -> None:
    assert differences(shown, real)


def test_same_shape_is_accepted() -> None:
    assert differences({"a": 1, "b": None, "…": "as stored"}, {"a": 2.5, "b": "x", "c": ObjectId()}) == []

"""Fuzz the body of a refund: an invalid one sends nothing to Stripe, and a valid one is read exactly.

The bodies are JSON text, because what matters isn't in a parsed value: repeated names, 5.0 and 5e2, NaN.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_refunds.models import Part
from flask_refunds.schemas.inputs import parse_refund_request
from flask_refunds.testing import StripeSandbox
from tests.shop import Shop, make_app

AMOUNT = 2999
MAX = 2**53
NUMBERS = ("amount", "refundable", "number")
GOOD = {
    "amount": ("1", "500", "2998", "2999", "3000", str(MAX)),
    "refundable": ("2999", "2999", "2999", "2998", "3000", str(MAX)),
    "number": ("1", "1", "2", str(MAX)),
    "markRefunded": ("true", "false"),
    "reason": ('"duplicate"', "null"),
    "note": ('"as agreed"', '"500"', "null"),
}
BAD = (
    *("0", "-0", "-1", "-500", "1.0", "500.0", "5e2", "5E+2", "1e-1", "1e400", "-1e400"),
    *("true", "false", "null", '"500"', '"5.00"', '""', '"true"', '"because"', '"\\ud800"'),
    *("[]", "[500]", "{}", '{"amount":500}', '{"a":1,"a":2}', "[" * 900 + "]" * 900),
    *(str(MAX + 1), str(2**63 - 1), str(2**63), str(-(2**63)), "9" * 400, "9" * 5000, "0." + "0" * 400 + "1"),
    *("NaN", "Infinity", "-Infinity", "0500", "+5", ".5", "5.", "0x1f4", "1_000", "\u0665", "'5'", "5 5"),
    *("True", ""),
)
SIMILAR = ("true", "1.0", "500.0", "2999.0", "5e2", '"500"', "0", "null", str(MAX + 1))
UNKNOWN = ("Amount", "amount ", "amount_cents", "currency", "payment_intent", "$where", "__proto__", "")
ESCAPED = {"\\u0061mount": "amount", "mark\\u0052efunded": "markRefunded"}
"""Names as they can be written in JSON, and what they mean."""

Fields = list[tuple[str, str]]
"""The names and values of an object in the order of its text."""


def _good(name: str) -> st.SearchStrategy[tuple[str, str]]:
    values = st.sampled_from(GOOD[name])
    if name in NUMBERS:
        values |= st.integers(1, 4000).map(str)
    return st.tuples(st.just(name), values)


@st.composite
def bodies(draw: st.DrawFn) -> Fields:
    """Fields that are valid, or have a fault or two, in any order."""
    names = draw(st.sampled_from((("amount", "refundable"),) * 4 + (("amount",), ())))
    optional = draw(st.sets(st.sampled_from(("number", "markRefunded", "reason", "note")), max_size=2))
    fields = [draw(_good(name)) for name in (*names, *sorted(optional))]
    more = []
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2)))):
        fault = draw(st.sampled_from(("value", "value", "value", "repeated", "unknown")))
        if fault == "unknown" or not fields:
            more.append((draw(st.sampled_from((*GOOD, *UNKNOWN))), draw(st.sampled_from(BAD))))
            continue
        index = draw(st.integers(0, len(fields) - 1))
        name = fields[index][0]
        if fault == "value":
            value = draw(st.sampled_from(SIMILAR) | st.sampled_from(BAD) | st.integers().map(str))
            fields[index] = name, value
        else:
            more.append(draw(_good(name)))
    escaped = draw(st.sampled_from(("", *ESCAPED)))
    spelled = [(escaped if ESCAPED.get(escaped) == name else name, value) for name, value in fields]
    return draw(st.permutations([*spelled, *more]))


def to_text(fields: Fields) -> bytes:
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in fields) + "}").encode()


def is_number(text: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,15}", text) is not None and int(text) <= MAX


def is_valid(fields: Fields, *, allowed: bool) -> bool:
    """Return whether the documentation allows a body."""
    named = {ESCAPED.get(name, name): value for name, value in fields}
    part = named.keys() & {*NUMBERS, "markRefunded"}
    return (
        len(named) == len(fields)
        and named.keys() <= GOOD.keys()
        and (not part or (allowed and {"amount", "refundable"} <= part))
        and all(is_number(named[name]) for name in NUMBERS if name in named)
        and named.get("markRefunded", "true") in ("true", "false")
        and named.get("reason", "null") in GOOD["reason"]
        and (named.get("note", "null") == "null" or re.fullmatch('"[^"\\\\]*"', named["note"]) is not None)
    )


def part_of(fields: Fields) -> Part | None:
    named = {ESCAPED.get(name, name): value for name, value in fields}
    numbers = {name: int(named[name]) for name in NUMBERS if name in named}
    return Part(**numbers, mark_refunded=named.get("markRefunded") == "true") if numbers else None


@pytest.fixture
def shops(mock_shop: Shop, sandbox: StripeSandbox) -> dict[bool, Shop]:
    """Shops that allow partial refunds, and that don't."""
    options = {"REFUNDS_MONGO": mock_shop.db, "STRIPE_API_BASE": sandbox.url}
    apps = {allowed: make_app(**options, REFUNDS_ALLOW_PARTIAL=allowed) for allowed in (True, False)}
    return {allowed: Shop(app, mock_shop.db) for allowed, app in apps.items()}


@given(bodies(), st.sampled_from((True, True, True, False)))
@settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_only_a_valid_body_can_refund(
    shops: dict[bool, Shop], sandbox: StripeSandbox, fields: Fields, allowed: bool
) -> None:
    shop, body = shops[allowed], to_text(fields)
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    requests, records = len(sandbox.requests), len(shop.records())

    answer = shop.refund(purchase, data=body)

    found = answer.status_code, (answer.json or {}).get("code")
    amounts = [each["amount"] for each in sandbox.refunds(payment)]
    if is_valid(fields, allowed=allowed):
        part = part_of(fields)
        assert parse_refund_request(body, allow_partial=allowed)[2] == part
        assert (found, amounts) == expect(part)
    else:
        assert (found, amounts) == ((400, "invalid_request"), [])
        assert len(sandbox.requests) == requests
    assert len(shop.records()) == records + len(amounts)


def expect(part: Part | None) -> tuple[Any, list[int]]:
    """Return the answer of a payment of which nothing was refunded, and the refunds that it then has."""
    if part is None:
        return (200, None), [AMOUNT]
    if part.amount > part.refundable:
        return (400, "amount_too_large"), []
    if part.refundable != AMOUNT or part.number not in (None, 1):
        return (409, "refundable_changed"), []
    return (200, None), [part.amount]

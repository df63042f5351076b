"""What callers send: purchase IDs and request bodies."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from bson import decode, encode
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_refunds import InvalidRequest, PurchaseNotFound
from flask_refunds.models import IdText, Part, Reason
from flask_refunds.schemas.inputs import (
    MAX_BODY_BYTES,
    MAX_NOTE_LENGTH,
    MAX_WHOLE_NUMBER,
    parse_purchase_id,
    parse_refund_request,
)

ID = "64b5f2c8e13e4a5b6c7d8e9f"
REASONS = get_args(Reason)


# Purchase IDs


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@example(ID)
@example(f" {ID}")
@example("{$ne:1}")
def test_any_text_can_be_a_purchase_id_as_it_is(text: str) -> None:
    assert parse_purchase_id(text) == IdText(text)


def test_text_that_mongodb_cannot_store_is_not_found() -> None:
    with pytest.raises(PurchaseNotFound):
        parse_purchase_id("order \ud83d")


# Bodies


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("body", [b"", b" ", b" \r\n\t ", b"{}", b" { } ", b'{"reason": null, "note": null}'])
def test_body_without_fields_has_no_reason_and_no_note(body: bytes) -> None:
    assert parse_refund_request(body) == (None, None, None, None)


@pytest.mark.parametrize("reason", REASONS)
def test_reason_of_stripe_is_accepted(reason: str) -> None:
    assert parse_refund_request(as_bytes({"reason": reason})) == (reason, None, None, None)


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "Duplicate",
        " duplicate",
        "duplicate ",
        "expired_uncaptured_charge",
        "changed_mind",
        0,
        1,
        True,
        False,
        [],
        ["duplicate"],
        {},
        {"$oid": ID},
    ],
)
def test_other_reason_is_rejected(reason: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"reason must be one of .*Nothing was refunded"):
        parse_refund_request(as_bytes({"reason": reason}))


@pytest.mark.parametrize(
    "note",
    [
        "",
        "x",
        "x" * MAX_NOTE_LENGTH,
        "🎉" * MAX_NOTE_LENGTH,
        "a\0b",
        "\u2028",
        "\u202e",
        "<script>",
        "line\nline",
    ],
)
def test_note_is_accepted_and_storable(note: str) -> None:
    assert parse_refund_request(as_bytes({"note": note})) == (None, note, None, None)
    assert parse_refund_request(json.dumps({"note": note}, ensure_ascii=False).encode()) == (
        None,
        note,
        None,
        None,
    )
    assert decode(encode({"note": note})) == {"note": note}


@pytest.mark.parametrize(
    "note",
    [
        "x" * (MAX_NOTE_LENGTH + 1),
        "🎉" * 501,
        "\ud800",
        "a\udfff",
        0,
        True,
        [],
        ["x"],
        {},
        {"$gt": ""},
        {"$oid": ID},
    ],
)
def test_invalid_note_is_rejected(note: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"note must be text of at most 500 .*Nothing was refunded"):
        parse_refund_request(as_bytes({"note": note}))


@pytest.mark.parametrize("amount", [1, 0, -1999, None, "1", 19.99, {}])
def test_any_amount_is_rejected(amount: Any) -> None:
    for body in ({"amount": amount}, {"reason": "duplicate", "amount": amount}, {"amount": amount, "x": 1}):
        with pytest.raises(InvalidRequest, match="amount isn't supported"):
            parse_refund_request(as_bytes(body))


PART = {"amount": 500, "refundable": 2999, "number": 2, "markRefunded": True}


def parse_body(fields: dict[str, Any]) -> Part | None:
    return parse_refund_request(as_bytes(fields), allow_partial=True)[2]


def test_part_is_parsed() -> None:
    assert parse_body(PART) == Part(500, 2999, 2, True)
    assert parse_body({"amount": 500, "refundable": 2999, "note": "x"}) == Part(500, 2999, None, False)
    assert parse_body({"amount": 2**53, "refundable": 1}) == Part(2**53, 1)
    assert parse_body({"reason": "duplicate"}) is None


@pytest.mark.parametrize("name", ["amount", "refundable", "number"])
@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -1, 5.0, 5e2, 0.5, "5", "5.00", "", [], [5], {}, 2**53 + 1, 10**400, -(2**63)],
)
def test_number_of_a_part_that_is_not_a_positive_whole_number_is_rejected(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name} must be a whole number from 1 .*Nothing was refunded"):
        parse_body(PART | {name: value})


@pytest.mark.parametrize("value", [None, 0, 1, "true", []])
def test_mark_refunded_that_is_not_a_boolean_is_rejected(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="markRefunded must be true or false"):
        parse_body(PART | {"markRefunded": value})


@pytest.mark.parametrize("missing", ["amount", "refundable"])
def test_part_without_amount_or_refundable_is_rejected(missing: str) -> None:
    with pytest.raises(InvalidRequest, match="needs amount and refundable"):
        parse_body({name: value for name, value in PART.items() if name != missing})


@pytest.mark.parametrize("name", ["number", "markRefunded"])
def test_field_of_a_part_alone_is_rejected(name: str) -> None:
    with pytest.raises(InvalidRequest, match="needs amount and refundable"):
        parse_body({name: PART[name]})


@pytest.mark.parametrize("name", PART)
def test_field_of_a_part_is_rejected_unless_parts_are_allowed(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name} isn't supported.*REFUNDS_ALLOW_PARTIAL"):
        parse_refund_request(as_bytes({name: PART[name]}))


@pytest.mark.parametrize(
    "name", ["Reason", "reason ", "amount_cents", "currency", "", "$oid", "_id", "\ud800", "__proto__"]
)
def test_unknown_field_is_rejected(name: str) -> None:
    with pytest.raises(InvalidRequest, match="Unknown field"):
        parse_refund_request(as_bytes({name: 1, "note": "x"}))


NOT_OBJECTS = [b"[]", b"null", b"true", b"1", b'"reason"', b'[{"reason": "duplicate"}]']


@pytest.mark.parametrize("body", NOT_OBJECTS)
def test_json_that_is_not_an_object_is_rejected(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        parse_refund_request(body)


INVALID_JSON = [
    b"reason=duplicate",
    b"{",
    b"{'reason': 'duplicate'}",
    b'{"reason": "duplicate",}',
    b'{"reason": "duplicate"} {"amount": 1}',
    b'{"reason": "duplicate"}\0',
    b'{"reason": "dup',
    b"\0",
    b"{}{}",
    b'{} "amount"',
    b"NaN",
    b"-Infinity",
    b'{"amount": Infinity}',
    b'{"reason": "duplicate"/* */}',
    b"{reason: 1}",
    b'{"note": "\0"}',
    b'{"note": "\xe9"}',
    b'{"note": "\xc0\xaf"}',
    b'{"reason": NaN}',
    b'{"note": Infinity}',
    b'{"note": -Infinity}',
    b'{"note": "\n"}',
    b'{"note": "x", "note": "y"}',
    b'{"reason": "duplicate", "re\\u0061son": "fraudulent"}',
    b'{"note": {"a": 1, "a": 2}}',
    b'{"note": ' + b"9" * 5000 + b"}",
    b"[" * 8000,
    b"[" * (MAX_BODY_BYTES - 1),
    b'{"note":' * 2000,
    b"\xff\xfe",
    b'{"note": "\xff"}',
    b'{"note": "\xed\xa0\x80"}',
    b"\xef\xbb\xbf{}",
    b'\xef\xbb\xbf{"reason": "duplicate"}',
    '{"reason": "duplicate"}'.encode("utf-16"),
    '{"reason": "duplicate"}'.encode("utf-32-le"),
    b"\x1f\x8b\x08",
    b"<reason>duplicate</reason>",
    b"--boundary\r\nContent-Disposition: form-data",
]


@pytest.mark.parametrize("body", INVALID_JSON, ids=range(len(INVALID_JSON)))
def test_invalid_json_is_rejected(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"isn't valid JSON\. Nothing was refunded"):
        parse_refund_request(body)


def test_deeply_nested_body_is_rejected() -> None:
    """Some versions of Python parse it, and others raise a RecursionError."""
    with pytest.raises(InvalidRequest, match=r"JSON.*\. Nothing was refunded"):
        parse_refund_request(b"[" * 8000 + b"]" * 8000)


@pytest.mark.parametrize("filler", [b"[", b"x", b" "])
def test_too_large_body_is_rejected(filler: bytes) -> None:
    with pytest.raises(InvalidRequest, match="larger than"):
        parse_refund_request(filler * MAX_BODY_BYTES + b'{"amount": 1}')


def test_largest_body_is_accepted() -> None:
    body = as_bytes({"note": "x"}).ljust(MAX_BODY_BYTES)
    assert parse_refund_request(body) == (None, "x", None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(REASONS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BODIES = (
    st.binary(max_size=200)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.text('{}[]",:reasonot 0123456789.eE+-\\u', max_size=100).map(str.encode)
    | JSON.map(as_bytes)
    | st.dictionaries(
        st.sampled_from(["reason", "note", "instructionsEmail", "amount", "refundable", "x"]),
        JSON,
        max_size=3,
    ).map(as_bytes)
)


@settings(deadline=None)
@given(BODIES)
def test_any_bytes_are_parsed_or_invalid_request(body: bytes) -> None:
    try:
        reason, note, part, email = parse_refund_request(body, allow_partial=True)
    except InvalidRequest:
        return
    assert reason is None or reason in REASONS
    assert note is None or len(note) <= MAX_NOTE_LENGTH
    assert part is None or 0 < part.amount <= MAX_WHOLE_NUMBER
    assert email is None or "@" in email
    encode({"note": note})

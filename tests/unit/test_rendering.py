"""Strict in, safe out: what a body may say, and every BSON type as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import time
import uuid
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from bson import (
    SON,
    Binary,
    Code,
    CodecOptions,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    decode,
    encode,
)
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_refunds import InvalidRequest, PurchaseNotFound
from flask_refunds.models import Failure, Reason, Refund, RefundStatus, ReviewRequest
from flask_refunds.schemas.inputs import (
    MAX_BODY_BYTES,
    MAX_NOTE_LENGTH,
    parse_purchase_id,
    parse_refund_request,
)
from flask_refunds.schemas.rendering import render, render_refund, to_json

ID = "64b5f2c8e13e4a5b6c7d8e9f"
REASONS = get_args(Reason)
UTC = timezone.utc


def strict(value: Any) -> Any:
    """What a strict reader of JSON (RFC 8259) makes of a rendered value."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    text = to_json(render(value))
    text.encode("utf-8")
    return json.loads(text, parse_constant=refuse)


# Out


RENDERED: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (False, False),
    (0, 0),
    (-(2**63), -(2**63)),
    (Int64(2**63 - 1), 2**63 - 1),
    (19.99, 19.99),
    (0.1 + 0.2, 0.30000000000000004),
    (float("nan"), None),
    (float("inf"), None),
    (float("-inf"), None),
    (Decimal128("19.90"), "19.90"),
    (Decimal128("NaN"), "NaN"),
    (Decimal128("Infinity"), "Infinity"),
    ("", ""),
    ("Ünïcødé 🎉 \0\u2028", "Ünïcødé 🎉 \0\u2028"),
    (ObjectId(ID), ID),
    (datetime(2024, 3, 15, 10, 30, tzinfo=UTC), "2024-03-15T10:30:00.000Z"),
    (datetime(2024, 3, 15, 10, 30), "2024-03-15T10:30:00.000Z"),  # noqa: DTZ001
    (datetime(2024, 3, 15, 10, 30, 0, 123999, tzinfo=UTC), "2024-03-15T10:30:00.123Z"),
    (datetime(2024, 3, 15, 12, 30, tzinfo=timezone(timedelta(hours=2))), "2024-03-15T10:30:00.000Z"),
    (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
    (datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
    (DatetimeMS(2**62), str(2**62)),
    (DatetimeMS(-(2**62)), str(-(2**62))),
    (b"\x00\xff", "AP8="),
    (Binary(b"\x00\xff", 128), "AP8="),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Code("x => 1"), "x => 1"),
    ([], []),
    ((1, [ObjectId(ID)]), [1, [ID]]),
    ({}, {}),
    ({"a": {"b": [ObjectId(ID), {"c": Decimal128("1")}]}}, {"a": {"b": [ID, {"c": "1"}]}}),
    ({1: "one", None: "none", ObjectId(ID): "id"}, {"1": "one", "None": "none", ID: "id"}),
    ({"": 1, "a.b": 2, "$set": 3, "__proto__": 4}, {"": 1, "a.b": 2, "$set": 3, "__proto__": 4}),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (SON(a=ObjectId(ID)), {"a": ID}),
    (RawBSONDocument(encode({"a": ObjectId(ID), "b": {"c": 1}})), {"a": ID, "b": {"c": 1}}),
]


@pytest.mark.parametrize(("stored", "shown"), RENDERED)
def test_how_values_are_shown(stored: Any, shown: Any) -> None:
    assert strict(stored) == shown
    assert type(strict(stored)) is type(shown)


def test_a_naive_time_is_utc_wherever_the_server_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "America/New_York")
        time.tzset()
        assert render(datetime(2024, 3, 15, 10, 30)) == "2024-03-15T10:30:00.000Z"  # noqa: DTZ001
    time.tzset()


RARE = [
    Regex("^a", "i"),
    re.compile("^a"),
    Timestamp(1, 2),
    MinKey(),
    MaxKey(),
    DBRef("users", ObjectId(ID)),
    Code("x", {"y": ObjectId(ID)}),
    Binary.from_uuid(uuid.UUID(int=1)),
    Binary(b"x", 200),
]


@pytest.mark.parametrize("value", RARE, ids=lambda value: type(value).__name__)
def test_rare_values_are_text(value: Any) -> None:
    for nested in (value, {"a": [value]}):
        assert strict(nested) is not None
    assert isinstance(strict(value), str)
    assert " object at 0x" not in strict(value)


def test_the_order_of_fields_is_kept() -> None:
    document = dict.fromkeys(["_id", "z", "a", "m"])
    assert to_json(render(document)) == '{"_id":null,"z":null,"a":null,"m":null}'


def test_the_document_is_not_touched() -> None:
    document = {"_id": ObjectId(ID), "nested": {"ids": [ObjectId(ID)]}}
    before = encode(document)
    render(document)
    assert encode(document) == before


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    | st.binary(max_size=10)
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.integers(-(2**63), 2**63 - 1).map(DatetimeMS)
    | st.sampled_from([*RARE, Decimal128("1.50"), Decimal128("-NaN")])
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=10,
    ),
    max_size=5,
)


@settings(deadline=None)
@given(DOCUMENTS)
def test_whatever_mongodb_can_store_is_shown(document: dict[str, Any]) -> None:
    """By way of BSON, and read as the library reads it."""
    options = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    shown = strict(decode(encode(document), options))
    assert shown.keys() == document.keys()


AT = datetime(2024, 3, 15, 10, 30, tzinfo=UTC)
REFUND_FIELDS: dict[str, Any] = dict(  # noqa: C408
    id="pi_1:1",
    payment_intent="pi_1",
    number=1,
    purchase_ids=[ObjectId(ID), "legacy"],
    status=RefundStatus.FAILED,
    amount=1999,
    currency="eur",
    reason="duplicate",
    note='<b>"note"</b>',
    requested_by=ID,
    source="api",
    bulk="recall-2024",
    stripe_refund_id="re_1",
    amount_received=1999,
    failure=Failure("card_declined", "No."),
    review=ReviewRequest("failed_after_success", "Tell him.", AT),
    created_at=AT,
    updated_at=AT,
    settled_at=None,
    request={"payment_intent": "pi_1"},
    owner="a token of the owner's",
    calls=1,
    lease_expires_at=AT,
    signals_sent=False,
    history=[{"at": AT, "actor": "endpoint"}],
)
REFUND = Refund(**{field.name: REFUND_FIELDS.get(field.name) for field in dataclasses.fields(Refund)})


def test_a_refund() -> None:
    time = "2024-03-15T10:30:00.000Z"
    assert strict(render_refund(REFUND)) == {
        "id": "pi_1:1",
        "paymentIntent": "pi_1",
        "purchaseIds": [ID, "legacy"],
        "status": "failed",
        "amount": 1999,
        "currency": "eur",
        "reason": "duplicate",
        "note": '<b>"note"</b>',
        "requestedBy": ID,
        "source": "api",
        "bulk": "recall-2024",
        "stripeRefundId": "re_1",
        "failure": {"code": "card_declined", "message": "No."},
        "review": {"why": "failed_after_success", "recommendedAction": "Tell him.", "since": time},
        "createdAt": time,
        "updatedAt": time,
        "settledAt": None,
    }


# In: the purchase's id


@pytest.mark.parametrize("text", [ID, ID.upper(), "0" * 24, "aBcDeF" * 4])
def test_a_purchase_id(text: str) -> None:
    assert str(parse_purchase_id(text)) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ID[:-1],
        ID + "0",
        f" {ID[:-1]}",
        f"{ID[:-1]}\n",
        f"{ID}\n",
        ID[:-1] + "g",
        "0x" + ID[:-2],
        "-" + ID[:-1],
        ID[:-1] + "\0",
        "٣" * 24,
        "１" * 24,  # noqa: RUF001
        "é" * 12,
        "abcdefghijkl",
        '{"$oid": "64b5f2c8e13e4a"}',
        "5f 5f 5f 5f 5f 5f 5f 5f ",
        " " * 24,
    ],
)
def test_no_purchase_id(text: str) -> None:
    with pytest.raises(PurchaseNotFound):
        parse_purchase_id(text)


@settings(deadline=None)
@given(st.text(max_size=30) | st.text("0123456789abcdefABCDEFgx -", min_size=22, max_size=26))
@example(ID)
def test_exactly_24_hex_digits_are_a_purchase_id(text: str) -> None:
    if re.fullmatch(r"[0-9a-fA-F]{24}", text):
        assert str(parse_purchase_id(text)) == text.lower()
    else:
        with pytest.raises(PurchaseNotFound):
            parse_purchase_id(text)


# In: the body


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("body", [b"", b" ", b" \r\n\t ", b"{}", b" { } ", b'{"reason": null, "note": null}'])
def test_a_body_that_asks_for_nothing(body: bytes) -> None:
    assert parse_refund_request(body) == (None, None)


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason(reason: str) -> None:
    assert parse_refund_request(as_bytes({"reason": reason})) == (reason, None)


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "Duplicate",
        " duplicate",
        "duplicate ",
        "expired_uncaptured_charge",
        "other",
        0,
        1,
        True,
        False,
        [],
        ["duplicate"],
        {},
    ],
)
def test_no_reason(reason: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"reason must be one of .*Nothing was refunded"):
        parse_refund_request(as_bytes({"reason": reason}))


@pytest.mark.parametrize(
    "note",
    ["", "x", "x" * MAX_NOTE_LENGTH, "🎉" * MAX_NOTE_LENGTH, "a\0b", "\u202e", "<script>", "line\nline"],
)
def test_a_note(note: str) -> None:
    assert parse_refund_request(as_bytes({"note": note})) == (None, note)
    assert parse_refund_request(json.dumps({"note": note}, ensure_ascii=False).encode()) == (None, note)
    assert decode(encode({"note": note})) == {"note": note}


@pytest.mark.parametrize(
    "note", ["x" * (MAX_NOTE_LENGTH + 1), "🎉" * 501, "\ud800", "a\udfff", 0, True, [], ["x"], {}]
)
def test_no_note(note: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"note must be text of at most 500 .*Nothing was refunded"):
        parse_refund_request(as_bytes({"note": note}))


@pytest.mark.parametrize("amount", [1, 0, None, "1", 19.99, {}])
def test_an_amount_is_refused_whatever_it_is(amount: Any) -> None:
    for body in ({"amount": amount}, {"reason": "duplicate", "amount": amount}, {"amount": amount, "x": 1}):
        with pytest.raises(InvalidRequest, match="leave out amount"):
            parse_refund_request(as_bytes(body))


@pytest.mark.parametrize(
    "name", ["Reason", "reason ", "amount_cents", "", "$oid", "_id", "\ud800", "__proto__"]
)
def test_an_unknown_field(name: str) -> None:
    with pytest.raises(InvalidRequest, match="Unknown field: the body takes reason and note only"):
        parse_refund_request(as_bytes({name: 1, "note": "x"}))


NO_OBJECTS = [b"[]", b"null", b"true", b"1", b'"reason"', b'[{"reason": "duplicate"}]']


@pytest.mark.parametrize("body", NO_OBJECTS)
def test_json_that_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        parse_refund_request(body)


NO_JSON = [
    b"reason=duplicate",
    b"{",
    b"{'reason': 'duplicate'}",
    b'{"reason": "duplicate",}',
    b'{"reason": "duplicate"} {"amount": 1}',
    b'{"reason": "duplicate"}\0',
    b'{"reason": NaN}',
    b'{"note": Infinity}',
    b'{"note": -Infinity}',
    b'{"note": "\n"}',
    b'{"note": "x", "note": "y"}',
    b'{"reason": "duplicate", "re\\u0061son": "fraudulent"}',
    b'{"note": {"a": 1, "a": 2}}',
    b'{"note": ' + b"9" * 5000 + b"}",
    b"[" * 8000,
    b'{"note":' * 2000,
    b"\xff\xfe",
    b'{"note": "\xff"}',
    b'{"note": "\xed\xa0\x80"}',
    b"\xef\xbb\xbf{}",
    '{"reason": "duplicate"}'.encode("utf-16"),
    '{"reason": "duplicate"}'.encode("utf-32-le"),
    b"\x1f\x8b\x08",
    b"<reason>duplicate</reason>",
    b"--boundary\r\nContent-Disposition: form-data",
]


@pytest.mark.parametrize("body", NO_JSON, ids=range(len(NO_JSON)))
def test_no_json(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"is no JSON\. Nothing was refunded"):
        parse_refund_request(body)


def test_a_deep_body() -> None:
    """Some versions of Python read it, and others find that it goes too deep."""
    with pytest.raises(InvalidRequest, match=r"JSON.*\. Nothing was refunded"):
        parse_refund_request(b"[" * 8000 + b"]" * 8000)


@pytest.mark.parametrize("filler", [b"[", b"x", b" "])
def test_a_body_that_is_too_large(filler: bytes) -> None:
    with pytest.raises(InvalidRequest, match="larger than"):
        parse_refund_request(filler * MAX_BODY_BYTES + b'{"amount": 1}')


def test_the_largest_body() -> None:
    body = as_bytes({"note": "x"}).ljust(MAX_BODY_BYTES)
    assert parse_refund_request(body) == (None, "x")


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
    | st.dictionaries(st.sampled_from(["reason", "note", "amount", "x"]), JSON, max_size=3).map(as_bytes)
)


@settings(deadline=None)
@given(BODIES)
def test_any_bytes_are_understood_or_refused(body: bytes) -> None:
    try:
        reason, note = parse_refund_request(body)
    except InvalidRequest:
        return
    assert reason is None or reason in REASONS
    assert note is None or len(note) <= MAX_NOTE_LENGTH
    encode({"note": note})

"""Cursors: every one that the library writes is read back, and no other text is an error of the server."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex, encode
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_refunds.schemas.cursors import (
    read_cursor,
    read_id,
    read_purchase_cursor,
    write_cursor,
    write_id,
    write_purchase_cursor,
)
from flask_refunds.storage.search import PurchaseCursor, RefundCursor

MOMENT = datetime(2024, 3, 15, 10, 30, 0, 123000, tzinfo=timezone.utc)
UUID_1 = UUID("0b9ad7c1-6d2e-4f57-9e3a-5d1c8f7a2b60")
IDS = [
    *("order 17/\u00e4", "", "a\nb", "7", "\U0001f9fe" * 500),
    *(7, -3, 0, Int64(2**40), -(2**63), 7.5, float("inf"), True, Decimal128("7.50")),
    *(ObjectId("64b5f2c8e13e4a5b6c7d8e9f"), UUID_1, Binary.from_uuid(UUID_1, 3), b"abc"),
    *(MOMENT, DatetimeMS(2**50), {"order": 7, "line": "b"}),
]


def forge(value: Any) -> str:
    return urlsafe_b64encode(encode(value)).decode()


@pytest.mark.parametrize("purchase_id", IDS, ids=repr)
def test_id_is_read_back_with_its_type(purchase_id: Any) -> None:
    read = read_id(write_id(purchase_id))
    assert read == purchase_id
    assert isinstance(read, bool) == isinstance(purchase_id, bool)
    assert getattr(read, "subtype", 0) == getattr(purchase_id, "subtype", 0)


@pytest.mark.parametrize("created", [None, MOMENT, DatetimeMS(2**50), DatetimeMS(-(2**62))])
@pytest.mark.parametrize("purchase_id", IDS, ids=repr)
def test_purchase_cursor_is_read_back(purchase_id: Any, created: Any) -> None:
    cursor = PurchaseCursor(purchase_id, created)
    assert read_purchase_cursor(write_purchase_cursor(cursor) or "") == cursor


@pytest.mark.parametrize(
    "forged",
    [
        {"id": 1, "created": "2024-03-15"},
        {"id": 1, "created": {"$gt": MOMENT}},
        {"id": 1, "created": [MOMENT]},
        {"created": MOMENT},
        {"created": MOMENT, "id": {"a": [1]}},
        {"id": 1, "created": MOMENT, "more": 1},
    ],
)
def test_forged_purchase_cursor_is_rejected(forged: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="nextCursor of another page"):
        read_purchase_cursor(forge(forged))


@pytest.mark.parametrize("refund_id", ["pi_1:1", "a foreign\nid", "\u00e4" * 1000])
def test_refund_cursor_is_read_back(refund_id: str) -> None:
    cursor = RefundCursor(MOMENT + timedelta(milliseconds=1), refund_id)
    assert read_cursor(write_cursor(cursor) or "") == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "64b5f2c8e13e4a5b6c7d8e9f",
        "\u00e4",
        forge({}),
        forge({"id": None}),
        forge({"id": [1]}),
        forge({"id": {"$ne": {"a": 1}}}),
        forge({"id": {"a": [1]}}),
        forge({"id": Regex("a")}),
        forge({"id": 1, "more": 2}),
        forge({"other": 1}),
        forge({"uuid": "abc"}),
        forge({"uuid": b"abc"}),
        forge({"uuid": "sixteen letters."}),
        forge({"uuid": 16}),
        forge({"id": "a" * 8000}),
        forge({"id": "a"})[:-4],
    ],
)
def test_forged_id_is_rejected(text: str) -> None:
    for read in (read_id, read_purchase_cursor):
        with pytest.raises(ValueError, match="nextCursor of another page"):
            read(text)


@settings(deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: encode({"id": 1})[:8] + tail))
def test_any_bytes_are_read_or_rejected(plain: bytes) -> None:
    for read in (read_id, read_cursor, read_purchase_cursor):
        with suppress(ValueError):
            read(urlsafe_b64encode(plain).decode())  # type: ignore[operator]

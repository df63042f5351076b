"""The shape of a purchase: paths, and words as MongoDB compares them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from bson.dbref import DBRef

from flask_refunds.purchase_fields import PurchaseFields, includes_word, read_field, with_field

MARCH = datetime(2024, 3, 1, tzinfo=timezone.utc)
ID = ObjectId("65e900000000000000000000")


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("paid", "done"), "done"),
        ((3,), 3.0),
        ((3.0,), Int64(3)),
        ((3,), Decimal128("3.00")),
        ((0.5,), Decimal128("0.5")),
        ((True,), True),
        ((False, 1), 1),
        ((ID,), ObjectId(ID.binary)),
    ],
)
def test_word_is_included(words: tuple[Any, ...], word: Any) -> None:
    assert includes_word(words, word)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("paid",), "Paid"),
        (("paid",), "paid "),
        (("3",), 3),
        ((1,), True),
        ((True,), 1),
        ((False,), 0.0),
        ((0,), None),
        (("paid",), ["paid"]),
        (("paid",), {"paid": True}),
        ((3,), Decimal128("NaN")),
        ((3,), Decimal128("sNaN")),
        ((3,), float("nan")),
        ((ID,), str(ID)),
    ],
)
def test_word_of_another_type_or_case_is_not_included(words: tuple[Any, ...], word: Any) -> None:
    assert not includes_word(words, word)


@pytest.mark.parametrize(
    ("document", "path", "value"),
    [
        ({"a": 1}, "a", 1),
        ({"a": {"b": {"c": 1}}}, "a.b.c", 1),
        ({}, "a.b", None),
        ({"a": "text"}, "a.b", None),
        ({"a": [{"b": 1}]}, "a.b", None),
        ({"a": {"b": 1}, "a.b": 2}, "a.b", 1),
        ({"a": DBRef("users", ID)}, "a.$id", ID),
        ({"a": {"b": DBRef("users", 7, "crm")}}, "a.b.$id", 7),
        ({"a": ID}, "a.$id", None),
    ],
)
def test_field_is_read_at_its_path(document: dict[str, Any], path: str, value: Any) -> None:
    assert read_field(document, path) == value


def test_copy_has_another_value_at_the_path() -> None:
    document = {"a": {"b": 1, "c": 2}, "d": 3}
    assert with_field(document, "a.b", 4) == {"a": {"b": 4, "c": 2}, "d": 3}
    assert with_field(document, "d", 4) == {"a": {"b": 1, "c": 2}, "d": 4}
    assert with_field({"a": "text"}, "a.b.c", 4) == {"a": {"b": {"c": 4}}}
    assert document == {"a": {"b": 1, "c": 2}, "d": 3}


def test_range_is_by_the_named_field_or_by_the_object_id() -> None:
    later = MARCH + timedelta(milliseconds=1)
    assert (
        PurchaseFields().created_in(None, None) == PurchaseFields(created="at").created_in(None, None) == {}
    )
    assert PurchaseFields(created="at").created_in(MARCH, later) == {"at": {"$gte": MARCH, "$lt": later}}
    first = ObjectId(f"{int(MARCH.timestamp()):08x}" + "0" * 16)
    second = ObjectId(f"{int(MARCH.timestamp()) + 1:08x}" + "0" * 16)
    assert PurchaseFields().created_in(MARCH, later) == {"_id": {"$gte": first, "$lt": second}}
    assert PurchaseFields().created_in(None, MARCH) == {"_id": {"$lt": first}}

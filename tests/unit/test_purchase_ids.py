"""A bulk run's purchase IDs: reading them from a file, and storing them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import mongomock
import pytest
from bson import Binary, Int64, ObjectId

from flask_refunds.cli.id_file import read_ids
from flask_refunds.errors import InvalidRequest
from flask_refunds.purchase_fields import PurchaseFields
from flask_refunds.storage.customers import Customers
from flask_refunds.storage.purchase_ids import PurchaseIds
from flask_refunds.storage.references import References
from flask_refunds.storage.search import PurchaseFilter, PurchaseSearch

A, B, C = (f"{letter}{'0' * 23}" for letter in "abc")


def resolve(texts: Sequence[str]) -> dict[str, Any]:
    """Return the IDs of a shop with ObjectIds and integers."""
    numbers = {text: int(text) for text in texts if text.isdigit()}
    return {text: ObjectId(text) for text in texts if len(text) == 24} | numbers


def test_blank_lines_comments_and_bom_are_skipped() -> None:
    lines = [f"\ufeff{C}\r\n", "# recall of March\n", "\n", f"  {A}  \n", "7\n", B, "order 17/\u00e4\n"]
    assert list(map(str, read_ids(lines, resolve))) == [A, B, C, "7", "order 17/\u00e4"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([A, "", B, A.upper()], f"Line 4 repeats line 1: {A}"),
        (["7", "a", "007"], "Line 3 repeats line 1: 7"),
        ([A, "\x1b[2J"], "Line 2 isn't a purchase ID: \ufffd[2J"),
        ([A, "x" * 1001], f"Line 2 isn't a purchase ID: {'x' * 40}"),
        (["x"] * 9, "and 3 more lines."),
        (["# nothing", ""], "The file contains no IDs of existing purchases"),
        (["purchaseId,amount", f"{A},19.99"], "The file contains no IDs of existing purchases"),
    ],
)
def test_invalid_line_rejects_the_file(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_ids(lines, resolve)
    assert message in str(caught.value)
    assert str(caught.value).endswith("Nothing was refunded.")


def test_ids_are_unique_sorted_and_iterable_from_any_position() -> None:
    ids = PurchaseIds(map(ObjectId, (C, A, B, A)))
    assert len(ids) == 3
    assert (str(ids[0]), str(ids[-1])) == (A, C)
    assert [str(each) for each in ids.starting_at(2)] == [C, A, B]
    assert all(ObjectId(each) in ids for each in (A, B, C))
    assert ObjectId("d" * 24) not in ids
    assert ObjectId("0" * 24) not in ids
    assert A not in ids
    with pytest.raises(IndexError):
        ids[3]


def test_ids_of_all_types_are_kept_apart() -> None:
    mixed = [7, "7", ObjectId(B), UUID(int=7), Binary(b"7" * 16, 4), -3, 2**40, ObjectId(A), "b", 7]
    ids = PurchaseIds(mixed)
    assert (len(ids), set(ids)) == (9, set(mixed))
    assert list(ids)[:2] == [ObjectId(A), ObjectId(B)]
    assert list(ids.starting_at(3)) == [*list(ids)[3:], *list(ids)[:3]]
    assert all(each in ids for each in mixed)
    assert Int64(2**40) in ids
    assert not any(each in ids for each in (8, "8", ObjectId(C), UUID(int=8), Binary(b"7" * 16, 3), None))


def test_ids_that_are_documents_are_rejected() -> None:
    with pytest.raises(InvalidRequest, match="documents"):
        PurchaseIds([ObjectId(A), {"order": 7}])


def test_100000_ids_use_less_than_1300000_bytes() -> None:
    ids = PurchaseIds(ObjectId(number.to_bytes(12, "big")) for number in range(100_000))
    assert len(ids) == 100_000
    assert sys.getsizeof(ids._packed) < 1_300_000


@pytest.mark.parametrize("empty", [{}, {"status": None, "content": None, "since": None, "until": None}])
def test_selection_without_a_condition_is_never_all_purchases(empty: dict[str, None]) -> None:
    database = mongomock.MongoClient(tz_aware=True).shop
    database.purchases.insert_many([{"content": "a"}, {"content": "b"}])
    user_fields = {"name": "name", "email": "email"}
    search = PurchaseSearch(
        database.purchases,
        database.users,
        database.contents,
        fields=PurchaseFields(),
        user_fields=user_fields,
        content_fields={"title": "title"},
        references=References(database.references),
        customers=Customers(database.users, user_fields, ["_id"]),
    )
    with pytest.raises(ValueError, match="every purchase"):
        search.find_ids(PurchaseFilter(**empty))
    assert len(search.find_ids(PurchaseFilter(content="b"))) == 1

"""A bulk run's purchase IDs: reading them from a file, and storing them."""

from __future__ import annotations

import sys

import mongomock
import pytest
from bson import ObjectId

from flask_refunds.cli.id_file import read_ids
from flask_refunds.errors import InvalidRequest
from flask_refunds.storage.purchase_ids import PurchaseIds
from flask_refunds.storage.search import PurchaseFilter, PurchaseSearch

A, B, C = (f"{letter}{'0' * 23}" for letter in "abc")


def test_blank_lines_comments_and_bom_are_skipped() -> None:
    lines = [f"\ufeff{C}\r\n", "# recall of March\n", "\n", f"  {A}  \n", B]
    assert list(map(str, read_ids(lines))) == [A, B, C]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["purchaseId,amount", A], "Line 1 isn't a purchase ID (24 hex digits): purchaseId,amount"),
        ([A, f"{B},19.99"], f"Line 2 isn't a purchase ID (24 hex digits): {B},19.99"),
        ([A, "", B, A.upper()], f"Line 4 repeats line 1: {A}"),
        ([A, "\x1b[2J"], "Line 2 isn't a purchase ID (24 hex digits): \ufffd[2J"),
        (["x"] * 8, "and 3 more lines."),
        (["# nothing", ""], "The file contains no purchase IDs"),
    ],
)
def test_invalid_line_rejects_the_file(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_ids(lines)
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


def test_100000_ids_use_less_than_1300000_bytes() -> None:
    ids = PurchaseIds(ObjectId(number.to_bytes(12, "big")) for number in range(100_000))
    assert len(ids) == 100_000
    assert sys.getsizeof(ids._packed) < 1_300_000


@pytest.mark.parametrize("empty", [{}, {"status": None, "content": None, "since": None, "until": None}])
def test_selection_without_a_condition_is_never_all_purchases(empty: dict[str, None]) -> None:
    database = mongomock.MongoClient(tz_aware=True).shop
    database.purchases.insert_many([{"content": "a"}, {"content": "b"}])
    search = PurchaseSearch(database.purchases, database.users, database.contents, "stripePaymentIntentId")
    with pytest.raises(ValueError, match="every purchase"):
        search.find_ids(PurchaseFilter(**empty))
    assert len(search.find_ids(PurchaseFilter(content="b"))) == 1

"""Query parameters: strict parsing, and the message for each invalid one."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from werkzeug.test import create_environ
from werkzeug.wrappers import Request

from flask_refunds import InvalidRequest
from flask_refunds.schemas.cursors import write_id
from flask_refunds.web.query_params import QueryParams, parse_purchase_query, parse_refund_query


def params(query: str) -> QueryParams:
    return QueryParams(Request(create_environ(query_string=query)).args)


def test_query_without_parameters_has_defaults() -> None:
    purchases, refunds = parse_purchase_query(params("")), parse_refund_query(params(""))
    assert (purchases.limit, purchases.page, purchases.skip, purchases.after) == (20, None, 0, None)
    assert (refunds.limit, refunds.after, refunds.history) == (20, None, False)


def test_page_skips_the_previous_pages() -> None:
    assert parse_purchase_query(params("page=3&limit=10")).skip == 20


def test_day_given_as_to_is_part_of_the_range() -> None:
    filters = parse_refund_query(params("from=2024-03-01&to=2024-03-01")).filters
    first, end = datetime(2024, 3, 1, tzinfo=timezone.utc), datetime(2024, 3, 2, tzinfo=timezone.utc)
    assert (filters.since, filters.until) == (first, end)


LIMIT = "limit must be a whole number from 1 to 100."
PAGE = "page must be a whole number from 1 to 1000000."
TIME = "from must be a day like 2024-03-15, or a time like "
CURSOR = "after must be the nextCursor of another page."
TEXT = "paymentIntent must be text of 1 to 320 printable characters."
UNKNOWN = "Unknown query parameter."
INVALID = {
    "limit=0": LIMIT,
    "limit=101": LIMIT,
    "limit=1e1": LIMIT,
    "limit=+5": LIMIT,
    "limit=%D9%A5": LIMIT,
    "limit=": LIMIT,
    "status=": "status must be ",
    "status=pending&status=failed": "status is repeated.",
    "from=yesterday": TIME,
    "from=2024-02-30": "from must be an existing day or time.",
    "from=2024-03-15T10:30:00": TIME,
    "from=0001-01-01T00:00:00%2B23:00": "from must be an existing day or time.",
    "to=9999-12-31": "to must be between 1970-01-01 and 2100-01-01.",
    "from=2024-03-02&to=2024-03-01": "from must be before to.",
    "after=nonsense": CURSOR,
    "after=MTIzNDU2Nzg5MDEyMzQ1IHBpXzE6MQ": CURSOR,
    "after=%FF%FE": CURSOR,
    "paymentIntent=": TEXT,
    "paymentIntent=a%00b": TEXT,
    "satus=failed": UNKNOWN,
    "status[$ne]=failed": UNKNOWN,
}


@pytest.mark.parametrize("parse", [parse_purchase_query, parse_refund_query])
@pytest.mark.parametrize("query", INVALID)
def test_invalid_parameter_is_rejected(parse: Any, query: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(params(query))
    assert caught.value.message.startswith(INVALID[query])


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=99999999999999999999"])
def test_invalid_page_number_is_rejected(query: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_purchase_query(params(query))
    assert caught.value.message == PAGE


def test_page_and_cursor_together_are_rejected() -> None:
    with pytest.raises(InvalidRequest, match="not both"):
        parse_purchase_query(params(f"page=2&after={write_id(7)}"))


@pytest.mark.parametrize("name", ["", "-", ".hidden", "a b", "a/b", "a" * 65, "%D9%A1"])
def test_invalid_bulk_run_name_is_rejected(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^bulkRun must be 1 to 64 of A-Z, a-z, 0-9"):
        parse_refund_query(params(f"bulkRun={name}"))


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False)])
def test_boolean_parameters_are_true_or_false(text: str, value: bool) -> None:
    query = parse_refund_query(params(f"needsReview={text}&history={text}"))
    assert (query.filters.needs_review, query.history) == (value, value)
    with pytest.raises(InvalidRequest, match="needsReview must be one of true, false"):
        parse_refund_query(params("needsReview=1"))

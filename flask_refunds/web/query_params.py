"""Parse query parameters strictly.

Unknown, repeated and invalid parameters are errors: a misspelled name must not return every purchase.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, get_args

from werkzeug.datastructures import MultiDict

from ..errors import InvalidRequest
from ..metrics.report import check_range
from ..models import Reason, RefundStatus
from ..schemas.cursors import DEFAULT_LIMIT, MAX_LIMIT, read_cursor, read_purchase_cursor
from ..schemas.inputs import parse_bulk_name, parse_end, parse_moment
from ..storage.search import PurchaseCursor, PurchaseFilter, RefundCursor, RefundFilter

MAX_PAGE = 1_000_000
_MAX_TEXT = 320
"""The longest e-mail address (RFC 5321, section 4.5.3.1)."""

_WHOLE_NUMBER = re.compile(r"[1-9]\d{0,9}", re.ASCII)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PurchaseQuery:
    """The parameters of ``GET /admin/all``."""

    filters: PurchaseFilter
    limit: int
    page: int | None
    """From 1."""
    after: PurchaseCursor | None

    @property
    def skip(self) -> int:
        """How many purchases the previous pages contain."""
        return ((self.page or 1) - 1) * self.limit


@dataclass(frozen=True, slots=True)
class RefundQuery:
    """The parameters of ``GET /admin/refunds``."""

    filters: RefundFilter
    limit: int
    after: RefundCursor | None
    history: bool


class QueryParams:
    """The parameters of one request, read one by one; :meth:`end` rejects the remaining ones."""

    def __init__(self, parameters: MultiDict[str, str]) -> None:
        self._unread = parameters.to_dict(flat=False)

    def read(self, name: str, parse: Callable[[str], _T]) -> _T | None:
        """Return a parameter, or ``None`` if it is missing.

        :raises InvalidRequest: 400; it is repeated, or ``parse`` raises a ``ValueError`` with what it must
            be.
        """
        values = self._unread.pop(name, [])
        if not values:
            return None
        if len(values) > 1:
            raise InvalidRequest(f"{name} is repeated.")
        try:
            return parse(values[0])
        except ValueError as error:
            raise InvalidRequest(f"{name} must be {error}.") from None

    def end(self) -> None:
        """Reject parameters that weren't read.

        :raises InvalidRequest: 400.
        """
        if self._unread:
            raise InvalidRequest("Unknown query parameter. See the API reference for supported parameters.")


def parse_purchase_query(params: QueryParams) -> PurchaseQuery:
    """Parse the parameters of ``GET /admin/all``.

    :raises InvalidRequest: 400; says what is wrong.
    """
    since, until = _parse_range(params)
    filters = PurchaseFilter(
        status=params.read("status", _text),
        user=params.read("user", _user),
        payment_intent=params.read("paymentIntent", _text),
        since=since,
        until=until,
    )
    page = params.read("page", _whole_number(MAX_PAGE))
    after = params.read("after", read_purchase_cursor)
    query = PurchaseQuery(filters, _parse_limit(params), page, after)
    params.end()
    if page is not None and after is not None:
        raise InvalidRequest("Use page or after, not both.")
    return query


def parse_refund_query(params: QueryParams) -> RefundQuery:
    """Parse the parameters of ``GET /admin/refunds``.

    :raises InvalidRequest: 400; says what is wrong.
    """
    since, until = _parse_range(params)
    status = params.read("status", _one_of([each.value for each in RefundStatus]))
    reason: Any = params.read("reason", _one_of(get_args(Reason)))
    filters = RefundFilter(
        status=RefundStatus(status) if status else None,
        needs_review=params.read("needsReview", _boolean),
        reason=reason,
        requested_by=params.read("requestedBy", _text),
        bulk_run=params.read("bulkRun", parse_bulk_name),
        payment_intent=params.read("paymentIntent", _text),
        user=params.read("user", _user),
        since=since,
        until=until,
    )
    after, history = params.read("after", read_cursor), params.read("history", _boolean)
    query = RefundQuery(filters, _parse_limit(params), after, bool(history))
    params.end()
    return query


def parse_report_query(params: QueryParams) -> tuple[datetime | None, datetime | None, bool]:
    """Parse the parameters of ``GET /admin/refunds/metrics``.

    :return: the range: its first moment and its end; aware, in UTC; and whether to count everything.
    :raises InvalidRequest: 400; says what is wrong.
    """
    since, until = _parse_range(params)
    fresh = params.read("fresh", _boolean)
    params.end()
    return since, until, bool(fresh)


def _parse_range(params: QueryParams) -> tuple[datetime | None, datetime | None]:
    """Parse ``from`` and ``to``: days or times with an offset. A day given as ``to`` is part of the range."""
    return check_range(params.read("from", parse_moment), params.read("to", parse_end))


def _parse_limit(params: QueryParams) -> int:
    return params.read("limit", _whole_number(MAX_LIMIT)) or DEFAULT_LIMIT


def _whole_number(maximum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(text) or int(text) > maximum:
            raise ValueError(f"a whole number from 1 to {maximum}")
        return int(text)

    return parse


def _one_of(values: Any) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return text

    return parse


def _boolean(text: str) -> bool:
    return _one_of(("true", "false"))(text) == "true"


def _user(text: str) -> str:
    try:
        return _text(text)
    except ValueError as error:
        raise ValueError(f"a user's ID or e-mail address: {error}") from None


def _text(text: str) -> str:
    if not text or len(text) > _MAX_TEXT or not text.isprintable():
        raise ValueError(f"text of 1 to {_MAX_TEXT} printable characters")
    return text

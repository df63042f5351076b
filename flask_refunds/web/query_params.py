"""Strict on the way in: what may stand behind a URL's question mark.

A parameter that is not known, stands twice or cannot be read is refused in words. To pass over a misspelt
``status`` would show every purchase to who asked for some.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, get_args

from bson import ObjectId
from werkzeug.datastructures import MultiDict

from ..errors import InvalidRequest
from ..models import Reason, RefundStatus
from ..schemas.cursors import DEFAULT_LIMIT, MAX_LIMIT, read_cursor, read_purchase_cursor
from ..schemas.inputs import parse_bulk_name, parse_end, parse_moment
from ..storage.purchases import PURCHASE_STATUSES
from ..storage.search import PurchaseFilter, RefundCursor, RefundFilter

MAX_PAGE = 1_000_000
_MAX_TEXT = 320
"""The longest e-mail address (RFC 5321, section 4.5.3.1)."""


_WHOLE = re.compile(r"[1-9]\d{0,9}", re.ASCII)
_T = TypeVar("_T")


class Query:
    """The parameters of one request, read one at a time; :meth:`end` refuses the rest."""

    def __init__(self, parameters: MultiDict[str, str]) -> None:
        self._left = parameters.to_dict(flat=False)

    def read(self, name: str, parse: Callable[[str], _T]) -> _T | None:
        """One parameter, or ``None`` where it is not there.

        :raises InvalidRequest: 400; it stands twice, or ``parse`` refuses it with a ``ValueError`` in words.
        """
        values = self._left.pop(name, [])
        if not values:
            return None
        if len(values) > 1:
            raise InvalidRequest(f"{name} stands twice.")
        try:
            return parse(values[0])
        except ValueError as error:
            raise InvalidRequest(f"{name} must be {error}.") from None

    def end(self) -> None:
        """Refuse what nobody has read.

        :raises InvalidRequest: 400.
        """
        if self._left:
            raise InvalidRequest("Unknown parameter: see the documentation for those that there are.")


def parse_purchase_query(query: Query) -> tuple[PurchaseFilter, int, int | None, ObjectId | None]:
    """What ``GET /admin/all`` is asked for.

    :return: the filter, the limit, the page's number (from 1) or ``None``, and the cursor or ``None``.
    :raises InvalidRequest: 400; says what is wrong.
    """
    since, until = parse_range(query)
    wanted = PurchaseFilter(
        status=query.read("status", _one_of(PURCHASE_STATUSES)),
        user=query.read("user", _text),
        payment_intent=query.read("paymentIntent", _text),
        since=since,
        until=until,
    )
    limit, page, after = (
        _limit(query),
        query.read("page", _whole(MAX_PAGE)),
        query.read("after", read_purchase_cursor),
    )
    query.end()
    if page is not None and after is not None:
        raise InvalidRequest("Say page or after, not both.")
    return wanted, limit, page, after


def parse_refund_query(query: Query) -> tuple[RefundFilter, int, RefundCursor | None]:
    """What ``GET /admin/refunds`` is asked for.

    :return: the filter, the limit, and the cursor or ``None``.
    :raises InvalidRequest: 400; says what is wrong.
    """
    since, until = parse_range(query)
    status = query.read("status", _one_of([each.value for each in RefundStatus]))
    reason: Any = query.read("reason", _one_of(get_args(Reason)))
    wanted = RefundFilter(
        status=RefundStatus(status) if status else None,
        attention=query.read("attention", _true_or_false),
        reason=reason,
        requested_by=query.read("requestedBy", _text),
        bulk=query.read("bulk", parse_bulk_name),
        payment_intent=query.read("paymentIntent", _text),
        since=since,
        until=until,
    )
    limit, after = _limit(query), query.read("after", read_cursor)
    query.end()
    return wanted, limit, after


def parse_report_query(query: Query) -> tuple[datetime | None, datetime | None]:
    """What ``GET /admin/refunds/metrics`` is asked for.

    :return: the range, as :func:`parse_range` reads it.
    :raises InvalidRequest: 400; says what is wrong.
    """
    bounds = parse_range(query)
    query.end()
    return bounds


def parse_range(query: Query) -> tuple[datetime | None, datetime | None]:
    """``from`` and ``to``: a day, or a time with its offset. A day given as ``to`` is part of the range.

    :return: the first moment, and the one after the last; aware, in UTC.
    :raises InvalidRequest: 400; also where the range ends before it begins.
    """
    since, until = query.read("from", parse_moment), query.read("to", parse_end)
    if since is not None and until is not None and since >= until:
        raise InvalidRequest("from must be before to.")
    return since, until


def _limit(query: Query) -> int:
    return query.read("limit", _whole(MAX_LIMIT)) or DEFAULT_LIMIT


def _whole(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text) or int(text) > most:
            raise ValueError(f"a whole number from 1 to {most}")
        return int(text)

    return parse


def _one_of(words: Any) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return parse


def _true_or_false(text: str) -> bool:
    return _one_of(("true", "false"))(text) == "true"


def _text(text: str) -> str:
    if not text or len(text) > _MAX_TEXT or not text.isprintable():
        raise ValueError(f"text of 1 to {_MAX_TEXT} printable characters")
    return text

"""Strict on the way in: what may stand behind a URL's question mark.

A parameter that is not known, stands twice or cannot be read is refused in words. To pass over a misspelt
``status`` would show every purchase to who asked for some.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar, get_args

from bson import ObjectId
from werkzeug.datastructures import MultiDict

from .errors import InvalidRequest
from .models import Reason, RefundStatus, find_object_id, is_bulk_name
from .search import PurchaseFilter, RefundCursor, RefundFilter

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_PAGE = 1_000_000
_MAX_TEXT = 320
"""The longest e-mail address (RFC 5321, section 4.5.3.1)."""

PURCHASE_STATUSES = ("pending", "completed", "failed", "refunded")

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_EPOCH, _LAST = datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(2100, 1, 1, tzinfo=timezone.utc)
_WHOLE = re.compile(r"[1-9]\d{0,9}", re.ASCII)
_CURSOR = re.compile(r"(\d{1,13}) (\S{1,300})", re.ASCII)
_WANTED_CURSOR = "the nextCursor of another page"
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
    limit, page, after = _limit(query), query.read("page", _whole(MAX_PAGE)), query.read("after", _object_id)
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


def parse_moment(text: str) -> datetime:
    """A day (its first moment, UTC) or a time.

    :raises ValueError: what it must be.
    """
    if not _DAY.fullmatch(text) and not _TIME.fullmatch(text):
        raise ValueError("a day like 2024-03-15, or a time like 2024-03-15T10:30:00Z (and + written as %2B)")
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        moment = moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise ValueError("a day or a time that there is") from None
    if not _EPOCH <= moment <= _LAST:
        raise ValueError("between 1970-01-01 and 2100-01-01")
    return moment


def parse_end(text: str) -> datetime:
    """The moment after a range: a day's last moment belongs to it, a time does not.

    :raises ValueError: what it must be.
    """
    moment = parse_moment(text)
    return moment + timedelta(days=1) if _DAY.fullmatch(text) else moment


def parse_bulk_name(text: str) -> str:
    """The name of a bulk run.

    :raises ValueError: what it must be.
    """
    if not is_bulk_name(text):
        raise ValueError("1 to 64 of A-Z, a-z, 0-9, ., _ and -, and begin with a letter or digit")
    return text


def write_cursor(cursor: RefundCursor | None) -> str | None:
    """A cursor as its page's ``nextCursor`` shows it."""
    if cursor is None:
        return None
    milliseconds = (cursor.created_at - _EPOCH) // timedelta(milliseconds=1)
    return urlsafe_b64encode(f"{milliseconds} {cursor.id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> RefundCursor:
    """The cursor in an ``after``.

    :raises ValueError: it is none of ours.
    """
    try:
        plain = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode("utf-8")
    except ValueError:
        plain = ""
    read = _CURSOR.fullmatch(plain)
    if read is None:
        raise ValueError(_WANTED_CURSOR)
    return RefundCursor(_EPOCH + timedelta(milliseconds=int(read[1])), read[2])


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


def _object_id(text: str) -> ObjectId:
    object_id = find_object_id(text)
    if object_id is None:
        raise ValueError(_WANTED_CURSOR)
    return object_id

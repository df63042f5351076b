"""Page cursors as opaque text."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from bson import CodecOptions, Decimal128, ObjectId, Timestamp, decode, encode
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.errors import BSONError

from ..storage.search import PurchaseCursor, RefundCursor

DEFAULT_LIMIT = 20
MAX_LIMIT = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_CURSOR = re.compile(r"(\d{1,13}) (.{1,4000})", re.ASCII | re.DOTALL)
_EXPECTED = "the nextCursor of another page"
_MAX_LENGTH = 8000
"""The longest cursor. A longer URL wouldn't reach the app."""
_SCALARS = (str, int, float, bytes, UUID, ObjectId, datetime, DatetimeMS, Decimal128, Timestamp)
_ANY_DATE: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


def write_cursor(cursor: RefundCursor | None) -> str | None:
    """Return the cursor of a page of refunds as ``nextCursor`` shows it."""
    if cursor is None:
        return None
    milliseconds = (cursor.created_at - _EPOCH) // timedelta(milliseconds=1)
    return _to_text(f"{milliseconds} {cursor.id}".encode())


def read_cursor(text: str) -> RefundCursor:
    """Read the ``after`` of a page of refunds.

    :raises ValueError: it isn't a cursor of this library.
    """
    try:
        read = _CURSOR.fullmatch(_to_bytes(text).decode("utf-8"))
        if read is not None:
            return RefundCursor(_EPOCH + timedelta(milliseconds=int(read[1])), read[2])
    except ValueError:
        pass
    raise ValueError(_EXPECTED)


def write_purchase_cursor(cursor: PurchaseCursor | None) -> str | None:
    """Return the cursor of a page of purchases as ``nextCursor`` shows it."""
    if cursor is None:
        return None
    date = {} if cursor.created is None else {"created": cursor.created}
    return _to_text(encode(_id_document(cursor.id) | date))


def read_purchase_cursor(text: str) -> PurchaseCursor:
    """Read the ``after`` of a page of purchases.

    :raises ValueError: it isn't a cursor of this library.
    """
    document = _decode(text)
    created = document.pop("created", None)
    if created is not None and not isinstance(created, (datetime, DatetimeMS)):
        raise ValueError(_EXPECTED)
    return PurchaseCursor(_read_id(document), created)


def write_id(purchase_id: Any) -> str:
    """Return an ID with its type as opaque text.

    :param purchase_id: a scalar, or a document of scalars.
    """
    return _to_text(encode(_id_document(purchase_id)))


def read_id(text: str) -> Any:
    """Read what :func:`write_id` returned.

    :raises ValueError: it isn't from there.
    """
    return _read_id(_decode(text))


def _id_document(purchase_id: Any) -> dict[str, Any]:
    # BSON has no type for a UUID that a codec has decoded.
    return {"uuid": purchase_id.bytes} if isinstance(purchase_id, UUID) else {"id": purchase_id}


def _decode(text: str) -> dict[str, Any]:
    try:
        return decode(_to_bytes(text), _ANY_DATE)
    except (ValueError, TypeError, OverflowError, RecursionError, BSONError):
        raise ValueError(_EXPECTED) from None


def _read_id(document: Mapping[str, Any]) -> Any:
    try:
        [(name, value)] = document.items()
        if name == "uuid" and isinstance(value, bytes):
            return UUID(bytes=value)
    except (ValueError, TypeError):
        raise ValueError(_EXPECTED) from None
    parts = value.values() if isinstance(value, Mapping) else [value]
    if name != "id" or not all(isinstance(each, _SCALARS) for each in parts):
        raise ValueError(_EXPECTED)
    return value


def _to_text(plain: bytes) -> str:
    return urlsafe_b64encode(plain).decode("ascii").rstrip("=")


def _to_bytes(text: str) -> bytes:
    if len(text) > _MAX_LENGTH:
        raise ValueError(_EXPECTED)
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))

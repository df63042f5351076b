"""Page cursors as opaque text."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta, timezone

from bson import ObjectId

from ..models import find_object_id
from ..storage.search import RefundCursor

DEFAULT_LIMIT = 20
MAX_LIMIT = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_CURSOR = re.compile(r"(\d{1,13}) (\S{1,300})", re.ASCII)
_EXPECTED = "the nextCursor of another page"


def write_cursor(cursor: RefundCursor | None) -> str | None:
    """Return a cursor as ``nextCursor`` shows it."""
    if cursor is None:
        return None
    milliseconds = (cursor.created_at - _EPOCH) // timedelta(milliseconds=1)
    return urlsafe_b64encode(f"{milliseconds} {cursor.id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> RefundCursor:
    """Read the ``after`` of a page of refunds.

    :raises ValueError: it isn't a cursor of this library.
    """
    try:
        plain = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode("utf-8")
    except ValueError:
        plain = ""
    read = _CURSOR.fullmatch(plain)
    if read is None:
        raise ValueError(_EXPECTED)
    return RefundCursor(_EPOCH + timedelta(milliseconds=int(read[1])), read[2])


def read_purchase_cursor(text: str) -> ObjectId:
    """Read the ``after`` of a page of purchases.

    :raises ValueError: it isn't a cursor of this library.
    """
    object_id = find_object_id(text)
    if object_id is None:
        raise ValueError(_EXPECTED)
    return object_id

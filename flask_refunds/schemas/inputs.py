"""Parse what callers send over HTTP, on the command line and from Python."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, get_args

from ..errors import InvalidRequest, PurchaseNotFound
from ..models import IdText, Part, Reason, is_bulk_name, is_storable

Decision = Literal["retry", "failed", "dismiss"]
"""How a person resolves a review."""

MAX_BODY_BYTES = 16 * 1024
MAX_NOTE_LENGTH = 500
MAX_WHOLE_NUMBER = 2**53
"""The largest whole number that every JSON implementation reads exactly (RFC 8259, section 6)."""

_REFUND_FIELDS = ("reason", "note", "instructionsEmail")
_ADDRESS = re.compile(r"[^@\s]{1,64}@[^@\s]+")
_MAX_ADDRESS_LENGTH = 254
"""The longest e-mail address (RFC 5321, section 4.5.3.1.3)."""
_PART_NUMBERS = ("amount", "refundable", "number")
_PART_FIELDS = (*_PART_NUMBERS, "markRefunded")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(2100, 1, 1, tzinfo=timezone.utc)


def parse_purchase_id(text: str) -> IdText:
    """Parse a purchase's ID, which can be of any type that has such a text.

    :raises PurchaseNotFound: 404; MongoDB can't store the text, so no purchase has it.
    """
    if not is_storable(text):
        raise PurchaseNotFound
    return IdText(text)


def require_many(purchase_ids: Iterable[Any]) -> Iterable[Any]:
    """Return purchase IDs, unless it is a single one: its characters could be IDs, too.

    :raises InvalidRequest: 400.
    """
    if isinstance(purchase_ids, (str, bytes)):
        raise InvalidRequest("purchase_ids must be a list of IDs, not a single one. Nothing was refunded.")
    return purchase_ids


def parse_refund_request(
    body: bytes, *, allow_partial: bool = False
) -> tuple[Reason | None, str | None, Part | None, str | None]:
    """Parse the body of a refund request: empty, or a JSON object with the fields below and those of a part.

    :return: the reason, the note, the part (``None`` for all that is left), and the instructions' address.
    :raises InvalidRequest: 400; says what is wrong.
    """
    if not body.strip():
        return None, None, None, None
    fields = _parse_object(body)
    given = {name: fields.pop(name) for name in _PART_FIELDS if name in fields}
    part = parse_part(given, allowed=allow_partial)
    if fields.keys() - set(_REFUND_FIELDS):
        allowed = ", ".join((*_REFUND_FIELDS, *(_PART_FIELDS if allow_partial else ())))
        raise InvalidRequest(f"Unknown field. The body can have {allowed}. Nothing was refunded.")
    reason, note = parse_reason(fields.get("reason")), parse_note(fields.get("note"))
    return reason, note, part, parse_address(fields.get("instructionsEmail"))


def parse_part(fields: Mapping[str, Any], *, allowed: bool) -> Part | None:
    """Parse the fields of a partial refund. A field that is there counts, also if it is ``None``.

    :param allowed: whether the app allows partial refunds.
    :return: the part, or ``None`` without fields.
    :raises InvalidRequest: 400; says what is wrong.
    """
    if not fields:
        return None
    if not allowed:
        raise InvalidRequest(
            f"{next(iter(fields))} isn't supported: a refund is for the full payment, unless "
            "REFUNDS_ALLOW_PARTIAL is True. Nothing was refunded."
        )
    if not {"amount", "refundable"} <= fields.keys():
        raise InvalidRequest("A partial refund needs amount and refundable. Nothing was refunded.")
    numbers = {name: _parse_whole_number(name, fields[name]) for name in _PART_NUMBERS if name in fields}
    mark_refunded = fields.get("markRefunded", False)
    if not isinstance(mark_refunded, bool):
        raise InvalidRequest("markRefunded must be true or false. Nothing was refunded.")
    return Part(**numbers, mark_refunded=mark_refunded)


def _parse_whole_number(name: str, value: Any) -> int:
    if type(value) is not int or not 0 < value <= MAX_WHOLE_NUMBER:
        raise InvalidRequest(
            f"{name} must be a whole number from 1 to {MAX_WHOLE_NUMBER}. Nothing was refunded."
        )
    return value


def _parse_object(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY_BYTES:
        raise InvalidRequest(f"The body is larger than {MAX_BODY_BYTES} bytes. Nothing was refunded.")
    try:
        value = json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_duplicates
        )
    except (ValueError, RecursionError):
        raise InvalidRequest("The body isn't valid JSON. Nothing was refunded.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object. Nothing was refunded.")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} isn't JSON (RFC 8259, section 6)")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name is repeated")
    return fields


def parse_reason(value: Any) -> Reason | None:
    """Parse a reason: one of Stripe's three, or ``None``.

    :raises InvalidRequest: 400; says what is wrong.
    """
    reasons = get_args(Reason)
    if value is None:
        return None
    if not isinstance(value, str) or value not in reasons:
        raise InvalidRequest(f"reason must be one of {', '.join(reasons)}. Nothing was refunded.")
    reason: Reason = value  # type: ignore[assignment]
    return reason


def parse_note(value: Any) -> str | None:
    """Parse a note: text that MongoDB can store, or ``None``.

    :raises InvalidRequest: 400; says what is wrong.
    """
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_NOTE_LENGTH or not is_storable(value):
        raise InvalidRequest(
            f"note must be text of at most {MAX_NOTE_LENGTH} characters. Nothing was refunded."
        )
    return value


def parse_address(value: Any) -> str | None:
    """Parse the e-mail address to which Stripe writes its instructions, or ``None``.

    :raises InvalidRequest: 400; says what is wrong, without the address.
    """
    if value is None:
        return None
    is_short = isinstance(value, str) and len(value) <= _MAX_ADDRESS_LENGTH
    if not is_short or not value.isprintable() or not _ADDRESS.fullmatch(value):
        raise InvalidRequest(
            f"instructionsEmail must be an e-mail address of at most {_MAX_ADDRESS_LENGTH} characters. "
            "Nothing was refunded."
        )
    address: str = value
    return address


def parse_resolution(body: bytes) -> tuple[Decision, str, bool]:
    """Parse a person's decision about a review: ``{"decision": …, "comment": …, "checked": …}``.

    :return: the decision, the comment, and whether the person checked Stripe's Dashboard.
    :raises InvalidRequest: 400; says what is wrong.
    """
    fields = _parse_object(body)
    decision, comment = fields.pop("decision", None), fields.pop("comment", None)
    checked = fields.pop("checked", False)
    if fields:
        raise InvalidRequest("Unknown field. The body can have decision, comment, checked.")
    decisions = get_args(Decision)
    if not isinstance(decision, str) or decision not in decisions:
        raise InvalidRequest(f"decision must be one of {', '.join(decisions)}.")
    comment = parse_comment(comment)
    if not isinstance(checked, bool):
        raise InvalidRequest("checked must be true or false.")
    known: Decision = decision  # type: ignore[assignment]
    return known, comment, checked


def parse_cancellation(body: bytes) -> str:
    """Parse the body of a request to cancel a refund: ``{"comment": …}``.

    :return: the comment.
    :raises InvalidRequest: 400; says what is wrong.
    """
    fields = _parse_object(body)
    comment = fields.pop("comment", None)
    if fields:
        raise InvalidRequest("Unknown field. The body can have comment.")
    return parse_comment(comment)


def parse_comment(value: Any) -> str:
    """Parse the comment of a person who decides: text that isn't blank and that MongoDB can store.

    :raises InvalidRequest: 400; says what is wrong.
    """
    is_text = isinstance(value, str) and len(value) <= MAX_NOTE_LENGTH and is_storable(value)
    if not is_text or not value.strip():
        raise InvalidRequest(f"comment must say what you found, in at most {MAX_NOTE_LENGTH} characters.")
    text: str = value
    return text


def parse_moment(text: str) -> datetime:
    """Parse a day, as its first moment in UTC, or a time.

    :raises ValueError: says what it must be.
    """
    if not _DAY.fullmatch(text) and not _TIME.fullmatch(text):
        unescaped_plus = " (in a URL, write + as %2B)" if " " in text else ""
        raise ValueError(f"a day like 2024-03-15, or a time like 2024-03-15T10:30:00Z{unescaped_plus}")
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        moment = moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise ValueError("an existing day or time") from None
    if not _FIRST <= moment <= _LAST:
        raise ValueError("between 1970-01-01 and 2100-01-01")
    return moment


def parse_end(text: str) -> datetime:
    """Parse the end of a range: a day is part of the range, a time isn't.

    :raises ValueError: says what it must be.
    """
    moment = parse_moment(text)
    return moment + timedelta(days=1) if _DAY.fullmatch(text) else moment


def parse_bulk_name(text: str) -> str:
    """Parse the name of a bulk run.

    :raises ValueError: says what it must be.
    """
    if not is_bulk_name(text):
        raise ValueError("1 to 64 of A-Z, a-z, 0-9, ., _ and -, starting with a letter or digit")
    return text

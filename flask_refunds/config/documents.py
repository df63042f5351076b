"""The settings that say what the app's documents look like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from ..purchase_fields import COMPLETED, REFUNDED, includes_word
from .reader import Reader, as_tuple, is_one_or_more, is_path, is_text

PURCHASE_FIELDS: Mapping[str, str | None] = {
    "status": "status",
    "payment": "stripePaymentIntentId",
    "user": "user",
    "content": "content",
    "amount": "amount",
    "currency": "currency",
    "created": None,
    "stripe_account": None,
}
_USER_FIELDS = {"id": "_id", "name": "name", "email": "email"}
_CONTENT_FIELDS = {"title": "title", "type": "type"}
_MAX_INTEGER = 2**63
"""One more than the largest integer of MongoDB."""


def document_settings(reader: Reader) -> dict[str, Any]:
    """Read what the app's documents look like."""
    completed: Any = reader.get(
        "REFUNDS_STATUS_COMPLETED", (COMPLETED,), is_one_or_more(_is_word), "a status, or a list of statuses"
    )
    completed = as_tuple(completed)
    refunded = reader.get("REFUNDS_STATUS_REFUNDED", REFUNDED, _is_word, "a status: text, a number or a bool")
    if includes_word(completed, refunded):
        key = next(filter(reader.is_set, ("REFUNDS_STATUS_REFUNDED", "REFUNDS_STATUS_COMPLETED")))
        reader.reject(key, "must differ: completed and refunded purchases can't have the same status")
    fields = _fields(reader, "REFUNDS_PURCHASE_FIELDS", PURCHASE_FIELDS)
    if fields["status"] in ("_id", *(path for name, path in fields.items() if name != "status")):
        reader.reject("REFUNDS_PURCHASE_FIELDS", "must have a field of its own as status")
    return {
        "refunds_purchase_fields": fields,
        "refunds_user_fields": _fields(reader, "REFUNDS_USER_FIELDS", _USER_FIELDS),
        "refunds_content_fields": _fields(reader, "REFUNDS_CONTENT_FIELDS", _CONTENT_FIELDS),
        "refunds_status_completed": completed,
        "refunds_status_refunded": refunded,
        "refunds_amount_unit": reader.get(
            "REFUNDS_AMOUNT_UNIT", "major", lambda value: value in ("major", "minor"), "major or minor"
        ),
        "refunds_user_loader": reader.function("REFUNDS_USER_LOADER"),
        "refunds_is_admin": reader.function("REFUNDS_IS_ADMIN"),
    }


def _is_word(value: Any) -> bool:
    """Return whether a field can have this value as a status."""
    if isinstance(value, int) and not isinstance(value, bool):
        return -_MAX_INTEGER <= value < _MAX_INTEGER
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (bool, ObjectId)) or is_text(value)


def _fields(reader: Reader, key: str, defaults: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the field paths of the app's documents: the setting, merged over the defaults.

    A field inside another one is rejected, because MongoDB can't return both.
    """

    def is_valid(value: Any) -> bool:
        if not isinstance(value, Mapping) or not value.keys() <= defaults.keys():
            return False
        merged = {**defaults, **_set_fields(value)}.items()
        paths = {name: path for name, path in merged if path is not None or defaults[name]}
        are_paths = all(is_path(_without_dbref(name, path)) for name, path in paths.items())
        return are_paths and not any(a.startswith(f"{b}.") for a in paths.values() for b in paths.values())

    known = ", ".join(defaults)
    expected = f"a dict of field paths, none inside another; its keys can be: {known}"
    given: Mapping[str, Any] = reader.get(key, {}, is_valid, expected)
    return {**defaults, **_set_fields(given)}


def _set_fields(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out what isn't set: an environment variable may be empty."""
    return {name: path for name, path in given.items() if path != ""}


def _without_dbref(name: str, path: Any) -> Any:
    """Return the field that contains the DBRef, if a path is that of the ID in it, such as ``user.$id``."""
    is_reference = name in ("user", "content") and isinstance(path, str)
    return path.removesuffix(".$id") if is_reference else path

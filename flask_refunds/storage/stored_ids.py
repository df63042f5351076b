"""The forms in which documents may store an ID that is known as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from bson import Binary
from bson.binary import CSHARP_LEGACY, JAVA_LEGACY, PYTHON_LEGACY, STANDARD

from ..models import IdText, find_object_id, id_text
from .connection import Collection, Database

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_LEGACY = frozenset({PYTHON_LEGACY, JAVA_LEGACY, CSHARP_LEGACY})


def matching_ids(identity: Any, collection: Collection) -> list[Any]:
    """Return the IDs that an ID matches: those shown like a text, or only the value itself.

    :param identity: an :class:`IdText`, or a value.
    """
    if isinstance(identity, IdText):
        return _shown_as(identity.text, collection)
    return [encodable_id(identity, collection)]


def stored_ids(identity: Any, collection: Collection) -> list[Any]:
    """Return the forms in which other documents may refer to an ID: as it is, and all that are shown like it.

    :param identity: a value, or its text.
    """
    own = encodable_id(identity, collection)
    if isinstance(own, Mapping) and any(name.startswith("$") for name in own):
        return []  # such as {"$oid": …} after an import: no ID is like it, and MongoDB rejects it in a query
    return [own, *(each for each in _shown_as(id_text(identity), collection) if each != own)]


def stored_words(text: str) -> tuple[Any, ...]:
    """Return the statuses that are shown as a text: text, a whole number, true or false."""
    integer = [int(text)] if _is_integer(text) else []
    return (text, *integer, *([text == "true"] if text in ("true", "false") else []))


def encodable_id(value: Any, collection: Collection | Database) -> Any:
    """Return an ID that the codec can encode: without a representation of UUIDs, it rejects a ``UUID``."""
    return Binary.from_uuid(value) if isinstance(value, UUID) and not _representation(collection) else value


def _shown_as(text: str, collection: Collection) -> list[Any]:
    object_id = find_object_id(text)
    if object_id is not None:
        return [text, object_id]  # 24 digits are too many for an integer, and too few for a UUID
    forms: list[Any] = [text]
    if _is_integer(text):
        forms.append(int(text))
    if _UUID.fullmatch(text):
        # The codec tells the byte order of the legacy subtype; without such a codec, it can be any.
        legacy = {_representation(collection)} & _LEGACY or _LEGACY
        forms += [Binary.from_uuid(UUID(text), each) for each in sorted({STANDARD} | legacy)]
    return forms


def _is_integer(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63


def _representation(collection: Collection | Database) -> int:
    return collection.codec_options.uuid_representation

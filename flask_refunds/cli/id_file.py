"""Purchase ids from a text file, one a line."""

from __future__ import annotations

from collections.abc import Iterable

from bson import ObjectId

from ..errors import InvalidRequest
from ..models import find_object_id
from ..storage.purchase_ids import PurchaseIds

_TOLD_LINES = 5


def read_ids(lines: Iterable[str]) -> PurchaseIds:
    """Read purchases' ids, one a line; blank lines and those that begin with ``#`` are passed over.

    :raises InvalidRequest: 400; a line is no id, or repeats one: it names the lines. Or there is none.
    """
    seen: dict[ObjectId, int] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.removeprefix("\ufeff").strip() if number == 1 else line.strip()
        if not text or text.startswith("#"):
            continue
        purchase_id = find_object_id(text)
        if purchase_id is None:
            problems.append(f"Line {number} is no purchase's id (24 hex digits): {_shown(text)}")
        elif purchase_id in seen:
            problems.append(f"Line {number} repeats line {seen[purchase_id]}: {purchase_id}")
        else:
            seen[purchase_id] = number
    if problems:
        raise InvalidRequest("\n".join([*_first(problems), "Nothing was refunded."]))
    if not seen:
        raise InvalidRequest("There is no id in it, one a line. Nothing was refunded.")
    return PurchaseIds(seen)


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else "\ufffd" for each in text[:40])


def _first(problems: list[str]) -> list[str]:
    more = len(problems) - _TOLD_LINES
    return problems[:_TOLD_LINES] + ([f"and {more} lines more."] if more > 0 else [])

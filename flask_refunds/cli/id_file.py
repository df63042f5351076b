"""Read purchase IDs from a text file, one per line."""

from __future__ import annotations

from collections.abc import Iterable

from bson import ObjectId

from ..errors import InvalidRequest
from ..models import find_object_id
from ..storage.purchase_ids import PurchaseIds
from .output import printable

_MAX_REPORTED_LINES = 5


def read_ids(lines: Iterable[str]) -> PurchaseIds:
    """Read one purchase ID per line. Blank lines and lines that start with ``#`` are skipped.

    :raises InvalidRequest: 400; a line isn't an ID or repeats one, or the file has no IDs.
    """
    seen: dict[ObjectId, int] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.removeprefix("\ufeff").strip() if number == 1 else line.strip()
        if not text or text.startswith("#"):
            continue
        purchase_id = find_object_id(text)
        if purchase_id is None:
            problems.append(f"Line {number} isn't a purchase ID (24 hex digits): {printable(text[:40])}")
        elif purchase_id in seen:
            problems.append(f"Line {number} repeats line {seen[purchase_id]}: {purchase_id}")
        else:
            seen[purchase_id] = number
    if problems:
        raise InvalidRequest("\n".join([*_first(problems), "Nothing was refunded."]))
    if not seen:
        raise InvalidRequest("The file contains no purchase IDs, one per line. Nothing was refunded.")
    return PurchaseIds(seen)


def _first(problems: list[str]) -> list[str]:
    more = len(problems) - _MAX_REPORTED_LINES
    return problems[:_MAX_REPORTED_LINES] + ([f"and {more} more lines."] if more > 0 else [])

"""Read purchase IDs from a text file, one per line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import InvalidRequest
from ..models import id_text
from ..storage.purchase_ids import PurchaseIds, sort_key
from .output import printable

_MAX_REPORTED_LINES = 5
_MAX_LENGTH = 1000


def read_ids(lines: Iterable[str], resolve: Callable[[Sequence[str]], Mapping[str, Any]]) -> PurchaseIds:
    """Read one purchase ID per line. Blank lines and lines that start with ``#`` are skipped.

    :param resolve: returns the IDs of existing purchases by the texts that name them.
    :raises InvalidRequest: 400; a line isn't an ID or repeats one, or the file has no IDs of purchases.
    """
    texts: dict[int, str] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.removeprefix("\ufeff").strip() if number == 1 else line.strip()
        if not text or text.startswith("#"):
            continue
        if text.isprintable() and len(text) <= _MAX_LENGTH:
            texts[number] = text
        else:
            problems.append(f"Line {number} isn't a purchase ID: {printable(text[:40])}")
    found = resolve(list(texts.values()))
    ids = {number: found.get(text, text) for number, text in texts.items()}
    seen: dict[Any, int] = {}
    for number, purchase_id in ids.items():
        first = seen.setdefault(sort_key(purchase_id), number)
        if first != number:
            problems.append(f"Line {number} repeats line {first}: {id_text(purchase_id)}")
    if problems:
        raise InvalidRequest("\n".join([*_first(problems), "Nothing was refunded."]))
    if not found:
        raise InvalidRequest(
            "The file contains no IDs of existing purchases, one per line. Nothing was refunded."
        )
    return PurchaseIds(ids.values())


def _first(problems: list[str]) -> list[str]:
    more = len(problems) - _MAX_REPORTED_LINES
    return problems[:_MAX_REPORTED_LINES] + ([f"and {more} more lines."] if more > 0 else [])

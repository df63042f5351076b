"""Which purchases a bulk run is about: their ids, in order and each once, twelve bytes apiece."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from bson import ObjectId

from .errors import InvalidRequest
from .models import find_object_id

_TOLD_LINES = 5
_SIZE = 12


class PurchaseIds(Sequence[ObjectId]):
    """Ids by their value: the purchases of one cart were made together, so they stand together."""

    def __init__(self, ids: Iterable[ObjectId]) -> None:
        self._packed = b"".join(sorted({each.binary for each in ids}))

    def __len__(self) -> int:
        return len(self._packed) // _SIZE

    def __getitem__(self, index: int) -> ObjectId:  # type: ignore[override]
        return ObjectId(self._at(range(len(self))[index]))

    def __iter__(self) -> Iterator[ObjectId]:
        return map(self.__getitem__, range(len(self)))

    def from_place(self, begin: int) -> Iterator[ObjectId]:
        """All of them, those before a place after those that follow it."""
        return map(self.__getitem__, chain(range(begin, len(self)), range(begin)))

    def __contains__(self, purchase_id: object) -> bool:
        if not isinstance(purchase_id, ObjectId):
            return False
        wanted = purchase_id.binary
        place = bisect_left(range(len(self)), wanted, key=self._at)
        return place < len(self) and self._at(place) == wanted

    def _at(self, index: int) -> bytes:
        return self._packed[index * _SIZE : (index + 1) * _SIZE]


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

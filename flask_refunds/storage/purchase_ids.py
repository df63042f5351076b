"""The purchase IDs of a bulk run: sorted, without duplicates, and ObjectIds at twelve bytes each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from bson import ObjectId

from ..errors import InvalidRequest
from ..models import id_text

_SIZE = 12
_UNHASHABLE = "IDs that are documents or decimals can't be refunded in bulk. Nothing was refunded."


def sort_key(purchase_id: Any) -> tuple[str, str]:
    """Return the key by which IDs of any type can be sorted and compared. MongoDB has one type of numbers."""
    kind = "number" if isinstance(purchase_id, (int, float)) else type(purchase_id).__name__
    return kind, id_text(purchase_id)


class PurchaseIds(Sequence[Any]):
    """Sorted IDs, ObjectIds first. The purchases of one cart were created together, so they are adjacent.

    :raises InvalidRequest: 400; an ID is a document or a decimal.
    """

    def __init__(self, ids: Iterable[Any]) -> None:
        packed: set[bytes] = set()
        others: set[Any] = set()
        for each in ids:
            if not isinstance(each, Hashable):
                raise InvalidRequest(_UNHASHABLE)
            packed.add(each.binary) if isinstance(each, ObjectId) else others.add(each)
        self._packed = b"".join(sorted(packed))
        self._others = sorted(others, key=sort_key)

    def __len__(self) -> int:
        return len(self._packed) // _SIZE + len(self._others)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        index = range(len(self))[index]
        object_ids = len(self._packed) // _SIZE
        return ObjectId(self._at(index)) if index < object_ids else self._others[index - object_ids]

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def starting_at(self, begin: int) -> Iterator[Any]:
        """Yield all IDs from this position to the end, then those before it."""
        return map(self.__getitem__, chain(range(begin, len(self)), range(begin)))

    def __contains__(self, purchase_id: object) -> bool:
        if not isinstance(purchase_id, ObjectId):
            place = bisect_left(self._others, sort_key(purchase_id), key=sort_key)
            return self._others[place : place + 1] == [purchase_id]
        wanted = purchase_id.binary
        place = bisect_left(range(len(self._packed) // _SIZE), wanted, key=self._at)
        return self._at(place) == wanted  # empty after the last one

    def _at(self, index: int) -> bytes:
        return self._packed[index * _SIZE : (index + 1) * _SIZE]

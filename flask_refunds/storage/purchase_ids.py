"""The purchase IDs of a bulk run: sorted, without duplicates, at twelve bytes each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from bson import ObjectId

_SIZE = 12


class PurchaseIds(Sequence[ObjectId]):
    """Sorted IDs. The purchases of one cart were created together, so they are adjacent."""

    def __init__(self, ids: Iterable[ObjectId]) -> None:
        self._packed = b"".join(sorted({each.binary for each in ids}))

    def __len__(self) -> int:
        return len(self._packed) // _SIZE

    def __getitem__(self, index: int) -> ObjectId:  # type: ignore[override]
        return ObjectId(self._at(range(len(self))[index]))

    def __iter__(self) -> Iterator[ObjectId]:
        return map(self.__getitem__, range(len(self)))

    def starting_at(self, begin: int) -> Iterator[ObjectId]:
        """Yield all IDs from this position to the end, then those before it."""
        return map(self.__getitem__, chain(range(begin, len(self)), range(begin)))

    def __contains__(self, purchase_id: object) -> bool:
        if not isinstance(purchase_id, ObjectId):
            return False
        wanted = purchase_id.binary
        place = bisect_left(range(len(self)), wanted, key=self._at)
        return place < len(self) and self._at(place) == wanted

    def _at(self, index: int) -> bytes:
        return self._packed[index * _SIZE : (index + 1) * _SIZE]

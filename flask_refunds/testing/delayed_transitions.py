"""What the banks will make of refunds later."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(order=True)
class DelayedTransition:
    """A refund that changes from ``before`` to ``after`` at a time, unless it has changed by then."""

    at: float
    order: int
    refund_id: str = field(compare=False)
    before: str = field(compare=False)
    after: str = field(compare=False)


class DelayedTransitions:
    """Changes to come, soonest first; those of the same time in the order of their planning."""

    def __init__(self) -> None:
        self._dues: list[DelayedTransition] = []
        self._planned = 0

    def add(self, at: float, refund_id: str, *, before: str, after: str) -> None:
        """Plan a change, ``at`` seconds since the epoch."""
        self._planned += 1
        heapq.heappush(self._dues, DelayedTransition(at, self._planned, refund_id, before, after))

    def pop_due(self, now: float) -> Iterator[DelayedTransition]:
        """Take out what is due."""
        while self._dues and self._dues[0].at <= now:
            yield heapq.heappop(self._dues)

"""Refund status changes that happen later."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(order=True)
class DelayedTransition:
    """A status change at a given time. It is skipped if the refund is no longer in ``from_status``."""

    at: float
    sequence: int
    refund_id: str = field(compare=False)
    from_status: str = field(compare=False)
    to_status: str = field(compare=False)


class DelayedTransitions:
    """A queue of transitions, ordered by time and then by the order in which they were added."""

    def __init__(self) -> None:
        self._heap: list[DelayedTransition] = []
        self._added = 0

    def add(self, at: float, refund_id: str, *, from_status: str, to_status: str) -> None:
        """Add a transition at ``at``, in seconds since the epoch."""
        self._added += 1
        heapq.heappush(self._heap, DelayedTransition(at, self._added, refund_id, from_status, to_status))

    def __iter__(self) -> Iterator[DelayedTransition]:
        """Iterate over the transitions, in order."""
        return iter(sorted(self._heap))

    def pop_due(self, now: float) -> Iterator[DelayedTransition]:
        """Remove and yield the transitions that are due."""
        while self._heap and self._heap[0].at <= now:
            yield heapq.heappop(self._heap)

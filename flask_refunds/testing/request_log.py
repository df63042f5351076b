"""What the sandbox was asked."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .faults import Fault
from .objects import snapshot

_KEPT = 200_000


@dataclass
class ReceivedRequest:
    """A request as it arrived.

    ``status`` is what the caller was answered: None while it waits and for good when no answer
    went out. ``fault`` is what it suffered.
    """

    method: str
    path: str
    params: dict[str, Any]
    idempotency_key: str | None
    request_id: str
    fault: Fault | None = None
    status: int | None = None


class RequestLog:
    """The last 200,000 requests, oldest first."""

    def __init__(self) -> None:
        self._requests: deque[ReceivedRequest] = deque(maxlen=_KEPT)

    def add(self, request: ReceivedRequest) -> None:
        """Write a request down."""
        self._requests.append(request)

    def count(self, method: str | None = None, path: str | None = None) -> int:
        """How many requests are of this method and exact path."""
        return sum(1 for _ in self._of(method, path))

    def count_by_status(self) -> dict[str, int]:
        """How many requests were answered with each status; ``none`` for those without an answer."""
        return dict(Counter(str(request.status or "none") for request in self._requests))

    def find(self, method: str | None = None, path: str | None = None) -> list[ReceivedRequest]:
        """Copies of the requests of this method and exact path."""
        return [replace(request, params=snapshot(request.params)) for request in self._of(method, path)]

    def clear(self) -> None:
        """Forget all of them."""
        self._requests.clear()

    def _of(self, method: str | None, path: str | None) -> Iterator[ReceivedRequest]:
        for request in self._requests:
            if method in (None, request.method) and path in (None, request.path):
                yield request

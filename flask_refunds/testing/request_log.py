"""A log of the requests that the sandbox received."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .faults import Fault
from .objects import copy_json

MAX_REQUESTS = 200_000


@dataclass
class ReceivedRequest:
    """A request that the sandbox received.

    ``status`` is the status of the response. It is None while the request is running, and stays None
    if no response was sent. ``fault`` is the fault that was applied to the request. ``account`` is the
    connected account that the request names.
    """

    method: str
    path: str
    params: dict[str, Any]
    idempotency_key: str | None
    request_id: str
    fault: Fault | None = None
    status: int | None = None
    account: str | None = None

    def __str__(self) -> str:
        params = "".join(f" {name}={value}" for name, value in self.params.items())
        fault = f"  [{self.fault}]" if self.fault else ""
        return f"{self.method} {self.path}{params} -> {self.status or 'no answer'}{fault}"


class RequestLog:
    """The last 200,000 requests, oldest first."""

    def __init__(self) -> None:
        self._requests: deque[ReceivedRequest] = deque(maxlen=MAX_REQUESTS)

    def add(self, request: ReceivedRequest) -> None:
        """Append a request."""
        self._requests.append(request)

    def count(self, method: str | None = None, path: str | None = None) -> int:
        """Return the number of requests with this method and exact path."""
        return sum(1 for _ in self._matching(method, path))

    def count_by_status(self) -> dict[str, int]:
        """Return the number of requests by response status; ``none`` counts those without a response."""
        return dict(Counter(str(request.status or "none") for request in self._requests))

    def find(self, method: str | None = None, path: str | None = None) -> list[ReceivedRequest]:
        """Return copies of the requests with this method and exact path."""
        return [
            replace(request, params=copy_json(request.params)) for request in self._matching(method, path)
        ]

    def last_post(self) -> ReceivedRequest:
        """Return a copy of the latest POST request.

        :raises LookupError: there was none.
        """
        for request in reversed(self._requests):
            if request.method == "POST":
                return replace(request, params=copy_json(request.params))
        raise LookupError("The sandbox has received no POST request.")

    def clear(self) -> None:
        """Delete all requests."""
        self._requests.clear()

    def _matching(self, method: str | None, path: str | None) -> Iterator[ReceivedRequest]:
        for request in self._requests:
            if method in (None, request.method) and path in (None, request.path):
                yield request

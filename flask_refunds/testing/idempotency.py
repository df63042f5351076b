"""Idempotency keys as version 1 of Stripe's API treats them.

https://docs.stripe.com/api/idempotent_requests: the answer of the first request with a key is
stored once its endpoint began to run, errors and 500s included, and given again to every later
request with that key for at least 24 hours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import ApiError, invalid, key_in_use
from .http_server import Response

KEY_LENGTH = 255
KEPT_FOR_SECONDS = 24 * 3600


@dataclass
class KeyRecord:
    """The first use of a key: what it asked, and what it was answered."""

    key: str
    livemode: bool
    path: str
    params: dict[str, Any]
    request_id: str
    used_at: float
    answer: Response | None = field(default=None, repr=False)


class IdempotencyKeys:
    """Every key that Stripe still remembers."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tickets: OrderedDict[tuple[bool, str], KeyRecord] = OrderedDict()

    def claim(
        self, key: str, *, livemode: bool, path: str, params: dict[str, Any], request_id: str
    ) -> KeyRecord:
        """This key's ticket: an answered one is to be replayed, one without an answer is ours.

        :raises ApiError: 400 when the key was used for something else or is too long; 409 when its
            first request still runs.
        """
        if len(key) > KEY_LENGTH:
            message = f"Idempotency keys can be at most {KEY_LENGTH} characters long."
            raise invalid(message)
        self._forget()
        first = self._tickets.get((livemode, key))
        if first is None:
            first = KeyRecord(key, livemode, path, params, request_id, self._now())
            self._tickets[livemode, key] = first
            return first
        if (first.path, first.params) != (path, params):
            raise _misused(first, path)
        if first.answer is None:
            raise key_in_use(key)
        return first

    def answered(self, ticket: KeyRecord, answer: Response) -> None:
        """Store the answer: it stands as long as the key is known."""
        ticket.answer = answer

    def clear(self) -> None:
        """Forget all keys."""
        self._tickets.clear()

    def _forget(self) -> None:
        too_old = self._now() - KEPT_FOR_SECONDS
        while self._tickets:
            oldest = next(iter(self._tickets.values()))
            if oldest.used_at > too_old or oldest.answer is None:
                return
            self._tickets.popitem(last=False)


def _misused(first: KeyRecord, path: str) -> ApiError:
    scope = "with the same parameters they were first used with"
    if first.path != path:
        scope = f"for the same endpoint they were first used for ('{path}' vs '{first.path}')"
    return invalid(
        f"Keys for idempotent requests can only be used {scope}. Try using a key other than "
        f"'{first.key}' if you meant to execute a different request.",
        type="idempotency_error",
    )

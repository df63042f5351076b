"""Idempotency keys, as in version 1 of Stripe's API.

Once an endpoint has run, its response is stored under the request's key, including errors and 500s.
Later requests with the same key get that response for at least 24 hours
(https://docs.stripe.com/api/idempotent_requests).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .errors import ApiError, idempotency_key_in_use, invalid
from .http_server import Response

MAX_KEY_LENGTH = 255
KEY_LIFETIME_SECONDS = 24 * 3600


@dataclass
class KeyRecord:
    """The first request with a key, and the response to it. ``scope`` is the account and mode."""

    key: str
    scope: str
    path: str
    params: dict[str, Any]
    request_id: str
    created_at: float
    response: Response | None = field(default=None, repr=False)


class IdempotencyKeys:
    """The idempotency keys that haven't expired."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._records: OrderedDict[tuple[str, str], KeyRecord] = OrderedDict()

    def claim(self, key: str, *, scope: str, path: str, params: dict[str, Any], request_id: str) -> KeyRecord:
        """Return the record of this key, and create it for the first request.

        :param scope: the account and mode, which have keys of their own.

        If the record has a response, replay it. Otherwise run the endpoint and store its response.

        :raises ApiError: 400 if the key is too long or was used for another request; 409 if the first
            request with this key is still running.
        """
        if len(key) > MAX_KEY_LENGTH:
            message = f"Idempotency keys can be at most {MAX_KEY_LENGTH} characters long."
            raise invalid(message)
        self._remove_expired()
        record = self._records.get((scope, key))
        if record is None:
            record = KeyRecord(key, scope, path, params, request_id, self._now())
            self.add(record)
            return record
        if (record.path, record.params) != (path, params):
            raise _different_request(record, path)
        if record.response is None:
            raise idempotency_key_in_use(key)
        return record

    def __iter__(self) -> Iterator[KeyRecord]:
        """Iterate over the keys' records, oldest first."""
        return iter(self._records.values())

    def add(self, record: KeyRecord) -> None:
        """Add the record of a key."""
        self._records[record.scope, record.key] = record

    def clear(self) -> None:
        """Delete all keys."""
        self._records.clear()

    def _remove_expired(self) -> None:
        expired_before = self._now() - KEY_LIFETIME_SECONDS
        while self._records:
            oldest = next(iter(self._records.values()))
            if oldest.created_at > expired_before or oldest.response is None:
                return
            self._records.popitem(last=False)


def _different_request(record: KeyRecord, path: str) -> ApiError:
    scope = "with the same parameters they were first used with"
    if record.path != path:
        scope = f"for the same endpoint they were first used for ('{path}' vs '{record.path}')"
    return invalid(
        f"Keys for idempotent requests can only be used {scope}. Try using a key other than "
        f"'{record.key}' if you meant to execute a different request.",
        type="idempotency_error",
    )

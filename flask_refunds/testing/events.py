"""The events of an account.

https://docs.stripe.com/api/events/types
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .objects import JsonObject
from .signatures import make_event


@dataclass(frozen=True)
class ApiCall:
    """The API request behind a change; the default is Stripe itself, or its Dashboard.

    ``forced_status`` is the status that a refund gets whatever the card says.
    """

    request_id: str | None = None
    idempotency_key: str | None = None
    forced_status: str | None = None


NO_API_CALL = ApiCall()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it was when it happened.

    Kept as text: an account that has seen a million events must not be a million trees of dicts.
    """

    id: str
    type: str
    created: int
    encoded: str

    def load(self) -> JsonObject:
        """The event; a new copy each time."""
        return dict(json.loads(self.encoded))


class EventLog:
    """All events so far.

    :param now: gives the time in seconds since the epoch.
    :param on_event: told of each.
    """

    def __init__(
        self, *, now: Callable[[], float], livemode: bool, on_event: Callable[[StoredEvent], None] | None
    ) -> None:
        self._now = now
        self._livemode = livemode
        self._on_event = on_event
        self.by_id: dict[str, StoredEvent] = {}

    def __iter__(self) -> Iterator[StoredEvent]:
        """Oldest first."""
        return iter(self.by_id.values())

    def emit(
        self,
        event_type: str,
        subject: Mapping[str, Any],
        call: ApiCall = NO_API_CALL,
        previous_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Something happened to an object, by an API request or by Stripe."""
        event = make_event(
            event_type,
            subject,
            previous_attributes=previous_attributes,
            created=int(self._now()),
            livemode=self._livemode,
            request_id=call.request_id,
            idempotency_key=call.idempotency_key,
        )
        stored = StoredEvent(event["id"], event_type, event["created"], json.dumps(event))
        self.by_id[stored.id] = stored
        if self._on_event is not None:
            self._on_event(stored)

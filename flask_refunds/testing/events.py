"""The events of an account (https://docs.stripe.com/api/events/types)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .objects import JsonObject
from .signatures import make_event


@dataclass(frozen=True)
class ApiCall:
    """The API request that caused a change.

    ``forced_status`` is the status for a new refund, whatever the card.
    """

    request_id: str | None = None
    idempotency_key: str | None = None
    forced_status: str | None = None


NO_API_CALL = ApiCall()
"""The cause of changes that Stripe makes, or that are made in the Dashboard."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as JSON text, which takes less memory than a dict and can't change."""

    id: str
    type: str
    created: int
    encoded: str

    def load(self) -> JsonObject:
        """Return a new copy of the event."""
        return dict(json.loads(self.encoded))


class EventLog:
    """All events of an account.

    :param now: returns seconds since the epoch.
    :param on_event: called with each new event.
    """

    def __init__(
        self, *, now: Callable[[], float], livemode: bool, on_event: Callable[[StoredEvent], None] | None
    ) -> None:
        self._now = now
        self._livemode = livemode
        self._on_event = on_event
        self.by_id: dict[str, StoredEvent] = {}

    def __iter__(self) -> Iterator[StoredEvent]:
        """Iterate over the events, oldest first."""
        return iter(self.by_id.values())

    def emit(
        self,
        event_type: str,
        subject: Mapping[str, Any],
        call: ApiCall = NO_API_CALL,
        previous_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Create and store an event about an object."""
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

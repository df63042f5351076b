"""The events of an account (https://docs.stripe.com/api/events/types)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .api_versions import shows_releases
from .objects import JsonObject
from .signatures import make_event

_THIN_ID_PREFIX = "evt_65"
_sequence = itertools.count()


@dataclass(frozen=True)
class ApiCall:
    """The API request that caused a change.

    ``forced_status`` is the status for a new refund, whatever the card. ``api_version`` is the version of
    the request; None for the account's default version.
    """

    request_id: str | None = None
    idempotency_key: str | None = None
    forced_status: str | None = None
    api_version: str | None = None


NO_API_CALL = ApiCall()
"""The cause of changes that Stripe makes, or that are made in the Dashboard."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as JSON text, which takes less memory than a dict and can't change.

    :param encoded: the event as versions without released authorizations show it.
    :param encoded_with_releases: as versions with them show it, if that differs.
    :param is_about_release: whether only versions with released authorizations have this event.
    :param sequence: orders the events of all accounts.
    """

    id: str
    type: str
    created: int
    encoded: str
    encoded_with_releases: str | None = None
    is_about_release: bool = False
    sequence: int = 0

    def exists_in(self, version: str) -> bool:
        """Return whether this API version has the event."""
        return shows_releases(version) or not self.is_about_release

    def load(self, version: str | None = None) -> JsonObject:
        """Return a new copy of the event, as an API version shows it."""
        if version is None:
            return dict(json.loads(self.encoded))
        encoded = self.encoded_with_releases if shows_releases(version) else None
        return {**json.loads(encoded or self.encoded), "api_version": version}

    def load_thin(self) -> JsonObject:
        """Return the thin event about the same change."""
        event = json.loads(self.encoded)
        return make_event(
            f"v1.{self.type}",
            event["data"]["object"],
            event_id=_THIN_ID_PREFIX + self.id.removeprefix("evt_"),
            created=self.created,
            livemode=event["livemode"],
            request_id=event["request"]["id"],
            idempotency_key=event["request"]["idempotency_key"],
            account=event.get("account"),
        )


class EventLog:
    """All events of an account.

    :param now: returns seconds since the epoch.
    :param on_event: called with each new event.
    :param account: the ID of a connected account; None for the platform.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        livemode: bool,
        on_event: Callable[[StoredEvent], None] | None,
        account: str | None = None,
    ) -> None:
        self._now = now
        self._livemode = livemode
        self.on_event = on_event
        self._account = account
        self.by_id: dict[str, StoredEvent] = {}

    def __iter__(self) -> Iterator[StoredEvent]:
        """Iterate over the events, oldest first."""
        return iter(self.by_id.values())

    def find_by_thin_id(self, identifier: str) -> StoredEvent | None:
        """Return the event whose thin event has this ID, or None."""
        return self.by_id.get("evt_" + identifier.removeprefix(_THIN_ID_PREFIX))

    def emit(
        self,
        event_type: str,
        subject: Mapping[str, Any],
        call: ApiCall = NO_API_CALL,
        previous_attributes: Mapping[str, Any] | None = None,
        *,
        with_releases: Mapping[str, Any] | None = None,
        is_about_release: bool = False,
    ) -> None:
        """Create and store an event about an object.

        :param with_releases: the object as API versions with released authorizations show it.
        :param is_about_release: whether only those versions have this event.
        """
        event = make_event(
            event_type,
            subject,
            previous_attributes=previous_attributes,
            created=int(self._now()),
            livemode=self._livemode,
            request_id=call.request_id,
            idempotency_key=call.idempotency_key,
            account=self._account,
        )
        encoded_with_releases = None
        if with_releases is not None and with_releases != subject:
            data = {**event["data"], "object": with_releases}
            encoded_with_releases = json.dumps({**event, "data": data})
        stored = StoredEvent(
            event["id"],
            event_type,
            event["created"],
            json.dumps(event),
            encoded_with_releases,
            is_about_release,
            next(_sequence),
        )
        self.by_id[stored.id] = stored
        if self.on_event is not None:
            self.on_event(stored)

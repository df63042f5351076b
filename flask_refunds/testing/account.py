"""A Stripe account: its objects, and Stripe's rules for changing them.

This module does no I/O and no locking. The caller provides the clock and holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from .api_versions import API_VERSION
from .errors import missing
from .events import StoredEvent
from .objects import JsonObject, new_event_destination, new_webhook_endpoint
from .refunds import Refunds
from .signatures import format_time
from .stored_objects import FAILED_OR_CANCELED

__all__ = ["FAILED_OR_CANCELED", "Account"]


class Account(Refunds):
    """One account in one mode, and the accounts that are connected to it.

    :param now: returns seconds since the epoch.
    :param livemode: the mode of every object.
    :param enforce_amount_limit: False accepts refunds of more than the amount captured. A double refund
        then shows in :meth:`money_refunded`.
    :param refund_settles_after: seconds until a refund of an asynchronous test card changes its status.
    :param on_event: called with each new event, with the lock held.
    :param account_id: the ID of a connected account; None for the platform.
    :param api_version: the version for requests without ``Stripe-Version``.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        livemode: bool = False,
        enforce_amount_limit: bool = True,
        refund_settles_after: float = 3600.0,
        on_event: Callable[[StoredEvent], None] | None = None,
        account_id: str | None = None,
        api_version: str = API_VERSION,
    ) -> None:
        super().__init__(
            now=now,
            livemode=livemode,
            enforce_amount_limit=enforce_amount_limit,
            refund_settles_after=refund_settles_after,
            on_event=on_event,
            account_id=account_id,
            api_version=api_version,
        )
        self.webhook_endpoints: list[JsonObject] = []
        self.event_destinations: list[JsonObject] = []

    def connect(self, account: Account) -> None:
        """Connect an account to this platform."""
        account.platform = self
        self.connected_accounts[cast(str, account.account_id)] = account

    def with_connected(self) -> list[Account]:
        """Return this account and the accounts that are connected to it."""
        return [self, *(cast(Account, account) for account in self.connected_accounts.values())]

    def balance(self) -> JsonObject:
        """Return the balance by currency: captured, minus refunds and transfers, plus application fees."""
        totals: dict[str, int] = {}
        for charge in self._charges.values():
            remaining = charge["amount_captured"] - charge["amount_refunded"]
            totals[charge["currency"]] = totals.get(charge["currency"], 0) + remaining
        for transfer in self._transfers.values():
            totals[transfer["currency"]] -= transfer["amount"] - transfer["amount_reversed"]
        for fee in self._application_fees.values():
            totals[fee["currency"]] = totals.get(fee["currency"], 0) + fee["amount"] - fee["amount_refunded"]
        return {
            "object": "balance",
            "available": [
                {"amount": amount, "currency": currency, "source_types": {"card": amount}}
                for currency, amount in sorted((totals or {"usd": 0}).items())
            ],
            "livemode": self.livemode,
            "pending": [],
        }

    def add_webhook_endpoint(self, url: str, events: Sequence[str], api_version: str | None = None) -> None:
        """Register a webhook endpoint. The caller delivers the events."""
        endpoint = new_webhook_endpoint(
            url, events, created=self._time(), livemode=self.livemode, api_version=api_version
        )
        self.webhook_endpoints.append(endpoint)

    def add_event_destination(self, url: str, events: Sequence[str], events_from: Sequence[str]) -> None:
        """Register a destination of thin events. The caller delivers the events."""
        created = format_time(self._now())
        destination = new_event_destination(
            url, events, created=created, livemode=self.livemode, events_from=events_from
        )
        self.event_destinations.append(destination)

    def event_destination(self, identifier: str) -> JsonObject:
        """Return a destination of thin events, or raise a 404 :class:`ApiError`."""
        for destination in self.event_destinations:
            if destination["id"] == identifier:
                return destination
        raise missing("v2.core.event_destination", identifier)

"""Observers: instrumentation that sees each change, at most once, and can't affect the refund.

Signals differ: a receiver is called at least once, which costs each refund one more write.
"""

from __future__ import annotations

from typing import Any, Protocol

from .log import LogEvent, log_event
from .models import Refund


class Observer(Protocol):
    """The methods of an observer. They run in the thread that does the work, so they must be fast."""

    def refund_changed(self, refund: Refund) -> None:
        """Handle a refund whose new status has been durably written."""

    def stripe_request_finished(self, request: str, outcome: str, seconds: float) -> None:
        """Handle the end of one request to Stripe.

        :param request: ``create_refund``, ``retrieve_refund``, ``list_refunds``, ``retrieve_payment_intent``
            or ``list_webhook_endpoints``.
        :param outcome: ``ok``, ``rejected``, ``rate_limited``, ``key_rejected`` or ``unknown``.
        """


class Observers:
    """All observers of one app."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []

    def add(self, observer: Observer) -> None:
        """Add an observer, unless it was added before."""
        if observer not in self._observers:
            self._observers.append(observer)

    def refund_changed(self, refund: Refund) -> None:
        """Notify every observer of a refund's new status."""
        self._notify("refund_changed", refund)

    def stripe_request_finished(self, request: str, outcome: str, seconds: float) -> None:
        """Notify every observer of the end of a request to Stripe."""
        self._notify("stripe_request_finished", request, outcome, seconds)

    def _notify(self, method: str, *args: Any) -> None:
        for observer in self._observers:
            try:
                getattr(observer, method)(*args)
            except Exception as error:
                log_event(LogEvent.OBSERVER_FAILED, error)

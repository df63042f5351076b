"""Apply Stripe events to the ledger. Events may arrive twice, late, or before the answer to the request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..clock import Deadline
from ..errors import InvalidRequest, StripeCallError, StripeUnavailable
from ..log import LogEvent, log_event
from ..models import StripeRefund
from ..stripe_client.parsing import expect, parse_refund
from .stripe_sync import StripeSync

REFUND_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"})
"""Events that contain a refund. Cancellation is ``refund.updated``; older API versions send the last one."""

CHARGE_EVENTS = frozenset({"charge.refunded"})
"""Events that contain a charge. It doesn't contain its refunds, so these are listed by payment intent."""

REQUIRED_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed"}) | CHARGE_EVENTS
"""The events that a webhook endpoint at Stripe must subscribe to."""

EVENT_SECONDS = 15.0
"""How long processing one event may take: Stripe waits about 20 s, and then sends it again."""

_EVENT_ID = re.compile(r"evt_[0-9A-Za-z_]{1,100}", re.ASCII)
_EVENT_TYPE = re.compile(r"[a-z0-9_.]{1,100}", re.ASCII)


class EventHandler:
    """Applies events to the ledger.

    :param livemode: whether the app's key moves real money. Events of the other mode are rejected.
    """

    def __init__(self, stripe_sync: StripeSync, *, livemode: bool) -> None:
        self._stripe_sync = stripe_sync
        self._livemode = livemode

    def handle(self, event: Mapping[str, Any]) -> bool:
        """Update the ledger and the purchases after an event whose signature was verified.

        :param event: the event as Stripe sends it.
        :return: whether it concerns a payment of this app.
        :raises InvalidRequest: 400; it isn't an event, or is of the other mode.
        :raises StripeUnavailable: 503; it must be sent again.
        :raises DatabaseUnavailable: 500; it must be sent again.
        """
        kind, obj = self._read(event)
        processed = self._handle(kind, obj, event)
        log_event(LogEvent.WEBHOOK_PROCESSED if processed else LogEvent.WEBHOOK_IGNORED, **_log_fields(event))
        return processed

    def _handle(self, kind: str, obj: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
        deadline = Deadline.after(EVENT_SECONDS)
        try:
            if kind in REFUND_EVENTS:
                return self._upsert([_read_refund(obj, event)], deadline)
            if kind in CHARGE_EVENTS:
                return self._upsert_charge(obj, deadline)
        except StripeCallError as error:
            raise StripeUnavailable from error
        return False

    def _read(self, event: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        try:
            kind = expect(event["type"], str)
            livemode = expect(event["livemode"], bool)
            obj = expect(event["data"]["object"], dict)
        except (LookupError, TypeError):
            raise rejected("malformed", "The body isn't a Stripe event.", event) from None
        if livemode is not self._livemode:
            mode = "live" if livemode else "test"
            raise rejected("mode", f"This is a {mode}-mode event, and this server's key isn't.", event)
        return kind, obj

    def _upsert_charge(self, charge: Mapping[str, Any], deadline: Deadline) -> bool:
        payment_intent = charge.get("payment_intent")
        if not isinstance(payment_intent, str) or not self._stripe_sync.is_known_payment(payment_intent):
            return False
        return self._upsert(self._stripe_sync.list_refunds(payment_intent, deadline), deadline)

    def _upsert(self, stripe_refunds: Sequence[StripeRefund | None], deadline: Deadline) -> bool:
        known = False
        for each in stripe_refunds:
            if each is not None and self._stripe_sync.is_known_payment(each.payment_intent):
                self._stripe_sync.upsert_from_stripe(each, deadline, actor="webhook")
                known = True
        return known


def _read_refund(obj: Mapping[str, Any], event: Mapping[str, Any]) -> StripeRefund | None:
    """Return the event's refund; ``None`` if its charge has no payment intent, so it can't be this app's."""
    if obj.get("payment_intent") is None:
        return None
    request = event.get("request")
    request_id = request.get("id") if isinstance(request, Mapping) else None
    try:
        return parse_refund(obj, request_id if isinstance(request_id, str) else None)
    except (LookupError, TypeError, ValueError) as error:
        raise rejected("malformed", "The event's refund isn't as Stripe documents it.", event) from error


def rejected(reason: str, message: str, event: Mapping[str, Any] | None = None) -> InvalidRequest:
    """Log a rejected webhook request, and return its error.

    :param reason: ``signature``, ``malformed`` or ``mode``.
    :param event: what the request contains, once its signature was verified.
    """
    log_event(LogEvent.WEBHOOK_REJECTED, reason=reason, **_log_fields(event or {}))
    return InvalidRequest(message)


def _log_fields(event: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the event's ID and type for the log, if they have the form of Stripe's."""
    event_id, kind = str(event.get("id")), str(event.get("type"))
    return {
        "event_id": event_id if _EVENT_ID.fullmatch(event_id) else None,
        "event_type": kind if "type" in event and _EVENT_TYPE.fullmatch(kind) else None,
    }

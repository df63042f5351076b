"""Apply Stripe events to the ledger. Events may arrive twice, late, or before the answer to the request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..clock import Deadline
from ..errors import InvalidRequest, RequestRejected, StripeCallError, StripeUnavailable
from ..log import LogEvent, log_event
from ..models import is_account
from ..stripe_client.parsing import expect, parse_details
from .stripe_sync import StripeSync

REFUND_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"})
"""Events that contain a refund. Cancellation is ``refund.updated``; older API versions send the last one."""

CHARGE_EVENTS = frozenset({"charge.refunded"})
"""Events that contain a charge. It doesn't contain its refunds, so these are listed by payment intent."""

REQUIRED_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed"}) | CHARGE_EVENTS
"""The events that a webhook endpoint at Stripe must subscribe to."""

THIN_EVENT = "v2.core.event"
"""The ``object`` of thin events, whose types begin with ``v1.`` (https://docs.stripe.com/event-destinations)."""

EVENT_SECONDS = 15.0
"""How long processing one event may take: Stripe waits about 20 s, and then sends it again."""

_NOT_FOUND = "resource_missing"
_OBJECT_ID = re.compile(r"(re|pyr|ch|py)_[0-9A-Za-z_]{1,200}", re.ASCII)
"""IDs of refunds and charges."""
_EVENT_ID = re.compile(r"evt_[0-9A-Za-z_]{1,100}", re.ASCII)
_EVENT_TYPE = re.compile(r"[a-z0-9_.]{1,100}", re.ASCII)


class EventHandler:
    """Applies events to the ledger.

    :param livemode: whether the app's key moves real money. Events of the other mode are ignored.
    """

    def __init__(self, stripe_sync: StripeSync, *, livemode: bool) -> None:
        self._stripe_sync = stripe_sync
        self._livemode = livemode

    def handle(self, event: Mapping[str, Any]) -> bool:
        """Update the ledger and the purchases after an event whose signature was verified.

        :param event: the event as Stripe sends it.
        :return: whether it concerns a payment of this app. Other events change nothing.
        :raises InvalidRequest: 400; it doesn't have the form of an event.
        :raises StripeUnavailable: 503; it must be sent again.
        :raises DatabaseUnavailable: 500; it must be sent again.
        """
        kind = self._read_type(event)
        processed = kind is not None and self._handle(kind, event)
        log_event(LogEvent.WEBHOOK_PROCESSED if processed else LogEvent.WEBHOOK_IGNORED, **_log_fields(event))
        return processed

    def _read_type(self, event: Mapping[str, Any]) -> str | None:
        """Return the type of an event about refunds, without a thin event's version; ``None`` for others.

        The type comes first: Stripe also sends other types, v2 events, and test events to live endpoints of
        Connect platforms.
        """
        try:
            kind = expect(event["type"], str).removeprefix("v1.")
            if kind not in REFUND_EVENTS | CHARGE_EVENTS:
                return None
            livemode = expect(event["livemode"], bool)
        except (LookupError, TypeError):
            raise rejected("malformed", "The body isn't a Stripe event.", event) from None
        return kind if livemode is self._livemode else None

    def _handle(self, kind: str, event: Mapping[str, Any]) -> bool:
        deadline, account = Deadline.after(EVENT_SECONDS), event.get("account") or event.get("context")
        if account is not None and not (isinstance(account, str) and is_account(account)):
            return False
        try:
            # stripe-python's EventNotification of older releases has no object.
            if event.get("object") == THIN_EVENT or "related_object" in event:
                return self._handle_thin(kind, event, deadline, account)
            obj = _read_object(event)
            if kind in CHARGE_EVENTS:
                return self._upsert_payment(obj, deadline, account)
            return self._upsert_refund(obj, deadline, account)
        except StripeCallError as error:
            if isinstance(error, RequestRejected) and error.code == _NOT_FOUND:
                return False  # Stripe doesn't show it to this key, so it isn't this app's
            raise StripeUnavailable from error

    def _handle_thin(
        self, kind: str, event: Mapping[str, Any], deadline: Deadline, account: str | None
    ) -> bool:
        """Retrieve the object of a thin event, which contains only its ID."""
        try:
            object_id = expect(event["related_object"]["id"], str)
        except (LookupError, TypeError):
            raise rejected("malformed", "The thin event has no related object.", event) from None
        if not _OBJECT_ID.fullmatch(object_id):
            return False
        if account is not None and not self._stripe_sync.is_known_account(account):
            return False
        if kind in CHARGE_EVENTS:
            payment = self._stripe_sync.find_payment(object_id, deadline, account)
            return self._upsert_payment({"charge": object_id, "payment_intent": payment}, deadline, account)
        stripe_refund = self._stripe_sync.retrieve_refund(object_id, deadline, account)
        payment, charge = stripe_refund.payment_intent, stripe_refund.charge
        if not self._stripe_sync.is_known_payment(payment, charge, deadline, account):
            return False
        self._stripe_sync.upsert_from_stripe(stripe_refund, deadline, actor="webhook")
        return True

    def _upsert_refund(self, obj: Mapping[str, Any], deadline: Deadline, account: str | None) -> bool:
        refund_id, status = str(obj.get("id")), obj.get("status")
        if obj.get("object") != "refund" or not _OBJECT_ID.fullmatch(refund_id):
            return False
        payment = self._find_known(obj, deadline, account)
        if payment is None:
            return False
        status = status if isinstance(status, str) else None
        self._stripe_sync.upsert_from_event(
            refund_id, payment, status, deadline, account, details=parse_details(obj)
        )
        return True

    def _upsert_payment(self, obj: Mapping[str, Any], deadline: Deadline, account: str | None) -> bool:
        payment = self._find_known(obj, deadline, account)
        if payment is None:
            return False
        self._stripe_sync.upsert_all(payment, deadline, actor="webhook", account=account)
        return True

    def _find_known(self, obj: Mapping[str, Any], deadline: Deadline, account: str | None) -> str | None:
        """Return the payment of a refund or charge, if it is this app's."""
        found = obj.get("payment_intent"), obj.get("id" if obj.get("object") == "charge" else "charge")
        payment_intent, charge = (each if isinstance(each, str) else None for each in found)
        payment = payment_intent or charge
        if payment is None or not self._stripe_sync.is_known_payment(payment, charge, deadline, account):
            return None
        return payment


def _read_object(event: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return expect(event["data"]["object"], dict)
    except (LookupError, TypeError):
        raise rejected("malformed", "The body isn't a Stripe event.", event) from None


def rejected(reason: str, message: str, event: Mapping[str, Any] | None = None) -> InvalidRequest:
    """Log a rejected webhook request, and return its error.

    :param reason: ``signature`` or ``malformed``.
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

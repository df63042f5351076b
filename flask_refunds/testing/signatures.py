"""Stripe events and their signatures.

Sources: https://docs.stripe.com/api/events/object, https://docs.stripe.com/api/v2/core/events/object and
https://docs.stripe.com/webhooks#verify-manually
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from .api_versions import API_VERSION

PING = "v2.core.event_destination.ping"

_URLS = {
    "charge": "/v1/charges/",
    "dispute": "/v1/disputes/",
    "payment_intent": "/v1/payment_intents/",
    "refund": "/v1/refunds/",
    "v2.core.event_destination": "/v2/core/event_destinations/",
}


def signed_event(
    event: Mapping[str, Any], secret: str, *, timestamp: int | None = None
) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of a webhook request, signed like Stripe's.

    :param event: the event, for example from :func:`make_event`.
    :param secret: the endpoint's signing secret, ``whsec_…``.
    :param timestamp: the time of the signature, in seconds since the epoch; None for now.
    """
    body = json.dumps(event).encode()
    signed_at = int(time.time()) if timestamp is None else timestamp
    signature = hmac.new(secret.encode(), b"%d.%b" % (signed_at, body), hashlib.sha256).hexdigest()
    return body, {
        "Stripe-Signature": f"t={signed_at},v1={signature}",
        "Content-Type": "application/json",
    }


def make_event(
    event_type: str,
    subject: Mapping[str, Any],
    *,
    previous_attributes: Mapping[str, Any] | None = None,
    event_id: str | None = None,
    created: int | None = None,
    livemode: bool = False,
    api_version: str = API_VERSION,
    pending_webhooks: int = 1,
    request_id: str | None = None,
    idempotency_key: str | None = None,
    account: str | None = None,
) -> dict[str, Any]:
    """Return an event about an object.

    A type that begins with ``v1.`` or ``v2.`` makes a thin event. It names the object and doesn't contain
    it, so ``previous_attributes``, ``api_version`` and ``pending_webhooks`` have no effect.

    :param event_type: for example ``refund.updated``, ``v1.refund.updated`` or
        ``v2.core.event_destination.ping``.
    :param subject: the refund, charge or payment intent.
    :param previous_attributes: for an update, the old values of the changed fields.
    :param event_id: ``evt_…``; None for a new ID.
    :param created: seconds since the epoch; None for now.
    :param request_id: the API request that caused the event; None if Stripe caused it.
    :param account: the connected account: ``account`` of the event, or ``context`` of a thin event.
    """
    event_id = event_id or f"evt_{secrets.token_hex(12)}"
    created = int(time.time()) if created is None else created
    request = {"id": request_id, "idempotency_key": idempotency_key}
    if event_type.startswith(("v1.", "v2.")):
        return {
            "id": event_id,
            "object": "v2.core.event",
            "context": account,
            "created": format_time(created),
            "livemode": livemode,
            "reason": {"type": "request", "request": request} if request_id else None,
            "related_object": _related_object(subject),
            "type": event_type,
        }
    content: dict[str, Any] = {"object": dict(subject)}
    if previous_attributes is not None:
        content["previous_attributes"] = dict(previous_attributes)
    return {
        "id": event_id,
        "object": "event",
        **({} if account is None else {"account": account}),
        "api_version": api_version,
        "created": created,
        "data": content,
        "livemode": livemode,
        "pending_webhooks": pending_webhooks,
        "request": request,
        "type": event_type,
    }


def format_time(seconds: float) -> str:
    """Return a time as version 2 of Stripe's API writes it: ``2026-01-31T12:00:00.000Z``."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _related_object(subject: Mapping[str, Any]) -> dict[str, str]:
    kind, identifier = str(subject["object"]), str(subject["id"])
    url = _URLS.get(kind, f"/v1/{kind}s/")
    return {"id": identifier, "type": kind, "url": url + identifier}

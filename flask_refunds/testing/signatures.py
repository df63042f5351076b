"""Stripe events and their signatures.

Sources: https://docs.stripe.com/api/events/object and
https://docs.stripe.com/webhooks#verify-manually
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

API_VERSION = "2026-10-28.endive"


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
) -> dict[str, Any]:
    """Return an event about an object.

    :param event_type: for example ``refund.updated``.
    :param subject: the refund, charge or payment intent.
    :param previous_attributes: for an update, the old values of the changed fields.
    :param event_id: ``evt_…``; None for a new ID.
    :param created: seconds since the epoch; None for now.
    :param request_id: the API request that caused the event; None if Stripe caused it.
    """
    content: dict[str, Any] = {"object": dict(subject)}
    if previous_attributes is not None:
        content["previous_attributes"] = dict(previous_attributes)
    return {
        "id": event_id or f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": api_version,
        "created": int(time.time()) if created is None else created,
        "data": content,
        "livemode": livemode,
        "pending_webhooks": pending_webhooks,
        "request": {"id": request_id, "idempotency_key": idempotency_key},
        "type": event_type,
    }

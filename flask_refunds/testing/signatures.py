"""Events, signed as Stripe signs them.

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
    """A webhook request that Stripe could have sent.

    :param event: the event, as :func:`make_event` builds it.
    :param secret: the endpoint's signing secret, ``whsec_…``.
    :param timestamp: when it was signed, in seconds since the epoch; now if None.
    :return: the raw body, and the headers that go with it.
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
    """An event around an object.

    :param event_type: such as ``refund.updated``.
    :param subject: the refund, charge or payment intent that it is about.
    :param previous_attributes: for an update, the changed fields' old values.
    :param event_id: ``evt_…``; a new one if None.
    :param created: seconds since the epoch; now if None.
    :param request_id: the API request that caused it; None for what Stripe did by itself.
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

"""Receive Stripe events: ``POST /webhook/refunds``, and :func:`handle_event` for apps with a webhook."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from flask import Response, request

from ..core.webhook_events import rejected
from ..errors import WebhookNotConfigured
from ..extension import current_refunds
from ..stripe_client.webhook_signature import is_signed
from .request_body import read_body
from .responses import json_errors, json_response

_MAX_EVENT_BYTES = 1024 * 1024


@json_errors
def receive_event() -> Response:
    """``POST /webhook/refunds``: process a signed event. The answer is 2xx only once the result is stored."""
    refunds = current_refunds()
    secrets = refunds.settings.stripe_webhook_secret
    if not secrets:
        raise WebhookNotConfigured
    body = read_body(_MAX_EVENT_BYTES)
    if not is_signed(body, request.headers.get("Stripe-Signature", ""), secrets, time.time()):
        raise rejected("signature", "The signature doesn't match STRIPE_WEBHOOK_SECRET, or it is too old.")
    refunds.events.handle(_parse(body))
    return json_response({"received": True})


def handle_event(event: Any) -> bool:
    """Process an event from your app's own Stripe webhook, which has verified its signature.

    Call this in a request or an app context, for every event. Events that don't concern refunds of your app's
    payments are ignored. Let its errors become a 4xx or 5xx response, so that Stripe sends the event again.

    :param event: the return value of ``stripe.Webhook.construct_event``, of
        ``StripeClient.parse_event_notification``, or the event's JSON as a mapping, for example from a queue.
    :return: whether the event is about a refund of one of your app's payments.
    :raises InvalidRequest: 400; it isn't an event.
    :raises StripeUnavailable: 503; Stripe must send it again.
    :raises DatabaseUnavailable: 500; Stripe must send it again.
    """
    plain = _to_plain(event)
    if not isinstance(plain, Mapping):
        raise rejected("malformed", "The event isn't a Stripe event.")
    return current_refunds().events.handle(plain)


def _to_plain(event: Any) -> Any:
    """Return the event as plain JSON values. Its class depends on the release of Stripe's library."""
    try:
        return json.loads(json.dumps(event, default=_fields_of))
    except (TypeError, ValueError, RecursionError):
        return None


def _fields_of(value: Any) -> Any:
    """Return an object's public fields, or its text if it has none, like a ``StripeContext``."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    fields = getattr(value, "__dict__", {})
    return {name: each for name, each in fields.items() if not name.startswith("_")} or str(value)


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise rejected("malformed", "The body isn't valid JSON.") from None
    if not isinstance(event, dict):
        raise rejected("malformed", "The body must be a JSON object.")
    return event

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

    Call this in a request or an app context, for every event. Events that aren't about refunds are ignored.
    Let its errors become a 4xx or 5xx response, so that Stripe sends the event again.

    :param event: the return value of ``stripe.Webhook.construct_event``, or the event's JSON as a mapping.
    :return: whether the event is about a refund of one of your app's payments.
    :raises InvalidRequest: 400; it isn't an event, or its mode (test or live) isn't the secret key's.
    :raises StripeUnavailable: 503; Stripe must send it again.
    :raises DatabaseUnavailable: 500; Stripe must send it again.
    """
    plain = _to_plain(event)
    if not isinstance(plain, Mapping):
        raise rejected("malformed", "The event isn't a Stripe event.")
    return current_refunds().events.handle(plain)


def _to_plain(event: Any) -> Any:
    """Return the event as plain dicts. In new releases of Stripe's library, it isn't a dict."""
    if not isinstance(event, dict):
        return event.to_dict() if hasattr(event, "to_dict") else event
    try:
        return json.loads(json.dumps(event))
    except (TypeError, ValueError, RecursionError):
        return None


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise rejected("malformed", "The body isn't valid JSON.") from None
    if not isinstance(event, dict):
        raise rejected("malformed", "The body must be a JSON object.")
    return event

"""Stripe calls: ``POST /webhook/refunds``, and :func:`handle_event` for hosts with a webhook of their own."""

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
    """``POST /webhook/refunds``: take in a signed event. 2xx only once what it says is durably written."""
    refunds = current_refunds()
    secrets = refunds.settings.stripe_webhook_secret
    if not secrets:
        raise WebhookNotConfigured
    body = read_body(_MAX_EVENT_BYTES)
    if not is_signed(body, request.headers.get("Stripe-Signature", ""), secrets, time.time()):
        raise rejected("signature", "The event is not signed by Stripe, or not just now.")
    refunds.events.handle(_parse(body))
    return json_response({"received": True})


def handle_event(event: Any) -> bool:
    """Take in an event of the host's own Stripe webhook, which has verified it.

    Call it inside a request or an app context, for every event; those that are not about refunds are left
    alone. Let its errors become a 5xx or 4xx answer, so that Stripe sends the event again.

    :param event: what ``stripe.Webhook.construct_event`` returned, or the event's JSON as a mapping.
    :return: whether it was about a refund of a payment of this shop's.
    :raises InvalidRequest: 400; it is no event, or one of the other mode (test or live) than the key's.
    :raises StripeUnavailable: 503; it must be sent again.
    :raises DatabaseUnavailable: 500; it must be sent again.
    """
    plain = _plain(event)
    if not isinstance(plain, Mapping):
        raise rejected("malformed", "The event is not as Stripe sends them.")
    return current_refunds().events.handle(plain)


def _plain(event: Any) -> Any:
    """The event in plain dicts: a StripeObject was a dict of its like once, and is no mapping at all now."""
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
        raise rejected("malformed", "The event is no JSON.") from None
    if not isinstance(event, dict):
        raise rejected("malformed", "The event is no JSON object.")
    return event

"""The shop's webhook. Stripe's events complete purchases and report refunds."""

from __future__ import annotations

import stripe
from flask import Blueprint, current_app, request
from flask.typing import ResponseReturnValue

from flask_refunds import handle_event

from . import orders
from .errors import ShopError
from .settings import WEBHOOK_PATH

webhooks_bp = Blueprint("webhooks", __name__)

_HANDLERS = {
    "payment_intent.succeeded": orders.mark_paid,
    "payment_intent.payment_failed": orders.mark_failed,
}


@webhooks_bp.post(WEBHOOK_PATH)
def receive_event() -> ResponseReturnValue:
    """Handle a signed event (https://docs.stripe.com/webhooks). Unrelated events are ignored."""
    try:
        event = stripe.Webhook.construct_event(
            request.get_data(),
            request.headers.get("Stripe-Signature"),
            current_app.config["STRIPE_WEBHOOK_SECRET"],
        )
    except (ValueError, stripe.SignatureVerificationError):
        raise ShopError(400, "The event or its signature is invalid.") from None
    if event.type in _HANDLERS:
        _HANDLERS[event.type](event.data.object["id"])
    else:
        handle_event(event)
    return "", 204

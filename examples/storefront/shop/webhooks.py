"""Stripe's events: they alone complete a purchase, and they tell how its refund went on."""

from __future__ import annotations

import stripe
from flask import Blueprint, current_app, request
from flask.typing import ResponseReturnValue

from flask_refunds import handle_event

from . import orders
from .errors import Refusal
from .settings import WEBHOOK_PATH

webhooks_bp = Blueprint("webhooks", __name__)

_ON_EVENT = {
    "payment_intent.succeeded": orders.mark_paid,
    "payment_intent.payment_failed": orders.mark_failed,
}


@webhooks_bp.post(WEBHOOK_PATH)
def receive_event() -> ResponseReturnValue:
    """A signed event (https://docs.stripe.com/webhooks); those that concern nobody here are accepted."""
    try:
        event = stripe.Webhook.construct_event(
            request.get_data(),
            request.headers.get("Stripe-Signature"),
            current_app.config["STRIPE_WEBHOOK_SECRET"],
        )
    except (ValueError, stripe.SignatureVerificationError):
        raise Refusal(400, "This is no event that Stripe signed for us.") from None
    if event.type in _ON_EVENT:
        _ON_EVENT[event.type](event.data.object["id"])
    else:
        handle_event(event)
    return "", 204

"""Orders: one payment intent, and one purchase document for each content.

The steps are: create the payment intent, insert pending purchases, charge the card. A crash between two
steps therefore never leaves a charge without purchases. Only Stripe's signed event completes a purchase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import stripe
from bson import ObjectId
from flask import Flask, current_app

from .database import db

PENDING, COMPLETED, FAILED, REFUNDED = "pending", "completed", "failed", "refunded"

_STRIPE_TIMEOUT_SECONDS = 10
_EXTENSION_KEY = "shop.stripe"


@dataclass(frozen=True)
class Card:
    """One of Stripe's test cards (https://docs.stripe.com/testing).

    :param payment_method: Stripe's ID for the card. In a real shop, card numbers never reach the server.
    :param name: a short name.
    :param outcome: a sentence about the outcome of payments and refunds.
    """

    number: str
    payment_method: str
    name: str
    outcome: str

    @property
    def last4(self) -> str:
        """The last four digits."""
        return self.number[-4:]


SUCCEEDS = Card(
    "4242424242424242",
    "pm_card_visa",
    "succeeds",
    "The payment succeeds. A refund succeeds immediately.",
)
PENDING_REFUND = Card(
    "4000000000007726",
    "pm_card_pendingRefund",
    "refund pending",
    "The payment succeeds. A refund is pending first and succeeds later.",
)
REFUND_FAILS = Card(
    "4000000000005126",
    "pm_card_refundFail",
    "refund fails",
    "The payment succeeds. A refund succeeds first and fails later.",
)
DISPUTED = Card(
    "4000000000000259",
    "pm_card_createDispute",
    "disputed",
    "The payment succeeds but is disputed. Stripe rejects a refund.",
)
DECLINED = Card(
    "4000000000000002",
    "pm_card_chargeDeclined",
    "declined",
    "The payment is declined. Nothing is charged.",
)

CARDS = {card.number: card for card in (SUCCEEDS, PENDING_REFUND, REFUND_FAILS, DISPUTED, DECLINED)}


@dataclass(frozen=True)
class Order:
    """An order that is paid with one payment intent."""

    id: str
    payment_intent: str
    card: Card


def init_app(app: Flask) -> None:
    """Create the app's Stripe client. It doesn't use stripe-python's global settings."""
    base = app.config.get("STRIPE_API_BASE")
    app.extensions[_EXTENSION_KEY] = stripe.StripeClient(
        app.config["STRIPE_SECRET_KEY"],
        http_client=stripe.RequestsClient(timeout=_STRIPE_TIMEOUT_SECONDS),
        base_addresses={"api": base} if base else {},
        max_network_retries=2,
    )


def stripe_client() -> stripe.StripeClient:
    """Return the current app's Stripe client."""
    client: stripe.StripeClient = current_app.extensions[_EXTENSION_KEY]
    return client


def create_order(
    order_id: str, user_id: ObjectId, contents: Sequence[Mapping[str, Any]], card: Card
) -> Order:
    """Create a payment intent and its pending purchases. Nothing is charged yet.

    :param order_id: a second call with the same ID changes nothing.
    :param contents: at least one; all in the same currency.
    :raises stripe.StripeError: the payment intent couldn't be created.
    """
    intent = stripe_client().v1.payment_intents.create(
        {
            "amount": sum(content["price"] for content in contents),
            "currency": contents[0]["currency"],
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "description": ", ".join(content["title"] for content in contents),
            "metadata": {"order": order_id},
        },
        options={"idempotency_key": f"{order_id}-create"},
    )
    order = Order(order_id, intent.id, card)
    for content in contents:
        _insert_purchase(order, user_id, content)
    return order


def make_purchase(
    user_id: ObjectId, content: Mapping[str, Any], payment_intent: str, card: Card
) -> dict[str, Any]:
    """Return a pending purchase, without its order and content."""
    return {
        "user": user_id,
        "amount": content["price"],
        "currency": content["currency"],
        "stripePaymentIntentId": payment_intent,
        "cardLast4": card.last4,
        "status": PENDING,
        "accessGranted": False,
        "createdAt": datetime.now(timezone.utc),
    }


def _insert_purchase(order: Order, user_id: ObjectId, content: Mapping[str, Any]) -> None:
    purchase = make_purchase(user_id, content, order.payment_intent, order.card)
    db().purchases.update_one(
        {"order": order.id, "content": content["_id"]}, {"$setOnInsert": purchase}, upsert=True
    )


def pay(order: Order) -> None:
    """Charge the card. Stripe's event then completes the purchases.

    :raises stripe.CardError: the card is declined.
    :raises stripe.StripeError: the outcome is unknown until Stripe's event arrives.
    """
    stripe_client().v1.payment_intents.confirm(
        order.payment_intent,
        {"payment_method": order.card.payment_method},
        options={"idempotency_key": f"{order.id}-confirm"},
    )


def mark_paid(payment_intent: str) -> None:
    """Complete the purchases and grant access to their contents."""
    # Events can arrive in any order. A successful payment overrides an earlier declined attempt.
    db().purchases.update_many(
        {"stripePaymentIntentId": payment_intent, "status": {"$in": [PENDING, FAILED]}},
        {"$set": {"status": COMPLETED, "accessGranted": True}},
    )


def mark_failed(payment_intent: str) -> None:
    """Mark the purchases as failed because the card was declined."""
    db().purchases.update_many(
        {"stripePaymentIntentId": payment_intent, "status": PENDING}, {"$set": {"status": FAILED}}
    )

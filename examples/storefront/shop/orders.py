"""Buying: one order is one payment intent, and one purchase document for each content in it.

The order of steps decides what a crash leaves behind: payment intent (nothing is charged) → purchases,
pending → the charge. Only Stripe's signed event completes a purchase.
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

_STRIPE_SECONDS = 10
_CLIENT = "shop.stripe"


@dataclass(frozen=True)
class Card:
    """One of Stripe's test cards (https://docs.stripe.com/testing).

    :param payment_method: Stripe's id for it; in a real shop, card numbers never reach the server.
    :param name: what it is good for, in two or three words.
    :param outcome: what happens to its payments and refunds, in a sentence.
    """

    number: str
    payment_method: str
    name: str
    outcome: str

    @property
    def last4(self) -> str:
        """The last four digits."""
        return self.number[-4:]


PAYS = Card("4242424242424242", "pm_card_visa", "pays", "It pays. A refund succeeds at once.")
PENDING_REFUND = Card(
    "4000000000007726",
    "pm_card_pendingRefund",
    "refund pending",
    "It pays. A refund is pending at first, and succeeds later.",
)
REFUND_FAILS = Card(
    "4000000000005126",
    "pm_card_refundFail",
    "refund fails",
    "It pays. A refund succeeds at first, and fails later.",
)
DISPUTED = Card(
    "4000000000000259",
    "pm_card_createDispute",
    "disputed",
    "It pays, and the payment is disputed: Stripe refuses to refund it.",
)
DECLINED = Card(
    "4000000000000002", "pm_card_chargeDeclined", "declined", "It is declined. Nothing is charged."
)

CARDS = {card.number: card for card in (PAYS, PENDING_REFUND, REFUND_FAILS, DISPUTED, DECLINED)}


@dataclass(frozen=True)
class Order:
    """What is bought with one payment."""

    id: str
    payment_intent: str
    card: Card


def init_app(app: Flask) -> None:
    """Give the app its Stripe client: never the library's module globals, which other code may set."""
    base = app.config.get("STRIPE_API_BASE")
    app.extensions[_CLIENT] = stripe.StripeClient(
        app.config["STRIPE_SECRET_KEY"],
        http_client=stripe.RequestsClient(timeout=_STRIPE_SECONDS),
        base_addresses={"api": base} if base else {},
        max_network_retries=2,
    )


def stripe_client() -> stripe.StripeClient:
    """The current app's Stripe client."""
    client: stripe.StripeClient = current_app.extensions[_CLIENT]
    return client


def open_order(order_id: str, user_id: ObjectId, contents: Sequence[Mapping[str, Any]], card: Card) -> Order:
    """Begin an order: a payment intent, and its purchases, pending. Charges nothing.

    :param order_id: opening the same one again changes nothing.
    :param contents: at least one, all in one currency.
    :raises stripe.StripeError: nothing was begun.
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


def _insert_purchase(order: Order, user_id: ObjectId, content: Mapping[str, Any]) -> None:
    purchase = {
        "user": user_id,
        "amount": content["price"],
        "currency": content["currency"],
        "stripePaymentIntentId": order.payment_intent,
        "cardLast4": order.card.last4,
        "status": PENDING,
        "accessGranted": False,
        "createdAt": datetime.now(timezone.utc),
    }
    db().purchases.update_one(
        {"order": order.id, "content": content["_id"]}, {"$setOnInsert": purchase}, upsert=True
    )


def pay(order: Order) -> None:
    """Charge the card. What came of it is told by Stripe's event, and by the exception.

    :raises stripe.CardError: the card is declined.
    :raises stripe.StripeError: it may or may not have been charged; the event will tell.
    """
    stripe_client().v1.payment_intents.confirm(
        order.payment_intent,
        {"payment_method": order.card.payment_method},
        options={"idempotency_key": f"{order.id}-confirm"},
    )


def mark_paid(payment_intent: str) -> None:
    """The money came: complete the purchases, and open their contents."""
    # Events come in any order, and money that came outweighs an earlier try that was declined.
    db().purchases.update_many(
        {"stripePaymentIntentId": payment_intent, "status": {"$in": [PENDING, FAILED]}},
        {"$set": {"status": COMPLETED, "accessGranted": True}},
    )


def mark_failed(payment_intent: str) -> None:
    """The card was declined."""
    db().purchases.update_many(
        {"stripePaymentIntentId": payment_intent, "status": PENDING}, {"$set": {"status": FAILED}}
    )

"""New Stripe objects.

Fields: https://docs.stripe.com/api/refunds/object, …/charges/object, …/payment_intents/object,
…/disputes/object, …/webhook_endpoints/object
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ..money import decimal_amount
from .cards import Card

JsonObject = dict[str, Any]

_NEXT_ACTION_DAYS = 45
_SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


def new_id(prefix: str) -> str:
    """Return a new random ID."""
    return f"{prefix}_{secrets.token_hex(12)}"


def copy_json(value: Any) -> Any:
    """Return a deep copy of a JSON value."""
    if isinstance(value, dict):
        return {key: copy_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy_json(item) for item in value]
    return value


def format_amount(amount: int, currency: str) -> str:
    """Return an amount as Stripe's error messages show it: ``$20.00``."""
    number = decimal_amount(amount, currency)
    symbol = _SYMBOLS.get(currency)
    return f"{symbol}{number}" if symbol else f"{number} {currency.upper()}"


def new_payment_intent(
    *, amount: int, currency: str, created: int, livemode: bool, **optional: Any
) -> JsonObject:
    """Return an unpaid payment intent.

    :param optional: ``metadata``, ``description``, ``receipt_email``.
    """
    identifier = new_id("pi")
    return {
        "id": identifier,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "client_secret": f"{identifier}_secret_{secrets.token_hex(12)}",
        "confirmation_method": "automatic",
        "created": created,
        "currency": currency,
        "customer": None,
        "description": optional.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": livemode,
        "metadata": optional.get("metadata") or {},
        "next_action": None,
        "payment_method": None,
        "payment_method_types": ["card"],
        "receipt_email": optional.get("receipt_email"),
        "status": "requires_payment_method",
    }


def new_charge(intent: Mapping[str, Any], card: Card, *, created: int) -> JsonObject:
    """Return the charge of a payment intent, failed if the card is declined."""
    paid = card.decline_code is None
    return {
        "id": new_id("ch"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if paid else 0,
        "amount_refunded": 0,
        "balance_transaction": new_id("txn") if paid else None,
        "captured": paid,
        "created": created,
        "currency": intent["currency"],
        "customer": None,
        "description": intent["description"],
        "disputed": False,
        "failure_code": None if paid else "card_declined",
        "failure_message": None if paid else "Your card was declined.",
        "livemode": intent["livemode"],
        "metadata": dict(intent["metadata"]),
        "outcome": _outcome(card),
        "paid": paid,
        "payment_intent": intent["id"],
        "payment_method": intent["payment_method"],
        "payment_method_details": {
            "card": {"brand": card.brand, "last4": card.number[-4:]},
            "type": "card",
        },
        "receipt_email": intent["receipt_email"],
        "refunded": False,
        "status": "succeeded" if paid else "failed",
    }


def _outcome(card: Card) -> JsonObject:
    if card.decline_code is None:
        return {"network_status": "approved_by_network", "reason": None, "type": "authorized"}
    return {
        "network_status": "declined_by_network",
        "reason": card.decline_code,
        "type": "issuer_declined",
    }


def new_refund(charge: Mapping[str, Any], *, amount: int, created: int, **optional: Any) -> JsonObject:
    """Return a refund of a charge, without a status.

    :param optional: ``reason``, ``metadata``.
    """
    return {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": new_id("txn"),
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "destination_details": {
            "card": {"reference_status": "pending", "type": "refund"},
            "type": "card",
        },
        "failure_balance_transaction": None,
        "failure_reason": None,
        "metadata": optional.get("metadata") or {},
        "next_action": None,
        "payment_intent": charge["payment_intent"],
        "pending_reason": None,
        "reason": optional.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": None,
        "transfer_reversal": None,
    }


def refund_next_action(email: str, *, now: int) -> JsonObject:
    """Return the ``next_action`` of a refund that requires an action by the customer."""
    return {
        "display_details": {
            "email_sent": {"email_sent_at": now, "email_sent_to": email},
            "expires_at": now + _NEXT_ACTION_DAYS * 86400,
        },
        "type": "display_details",
    }


def new_dispute(charge: Mapping[str, Any], *, created: int) -> JsonObject:
    """Return a dispute of the full charge."""
    return {
        "id": new_id("du"),
        "object": "dispute",
        "amount": charge["amount"],
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "is_charge_refundable": False,
        "livemode": charge["livemode"],
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": "fraudulent",
        "status": "needs_response",
    }


def new_webhook_endpoint(url: str, events: Sequence[str], *, created: int, livemode: bool) -> JsonObject:
    """Return a webhook endpoint. Stripe returns the secret on creation only, so it isn't included."""
    return {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": None,
        "application": None,
        "created": created,
        "description": None,
        "enabled_events": list(events),
        "livemode": livemode,
        "metadata": {},
        "status": "enabled",
        "url": url,
    }

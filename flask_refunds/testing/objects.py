"""New Stripe objects.

Fields: https://docs.stripe.com/api/refunds/object, …/charges/object, …/payment_intents/object,
…/checkout/sessions/object, …/disputes/object, …/transfers/object, …/application_fees/object,
…/webhook_endpoints/object
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ..money import decimal_amount
from .cards import Card

JsonObject = dict[str, Any]

CARD = "card"
_NEXT_ACTION_DAYS = 45
_EVIDENCE_DAYS = 7
_DAY = 86400
_SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}
_NO_ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))

# What a payment intent takes from the request that creates it, unchanged.
_INTENT_OPTIONS = (
    "application_fee_amount",
    "customer",
    "customer_account",
    "description",
    "on_behalf_of",
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
    "transfer_group",
)
# What a charge takes from its payment intent, unchanged.
_CHARGE_OPTIONS = (
    "amount",
    "application_fee_amount",
    "currency",
    "customer",
    "description",
    "livemode",
    "on_behalf_of",
    "payment_method",
    "receipt_email",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
    "transfer_group",
)


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

    :param optional: ``capture_method``, ``metadata`` and others that Stripe documents.
    """
    identifier = new_id("pi")
    return {
        "id": identifier,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": optional.get("capture_method", "automatic"),
        "client_secret": f"{identifier}_secret_{secrets.token_hex(12)}",
        "confirmation_method": "automatic",
        "created": created,
        "currency": currency,
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": livemode,
        "managed_payments": None,
        "metadata": optional.get("metadata") or {},
        "next_action": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": [optional.get("method", CARD)],
        "processing": None,
        "review": None,
        "source": None,
        "status": "requires_payment_method",
        **{name: optional.get(name) for name in _INTENT_OPTIONS},
    }


def new_charge(intent: Mapping[str, Any], card: Card, *, created: int) -> JsonObject:
    """Return the uncaptured charge of a payment intent, failed if the card is declined."""
    paid = card.decline_code is None
    return {
        "id": new_id("ch" if intent["payment_method_types"][0] == CARD else "py"),
        "object": "charge",
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "balance_transaction": None,
        "billing_details": {"address": _NO_ADDRESS, **dict.fromkeys(("email", "name", "phone", "tax_id"))},
        "calculated_statement_descriptor": None,
        "captured": False,
        "created": created,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None if paid else "card_declined",
        "failure_message": None if paid else "Your card was declined.",
        "fraud_details": {},
        "metadata": dict(intent["metadata"]),
        "outcome": _outcome(card),
        "paid": paid,
        "payment_intent": intent["id"],
        "payment_method_details": _payment_method_details(intent["payment_method_types"][0], card),
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "source": None,
        "source_transfer": None,
        "status": "succeeded" if paid else "failed",
        **{name: intent[name] for name in _CHARGE_OPTIONS},
    }


def _payment_method_details(method: str, card: Card) -> JsonObject:
    if method != CARD:
        return {method: {}, "type": method}
    details = {
        "brand": card.brand,
        "last4": card.number[-4:],
        "multicapture": {"status": "available"},
        "network": card.brand,
    }
    return {CARD: details, "type": CARD}


def _outcome(card: Card) -> JsonObject:
    if card.decline_code is None:
        outcome = {"network_status": "approved_by_network", "reason": None, "type": "authorized"}
    else:
        declined = {"network_status": "declined_by_network", "type": "issuer_declined"}
        outcome = {**declined, "reason": card.decline_code}
    return {"advice_code": None, "network_advice_code": None, "network_decline_code": None, **outcome}


def new_checkout_session(
    intent: Mapping[str, Any] | None, *, created: int, livemode: bool, mode: str
) -> JsonObject:
    """Return a Checkout session: of a payment intent, or one without.

    The fields are a part of those at https://docs.stripe.com/api/checkout/sessions/object.
    """
    paid = intent is not None and intent["status"] == "succeeded"
    return {
        "id": new_id(f"cs_{'live' if livemode else 'test'}"),
        "object": "checkout.session",
        "amount_total": intent and intent["amount"],
        "created": created,
        "currency": intent and intent["currency"],
        "customer": None,
        "invoice": None,
        "livemode": livemode,
        "metadata": {},
        "mode": mode,
        "payment_intent": intent and intent["id"],
        "payment_status": "paid" if paid else "unpaid",
        "status": "complete" if paid else "open",
        "subscription": None if mode == "payment" else new_id("sub"),
        "url": None,
    }


def new_refund(charge: Mapping[str, Any], *, amount: int, created: int, **optional: Any) -> JsonObject:
    """Return a refund of a charge, without a status.

    :param optional: ``destination`` (see :func:`refund_destination`), ``instructions_email``,
        ``metadata``, ``reason``.
    """
    return {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": new_id("txn"),
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "customer": charge["customer"],
        "customer_account": None,
        "destination_details": _destination_details(optional.get("destination", CARD)),
        "failure_balance_transaction": None,
        "failure_reason": None,
        "instructions_email": optional.get("instructions_email"),
        "metadata": optional.get("metadata") or {},
        "next_action": None,
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "pending_reason": None,
        "reason": optional.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": None,
        "transfer_reversal": None,
    }


def _destination_details(destination: str) -> JsonObject:
    details: JsonObject = {"reference": None, "reference_status": "pending"}
    if destination == CARD:
        details.update(reference_type="acquirer_reference_number", type="refund")
    return {destination: details, "type": destination}


def refund_next_action(email: str, *, now: int) -> JsonObject:
    """Return the ``next_action`` of a refund that requires an action by the customer."""
    return {
        "display_details": {
            "email_sent": {"email_sent_at": now, "email_sent_to": email},
            "expires_at": now + _NEXT_ACTION_DAYS * _DAY,
        },
        "type": "display_details",
    }


def new_dispute(charge: Mapping[str, Any], *, created: int, reason: str, inquiry: bool = False) -> JsonObject:
    """Return a dispute of the full charge. A charge can be refunded during an inquiry."""
    return {
        "id": new_id("du"),
        "object": "dispute",
        "amount": charge["amount_captured"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {},
        "evidence_details": {
            "due_by": created + _EVIDENCE_DAYS * _DAY,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": inquiry,
        "livemode": charge["livemode"],
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }


def new_transfer(charge: Mapping[str, Any], *, amount: int, created: int) -> JsonObject:
    """Return the transfer of a destination charge."""
    identifier = new_id("tr")
    return {
        "id": identifier,
        "object": "transfer",
        "amount": amount,
        "amount_reversed": 0,
        "balance_transaction": new_id("txn"),
        "created": created,
        "currency": charge["currency"],
        "description": None,
        "destination": charge["transfer_data"]["destination"],
        "destination_payment": new_id("py"),
        "livemode": charge["livemode"],
        "metadata": {},
        "reversals": _empty_list(f"/v1/transfers/{identifier}/reversals"),
        "reversed": False,
        "source_transaction": charge["id"],
        "source_type": CARD,
        "transfer_group": charge["transfer_group"],
    }


def new_transfer_reversal(transfer: Mapping[str, Any], *, amount: int, created: int) -> JsonObject:
    """Return a reversal of a transfer."""
    return {
        "id": new_id("trr"),
        "object": "transfer_reversal",
        "amount": amount,
        "balance_transaction": new_id("txn"),
        "created": created,
        "currency": transfer["currency"],
        "destination_payment_refund": new_id("pyr"),
        "metadata": {},
        "source_refund": None,
        "transfer": transfer["id"],
    }


def new_application_fee(
    charge: Mapping[str, Any], *, account: str | None, amount: int, created: int
) -> JsonObject:
    """Return the application fee of a charge. ``account`` paid it."""
    identifier = new_id("fee")
    return {
        "id": identifier,
        "object": "application_fee",
        "account": account,
        "amount": amount,
        "amount_refunded": 0,
        "application": "ca_sandbox",
        "balance_transaction": new_id("txn"),
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "fee_source": {"charge": charge["id"], "type": "charge"},
        "livemode": charge["livemode"],
        "originating_transaction": None,
        "refunded": False,
        "refunds": _empty_list(f"/v1/application_fees/{identifier}/refunds"),
    }


def _empty_list(url: str) -> JsonObject:
    return {"object": "list", "data": [], "has_more": False, "url": url}


def new_webhook_endpoint(
    url: str, events: Sequence[str], *, created: int, livemode: bool, api_version: str | None = None
) -> JsonObject:
    """Return a webhook endpoint. Stripe returns the secret on creation only, so it isn't included."""
    return {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": api_version,
        "application": None,
        "created": created,
        "description": None,
        "enabled_events": list(events),
        "livemode": livemode,
        "metadata": {},
        "status": "enabled",
        "url": url,
    }


def new_event_destination(
    url: str, events: Sequence[str], *, created: str, livemode: bool, events_from: Sequence[str]
) -> JsonObject:
    """Return a destination of thin events (https://docs.stripe.com/api/v2/core/event_destinations/object).

    :param events_from: ``@self``, ``@accounts``.
    """
    return {
        "id": new_id("ed"),
        "object": "v2.core.event_destination",
        "created": created,
        "description": "",
        "enabled_events": list(events),
        "event_payload": "thin",
        "events_from": list(events_from),
        "livemode": livemode,
        "metadata": {},
        "name": url,
        "snapshot_api_version": None,
        "status": "enabled",
        "status_details": None,
        "type": "webhook_endpoint",
        "updated": created,
        "webhook_endpoint": {"signing_secret": None, "url": url},
    }

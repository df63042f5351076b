"""The parameters that Stripe documents for the endpoints.

Sources: https://docs.stripe.com/api/refunds/create, …/payment_intents/create, …/payment_intents/confirm,
…/payment_intents/capture
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import params as p
from .cards import UNKNOWN_CARD_HELP, Card, find_card, has_valid_check_digit
from .errors import ApiError, invalid, missing

Readers = dict[str, p.Reader]

EXPAND: Readers = {"expand": p.string_list}
PAGE: Readers = {
    "created": p.time_range,
    "ending_before": p.string,
    "limit": p.limit,
    "starting_after": p.string,
    **EXPAND,
}
REFUND_CREATE: Readers = {
    "amount": p.amount,
    "charge": p.string,
    "currency": p.currency,
    "customer": p.string,
    "instructions_email": p.string,
    "metadata": p.metadata,
    "origin": p.one_of("customer_balance"),
    "payment_intent": p.string,
    "reason": p.one_of("duplicate", "fraudulent", "requested_by_customer"),
    "refund_application_fee": p.boolean,
    "reverse_transfer": p.boolean,
    **EXPAND,
}
REFUND_ARGS = (
    "amount",
    "charge",
    "instructions_email",
    "metadata",
    "payment_intent",
    "reason",
    "refund_application_fee",
    "reverse_transfer",
)
_CAPTURE_METHOD = p.one_of("automatic", "automatic_async", "manual")
_UNUSED = (
    "allowed_payment_method_types",
    "amount_details",
    "confirmation_token",
    "error_on_requires_action",
    "excluded_payment_method_types",
    "hooks",
    "mandate",
    "mandate_data",
    "off_session",
    "payment_details",
    "payment_method_data",
    "payment_method_options",
    "payment_method_types",
    "radar_options",
    "return_url",
    "use_stripe_sdk",
)
INTENT_CONFIRM: Readers = {
    **dict.fromkeys(_UNUSED, p.unused),
    "amount_to_confirm": p.amount,
    "capture_method": _CAPTURE_METHOD,
    "payment_method": p.string,
    "receipt_email": p.string,
    "setup_future_usage": p.one_of("off_session", "on_session"),
    "shipping": p.unused,
    **EXPAND,
}
INTENT_CREATE: Readers = {
    **{name: reader for name, reader in INTENT_CONFIRM.items() if name != "amount_to_confirm"},
    "amount": p.amount,
    "application_fee_amount": p.amount,
    "automatic_payment_methods": p.unused,
    "confirm": p.boolean,
    "confirmation_method": p.one_of("automatic", "manual"),
    "currency": p.currency,
    "customer": p.string,
    "customer_account": p.string,
    "description": p.string,
    "metadata": p.metadata,
    "on_behalf_of": p.string,
    "payment_method_configuration": p.string,
    "statement_descriptor": p.string,
    "statement_descriptor_suffix": p.string,
    "transfer_data": p.fields({"amount": p.amount, "destination": p.string}),
    "transfer_group": p.string,
}
INTENT_ARGS = (
    "amount",
    "application_fee_amount",
    "capture_method",
    "confirm",
    "currency",
    "customer",
    "customer_account",
    "description",
    "metadata",
    "on_behalf_of",
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
    "transfer_group",
)
INTENT_CAPTURE: Readers = {
    "amount_details": p.unused,
    "amount_to_capture": p.integer,
    "application_fee_amount": p.amount,
    "final_capture": p.boolean,
    "hooks": p.unused,
    "metadata": p.metadata,
    "payment_details": p.unused,
    "statement_descriptor": p.string,
    "statement_descriptor_suffix": p.string,
    "transfer_data": p.fields({"amount": p.amount}),
    **EXPAND,
}
INTENT_CANCEL: Readers = {
    "cancellation_reason": p.one_of("duplicate", "fraudulent", "requested_by_customer", "abandoned"),
    **EXPAND,
}
_PAYMENT_METHOD_DATA: Readers = {
    "type": p.one_of("card"),
    "allow_redisplay": p.unused,
    "billing_details": p.unused,
    "card": p.unused,
    "metadata": p.metadata,
}


def read_card(read: Mapping[str, Any]) -> Card | None:
    """Return the card of ``payment_method`` or ``payment_method_data``, or None without either.

    :raises ApiError: 404 for an unknown ``pm_…`` ID; 400 or 402 for a card number that isn't a test card's.
    """
    if "payment_method" in read:
        name = read["payment_method"]
        card = find_card(name)
        if card is None:
            hint = f". This sandbox doesn't know it: {UNKNOWN_CARD_HELP}"
            raise missing("PaymentMethod", name, param="payment_method", hint=hint)
        return card
    if "payment_method_data" in read:
        return _read_card_data(read["payment_method_data"])
    return None


def _read_card_data(data: Any) -> Card:
    if not isinstance(data, dict):
        raise invalid("Invalid object", param="payment_method_data")
    details = p.read(data, _PAYMENT_METHOD_DATA).get("card")
    details = details if isinstance(details, dict) else {}
    name = details.get("token", details.get("number"))
    if not isinstance(name, str) or not ("token" in details or _is_card_number(name)):
        message = "Your card number is incorrect."
        raise ApiError(402, message, type="card_error", code="incorrect_number", param="number")
    card = find_card(name)
    if card is None:
        message = f"This sandbox doesn't know the test card {name!r}. {UNKNOWN_CARD_HELP}"
        raise invalid(message, param="payment_method_data[card]")
    return card


def _is_card_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and has_valid_check_digit(text)

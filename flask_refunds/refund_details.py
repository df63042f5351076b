"""What Stripe tells about a refund besides its status (https://docs.stripe.com/api/refunds/object)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class RefundDetails:
    """Facts that help the customer and support to find the money. ``None`` is what Stripe doesn't tell."""

    destination: str | None = None
    """Where the money goes: ``card``, ``paypal``, ``eu_bank_transfer``, …"""
    is_reversal: bool | None = None
    """Whether the card's charge vanishes from the statement, without a separate credit."""
    reference: str | None = None
    """The number by which the customer's bank can find the refund."""
    reference_type: str | None = None
    """What that number is: ``acquirer_reference_number``, …"""
    reference_status: str | None = None
    """``pending``, ``available`` or ``unavailable``."""
    pending_reason: str | None = None
    """``processing``, ``insufficient_funds`` or ``charge_pending``."""
    instructions_email: str | None = None
    """The address to which Stripe writes if the customer must name an account."""
    action_email: str | None = None
    """The address to which Stripe wrote that the customer must act."""
    action_email_sent_at: datetime | None = None
    action_expires_at: datetime | None = None
    """When the refund fails unless the customer has acted."""
    receipt_number: str | None = None
    balance_transaction: str | None = None
    """The ID of the transaction that took the money from the account's balance."""
    failure_balance_transaction: str | None = None
    """The ID of the transaction that returned the money of a failed refund to the balance."""
    presentment_amount: int | None = None
    """What the customer is shown, in minor units of their own currency."""
    presentment_currency: str | None = None

    def adds_to(self, known: RefundDetails) -> bool:
        """Return whether these details tell something that isn't known."""
        return any(getattr(self, name) not in (None, getattr(known, name)) for name in _STORED_NAMES)


def _stored_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


_STORED_NAMES: Mapping[str, str] = {each.name: _stored_name(each.name) for each in fields(RefundDetails)}
"""The name of each field in MongoDB and in JSON: ``referenceStatus``."""


def details_document(details: RefundDetails) -> dict[str, Any]:
    """Return details as a record stores them: what Stripe tells."""
    return {stored: value for stored, value in all_details(details).items() if value is not None}


def all_details(details: RefundDetails) -> dict[str, Any]:
    """Return details by their names in JSON, with ``None`` for what Stripe doesn't tell."""
    return {stored: getattr(details, name) for name, stored in _STORED_NAMES.items()}


def read_details(document: Mapping[str, Any] | None) -> RefundDetails:
    """Return the details that a record stores."""
    if not document:
        return NO_DETAILS
    return RefundDetails(**{name: document.get(stored) for name, stored in _STORED_NAMES.items()})


NO_DETAILS = RefundDetails()

"""The Stripe test cards that affect refunds (https://docs.stripe.com/testing#refunds)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A test card and the outcome of its payments and refunds.

    ``decline_code`` is set if payments are declined. A refund starts in ``refund_status`` and changes
    to ``refund_settles_as`` later, if that is set.
    """

    number: str
    brand: str = "visa"
    decline_code: str | None = None
    disputed: bool = False
    refund_status: str = "succeeded"
    refund_settles_as: str | None = None


CARDS = {
    card.number: card
    for card in (
        Card("4242424242424242"),
        Card("5555555555554444", brand="mastercard"),
        Card("378282246310005", brand="amex"),
        Card("4000000000007726", refund_status="pending", refund_settles_as="succeeded"),
        Card("4000000000005126", refund_status="succeeded", refund_settles_as="failed"),
        Card("4000000000000259", disputed=True),
        Card("4000000000000002", decline_code="generic_decline"),
        Card("4000000000009995", decline_code="insufficient_funds"),
    )
}

PAYMENT_METHODS = {
    "pm_card_visa": "4242424242424242",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_amex": "378282246310005",
    "pm_card_pendingRefund": "4000000000007726",
    "pm_card_refundFail": "4000000000005126",
    "pm_card_createDispute": "4000000000000259",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_visa_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
}


def find_card(name: str) -> Card | None:
    """Return the card with this number or ``pm_card_…`` ID, or None for an unknown ID.

    Any number that isn't a test card is declined, as in Stripe's test mode.
    """
    number = PAYMENT_METHODS.get(name, name)
    if not number.isdigit():
        return None
    return CARDS.get(number) or Card(number, decline_code="test_mode_live_card")

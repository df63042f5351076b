"""The library's values: statuses, refund records, and payments and refunds as Stripe shows them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Literal, NamedTuple
from uuid import UUID

from bson import Binary, ObjectId
from bson.binary import ALL_UUID_SUBTYPES

from .money import decimal_amount
from .refund_details import NO_DETAILS, RefundDetails

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_REFERENCE = re.compile(r"(pi|ch|py|cs)_(?!\w*_secret_)[0-9A-Za-z_]{1,200}", re.ASCII)
"""Not a client secret (``pi_…_secret_…``), which must not be stored or logged."""
_ACCOUNT = re.compile(r"acct_[0-9A-Za-z]{1,100}", re.ASCII)
_BULK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

Reason = Literal["requested_by_customer", "duplicate", "fraudulent"]
"""Why a refund is made, in Stripe's words (https://docs.stripe.com/api/refunds/create)."""

Dispute = Literal["inquiry", "chargeback"]
"""Whether the customer's bank asks about a payment, which can still be refunded, or has taken it back."""

_METHODS_WITHOUT_RETURN = frozenset({"boleto", "customer_balance", "konbini", "multibanco", "promptpay"})
"""Their refunds go to a bank account that the customer names."""

Source = Literal["api", "cli", "app", "external"]
"""Where a refund was requested: the HTTP endpoint, the command line, the app's own code or tasks, or
elsewhere at Stripe, such as in its Dashboard."""


class RefundStatus(str, Enum):
    """A refund's status: Stripe's own values, and ``processing`` for a refund with an unknown outcome.

    Any status can follow another: a bank may return a refund weeks after it succeeded, and Stripe may then
    ask the customer for their details again. So only a fresh read at Stripe changes a stored status.
    """

    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    __str__ = str.__str__

    @property
    def is_failed_or_canceled(self) -> bool:
        """Whether the refund has ended and the customer received nothing from it."""
        return self in (RefundStatus.FAILED, RefundStatus.CANCELED)

    @property
    def is_settled(self) -> bool:
        """Whether Stripe reported how the refund ended. A succeeded refund can still fail days later."""
        return self is RefundStatus.SUCCEEDED or self.is_failed_or_canceled


class ReviewCode(str, Enum):
    """Why a person must review a refund."""

    FAILED_AFTER_SUCCESS = "failed_after_success"
    FOUND_AFTER_FAILURE = "found_after_failure"
    UNKNOWN_TOO_LONG = "unknown_too_long"
    AMOUNT_DIFFERS = "amount_differs"
    UNREADABLE_AT_STRIPE = "unreadable_at_stripe"
    PURCHASE_NOT_UPDATED = "purchase_not_updated"
    ACTION_REQUIRED_AGAIN = "action_required_again"
    BALANCE_TOO_LOW = "balance_too_low"
    DISPUTED = "disputed"
    TRANSFER_NOT_REVERSED = "transfer_not_reversed"
    AMOUNTS_DISAGREE = "amounts_disagree"
    MADE_TWICE = "made_twice"


_REVIEW_TEXTS: Mapping[ReviewCode, tuple[str, str]] = {
    ReviewCode.FAILED_AFTER_SUCCESS: (
        "This refund succeeded, and then the customer's bank returned it.",
        "Contact the customer, then refund again or pay another way.",
    ),
    ReviewCode.FOUND_AFTER_FAILURE: (
        "This refund was recorded as failed, and now Stripe shows it.",
        "Check in Stripe that the payment wasn't refunded twice.",
    ),
    ReviewCode.UNKNOWN_TOO_LONG: (
        "Stripe didn't report how this refund ended, and doesn't list it.",
        "Check the payment in Stripe, then resolve the refund.",
    ),
    ReviewCode.AMOUNT_DIFFERS: (
        "Stripe shows a different amount or currency for this refund than before.",
        "Check in Stripe how much the customer received.",
    ),
    ReviewCode.ACTION_REQUIRED_AGAIN: (
        "The customer's bank returned the money, and Stripe asks the customer for their details again.",
        "Ask the customer to follow Stripe's e-mail, or cancel the refund and pay another way.",
    ),
    ReviewCode.BALANCE_TOO_LOW: (
        "Stripe can't make this refund yet, because the account's balance is too low.",
        "Top up the balance in Stripe. Stripe then makes the refund by itself.",
    ),
    ReviewCode.DISPUTED: (
        "This refund failed, because the customer disputed the payment with their bank.",
        "Don't refund again: answer the dispute in Stripe. The bank decides who gets the money.",
    ),
    ReviewCode.TRANSFER_NOT_REVERSED: (
        "This payment was transferred to a connected account, and the platform paid its refund.",
        "Reverse the transfer in Stripe if the connected account should pay the refund.",
    ),
    ReviewCode.AMOUNTS_DISAGREE: (
        "The refunds of this payment add up to more than it captured.",
        "Check the payment in Stripe: the customer may have received too much.",
    ),
    ReviewCode.MADE_TWICE: (
        "Stripe shows two refunds with this refund's metadata.",
        "Check in Stripe whether the customer received the money twice, or someone copied the metadata.",
    ),
    ReviewCode.UNREADABLE_AT_STRIPE: (
        "Stripe hasn't returned this refund or its payment's refunds for 23 hours.",
        "Check that the key belongs to the payment's account, then find the refund in Stripe and resolve it.",
    ),
    ReviewCode.PURCHASE_NOT_UPDATED: (
        "The database rejected the purchase's new status, or couldn't write it for ten minutes.",
        "Correct the purchase or the rule. Reconcile retries, and closes this review when it succeeds.",
    ),
}
"""What happened, and what to do. Only the code is stored, so that old records show the current text."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a refund failed: Stripe's code and words.

    :param outcome: the outcome of the request, as in metrics, if Stripe rejected the request.
    """

    code: str
    message: str
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """An open review of a refund: its code, and when it was requested."""

    code: ReviewCode
    since: datetime

    @property
    def message(self) -> str:
        """What happened."""
        return _REVIEW_TEXTS[self.code][0]

    @property
    def recommended_action(self) -> str:
        """What to do about it."""
        return _REVIEW_TEXTS[self.code][1]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a payment to refund, and what its caller saw of the payment before.

    :param amount: in minor units.
    :param refundable: what was left of the payment, in minor units.
    :param number: the number that the refund would get; ``None`` for callers that know only amounts.
    :param mark_refunded: whether the named purchase is refunded by this part, although a rest remains.
    """

    amount: int
    refundable: int
    number: int | None = None
    mark_refunded: bool = False


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """What a caller requests, apart from the purchase.

    :param requested_by: the caller's ID or name.
    :param reason: one of Stripe's three, or ``None``.
    :param note: text for the ledger only; at most 500 characters.
    :param bulk_run: the name of the bulk run that makes this request (:func:`is_bulk_name`). A refund that
        exists already keeps the name that it was created with.
    :param part: a part of the payment; ``None`` for all that is left of it.
    :param instructions_email: where Stripe writes if the customer must name an account.
    """

    requested_by: str | None
    source: Source
    reason: Reason | None = None
    note: str | None = None
    bulk_run: str | None = None
    part: Part | None = None
    instructions_email: str | None = field(default=None, repr=False)

    @property
    def actor(self) -> str:
        """Who makes the request and where, as stored in the history: ``api:64b5f2c8…``, ``cli:ann``."""
        return ":".join(filter(None, (self.source, self.requested_by)))


class Mark(NamedTuple):
    """A purchase that this library marks as refunded, and its status before."""

    purchase_id: Any
    status: Any


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund of the ledger."""

    id: str
    """``<payment_intent>:<number>``, or ``<payment_intent>:<Stripe's ID>`` of an external refund."""
    payment_intent: str
    """The payment's ID: that of its payment intent, or of its charge if it has none."""
    charge: str | None
    """The ID of the refunded charge, as reported by Stripe; ``None`` until then."""
    livemode: bool | None
    """Whether it moves real money, as reported by Stripe; ``None`` until then."""
    stripe_account: str | None
    """The ID of the connected account that has the payment (a direct charge); ``None`` for your own."""
    number: int | None
    """The position among the refunds of its payment that were requested here; ``None`` if it is external."""
    purchase_ids: Sequence[Any]
    """Every purchase of the payment; the one that was named first, if it was requested here."""
    marks: Sequence[Mark]
    """The purchases that this library marks as refunded, and may mark as completed again; not the app's own
    marks."""
    status: RefundStatus
    amount: int | None
    """In minor units, as reported by Stripe; ``None`` until then."""
    currency: str | None
    """The lowercase ISO 4217 code."""
    reason: Reason | None
    note: str | None
    requested_by: str | None
    source: Source
    bulk_run: str | None
    """The name of the bulk run that requested it, or ``None``."""
    stripe_refund_id: str | None
    amount_captured: int | None
    """What the payment's charge had captured when Stripe showed this refund, in minor units."""
    failure: Failure | None
    review: Review | None
    created_at: datetime
    updated_at: datetime
    settled_at: datetime | None
    part: Part | None
    """What the caller requested, if it is a part of the payment."""
    details: RefundDetails
    """What else Stripe tells: the bank's reference, what the customer must do, …"""
    history: Sequence[Mapping[str, Any]]
    """Every change, oldest first, as ``GET /admin/refunds/<refundId>`` shows it."""

    @property
    def marked_purchase_ids(self) -> list[Any]:
        """The purchases of :attr:`marks`."""
        return [each.purchase_id for each in self.marks]

    @property
    def is_full(self) -> bool:
        """Whether this refund alone returns everything that the payment had captured."""
        return 0 < (self.amount_captured or 0) <= (self.amount or 0)

    @property
    def amount_text(self) -> str | None:
        """The amount for people: ``20.00 USD``, or ``2000 JPY``; ``None`` until Stripe reported it."""
        if self.amount is None or self.currency is None:
            return None
        return f"{decimal_amount(self.amount, self.currency)} {self.currency.upper()}"

    @property
    def takes_rest(self) -> bool:
        """Whether it was requested for all that was left of the payment."""
        return self.part is None or self.part.amount >= self.part.refundable

    @property
    def closed_purchase_ids(self) -> Sequence[Any]:
        """The purchase that this part marks as refunded by itself, whatever the payment's other refunds."""
        return self.purchase_ids if self.part is not None and self.part.mark_refunded else ()

    @property
    def created_here(self) -> bool:
        """Whether this library requested the refund, rather than found it at Stripe."""
        return self.source != "external"


@dataclass(frozen=True, slots=True, repr=False)
class RefundRecord(Refund):
    """A refund as the ledger stores it, with what the protocol needs. Apps see a :class:`Refund`."""

    references: Sequence[str]
    """What else its purchases held in their payment field when it was created here."""
    request: Mapping[str, Any]
    """The parameters sent to Stripe. Every later attempt sends exactly the same."""
    lease_token: str | None
    """Identifies the call that works on the record, or last did."""
    attempts: int
    """How many calls have held the lease. From the second on, an earlier one may have reached Stripe."""
    lease_expires_at: datetime
    unread_since: datetime | None
    """Since when Stripe hasn't returned an open refund, or an event contradicts what it returned of a settled
    one; ``None`` if it did at the last attempt."""
    unwritten_since: datetime | None
    """Since when MongoDB hasn't answered a write to its purchases; ``None`` if it did at the last attempt."""
    signals_sent: bool
    """Whether every receiver has handled the record's current state."""
    purchases_verified: bool
    """Whether the purchases were verified to match the record's current status, with no call in progress."""

    @property
    def was_accepted_at_once(self) -> bool:
        """Whether the call that created it also stored Stripe's answer, so that it didn't crash before."""
        actors = [entry.get("actor") for entry in self.history[:2]]
        return self.attempts == 1 and len(actors) == 2 and actors[0] == actors[1]

    @property
    def may_have_marked(self) -> bool:
        """Whether this library may have marked purchases because of it.

        Not without a refund at Stripe, nor while it is open and Stripe accepted it at once: any mark is then
        the app's own.
        """
        if self.stripe_refund_id is None:
            return False
        return self.status.is_settled or self.has_succeeded or not self.was_accepted_at_once

    @property
    def has_succeeded(self) -> bool:
        """Whether Stripe has ever reported it as succeeded."""
        return any(entry["status"] == RefundStatus.SUCCEEDED for entry in self.history)

    @property
    def idempotency_key(self) -> str | None:
        """Stripe's idempotency key and ``metadata[refund_id]``; ``None`` for an external refund.

        It begins with the ID, and ends at random: after a restore, a lost record's ID may be used again.
        """
        key: str | None = self.request.get("metadata", {}).get("refund_id")
        return key


@dataclass(frozen=True, slots=True)
class StripeRefund:
    """A refund as Stripe shows it at one moment (https://docs.stripe.com/api/refunds/object)."""

    id: str
    payment_intent: str
    """The payment's ID, as in :class:`Refund`."""
    status: RefundStatus
    amount: int
    amount_captured: int
    """What its charge had captured at that moment, in minor units
    (``amount_captured`` of https://docs.stripe.com/api/charges/object)."""
    currency: str
    refund_id: str | None
    """``metadata[refund_id]``: the key of the record that requested it; ``None`` for an external refund."""
    reason: Reason | None
    failure: Failure | None
    created: datetime
    request_id: str | None
    details: RefundDetails = NO_DETAILS
    is_transfer_kept: bool = False
    """Whether the payment was transferred to a connected account that doesn't pay for the refund."""
    charge: str | None = None
    """The ID of the refunded charge."""
    livemode: bool | None = None
    stripe_account: str | None = None
    """The ID of the connected account that it was read from; ``None`` for your own."""
    deciding_transaction: str | None = None
    """The balance transaction that tells whether this is a refund or a released authorization, if the object
    itself doesn't tell."""

    def is_requested_by(self, refund: RefundRecord) -> bool:
        """Return whether a record requested this refund: by its key, and its amount if it has one."""
        if self.refund_id is None or self.refund_id != refund.idempotency_key:
            return False
        return refund.request.get("amount") in (None, self.amount)


@dataclass(frozen=True, slots=True)
class UnreadableRefund:
    """A refund that Stripe shows in a form that this library doesn't know, such as with a new status."""

    id: str | None
    """``None`` if its ID or its metadata can't be read, so that it may be any refund."""
    refund_id: str | None
    """``metadata[refund_id]``, as in :class:`StripeRefund`."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as Stripe shows it at one moment; amounts in minor units."""

    id: str
    amount_received: int
    refunded: int
    """What was refunded already, including pending refunds."""
    currency: str
    livemode: bool
    card: Card | None
    disputed: bool = False
    """Whether the customer disputed the payment: the bank may return the money, so don't refund it, too."""
    released: int = 0
    """What was authorized and not captured, or not yet."""
    method: str | None = None
    """The type of the payment method, in Stripe's words: ``card``, ``konbini``, …"""
    email: str | None = field(default=None, repr=False)
    """The customer's e-mail address, if the payment has it."""
    dispute: Dispute | None = None
    """What kind of dispute it is; ``None`` without one, or if Stripe didn't tell."""

    @property
    def refundable(self) -> int:
        """What a full refund would return to the customer."""
        return max(0, self.amount_received - self.refunded)

    @property
    def needs_email(self) -> bool:
        """Whether the payment method has no way back, so that Stripe asks the customer for an account."""
        return self.method in _METHODS_WITHOUT_RETURN


@dataclass(frozen=True, slots=True)
class Card:
    """The card's brand and last digits, by which customers recognize it."""

    brand: str
    last4: str


def find_object_id(text: str) -> ObjectId | None:
    """Return the ObjectId that 24 hex digits spell, or ``None``. Some releases of bson accept other text."""
    return ObjectId(text) if len(text) == 24 and _HEX_DIGITS.issuperset(text) else None


@dataclass(frozen=True, slots=True)
class IdText:
    """An ID in a URL, file or command, whose type isn't known. Elsewhere a value is an ID of its own type."""

    text: str


def id_text(value: Any) -> str:
    """Return an ID as text: a UUID as 36 characters, other binary data in Base64, and 7.0 as ``7``.

    A UUID of the legacy subtype that your app's codec didn't decode is shown in Python's byte order.
    """
    if isinstance(value, bytes):
        is_uuid = isinstance(value, Binary) and value.subtype in ALL_UUID_SUBTYPES and len(value) == 16
        return str(UUID(bytes=bytes(value))) if is_uuid else b64encode(value).decode("ascii")
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def is_payment_intent(text: str) -> bool:
    """Return whether a text can be the ID of a payment intent, and isn't a placeholder of the app's."""
    return text.startswith("pi_") and is_reference(text)


def is_payment(text: str) -> bool:
    """Return whether a text can be the ID of a payment: of a payment intent, or of a charge without one."""
    return is_reference(text) and not text.startswith("cs_")


def is_reference(text: str) -> bool:
    """Return whether a text can refer to a payment: as a payment intent, a charge or a Checkout session."""
    return _REFERENCE.fullmatch(text) is not None


def is_account(text: str) -> bool:
    """Return whether a text can be the ID of a connected account."""
    return _ACCOUNT.fullmatch(text) is not None


def payment_parameter(payment: str) -> str:
    """Return the name of the parameter by which requests to Stripe name this payment."""
    return "payment_intent" if payment.startswith("pi_") else "charge"


def is_bulk_name(text: str) -> bool:
    """Return whether a text can name a bulk run: 1 to 64 of A-Z, a-z, 0-9, ``._-``, starting alphanumeric."""
    return _BULK_NAME.fullmatch(text) is not None


def is_storable(text: str) -> bool:
    """Return whether MongoDB can store a text: JSON can contain half of a surrogate pair, UTF-8 can't."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

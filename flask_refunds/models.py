"""The values that the library thinks in: a refund's statuses, a ledger row, a refund as Stripe shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal

from bson import ObjectId

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_PAYMENT_INTENT = re.compile(r"pi_[0-9A-Za-z_]{1,200}", re.ASCII)
_BULK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

Reason = Literal["requested_by_customer", "duplicate", "fraudulent"]
"""Why a refund is made, in Stripe's words (https://docs.stripe.com/api/refunds/create)."""

Source = Literal["endpoint", "command", "host", "dashboard"]
"""Where a refund was asked for: our endpoint, our command line, the host's own code or tasks, or somewhere
else at Stripe."""


class RefundStatus(str, Enum):
    """A refund's status: Stripe's own words, and ``processing`` for "asked, and the outcome is unknown".

    Statuses climb a ladder and never step down, so that an answer, an event, a duplicate and an older one
    may come in any order and end in the same state.
    """

    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def rung(self) -> int:
        """How high on the ladder, from 0. ``failed`` and ``canceled`` share the top."""
        return _RUNGS[self]

    def below(self) -> list[RefundStatus]:
        """The statuses from which a refund may climb to this one."""
        return [status for status in RefundStatus if status.rung < self.rung]

    @property
    def ended_unpaid(self) -> bool:
        """Whether the refund is over and the customer has no money from it."""
        return self in (RefundStatus.FAILED, RefundStatus.CANCELED)

    @property
    def is_settled(self) -> bool:
        """Whether Stripe has said how the refund ended (a success may still fail days later)."""
        return self is RefundStatus.SUCCEEDED or self.ended_unpaid


_RUNGS = {
    RefundStatus.PROCESSING: 0,
    RefundStatus.REQUIRES_ACTION: 1,
    RefundStatus.PENDING: 2,
    RefundStatus.SUCCEEDED: 3,
    RefundStatus.FAILED: 4,
    RefundStatus.CANCELED: 4,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a refund failed: Stripe's code and words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Attention:
    """Why a person must look at a refund, since when, and what to do about it."""

    why: str
    what_to_do: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Refund:
    """One numbered row of the ledger."""

    id: str
    """``<payment_intent>:<number>``; also Stripe's idempotency key and ``metadata[refund_id]``."""
    payment_intent: str
    number: int
    purchase_ids: Sequence[Any]
    status: RefundStatus
    amount: int | None
    """In minor units, as Stripe said; ``None`` until it did."""
    currency: str | None
    reason: Reason | None
    note: str | None
    requested_by: str | None
    source: Source
    bulk: str | None
    """The name of the bulk run that asked for it, or ``None``."""
    stripe_refund_id: str | None
    captured: int | None
    """What the payment intent had received, in minor units; known for refunds made elsewhere only."""
    failure: Failure | None
    attention: Attention | None
    created_at: datetime
    updated_at: datetime
    settled_at: datetime | None
    request: Mapping[str, Any]
    """The parameters sent to Stripe, and sent again to the letter by every later try."""
    owner: str | None
    """The token of the call that works on the row, or last did."""
    calls: int
    """How many calls have owned the row. From the second on, an earlier one may have asked Stripe already."""
    leased_until: datetime
    announced: bool
    """Whether every receiver of the row's present status has run."""
    checked: bool
    """Whether the purchases were seen to follow the row's present status, when no call was under way."""
    history: Sequence[Mapping[str, Any]]

    @property
    def is_ours(self) -> bool:
        """Whether the ledger asked Stripe for this refund, rather than learnt of it."""
        return self.source != "dashboard"


@dataclass(frozen=True, slots=True)
class StripeRefund:
    """A refund as Stripe shows it at one moment (https://docs.stripe.com/api/refunds/object)."""

    id: str
    payment_intent: str
    status: RefundStatus
    amount: int
    currency: str
    refund_id: str | None
    """``metadata[refund_id]``: the ledger row that asked for it, or ``None`` when it was made elsewhere."""
    reason: Reason | None
    failure: Failure | None
    created: datetime
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as Stripe shows it at one moment; amounts in minor units."""

    id: str
    received: int
    refunded: int
    """What went back already, or is on its way."""
    currency: str
    livemode: bool
    card: Card | None

    @property
    def refundable(self) -> int:
        """What a refund would give back."""
        return self.received - self.refunded


@dataclass(frozen=True, slots=True)
class Card:
    """What a customer recognizes his card by, in Stripe's words."""

    brand: str
    last4: str


def find_object_id(text: str) -> ObjectId | None:
    """The ObjectId that a text spells: 24 hex digits, and nothing else that some releases of bson take."""
    return ObjectId(text) if len(text) == 24 and _HEX_DIGITS.issuperset(text) else None


def is_payment_intent(text: str) -> bool:
    """Whether a text can be the id of a payment intent, and not some placeholder of the host's."""
    return _PAYMENT_INTENT.fullmatch(text) is not None


def is_bulk_name(text: str) -> bool:
    """Whether a text can name a bulk run: 1 to 64 of A-Z, a-z, 0-9, ``._-``, a letter or digit first."""
    return _BULK_NAME.fullmatch(text) is not None


def doer(source: Source, who: str | None) -> str:
    """Who did something, and where, as the history has it: ``endpoint:64b5f2c8…``, ``command:ann``."""
    return who if who is not None and who.startswith(f"{source}:") else ":".join(filter(None, (source, who)))


def next_number(log: Sequence[Refund]) -> int:
    """The number that the log's next refund gets; a row that a restore left out leaves its number empty.

    :param log: by number.
    """
    return log[-1].number + 1 if log else 1


def find_live(log: Sequence[Refund]) -> Refund | None:
    """The refund of ours that bars a further one: the last that did not end unpaid."""
    ours = [refund for refund in log if refund.is_ours and not refund.status.ended_unpaid]
    return ours[-1] if ours else None


def is_refunded(log: Sequence[Refund]) -> bool:
    """Whether the payment of this log went back in full.

    A refund of ours is for all that is left, so its success completes it; refunds made elsewhere may be
    partial and are added up.
    """
    paid = [refund for refund in log if refund.status is RefundStatus.SUCCEEDED]
    if any(refund.is_ours for refund in paid):
        return True
    captured = max((refund.captured or 0 for refund in paid), default=0)
    return captured > 0 and sum(refund.amount or 0 for refund in paid) >= captured


FAILED_AFTER_SUCCESS = "failed_after_success"


FOUND_AFTER_FAILURE = "found_after_failure"


UNKNOWN_TOO_LONG = "unknown_too_long"


AMOUNT_DIFFERS = "amount_differs"
"""Why a refund asks for a person: the words stored in ``attention.why``."""


_WHAT_TO_DO = {
    FAILED_AFTER_SUCCESS: (
        "The customer was told of a refund that his bank then returned. Tell him, "
        "and refund the purchase again or pay him another way."
    ),
    FOUND_AFTER_FAILURE: (
        "This refund was recorded as failed, and then Stripe showed it. "
        "Check at Stripe that the payment was not refunded twice."
    ),
    UNKNOWN_TOO_LONG: (
        "Stripe never said how this refund ended, and shows none. Check the payment at Stripe, "
        "then settle the refund by hand."
    ),
    AMOUNT_DIFFERS: (
        "Stripe shows another amount or currency for this refund than it did before. "
        "Check at Stripe what the customer got."
    ),
}

"""Where your app's purchases keep their data, and which words say that they are completed or refunded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from bson import Decimal128, ObjectId
from bson.dbref import DBRef

COMPLETED: Literal["completed"] = "completed"
REFUNDED: Literal["refunded"] = "refunded"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_SECOND = 2**32 - 1


@dataclass(frozen=True, slots=True)
class PurchaseFields:
    """The shape of a purchase: ``REFUNDS_PURCHASE_FIELDS`` and the settings about statuses and amounts.

    A field is the path of names to it, joined by dots.

    :param created: ``None`` if the time in the purchase's ObjectId counts.
    :param stripe_account: ``None`` if every payment belongs to the key's own account.
    :param completed_words: the statuses of purchases that can be refunded. One that is marked gets back the
        word that it had.
    :param amount_in_minor_units: whether ``amount`` is in cents, rather than in dollars.
    """

    status: str = "status"
    payment: str = "stripePaymentIntentId"
    user: str = "user"
    content: str = "content"
    amount: str = "amount"
    currency: str = "currency"
    created: str | None = None
    stripe_account: str | None = None
    completed_words: tuple[Any, ...] = (COMPLETED,)
    refunded_word: Any = REFUNDED
    amount_in_minor_units: bool = False

    def status_of(self, purchase: Mapping[str, Any]) -> Literal["completed", "refunded"] | None:
        """Return :data:`COMPLETED`, :data:`REFUNDED`, or ``None`` for any other status of your app."""
        word = read_field(purchase, self.status)
        if includes_word(self.completed_words, word):
            return COMPLETED
        return REFUNDED if includes_word((self.refunded_word,), word) else None

    def as_refunded(self, purchase: Mapping[str, Any]) -> dict[str, Any]:
        """Return the purchase with the status that refunded purchases have."""
        return with_field(purchase, self.status, self.refunded_word)

    @property
    def is_completed(self) -> dict[str, Any]:
        """Match completed purchases, and those whose status is a list that contains such a word."""
        return {self.status: one_of(self.completed_words)}

    @property
    def is_refunded(self) -> dict[str, Any]:
        """Match refunded purchases, likewise."""
        return {self.status: self.refunded_word}

    def created_in(self, since: datetime | None, until: datetime | None) -> dict[str, Any]:
        """Match purchases that were created at one moment or later, and before another.

        Those without a date, or without an ObjectId if it is the date, match only if both are ``None``.
        """
        bounds = (("$gte", since), ("$lt", until))
        if self.created is None:
            span: dict[str, Any] = {name: _first_id(each) for name, each in bounds if each}
        else:
            span = {name: each for name, each in bounds if each}
        return {self.created or "_id": span} if span else {}

    @property
    def newest_first(self) -> list[tuple[str, int]]:
        """The order of lists."""
        return [*([(self.created, -1)] if self.created else []), ("_id", -1)]


def _first_id(moment: datetime) -> ObjectId:
    """Return the smallest ObjectId of the first whole second at or after a moment. IDs have no fractions."""
    seconds = -((_EPOCH - moment) // timedelta(seconds=1))
    return ObjectId(f"{min(max(seconds, 0), _LAST_SECOND):08x}{'0' * 16}")


def one_of(words: tuple[Any, ...]) -> Any:
    """Return the condition that a field has one of these values."""
    return words[0] if len(words) == 1 else {"$in": list(words)}


def includes_word(known: Iterable[Any], word: Any) -> bool:
    """Return whether one of these words equals another as MongoDB compares: 3 is 3.0, and 1 isn't true."""
    if isinstance(word, Decimal128):
        decimal = word.to_decimal()
        word = None if decimal.is_nan() else decimal  # a signaling NaN can't be compared
    return any(each == word and isinstance(each, bool) is isinstance(word, bool) for each in known)


def read_field(document: Mapping[str, Any], path: str) -> Any:
    """Return the value at a path, or ``None``. Lists have no fields, although MongoDB searches in them."""
    if "." not in path:
        return document.get(path)
    value: Any = document
    for name in path.split("."):
        if isinstance(value, DBRef):
            value = value.as_doc()
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def with_field(document: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of a document with another value at a path."""
    name, _, rest = path.partition(".")
    if not rest:
        return {**document, name: value}
    inner = document.get(name)
    return {**document, name: with_field(inner if isinstance(inner, Mapping) else {}, rest, value)}

"""Apps whose documents have other names, words and IDs than this library's defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from bson import Binary, ObjectId

from flask_refunds.purchase_fields import PurchaseFields, read_field, with_field
from flask_refunds.testing import StripeSandbox
from tests.integration.webhooks import SECRET
from tests.shop import Shop, make_app

MARCH = datetime(2024, 3, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Shape:
    """What an app's purchases look like.

    :param new_id: returns the ID of the purchase with this number.
    :param pending: the status of a purchase that can't be refunded.
    """

    fields: Mapping[str, str]
    completed: tuple[Any, ...]
    refunded: Any
    pending: Any
    new_id: Callable[[int], Any]
    unit: str = "major"

    @property
    def paths(self) -> PurchaseFields:
        """The path of each field."""
        return PurchaseFields(**self.fields)

    @property
    def config(self) -> dict[str, Any]:
        """The settings that describe it."""
        one = self.completed[0] if len(self.completed) == 1 else list(self.completed)
        return {
            "REFUNDS_PURCHASE_FIELDS": self.fields,
            "REFUNDS_STATUS_COMPLETED": one,
            "REFUNDS_STATUS_REFUNDED": self.refunded,
            "REFUNDS_AMOUNT_UNIT": self.unit,
            "REFUNDS_USER_FIELDS": {"name": "profile.name", "email": "contact.mail"},
            "REFUNDS_CONTENT_FIELDS": {"title": "names.en", "type": "kind"},
        }


SHAPES = {
    "nested": Shape(
        {
            "status": "order.state",
            "payment": "stripe.intent",
            "user": "customer.ref",
            "content": "item.ref",
            "amount": "price.value",
            "currency": "price.currency",
            "created": "placed.at",
        },
        ("paid",),
        "returned",
        "open",
        lambda number: f"order/{number}",
    ),
    "two words": Shape(
        {"status": "state", "payment": "paymentRef", "created": "createdAt"},
        ("PAID", "SHIPPED"),
        "REFUNDED",
        "paid",
        lambda number: ObjectId(number.to_bytes(12, "big")),
    ),
    "numbers": Shape(
        {"payment": "intent", "amount": "cents", "created": "created_on"}, (3, -5), 4, 1, int, "minor"
    ),
    "booleans": Shape(
        {"status": "isReturned"},
        (False,),
        True,
        "unpaid",
        lambda number: Binary.from_uuid(UUID(int=number)),
    ),
}


class ShapedShop(Shop):
    """A shop whose documents have a shape."""

    def __init__(self, database: Any, sandbox: StripeSandbox, shape: Shape) -> None:
        config = {"STRIPE_API_BASE": sandbox.url, "STRIPE_WEBHOOK_SECRET": SECRET}
        super().__init__(make_app(REFUNDS_MONGO=database, **config, **shape.config), database)
        self.shape = shape
        self.user = database.users.insert_one(
            {"role": "user", "profile": {"name": "Ann"}, "contact": {"mail": "ann@example.org"}}
        ).inserted_id
        self.content = database.contents.insert_one(
            {"names": {"en": "Pruning"}, "kind": "course"}
        ).inserted_id
        self._sold = 0

    def sell(self, payment: str | None, word: Any, **fields: Any) -> Any:
        """Store a purchase, a day later than the one before, and return its ID."""
        shape, self._sold = self.shape, self._sold + 1
        purchase_id = shape.new_id(self._sold)
        values = {"user": self.user, "content": self.content, "amount": 1950, "currency": "EUR"}
        if shape.paths.created:
            values["created"] = MARCH + timedelta(days=self._sold)
        document: dict[str, Any] = {"_id": purchase_id}
        for name, value in (values | {"payment": payment, "status": word} | fields).items():
            document = with_field(document, getattr(shape.paths, name), value)
        self.db.purchases.insert_one(document)
        return purchase_id

    def word_of(self, purchase_id: Any) -> Any:
        """Return a purchase's status as stored."""
        return read_field(self.db.purchases.find_one({"_id": purchase_id}), self.shape.paths.status)

    def words(self) -> list[Any]:
        """Return the status of each purchase, oldest first, and of which type it is."""
        found = [self.word_of(self.shape.new_id(number)) for number in range(1, self._sold + 1)]
        return [(type(each).__name__, each) for each in found]

"""The demo's data: accounts, contents, and purchases in every status."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import stripe
from bson import ObjectId
from werkzeug.security import generate_password_hash

from . import orders
from .database import create_indexes, db


@dataclass(frozen=True)
class Account:
    """A demo account with a public password."""

    name: str
    email: str
    password: str
    role: str


ADMIN = Account("Ines Admin", "admin@shop.example", "demo-admin", "admin")
ADA = Account("Ada Okafor", "ada@shop.example", "demo-ada", "user")
BEN = Account("Ben Sato", "ben@shop.example", "demo-ben", "user")
ACCOUNTS = (ADMIN, ADA, BEN)

CONTENTS: tuple[dict[str, Any], ...] = (
    {
        "title": "Pruning Fruit Trees",
        "type": "course",
        "price": 4800,
        "currency": "usd",
        "summary": "Six lessons on where to cut, when, and why the tree will thank you.",
        "body": "Lesson 1. Stand back and look. A branch that crosses another will rub it sore: "
        "choose the one that grows outwards, and take the other off at the collar.",
    },
    {
        "title": "Saving Your Own Seed",
        "type": "ebook",
        "price": 1250,
        "currency": "usd",
        "summary": "From a ripe pod to next year's row, for forty vegetables.",
        "body": "Chapter 1. Begin with beans and tomatoes: they pollinate themselves, so what you "
        "sow is what you will eat.",
    },
    {
        "title": "The Compost Handbook",
        "type": "ebook",
        "price": 1950,
        "currency": "eur",
        "summary": "Hot, cold, in a box or in a worm farm: what rots well, and what does not.",
        "body": "Chapter 1. Two parts brown to one part green, as damp as a wrung-out cloth. "
        "Everything else in this book is patience.",
    },
    {
        "title": "A Year in the Kitchen Garden",
        "type": "audiobook",
        "price": 3400,
        "currency": "eur",
        "summary": "Twelve hours, one for each month, read among the beds.",
        "body": "January. The soil sleeps, and the gardener reads catalogues. Order less than you want.",
    },
    {
        "title": "Bonsai for Beginners",
        "type": "course",
        "price": 6800,
        "currency": "jpy",
        "summary": "One juniper, one pot, ten weeks.",
        "body": "Week 1. Choose a young tree with a trunk that already tells a story, and do nothing to it "
        "for seven days but water it.",
    },
)

_PRUNING, _SEED, _COMPOST, _KITCHEN, _BONSAI = (content["title"] for content in CONTENTS)
_ORDERS: tuple[tuple[Account, Sequence[str], orders.Card], ...] = (
    (ADA, [_PRUNING, _SEED], orders.SUCCEEDS),  # one payment for two purchases
    (BEN, [_BONSAI], orders.SUCCEEDS),
    (BEN, [_PRUNING], orders.PENDING_REFUND),
    (ADA, [_KITCHEN], orders.REFUND_FAILS),
    (BEN, [_SEED], orders.DISPUTED),
    (BEN, [_KITCHEN], orders.DECLINED),
    (ADA, [_COMPOST], orders.SUCCEEDS),
)
_UNPAID_ORDER: tuple[Account, Sequence[str], orders.Card] = (BEN, [_COMPOST], orders.SUCCEEDS)
PENDING_PURCHASES = len(_UNPAID_ORDER[1])
"""The number of purchases that stay pending because they are never paid."""


def seed() -> bool:
    """Add the demo's data if the database has no users.

    The payments are made at Stripe. Their purchases stay pending until Stripe's events arrive.

    :return: whether the data was added.
    :raises stripe.StripeError: a request to Stripe failed.
    :raises pymongo.errors.PyMongoError: a database operation failed.
    """
    if db().users.find_one({}) is not None:
        return False
    create_indexes()
    users = [_make_user(account) for account in ACCOUNTS]
    ids = {user["email"]: user["_id"] for user in users}
    contents = {content["title"]: _insert_content(content) for content in CONTENTS}

    def create_order(account: Account, titles: Sequence[str], card: orders.Card) -> orders.Order:
        ordered = [contents[title] for title in titles]
        return orders.create_order(f"demo-{secrets.token_hex(12)}", ids[account.email], ordered, card)

    create_order(*_UNPAID_ORDER)
    for order in _ORDERS:
        _pay(create_order(*order))
    # Insert the users last: their presence means that the data is complete.
    db().users.insert_many(users)
    return True


def _make_user(account: Account) -> dict[str, Any]:
    return {
        "_id": ObjectId(),
        "name": account.name,
        "email": account.email,
        "role": account.role,
        "passwordHash": generate_password_hash(account.password),
    }


def _insert_content(content: Mapping[str, Any]) -> dict[str, Any]:
    found = db().contents.find_one({"title": content["title"]})
    if found is not None:
        return found
    document = dict(content)
    db().contents.insert_one(document)  # sets document["_id"]
    return document


def _pay(order: orders.Order) -> None:
    try:
        orders.pay(order)
    except stripe.CardError:
        if order.card is not orders.DECLINED:
            raise

"""The demo's data: accounts, contents, a year of purchases and refunds, and today's purchases."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import stripe
from bson import ObjectId
from flask import current_app
from werkzeug.security import generate_password_hash

from flask_refunds.testing import StripeSandbox

from . import orders, stories
from .database import create_indexes, db
from .past import Past


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
    {
        "title": "Roses without Poison",
        "type": "course",
        "price": 5600,
        "currency": "usd",
        "summary": "Black spot, aphids and mildew, and what helps against them.",
        "body": "Lesson 1. Give each rose room: leaves that dry by noon seldom fall ill.",
    },
    {
        "title": "Keeping Bees in the City",
        "type": "course",
        "price": 8900,
        "currency": "eur",
        "summary": "A season with two hives on a flat roof.",
        "body": "March. Lift the lid on a warm noon, look for eggs, and close it again.",
    },
    {
        "title": "Herbs on a Balcony",
        "type": "ebook",
        "price": 990,
        "currency": "eur",
        "summary": "Twenty herbs for pots, by how much sun they need.",
        "body": "Chapter 1. Thyme, sage and rosemary like it dry. Give mint a pot of its own.",
    },
    {
        "title": "Mushrooms on Straw",
        "type": "course",
        "price": 2900,
        "currency": "eur",
        "summary": "Oyster mushrooms from a bucket in the cellar.",
        "body": "Week 1. Pour boiling water over the straw, and let it cool before you mix in the spawn.",
    },
    {
        "title": "Moss Gardens of Kyoto",
        "type": "audiobook",
        "price": 3200,
        "currency": "jpy",
        "summary": "Walks through nine gardens, at the pace of moss.",
        "body": "First walk. Listen for the water before you look for it.",
    },
)

_PRUNING, _SEED, _COMPOST, _KITCHEN, _BONSAI = (content["title"] for content in CONTENTS[:5])
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


def seed(stripe: StripeSandbox | None = None, start_events: Callable[[], None] = lambda: None) -> bool:
    """Add the demo's data if the database has no users.

    Today's payments are made at Stripe. Their purchases stay pending until Stripe's events arrive.

    :param stripe: a sandbox, for the year before today. Payments at Stripe can't be made in the past.
    :param start_events: called before today's payments, to let Stripe send events.
    :return: whether the data was added.
    :raises stripe.StripeError: a request to Stripe failed.
    :raises pymongo.errors.PyMongoError: a database operation failed.
    """
    if db().users.find_one({}) is not None:
        start_events()
        return False
    users = [_make_user(account) for account in ACCOUNTS]
    ids = {user["email"]: user["_id"] for user in users}
    contents = {content["title"]: _insert_content(content) for content in CONTENTS}
    if stripe is not None:
        users += _add_past(stripe, contents, users)
    create_indexes()
    start_events()

    def create_order(account: Account, titles: Sequence[str], card: orders.Card) -> orders.Order:
        ordered = [contents[title] for title in titles]
        return orders.create_order(f"demo-{secrets.token_hex(12)}", ids[account.email], ordered, card)

    create_order(*_UNPAID_ORDER)
    for order in _ORDERS:
        _pay(create_order(*order))
    # Insert the users last: their presence means that the data is complete.
    db().users.insert_many(users)
    return True


def _add_past(
    stripe: StripeSandbox, contents: Mapping[str, Mapping[str, Any]], accounts: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Add the year before today, and return its customers and the other admin."""
    users = [_make_customer(name) for name in stories.CUSTOMERS]
    users.append({**_make_customer(stories.SUPPORT), "role": "admin"})
    past = Past(current_app.config, stripe, contents, {user["name"]: user for user in (*users, *accounts)})
    past.tell(stories.stories_of(past))
    return users


def _make_customer(name: str) -> dict[str, Any]:
    """Return a customer without a password."""
    plain = unicodedata.normalize("NFKD", name.replace("ø", "o"))
    address = "".join(each for each in plain.lower().replace(" ", ".") if each.isascii())
    return {"_id": ObjectId(), "name": name, "email": f"{address}@customers.example", "role": "user"}


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

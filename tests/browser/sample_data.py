"""Purchases and refunds that several tests show."""

from __future__ import annotations

from typing import Any

from flask_refunds.testing import StripeSandbox
from tests.shop import Shop

CARD_PENDING = "4000000000007726"
CARD_FAILS_LATER = "4000000000005126"


def add_purchase(shop: Shop, payment: str, title: str = "Pruning", name: str = "Ada Okafor") -> Any:
    """Store a purchase with its content and customer, and return its ID."""
    user = shop.db.users.find_one({"name": name})
    user_id = (
        user["_id"] if user else shop.add_user(name=name, email=f"{name.split()[0].lower()}@shop.example")
    )
    content = shop.db.contents.insert_one({"title": title, "type": "course"}).inserted_id
    return shop.add_purchase(payment, user=user_id, content=content)


def add_samples(shop: Shop, sandbox: StripeSandbox) -> str:
    """Add purchases in each state, a refund that failed after it succeeded, and a payment of two purchases.

    It needs the fixture ``stripe_webhook``, because only an event reports the later failure.

    :return: the payment whose refund failed.
    """
    failing = sandbox.create_payment(4800, card=CARD_FAILS_LATER)
    purchase = add_purchase(shop, failing, "A failed refund")
    shop.refund(purchase, json={"reason": "fraudulent", "note": "Called twice."})
    sandbox.settle(sandbox.refunds(failing)[0]["id"], "failed")
    sandbox.wait_delivered()
    shop.refund(
        add_purchase(shop, sandbox.create_payment(4800, "jpy", card=CARD_PENDING), "A pending refund")
    )
    shop.refund(add_purchase(shop, sandbox.create_payment(4800, "kwd"), "Refunded"))
    two = sandbox.create_payment(9600)
    add_purchase(shop, two, "The first of two")
    add_purchase(shop, two, "The second of two")
    shop.add_purchase(None, status="failed")
    return failing

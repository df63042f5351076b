"""What the terminal says when the shop is open."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import stripe
from flask import Flask
from flask.testing import FlaskClient

from . import demo, orders

_EVENTS_WITHIN_SECONDS = 20.0
_LOOK_AGAIN_SECONDS = 0.05
_MOST_LOOKED_UP = 5


def text(app: Flask, url: str, *, services: Sequence[str], seeded: bool) -> str:
    """Where to open the shop, whom to sign in as, and a refund for the shell.

    :param services: lines that say what the shop runs on.
    :param seeded: whether it was filled just now, so that Stripe's events are to be awaited.
    """
    client = app.test_client()
    token = _sign_in(client)
    if token is None:
        people = ["This database has users of its own, so nothing was added to it: sign in as one of them."]
        refund = [f"An admin refunds purchases at {url}/admin."]
    else:
        app.config["SHOP_DEMO_ACCOUNTS"] = demo.ACCOUNTS
        people = _accounts()
        refund = _refund(app, client, url, token, seeded=seeded)
    sections = [
        ["The storefront is open."],
        [f"Open      {url}/", f"Refund    {url}/api/payments/admin/", *people],
        services,
        refund,
        ["Ctrl-C ends it."],
    ]
    return "\n\n".join("\n".join(section) for section in sections)


def _sign_in(client: FlaskClient) -> str | None:
    """A token of the demo's admin, where there is one."""
    answer = client.post("/api/sign-in", json={"email": demo.ADMIN.email, "password": demo.ADMIN.password})
    return answer.get_json()["token"] if answer.status_code == 200 else None


def _accounts() -> list[str]:
    heads = ["Sign in   "] + [" " * 10] * (len(demo.ACCOUNTS) - 1)
    does = {"admin": "refunds purchases at /admin", "user": "a customer"}
    return [
        f"{head}{account.email:<20} {account.password:<12} {does[account.role]}"
        for head, account in zip(heads, demo.ACCOUNTS, strict=True)
    ]


def _refund(app: Flask, client: FlaskClient, url: str, token: str, *, seeded: bool) -> list[str]:
    purchases = _settled(client, token) if seeded else _purchases(client, token)
    purchase = _find_refundable(app, purchases)
    if purchase is not None:
        return [
            "Refund a purchase from a shell: 200 and refunded; once more, 400 and nothing moves:",
            "",
            f"curl -X POST {url}/api/payments/admin/refund/{purchase['id']} "
            f'-H "Authorization: Bearer {token}"',
        ]
    if seeded:
        return ["Stripe's events have not arrived, so no purchase is completed: is stripe listen running?"]
    return [f"Nothing bought earlier can be refunded here: buy something, then refund it at {url}/admin."]


def _settled(client: FlaskClient, token: str) -> list[dict[str, Any]]:
    """The purchases once Stripe's events have been received, or when patience ends."""
    deadline = time.monotonic() + _EVENTS_WITHIN_SECONDS
    while True:
        purchases = _purchases(client, token)
        pending = [purchase for purchase in purchases if purchase["status"] == orders.PENDING]
        if len(pending) <= demo.LEFT_PENDING or time.monotonic() > deadline:
            return purchases
        time.sleep(_LOOK_AGAIN_SECONDS)


def _purchases(client: FlaskClient, token: str) -> list[dict[str, Any]]:
    answer = client.get("/api/admin/purchases", headers={"Authorization": f"Bearer {token}"})
    purchases: list[dict[str, Any]] = answer.get_json()["purchases"]
    return purchases


def _find_refundable(app: Flask, purchases: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """A completed purchase, alone on its payment, whose refund succeeds at once."""
    payments = [purchase["paymentIntent"] for purchase in purchases]
    fit = [
        purchase
        for purchase in purchases
        if purchase["status"] == orders.COMPLETED
        and purchase["cardLast4"] == orders.PAYS.last4
        and payments.count(purchase["paymentIntent"]) == 1
    ]
    with app.app_context():
        return next((each for each in fit[:_MOST_LOOKED_UP] if _is_at_stripe(each["paymentIntent"])), None)


def _is_at_stripe(payment_intent: str) -> bool:
    """Whether Stripe knows this payment: one made in an earlier run's sandbox went with it."""
    try:
        orders.stripe_client().v1.payment_intents.retrieve(payment_intent)
    except stripe.InvalidRequestError:
        return False
    return True

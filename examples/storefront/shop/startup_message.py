"""The message that the storefront prints when it is ready."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import stripe
from flask import Flask
from flask.testing import FlaskClient

from . import demo, orders

_EVENTS_TIMEOUT_SECONDS = 20.0
_POLL_SECONDS = 0.05
_MAX_PAYMENTS_CHECKED = 5


def build(app: Flask, url: str, *, services: Sequence[str], seeded: bool) -> str:
    """Return the message: URLs, accounts, services, and a curl command for a refund.

    :param services: one line for each service.
    :param seeded: whether the demo's data was just added. If so, this waits for Stripe's events.
    """
    client = app.test_client()
    token = _sign_in(client)
    if token is None:
        accounts = ["Sign in with one of your database's own users. The demo's data wasn't added to it."]
        refund = [f"Refund purchases at {url}/admin."]
    else:
        app.config["SHOP_DEMO_ACCOUNTS"] = demo.ACCOUNTS
        accounts = _accounts()
        refund = _refund_command(app, client, url, token, seeded=seeded)
    sections = [
        ["The storefront is running."],
        [f"Shop      {url}/", f"Admin     {url}/api/payments/admin/", *accounts],
        services,
        refund,
        ["Press Ctrl-C to stop."],
    ]
    return "\n\n".join("\n".join(section) for section in sections)


def _sign_in(client: FlaskClient) -> str | None:
    """Return a token of the demo's admin, or None if the database doesn't have this account."""
    response = client.post("/api/sign-in", json={"email": demo.ADMIN.email, "password": demo.ADMIN.password})
    return response.get_json()["token"] if response.status_code == 200 else None


def _accounts() -> list[str]:
    labels = ["Sign in   "] + [" " * 10] * (len(demo.ACCOUNTS) - 1)
    roles = {"admin": "admin, can refund purchases", "user": "customer"}
    return [
        f"{label}{account.email:<20} {account.password:<12} {roles[account.role]}"
        for label, account in zip(labels, demo.ACCOUNTS, strict=True)
    ]


def _refund_command(app: Flask, client: FlaskClient, url: str, token: str, *, seeded: bool) -> list[str]:
    purchases = _wait_for_events(client, token) if seeded else _list_purchases(client, token)
    purchase = _find_refundable(app, purchases)
    if purchase is not None:
        return [
            "Refund a purchase from the shell. Run it twice: the second call returns 400 and moves no money.",
            "",
            f"curl -X POST {url}/api/payments/admin/refund/{purchase['id']} "
            f'-H "Authorization: Bearer {token}"',
        ]
    if seeded:
        return [
            "No purchase is completed, because Stripe's events haven't arrived. Is stripe listen running?"
        ]
    return [f"No earlier purchase can be refunded. Buy something, then refund it at {url}/admin."]


def _wait_for_events(client: FlaskClient, token: str) -> list[dict[str, Any]]:
    """Return the purchases after Stripe's events have arrived, or after the timeout."""
    deadline = time.monotonic() + _EVENTS_TIMEOUT_SECONDS
    while True:
        purchases = _list_purchases(client, token)
        pending = [purchase for purchase in purchases if purchase["status"] == orders.PENDING]
        if len(pending) <= demo.PENDING_PURCHASES or time.monotonic() > deadline:
            return purchases
        time.sleep(_POLL_SECONDS)


def _list_purchases(client: FlaskClient, token: str) -> list[dict[str, Any]]:
    response = client.get("/api/admin/purchases", headers={"Authorization": f"Bearer {token}"})
    purchases: list[dict[str, Any]] = response.get_json()["purchases"]
    return purchases


def _find_refundable(app: Flask, purchases: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return a completed purchase that is the only one of its payment and whose refund succeeds."""
    payments = [purchase["paymentIntent"] for purchase in purchases]
    candidates = [
        purchase
        for purchase in purchases
        if purchase["status"] == orders.COMPLETED
        and purchase["cardLast4"] == orders.SUCCEEDS.last4
        and payments.count(purchase["paymentIntent"]) == 1
    ][:_MAX_PAYMENTS_CHECKED]
    with app.app_context():
        return next((each for each in candidates if _exists_at_stripe(each["paymentIntent"])), None)


def _exists_at_stripe(payment_intent: str) -> bool:
    """Return whether Stripe has this payment. Payments of an earlier sandbox are gone."""
    try:
        orders.stripe_client().v1.payment_intents.retrieve(payment_intent)
    except stripe.InvalidRequestError:
        return False
    return True

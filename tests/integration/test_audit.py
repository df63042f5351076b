"""A refund's history: who changed it, when, and with which Stripe request. Entries never change."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox, make_event
from tests.integration.unfinished import age, reconcile, unknown
from tests.integration.webhooks import PENDING_CARD, SECRET, send
from tests.shop import Shop, make_app


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=SECRET)
    return Shop(app, database)


class History:
    """The history of one refund."""

    def __init__(self, shop: Shop, refund_id: str) -> None:
        self.shop = shop
        self.refund_id = refund_id
        self.history: list[dict[str, Any]] = []

    def new_entries(self) -> list[dict[str, Any]]:
        """Return the entries since the last call, and check that earlier ones haven't changed."""
        record = self.shop.db.flask_refunds.find_one({"_id": self.refund_id})
        before, self.history = self.history, record["history"]
        assert self.history[: len(before)] == before
        added = self.history[len(before) :]
        for entry in added:
            assert isinstance(entry["at"], datetime)
            assert entry["status"]
        if added:
            assert added[-1]["at"] == record["updatedAt"]
        return added


def _summary(entry: dict[str, Any]) -> tuple[str, str, bool]:
    """Return an entry's status and actor, and whether it has Stripe's request ID."""
    return entry["status"], entry["actor"], str(entry.get("stripeRequestId")).startswith("req_")


def test_history_names_actor_and_stripe_request_of_every_change(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, card=PENDING_CARD)
    purchase = shop.add_purchase(payment)
    history, admin = History(shop, f"{payment}:1"), f"api:{shop.admin_id}"

    assert shop.refund(purchase, json={"reason": "duplicate", "note": "paid twice"}).status_code == 202
    record = shop.records()[0]
    assert (record["reason"], record["note"], record["requestedBy"], record["source"]) == (
        "duplicate",
        "paid twice",
        str(shop.admin_id),
        "api",
    )
    assert [_summary(entry) for entry in history.new_entries()] == [
        ("processing", admin, False),
        ("pending", admin, True),
    ]

    [refund] = sandbox.refunds(payment)
    for status in ("succeeded", "failed"):
        sandbox.settle(refund["id"], status)
        for _ in range(2):
            assert send(shop, sandbox.events[-1]).status_code == 200
        [entry] = history.new_entries()
        assert (entry["status"], entry["actor"]) == (status, "webhook")
        assert entry["review"] == {"succeeded": None, "failed": "failed_after_success"}[status]

    age(shop, minutes=2)
    reconcile(shop)
    assert history.new_entries() == []

    resolved = shop.flask(
        "resolve", f"{payment}:1", "--dismiss", "--comment", "paid in cash", "--actor", "ann"
    )
    assert resolved.exit_code == 0, resolved.output
    [entry] = history.new_entries()
    assert (entry["status"], entry["actor"], entry["comment"]) == ("failed", "cli:ann", "paid in cash")

    assert shop.refund(purchase).status_code == 202
    assert history.new_entries() == []


def test_rejected_refund_has_stripes_request_id(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, card="4000000000000259")
    assert shop.refund(shop.add_purchase(payment)).status_code == 400
    assert _summary(History(shop, f"{payment}:1").new_entries()[-1]) == (
        "failed",
        f"api:{shop.admin_id}",
        True,
    )


def test_reconcile_is_the_actor_of_what_it_settles(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = unknown(shop, sandbox, "response_lost")
    history = History(shop, f"{payment}:1")
    history.new_entries()
    reconcile(shop)
    assert [_summary(entry) for entry in history.new_entries()] == [("succeeded", "reconcile", True)]


@pytest.mark.parametrize("way", ["webhook", "api"])
def test_dashboard_refund_has_no_requester(shop: Shop, sandbox: StripeSandbox, way: str) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    refund = sandbox.dashboard_refund(payment)
    if way == "webhook":
        send(shop, make_event("refund.created", refund, request_id="req_of_the_dashboard"))
        actor = "webhook"
    else:
        assert shop.refund(purchase).status_code == 400
        actor = f"api:{shop.admin_id}"
    record = shop.db.flask_refunds.find_one({"_id": f"{payment}:{refund['id']}"})
    assert (record["source"], record.get("requestedBy")) == ("external", None)
    [entry] = History(shop, record["_id"]).new_entries()
    assert _summary(entry) == ("succeeded", actor, True)


def test_retry_has_one_actor(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = unknown(shop, sandbox, "request_lost")
    age(shop, hours=24)
    sandbox.advance(25 * 3600)
    reconcile(shop)
    age(shop, minutes=1)
    shop.flask("resolve", f"{payment}:1", "--retry", "--comment", "not at Stripe", "--actor", "ann")
    assert {entry["actor"] for entry in History(shop, f"{payment}:2").new_entries()} == {"cli:ann"}

"""Who did what to a refund, when, where, and by which request of Stripe's: written once, and kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox, make_event
from tests.integration.test_reconcile import age, reconcile, unknown
from tests.integration.test_webhooks import PENDING, SECRET, send
from tests.shop import Shop, make_app


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=SECRET)
    return Shop(app, database)


class Life:
    """The history of one refund, looked at after each thing that happens to it."""

    def __init__(self, shop: Shop, refund_id: str) -> None:
        self.shop = shop
        self.refund_id = refund_id
        self.history: list[dict[str, Any]] = []

    def grew_by(self) -> list[dict[str, Any]]:
        """What was added since the last look; nothing before it has changed."""
        row = self.shop.db.flask_refunds.find_one({"_id": self.refund_id})
        before, self.history = self.history, row["history"]
        assert self.history[: len(before)] == before
        added = self.history[len(before) :]
        for entry in added:
            assert isinstance(entry["at"], datetime)
            assert entry["status"]
        if added:
            assert added[-1]["at"] == row["updatedAt"]
        return added


def _by(entry: dict[str, Any]) -> tuple[str, str, bool]:
    """What of an entry can be foretold: status, by whom, and whether it names a request of Stripe's."""
    return entry["status"], entry["actor"], str(entry.get("stripeRequestId")).startswith("req_")


def test_a_whole_life(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, card=PENDING)
    purchase = shop.add_purchase(payment)
    life, admin = Life(shop, f"{payment}:1"), f"api:{shop.admin_id}"

    assert shop.refund(purchase, json={"reason": "duplicate", "note": "paid twice"}).status_code == 202
    row = shop.records()[0]
    assert (row["reason"], row["note"], row["requestedBy"], row["source"]) == (
        "duplicate",
        "paid twice",
        str(shop.admin_id),
        "endpoint",
    )
    assert [_by(entry) for entry in life.grew_by()] == [
        ("processing", admin, False),
        ("pending", admin, True),
    ]

    [refund] = sandbox.refunds(payment)
    for status in ("succeeded", "failed"):
        sandbox.settle(refund["id"], status)
        for _ in range(2):
            assert send(shop, sandbox.events[-1]).status_code == 200
        [entry] = life.grew_by()
        assert (entry["status"], entry["actor"]) == (status, "webhook")
        assert entry["review"] == {"succeeded": None, "failed": "failed_after_success"}[status]

    age(shop, minutes=2)
    reconcile(shop)
    assert life.grew_by() == []

    resolved = shop.flask(
        "resolve", f"{payment}:1", "--dismiss", "--comment", "paid in cash", "--actor", "ann"
    )
    assert resolved.exit_code == 0, resolved.output
    [entry] = life.grew_by()
    assert (entry["status"], entry["actor"], entry["why"]) == ("failed", "cli:ann", "paid in cash")

    assert shop.refund(purchase).status_code == 202
    assert life.grew_by() == []


def test_a_refusal_names_stripes_request(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, card="4000000000000259")
    assert shop.refund(shop.add_purchase(payment)).status_code == 400
    assert _by(Life(shop, f"{payment}:1").grew_by()[-1]) == ("failed", f"api:{shop.admin_id}", True)


def test_reconcile_signs_what_it_settles(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = unknown(shop, sandbox, "drop_after")
    life = Life(shop, f"{payment}:1")
    life.grew_by()
    reconcile(shop)
    assert [_by(entry) for entry in life.grew_by()] == [("succeeded", "reconcile", True)]


@pytest.mark.parametrize("way", ["webhook", "endpoint"])
def test_a_refund_of_the_dashboard(shop: Shop, sandbox: StripeSandbox, way: str) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    made = sandbox.refund_in_dashboard(payment)
    number = 1
    if way == "webhook":
        send(shop, make_event("refund.created", made, request_id="req_of_the_dashboard"))
        by = "webhook"
    else:
        assert shop.refund(purchase).status_code == 400
        number, by = 2, f"api:{shop.admin_id}"
    row = shop.db.flask_refunds.find_one({"_id": f"{payment}:{number}"})
    assert (row["source"], row.get("requestedBy")) == ("dashboard", None)
    [entry] = Life(shop, row["_id"]).grew_by()
    assert _by(entry) == ("succeeded", by, True)


def test_a_retry_is_signed_once(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = unknown(shop, sandbox, "drop_before")
    age(shop, hours=24)
    sandbox.advance(25 * 3600)
    reconcile(shop)
    shop.flask("resolve", f"{payment}:1", "--retry", "--comment", "not at Stripe", "--actor", "ann")
    assert {entry["actor"] for entry in Life(shop, f"{payment}:2").grew_by()} == {"cli:ann"}

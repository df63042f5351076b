"""The demo's past year fits what the sandbox has, and shows everything that an admin can see."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask
from shop import create_app, demo, embedded, orders

from flask_refunds import RefundStatus, reconcile
from flask_refunds.models import ReviewCode
from flask_refunds.testing import StripeSandbox, make_token

SECRET = "a-secret-of-the-tests-that-is-long-enough-for-hs256"
NOT_SHOWN = {
    ReviewCode.PURCHASE_NOT_UPDATED,  # mongomock rejects no write
    ReviewCode.AMOUNTS_DISAGREE,  # the sandbox refunds no more than was paid
}
MAX_REQUESTS = 200
"""A start takes less than five seconds, most of it for these."""


class Demo:
    """The storefront's app after a start."""

    def __init__(self, app: Flask, stripe: StripeSandbox) -> None:
        self.app, self.stripe, self.db = app, stripe, app.config["REFUNDS_MONGO"]
        self.requests = len(stripe.requests)
        self._client = app.test_client()
        admin = self.db.users.find_one({"email": demo.ADMIN.email})["_id"]
        self._headers = {"Authorization": f"Bearer {make_token(str(admin), secret=SECRET)}"}

    def get(self, path: str) -> Any:
        response = self._client.get(f"/api/payments/admin/{path}", headers=self._headers)
        assert response.status_code == 200, response.text
        return response.json

    def refund(self, purchase: Any, **body: Any) -> Any:
        path = f"/api/payments/admin/refund/{purchase['_id']}"
        return self._client.post(path, headers=self._headers, json=body or None)

    def purchases(self, **query: Any) -> list[dict[str, Any]]:
        return list(self.db.purchases.find(query).sort("_id", 1))

    def records(self) -> list[dict[str, Any]]:
        return list(self.db.flask_refunds.find().sort("_id", 1))


@contextmanager
def start() -> Iterator[Demo]:
    with embedded.stripe_sandbox() as (stripe, config):
        app = create_app({**config, "JWT_SECRET_KEY": SECRET, "REFUNDS_MONGO": embedded.make_database()})
        with app.app_context():
            assert demo.seed(stripe)
        yield Demo(app, stripe)


@pytest.fixture(scope="module")
def started() -> Iterator[Demo]:
    with start() as running:
        yield running


def shown_sum(demo: Demo, payment: str, *statuses: str) -> int:
    found = demo.stripe.refunds(payment)
    return sum(each["amount"] for each in found if each["status"] in statuses)


def test_ledger_has_what_stripe_has(started: Demo) -> None:
    by_payment = defaultdict(list)
    for record in started.records():
        if record.get("stripeRefundId"):
            by_payment[record["paymentIntent"]].append(record)
    known = [each["payment_intent"] for each in started.stripe.refunds()]
    assert by_payment.keys() == set(known)
    for payment, records in by_payment.items():
        found = started.stripe.refunds(payment)
        shown = {each["id"]: each["status"] for each in found}
        assert {each["stripeRefundId"]: each["status"] for each in records} == shown
        differs = [each["review"]["code"] for each in records if each.get("review")] == ["amount_differs"]
        assert differs or sum(each["amount"] for each in records) == sum(each["amount"] for each in found)


def test_purchases_have_the_status_of_their_payment(started: Demo) -> None:
    today = {each["stripePaymentIntentId"] for each in started.purchases(status=orders.PENDING)}
    seen = Counter()
    for purchase in started.purchases():
        payment = purchase["stripePaymentIntentId"]
        if payment in today:
            continue
        received = started.stripe.payment_intent(payment)["amount_received"]
        status = orders.COMPLETED if received else orders.FAILED
        if received and started.stripe.money_refunded(payment) and shown_sum(started, payment, "succeeded"):
            is_full = shown_sum(started, payment, "succeeded") >= received
            status = orders.REFUNDED if is_full else orders.COMPLETED
        assert purchase["status"] == status, purchase
        assert purchase["accessGranted"] is (status == orders.COMPLETED)
        seen[status] += 1
    assert min(seen[each] for each in (orders.COMPLETED, orders.FAILED, orders.REFUNDED)) > 2


def test_every_status_source_and_review_is_shown(started: Demo) -> None:
    records = started.records()
    assert {each["status"] for each in records} == set(RefundStatus)
    assert {each["source"] for each in records} == {"api", "cli", "app", "external"}
    reviews = {each["review"]["code"] for each in records if each.get("review")}
    assert reviews == set(ReviewCode) - NOT_SHOWN
    listed = started.get("refunds?needsReview=true")["refunds"]
    assert len(listed) == len([each for each in records if each.get("review")])
    assert all(each["review"]["recommendedAction"] for each in listed)


def test_reports_have_refunds_in_each_month(started: Demo) -> None:
    months = started.get("refunds/metrics")["months"]
    shown = [month for month in months if month["refunds"] and month["purchases"]["paid"]]
    assert len(shown) >= 11  # on the first of a month, it has none yet


def test_nothing_is_in_the_future_or_older_than_a_year(started: Demo) -> None:
    now = datetime.now(timezone.utc)
    times = [each["createdAt"] for each in (*started.purchases(), *started.records())]
    times += [entry["at"] for record in started.records() for entry in record["history"]]
    times += [datetime.fromtimestamp(each["created"], timezone.utc) for each in started.stripe.refunds()]
    assert now - timedelta(days=365) < min(times) < now - timedelta(days=330)
    assert now - timedelta(days=3) < max(times) <= now


def test_start_makes_few_requests(started: Demo) -> None:
    assert started.requests <= MAX_REQUESTS


def test_names_are_varied_and_of_the_shop(started: Demo) -> None:
    users = {each["_id"]: each for each in started.db.users.find()}
    assert len({each["email"] for each in users.values()}) == len(users)
    buyers = {purchase["user"] for purchase in started.purchases()}
    assert len(buyers) > 35
    assert buyers <= users.keys()
    contents = {each["_id"] for each in started.db.contents.find()}
    assert {purchase["content"] for purchase in started.purchases()} == contents


def test_every_start_tells_the_same(started: Demo) -> None:
    def told(demo: Demo) -> list[tuple[Any, ...]]:
        names = {each["_id"]: each["name"] for each in demo.db.users.find()}
        titles = {each["_id"]: each["title"] for each in demo.db.contents.find()}
        shape = [(names[each["user"]], titles[each["content"]], each["status"]) for each in demo.purchases()]
        return sorted(shape)

    with start() as again:
        assert told(again) == told(started)


def state(demo: Demo) -> Any:
    """What an admin sees of every refund and purchase."""
    kept = ("status", "review", "history", "amount", "markedPurchases", "version")
    return [{name: each.get(name) for name in kept} for each in demo.records()], demo.purchases()


def test_reconcile_changes_nothing() -> None:
    with start() as demo:
        before = state(demo)
        with demo.app.app_context():
            report = reconcile(older_than=timedelta(0), rate=1000.0, full=True)
        assert not report.as_dict()["counts"]["errors"]
        assert state(demo) == before


def test_completed_purchases_can_be_refunded() -> None:
    with start() as demo:
        unfinished = ("processing", "pending", "requires_action")
        not_now = {each["paymentIntent"] for each in demo.records() if each["status"] in unfinished}
        answers: Counter[int] = Counter()
        for purchase in demo.purchases(status=orders.COMPLETED)[::5]:
            payment = purchase["stripePaymentIntentId"]
            if payment not in not_now and not demo.stripe.charge(payment)["disputed"]:
                answers[demo.refund(purchase).status_code] += 1
        assert answers[200] > 20
        assert set(answers) <= {200, 202}

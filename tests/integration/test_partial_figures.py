"""Figures with parts equal a recount of what Stripe holds: random histories, spread over three months."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from bson import ObjectId

from flask_refunds import extension
from flask_refunds.testing import Fault, StripeSandbox
from tests.integration.test_partial import make_shop
from tests.integration.webhooks import PENDING_CARD
from tests.metrics_oracle import REASONS, SETTLED, Documents, compute_report, id_at
from tests.shop import Shop

Records = dict[str, dict[str, Any]]

STEPS = 60
UNITS = {"usd": 100, "jpy": 1, "kwd": 1000}
START = datetime(2024, 1, 1, tzinfo=timezone.utc)
SPAN_MS = 91 * 86_400_000
FROM, TO = datetime(2024, 1, 10, tzinfo=timezone.utc), datetime(2024, 3, 20, tzinfo=timezone.utc)
FAULTS = (None, None, None, None, Fault.CARD_ERROR, Fault.REQUEST_LOST, Fault.RESPONSE_LOST)
CHANGES = {"pending": ("succeeded", "failed"), "succeeded": ("failed",)}


class History:
    """Payments for carts, and what people, Stripe and banks do with them. It notes what each call said.

    :ivar answered: the status of each refund that a call named, which Stripe may not have heard of.
    :ivar parts: the purchase that each part belongs to, by the ID of its refund.
    :ivar closing: the IDs of the parts that were to close their purchase.
    """

    def __init__(self, shop: Shop, sandbox: StripeSandbox, seed: int) -> None:
        self.shop, self.sandbox, self.random = shop, sandbox, random.Random(seed)
        self.carts: dict[str, list[ObjectId]] = {}
        self.answered: dict[str, str] = {}
        self.parts: dict[str, ObjectId] = {}
        self.closing: set[str] = set()

    def run(self) -> None:
        for _ in range(6):
            self.buy()
        for _ in range(STEPS):
            self.random.choice((self.part,) * 5 + (self.whole, self.dashboard, self.settle, self.settle))()
        extension.get_refunds(self.shop.app).sweep.run(full=True)

    def moment(self) -> datetime:
        return START + timedelta(milliseconds=self.random.randrange(SPAN_MS))

    def buy(self) -> None:
        amount, currency = 10 * self.random.randint(1, 900), self.random.choice(list(UNITS))
        card = self.random.choice(("4242424242424242", PENDING_CARD))
        payment, count = self.sandbox.create_payment(amount, currency, card=card), self.random.randint(1, 3)
        numbers = range(10 * len(self.carts), 10 * len(self.carts) + count)
        ids = [id_at(self.moment(), number) for number in numbers]
        self.carts[payment] = [self.shop.add_purchase(payment, _id=each) for each in ids]

    def part(self) -> None:
        purchase = self.random.choice(self.carts[self.random.choice(list(self.carts))])
        shown = self.get(f"refund/{purchase}")
        left = shown["payment"]["refundable"] if "payment" in shown else 0
        if left:
            amount, closes = 10 * self.random.randint(1, left // 10), self.random.random() < 0.2
            body = {"amount": amount, "refundable": left, "number": shown["number"], "markRefunded": closes}
            refund_id = self._call(purchase, body)
            self.parts |= {refund_id: purchase} if refund_id else {}
            self.closing |= {refund_id} if refund_id and closes else set()

    def whole(self) -> None:
        self._call(self.random.choice(self.carts[self.random.choice(list(self.carts))]), {})

    def _call(self, purchase: ObjectId, body: Any) -> str | None:
        """Make a call, and return the ID of its refund if Stripe was asked for one."""
        fault = self.random.choice(FAULTS)
        if fault is not None:
            self.sandbox.inject(fault, times=2)
        answer = self.shop.refund(purchase, json={**body, "reason": self.random.choice((None, *REASONS))})
        self.sandbox.clear_faults()
        if answer.status_code >= 500 or answer.json.get("code") not in (None, "refund_failed"):
            assert answer.json["code"] in ("refund_in_progress", "purchase_not_refundable"), answer.text
            return None
        shown = answer.json["refund"]
        self.answered[shown["id"]] = shown["status"]
        return str(shown["id"])

    def dashboard(self) -> None:
        payment = self.random.choice(list(self.carts))
        charge = self.sandbox.charge(payment)
        left = charge["amount"] - charge["amount_refunded"]
        if left:
            self.sandbox.dashboard_refund(payment, self.random.randint(1, left // 10 or 1) * 10)

    def settle(self) -> None:
        refunds = [each for each in self.sandbox.refunds() if each["status"] in CHANGES]
        if refunds:
            refund = self.random.choice(refunds)
            self.sandbox.settle(refund["id"], self.random.choice(CHANGES[refund["status"]]))

    def get(self, path: str) -> Any:
        return self.shop.client.get(f"/api/payments/admin/{path}", headers=self.shop.headers()).json

    def recount(self) -> Records:
        """Return every refund as Stripe holds it, by the ID that it has here, and those it never got."""
        found = {}
        for each in self.sandbox.refunds():
            ours = each["metadata"].get("refund_id", "").rpartition(":")[0]
            found[ours or f"{each['payment_intent']}:{each['id']}"] = {
                **{name: each[name] for name in ("status", "amount", "currency", "reason")},
                "source": "api" if ours else "external",
            }
        unheard = {each: {"status": word, "source": "api"} for each, word in self.answered.items()}
        return unheard | found

    def purchase_ids(self, refund_id: str) -> list[ObjectId]:
        """Return the purchases that a refund belongs to: a part to the named one, others to the cart."""
        named = self.parts.get(refund_id)
        return [named] if named else self.carts[refund_id.partition(":")[0]]


@pytest.mark.parametrize("seed", range(6))
def test_figures_equal_a_recount(database: Any, sandbox: StripeSandbox, seed: int) -> None:
    history = History(make_shop(database, sandbox), sandbox, seed)
    history.run()
    records = history.recount()
    check_export(history, records)
    check_report(history, records)
    # Purchases are marked as completed again when no outcome of their payment is unknown.
    assert history.shop.flask("reconcile", "--older-than", "0", "--full").exit_code in (0, 1)
    history.answered = dict.fromkeys(history.answered, "failed")  # what Stripe doesn't hold now, it rejected
    records = history.recount()
    check_export(history, records)
    check_purchases(history, records)


def check_purchases(history: History, records: Records) -> None:
    """Compare what each purchase got back, and whether it is refunded."""
    returned, total = defaultdict[ObjectId, int](int), defaultdict[str, int](int)
    closed = set()
    for refund_id, each in records.items():
        if each["status"] == "succeeded":
            total[refund_id.partition(":")[0]] += each["amount"]
            closed |= {history.parts[refund_id]} if refund_id in history.closing else set()
            for purchase in history.purchase_ids(refund_id):
                returned[purchase] += each["amount"]
    full = {it for it in history.carts if total[it] >= history.sandbox.charge(it)["amount"]}
    listed = history.get("all?limit=100")["purchases"]
    shown = {ObjectId(each["_id"]): (each["status"], each["_refunds"]["refundedAmount"]) for each in listed}
    assert shown == {
        each: ("refunded" if payment in full or each in closed else "completed", returned[each])
        for payment, cart in history.carts.items()
        for each in cart
    }


def check_export(history: History, records: Records) -> None:
    """Compare the rows of the export."""
    rows = list(csv.DictReader(io.StringIO(history.shop.flask("export").stdout)))
    assert len(rows) == len(records)
    for row in rows:
        record = records[row["id"]]
        amount, currency = record.get("amount"), record.get("currency", "")
        assert (row["status"], row["currency"]) == (record["status"], currency)
        assert row["amount"] == ("" if amount is None else str(amount))
        if amount is not None:
            assert Decimal(row["amountDecimal"]) == Decimal(amount) / UNITS[currency]
        assert set(row["purchaseIds"].split()) == set(map(str, history.purchase_ids(row["id"])))


def check_report(history: History, records: Records) -> None:
    """Give every settled refund times of its own, and compare the report of a range."""
    shop, moved = history.shop, []
    for refund_id, record in records.items():
        times = {"createdAt": datetime.now(timezone.utc)}
        if record["status"] in SETTLED:
            settled = history.moment()
            duration = timedelta(milliseconds=history.random.randrange(100_000))
            times = {"createdAt": settled - duration, "settledAt": settled}
            shop.db.flask_refunds.update_one({"_id": refund_id}, {"$set": times})
        moved.append({"review": None, **record, **times})
    documents = Documents(moved, list(shop.db.purchases.find()), FROM, TO)
    expected = compute_report(documents, datetime.now(timezone.utc))
    since, until = FROM.date().isoformat(), f"{TO:%Y-%m-%dT%H:%MZ}"
    shown = history.get(f"refunds/metrics?from={since}&to={until}")
    assert json.loads(shop.flask("metrics", "--json", "--from", since, "--to", until).stdout) == shown
    del shown["reviews"], expected["reviews"]
    assert shown == expected

"""Reports from stored days equal the oracle's recount, whatever happens between and during the answers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pymongo
import pytest
from bson import ObjectId, Timestamp
from pymongo.errors import OperationFailure

from flask_refunds.metrics import days as days_module
from flask_refunds.metrics.aggregation import MetricsQuery
from flask_refunds.metrics.days import StoredDays
from flask_refunds.models import Failure, RefundRecord, RefundRequest, RefundStatus, ReviewCode, StripeRefund
from flask_refunds.purchase_fields import PurchaseFields
from flask_refunds.schemas.rendering import render, render_report
from flask_refunds.storage.connection import majority_collection
from flask_refunds.storage.ledger import Ledger
from flask_refunds.testing import StripeSandbox
from tests.faults.replica_set import wait_until
from tests.metrics_oracle import Documents, compute_report, id_at
from tests.shop import Shop, make_app

DAY = timedelta(days=1)
START = datetime(2024, 1, 20, 22, 15, tzinfo=timezone.utc)
SHAPES = (PurchaseFields(), PurchaseFields(created="made", completed_words=("completed", "paid")))
SETTLED = (RefundStatus.SUCCEEDED, RefundStatus.SUCCEEDED, RefundStatus.FAILED, RefundStatus.CANCELED)
PATH = "/api/payments/admin/refunds/metrics"


class World:
    """An app and its ledger, whose time goes on in random steps, and what a report must count."""

    def __init__(self, database: Any, seed: int) -> None:
        self.random = random.Random(seed)
        self.database = database
        self.now = START
        self.fields = SHAPES[seed % 2]
        names = ("flask_refunds.days", "flask_refunds", "purchases")
        days, records, self.purchases = (majority_collection(database, name) for name in names)
        self.records = records
        self.ledger = Ledger(records, self.clock, timedelta(minutes=1), lambda: False)
        self.days = StoredDays(days, records, self.purchases, self.fields, self.clock)
        self.query = MetricsQuery(records, self.purchases, self.clock, self.fields, self.days)
        self.numbers = count(1)
        self.kept: dict[datetime, tuple[int, int, datetime, datetime]] = {}
        """By day: the paid and the refunded purchases when they were counted, when that was, and when it is
        due again."""
        self.changed = set[str]()
        """The payments whose records have changed since the last pass."""
        self.unwritten: list[RefundRecord] = []
        """Settled refunds whose purchases are still to be written."""
        self.used = self.used_counts = 0
        for index in ("settledAt", "changedAt", "purchasesVerified"):
            records.create_index(index)

    def clock(self) -> datetime:
        return self.now

    # What happens in the ledger

    def stripe_refund(self, payment: str, status: RefundStatus, **changes: Any) -> StripeRefund:
        number, currency = next(self.numbers), self.random.choice(("usd", "eur", "jpy"))
        amount = self.random.randrange(1, 10_000)
        found = StripeRefund(
            f"re_{number}", payment, status, amount, amount, currency, None, None, None, self.now, None
        )
        return replace(found, **changes)

    def request_refund(self) -> RefundRecord:
        payment = f"pi_{next(self.numbers)}"
        reason = self.random.choice((None, "duplicate", "fraudulent"))
        request = RefundRequest("ann", "api", reason)
        return self.ledger.create(payment, 1, purchase_ids=[], to_mark=[], request=request)

    def make_refund(self) -> None:
        refund = self.request_refund()
        self.now += timedelta(milliseconds=self.random.randrange(5000))
        self.settle(refund)

    def settle(self, refund: RefundRecord) -> None:
        status = self.random.choice((*SETTLED, RefundStatus.PENDING))
        shown = self.stripe_refund(refund.payment_intent, status)
        self.ledger.advance(refund, shown, actor="api:ann", review=None)
        self.changed.add(refund.payment_intent)

    def refund_purchase(self) -> None:
        """Refund a completed purchase, which is marked before its record is, or later by a pass."""
        words = {"$in": list(self.fields.completed_words)}
        found = list(self.purchases.find({"status": words, "stripePaymentIntentId": {"$exists": True}}))
        if not found:
            return
        purchase = self.random.choice(found)
        held, is_marked_at_once = purchase["stripePaymentIntentId"], self.random.random() < 0.5
        payment = held.removeprefix("cs_")
        number = self.records.count_documents({"paymentIntent": payment}) + 1
        request = RefundRequest("ann", "api", None)
        ids = [purchase["_id"]] if held != payment or self.random.random() < 0.5 else []
        refund = self.ledger.create(payment, number, purchase_ids=ids, to_mark=[], request=request)
        if is_marked_at_once:
            self.write_purchases(payment, "refunded")
        shown = self.stripe_refund(payment, RefundStatus.SUCCEEDED)
        settled = self.ledger.advance(refund, shown, actor="api:ann", review=None)
        assert settled is not None
        self.changed.add(payment)
        self.unwritten.append(settled)

    def verify_purchases(self) -> None:
        """Write the purchases of a settled refund, and store that they match."""
        if self.unwritten:
            refund = self.unwritten.pop(self.random.randrange(len(self.unwritten)))
            self.write_purchases(refund.payment_intent, self.random.choice(("completed", "refunded")))
            self.check()
            self.ledger.mark_purchases_verified(refund)
            self.changed.add(refund.payment_intent)

    def write_purchases(self, payment: str, word: str) -> None:
        self.purchases.update_many(self.paid_by([payment]), {"$set": {"status": word}})

    def paid_by(self, payments: list[str]) -> dict[str, Any]:
        """Match the purchases of payments, some of which hold a Checkout session that no record names."""
        return {"stripePaymentIntentId": {"$in": [*payments, *(f"cs_{each}" for each in payments)]}}

    def marked_days(self) -> set[datetime]:
        """Return the days of purchases that the library may have written since the last pass."""
        unverified = self.records.find({"purchasesVerified": False})
        payments = self.changed | {each["paymentIntent"] for each in unverified}
        marked = self.purchases.find(self.paid_by(list(payments)))
        return {self.made(each).replace(hour=0, minute=0, second=0, microsecond=0) for each in marked}

    def made(self, purchase: dict[str, Any]) -> datetime:
        moment: datetime = (
            purchase[self.fields.created] if self.fields.created else purchase["_id"].generation_time
        )
        return moment

    def some_refund(self) -> RefundRecord | None:
        ids = [each["_id"] for each in self.records.find({}, {"_id": 1})]
        return self.ledger.find(self.random.choice(ids)) if ids else None

    def change_late(self) -> None:
        """Give any refund another status, so that it moves to today."""
        if (refund := self.some_refund()) is not None:
            self.settle(refund)

    def reject(self) -> None:
        refund = self.request_refund()
        self.ledger.mark_rejected(refund, Failure("x", "No."), actor="api:ann", request_id=None)

    def change_amount(self) -> None:
        """Store another amount of any refund, which stays on its day."""
        if (refund := self.some_refund()) is not None and refund.status.is_settled:
            shown = self.stripe_refund(refund.payment_intent, refund.status)
            self.ledger.request_review(
                refund, ReviewCode.AMOUNT_DIFFERS, actor="reconcile", stripe_refund=shown
            )

    def find_external(self) -> None:
        shown = self.stripe_refund(f"pi_{next(self.numbers)}", self.random.choice(SETTLED))
        self.ledger.record_external(shown, purchase_ids=[], actor="webhook")

    def hide_duplicate(self) -> None:
        """Find that an external refund was requested here, days after it was recorded."""
        refund = self.request_refund()
        shown = self.stripe_refund(refund.payment_intent, RefundStatus.SUCCEEDED)
        self.ledger.record_external(shown, purchase_ids=[], actor="webhook")
        if self.random.random() < 0.5:
            self.pass_time()
            self.refresh()
        self.ledger.advance(refund, shown, actor="api:ann", review=None)
        self.check()
        self.ledger.hide_duplicates(refund.payment_intent)

    # What the app does

    def add_purchase(self) -> None:
        moment = self.now.replace(microsecond=0) - self.random.choice((0, 0, 1, 3, 20)) * DAY
        word = self.random.choice(("pending", "failed", "refunded", *self.fields.completed_words))
        made = {self.fields.created: moment} if self.fields.created else {}
        held = self.random.choice(("pi", "cs_pi"))
        paid_by = {"stripePaymentIntentId": f"{held}_{next(self.numbers)}"}
        self.purchases.insert_one(
            {"_id": id_at(moment, next(self.numbers)), "status": word, **made, **paid_by}
        )

    def some_purchase(self) -> dict[str, Any]:
        found = list(self.purchases.find())
        return self.random.choice(found) if found else {"_id": ObjectId()}

    def delete_purchase(self) -> None:
        self.purchases.delete_one({"_id": self.some_purchase()["_id"]})

    def mark_purchase(self) -> None:
        word = self.random.choice(("pending", "refunded", *self.fields.completed_words))
        self.purchases.update_one({"_id": self.some_purchase()["_id"]}, {"$set": {"status": word}})

    def move_purchase(self) -> None:
        purchase = self.some_purchase()
        moment = self.now.replace(microsecond=0) - self.random.randrange(30) * DAY
        if "status" not in purchase:
            return
        if self.fields.created is None:
            self.purchases.delete_one({"_id": purchase["_id"]})
            # No record names its session. With another ID, it is found by its payment only.
            held = purchase["stripePaymentIntentId"].removeprefix("cs_")
            moved = {**purchase, "_id": id_at(moment, next(self.numbers)), "stripePaymentIntentId": held}
            self.purchases.insert_one(moved)
        else:
            self.purchases.update_one({"_id": purchase["_id"]}, {"$set": {self.fields.created: moment}})

    # What passes do

    def refresh(self) -> None:
        for day in self.marked_days():
            self.kept.pop(day, None)
        self.days.refresh(self.random.choice((0, 1, 3, 50)))
        self.changed.clear()
        due = [day for day in self.closed_days() if day not in self.kept or self.kept[day][3] <= self.now]
        for day in due:
            closed = self.now - (day + DAY)
            due_at = self.now + min(max(closed, timedelta(hours=1)), 7 * DAY)
            self.kept[day] = (*self.numbers_of(day), self.now, due_at)

    def numbers_of(self, day: datetime) -> tuple[int, int]:
        paid = self.paid(day, day + DAY)
        return len(paid), len([each for each in paid if each["status"] == "refunded"])

    def closed_days(self) -> Iterator[datetime]:
        paid = self.paid(datetime(2000, 1, 1, tzinfo=timezone.utc), self.now)
        day = min((each["made"] for each in paid), default=self.now).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        while day + DAY <= self.now:
            yield day
            day += DAY

    def throw_away(self) -> None:
        days = self.database["flask_refunds.days"]
        what = self.random.randrange(4)
        if what == 0:
            self.days.discard()
            self.kept.clear()
        elif what == 1:
            days.drop()
            self.kept.clear()
        elif what == 2 and self.kept:
            day = self.random.choice(sorted(self.kept))
            days.delete_one({"_id": day})
            del self.kept[day]
        elif what == 3:
            days.delete_one({"_id": "state"})
            self.refresh()
            self.kept.clear()
            self.refresh()

    def pass_time(self) -> None:
        hours = self.random.choice((0.2, 1, 5, 24, 24, 70, 400))
        self.now += timedelta(minutes=int(60 * hours * self.random.random()))

    # What a report must show

    def paid(self, start: datetime, end: datetime) -> list[dict[str, Any]]:
        return [
            each
            for each in self.shown_purchases()
            if each["status"] in ("completed", "refunded") and start <= each["made"] < end
        ]

    def shown_purchases(self) -> list[dict[str, Any]]:
        """Return the purchases in the form that the oracle counts."""
        found = []
        for number, each in enumerate(self.purchases.find()):
            made = self.made(each)
            status = "completed" if each["status"] in self.fields.completed_words else each["status"]
            found.append({"_id": id_at(made, number), "status": status, "made": made})
        return found

    def check(self) -> None:
        start, end = self.range()
        with self.days.snapshot() as session:
            self.used += len(self.days.read(start, end, session)[0])
        records = [{"review": None, **each} for each in self.records.find()]
        expected = compute_report(Documents(records, self.shown_purchases(), start, end), self.now)
        assert render_report(self.query.report(start, end, fresh=True)) == expected
        self.expect_kept_counts(expected, start, end)
        assert render_report(self.query.report(start, end)) == expected

    def range(self) -> tuple[datetime, datetime]:
        start = START - 40 * DAY + self.random.randrange(60) * DAY
        end = self.now + self.random.randrange(3) * DAY
        if self.random.random() < 0.5:
            start, end = (
                each.replace(hour=0, minute=0, second=0, microsecond=0) for each in (start, end + DAY)
            )
        return start, max(end, start + DAY)

    def expect_kept_counts(self, expected: dict[str, Any], start: datetime, end: datetime) -> None:
        """Replace the purchases of days that a pass has counted by that count, unless some were written."""
        if self.database["flask_refunds.days"].find_one({"_id": "state"}) is None:
            return
        total, marked = expected["total"], self.marked_days()
        for period in expected["months"]:
            used = [
                (day, kept)
                for day, kept in sorted(self.kept.items())
                if start <= day
                and day + DAY <= end
                and f"{day:%Y-%m}" == period["month"]
                and day not in marked
            ]
            self.used_counts += len(used)
            for day, (paid, refunded, _, _) in used:
                paid_now, refunded_now = self.numbers_of(day)
                for each in (period, total):
                    each["purchases"]["paid"] += paid - paid_now
                    each["purchases"]["refunded"] += refunded - refunded_now
            as_of = min((counted_at for _, (_, _, counted_at, _) in used), default=None)
            period["purchases"]["asOf"] = render(as_of)
        known = [each["purchases"]["asOf"] for each in expected["months"] if each["purchases"]["asOf"]]
        total["purchases"]["asOf"] = min(known, default=None)
        for each in (*expected["months"], total):
            paid, refunded = each["purchases"]["paid"], each["purchases"]["refunded"]
            each["refundRate"] = float(round(refunded / paid, 4)) if paid else None

    def step(self) -> None:
        steps = (
            *(self.make_refund, self.make_refund, self.change_late, self.change_late, self.change_amount),
            *(self.reject, self.find_external, self.hide_duplicate),
            *(self.add_purchase, self.add_purchase, self.add_purchase),
            *(self.delete_purchase, self.mark_purchase, self.move_purchase),
            *(self.refund_purchase, self.refund_purchase, self.verify_purchases, self.verify_purchases),
            *(self.refresh, self.refresh, self.pass_time, self.pass_time, self.pass_time),
        )
        self.random.choice(steps)()
        if self.random.random() < 0.03:
            self.throw_away()


@pytest.fixture
def _only_changes_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look only at changes after the days were built. Otherwise every change of a short test is recent."""
    monkeypatch.setattr(days_module, "_look_from", lambda as_of: Timestamp(as_of.time, as_of.inc + 1))


@pytest.mark.usefixtures("_only_changes_since")
@pytest.mark.parametrize("seed", range(10))
def test_reports_equal_a_recount_whatever_happens_between_them(database: Any, seed: int) -> None:
    world = World(database, seed)
    for number in range(120):
        world.step()
        if number % 3 == 0:
            world.check()
    world.check()
    assert min(world.used, world.used_counts) > 20


@pytest.mark.usefixtures("_only_changes_since")
def test_passes_build_the_missing_days_and_then_those_built_first(database: Any) -> None:
    """Also without indexes, and if an older refund was found later."""
    world = World(database, 0)
    world.records.drop_indexes()
    for age in (0, 5):
        world.now = START - age * DAY
        world.find_external()
    world.now = START
    for missing in (4, 2, 0, 0):
        world.now += timedelta(seconds=1)
        assert world.days.refresh(2) == missing
    built = database["flask_refunds.days"].find({"builtAt": {"$exists": True}}).sort("_id", 1)
    assert [(each["builtAt"] - START).seconds for each in built] == [3, 3, 2, 2, 4, 4]


def test_counts_of_other_settings_are_not_used(database: Any) -> None:
    world = World(database, 0)
    made = world.now - 2 * DAY
    words = ("completed", "paid", "paid")
    world.purchases.insert_many({"_id": id_at(made, n), "status": word} for n, word in enumerate(words))
    for fields, paid in ((PurchaseFields(), 1), (PurchaseFields(completed_words=("completed", "paid")), 3)):
        collection = majority_collection(database, "flask_refunds.days")
        days = StoredDays(collection, world.records, world.purchases, fields, world.clock)
        query = MetricsQuery(world.records, world.purchases, world.clock, fields, days)
        total = query.report().total
        assert (total.paid_purchases, total.purchases_as_of) == (paid, None)
        days.refresh()
        total = query.report().total
        assert (total.paid_purchases, total.purchases_as_of) == (paid, world.now)


def test_pass_counts_purchases_for_some_seconds_and_the_next_one_continues(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an index, each count reads all purchases."""
    world = World(database, 0)
    made = [world.now - number * DAY for number in range(1, 31)]
    world.purchases.insert_many({"_id": id_at(each, 1), "status": "completed"} for each in made)
    count_day = world.days._count_day

    def count_slowly(*arguments: Any) -> Any:
        time.sleep(0.02)
        return count_day(*arguments)

    def counted_days() -> list[Any]:
        return [each["_id"] for each in database["flask_refunds.days"].find({"paid": {"$exists": True}})]

    monkeypatch.setattr(world.days, "_count_day", count_slowly)
    world.days.refresh(0, 0.1)
    first = sorted(counted_days())
    assert 1 <= len(first) <= 5
    assert first[-1] > max(made) - DAY  # the latest ones
    assert world.query.report().total.paid_purchases == 30
    world.days.refresh(0, 0.1)
    assert len(counted_days()) > len(first)
    world.days.build_all()
    assert len(counted_days()) == 30
    assert world.query.report().total.paid_purchases == 30


@pytest.mark.usefixtures("_only_changes_since")
@pytest.mark.parametrize("held", ["cs_old", "ch_old"])
def test_purchase_whose_record_names_only_what_it_holds_is_counted(database: Any, held: str) -> None:
    """Your app may add it after the refund was requested."""
    world = World(database, 0)
    purchase_id = id_at(world.now - 2 * DAY, 1)
    purchase = {"_id": purchase_id, "status": "completed", "stripePaymentIntentId": held}
    world.purchases.insert_one(purchase)
    world.days.refresh()
    if held == "cs_old":
        request = RefundRequest("ann", "api", None)
        world.ledger.create("pi_old", 1, purchase_ids=[], to_mark=[], request=request, references=[held])
    else:
        shown = world.stripe_refund("pi_old", RefundStatus.SUCCEEDED, charge=held)
        world.ledger.record_external(shown, purchase_ids=[], actor="webhook")
    world.purchases.update_one({"_id": purchase_id}, {"$set": {"status": "refunded"}})
    assert world.query.report().total.refunded_purchases == 1


def test_purchase_that_is_written_while_a_pass_counts_is_counted(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(database, 0)
    made = world.now - 2 * DAY
    world.purchases.insert_one(
        {"_id": id_at(made, 1), "status": "completed", "stripePaymentIntentId": "pi_old"}
    )
    world.days.refresh()
    world.now += 2 * DAY  # the count is due again
    count_day = world.days._count_day

    def count_and_pause(*arguments: Any) -> Any:
        """Let a refund and a whole pass of another process happen after the count."""
        counted = count_day(*arguments)
        monkeypatch.setattr(world.days, "_count_day", count_day)
        world.refund_purchase()
        world.write_purchases("pi_old", "refunded")
        for refund in world.unwritten:
            world.ledger.mark_purchases_verified(refund)
        monkeypatch.setattr(days_module, "_look_from", lambda as_of: Timestamp(as_of.time, as_of.inc + 1))
        world.days.refresh()
        return counted

    monkeypatch.setattr(world.days, "_count_day", count_and_pause)
    world.days.refresh()
    assert world.query.report().total.refunded_purchases == 1
    world.days.refresh()
    total = world.query.report().total
    assert (total.refunded_purchases, total.purchases_as_of) == (1, world.now)


@pytest.mark.usefixtures("_only_changes_since")
def test_purchases_are_counted_if_very_many_may_have_been_written(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days_module, "_MOST_MARKED", 2)
    world = World(database, 0)
    for _ in range(3):
        world.add_purchase()
        world.now += 2 * DAY
    world.purchases.update_many({}, {"$set": {"status": "completed"}})
    world.days.refresh()
    for number in (1, 2, 3):
        world.purchases.update_one({"status": "completed"}, {"$set": {"status": "refunded"}})
        world.find_external()
        total = world.query.report().total
        assert (total.refunded_purchases, total.purchases_as_of) == ((0, world.now), (3, None))[number == 3]
    for each in world.records.find():
        world.ledger.mark_purchases_verified(world.ledger.get(each["_id"]))
    world.now += timedelta(seconds=1)
    world.days.refresh()
    total = world.query.report().total
    assert (total.refunded_purchases, total.purchases_as_of) == (3, world.now)


def test_report_is_counted_if_the_days_cannot_be_read(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(database, 0)
    world.find_external()
    world.days.refresh()

    def read(*_: Any) -> Any:
        raise OperationFailure("not authorized", 13)

    monkeypatch.setattr(world.days, "read", read)
    assert refunds_of(world.query) == 1


# Races, with the time that changes may take


def refunds_of(query: MetricsQuery) -> int:
    """Return how many refunds a report counts, whatever their status."""
    total = query.report().total
    return total.refunds + total.failed + total.canceled


def test_change_that_is_committed_after_the_days_were_built_is_counted(database: Any) -> None:
    world = World(database, 0)
    for _ in range(20):
        world.find_external()
        world.now += DAY
    world.days.refresh(100)
    moved = world.records.find_one({}, sort=[("settledAt", 1)])
    change = {"settledAt": world.now, "status": "failed"}
    entry = {"at": world.now, "status": "failed"}
    with database.client.start_session() as session, session.start_transaction():
        world.records.update_one(
            {"_id": moved["_id"]},
            {
                "$set": change,
                "$push": {"history": entry},
                "$currentDate": {"changedAt": {"$type": "timestamp"}},
            },
            session=session,
        )
        for _ in range(3):
            time.sleep(0.5)
            world.days.refresh(100)  # it doesn't see the change, whose time is earlier
        assert world.records.find_one({"_id": moved["_id"]})["changedAt"] == moved["changedAt"]
    changed_at = world.records.find_one({"_id": moved["_id"]})["changedAt"]
    assert changed_at < database["flask_refunds.days"].find_one({"_id": "state"})["asOf"]
    world.check()


def test_every_answer_counts_each_refund_once_while_refunds_move(database: Any) -> None:
    world = World(database, 0)
    world.now = datetime.now(timezone.utc).replace(microsecond=0)
    clock_random = random.Random(1)
    ledger = Ledger(
        world.records,
        lambda: world.now - timedelta(minutes=clock_random.randrange(200 * 24 * 60)),
        timedelta(minutes=1),
        lambda: False,
    )
    for number in range(60):
        shown = world.stripe_refund(f"pi_{number}", RefundStatus.SUCCEEDED)
        ledger.record_external(shown, purchase_ids=[], actor="webhook")
    world.days.build_all()
    stop, failures = threading.Event(), list[BaseException]()

    def repeat(action: Any, pause: float = 0) -> threading.Thread:
        def run() -> None:
            try:
                while not stop.is_set():
                    action()
                    time.sleep(pause)
            except BaseException as error:
                failures.append(error)
                stop.set()

        return threading.Thread(target=run)

    def move(first: int) -> Any:
        def action() -> None:
            [refund] = ledger.list_for_payment(f"pi_{random.randrange(first, first + 20)}")
            status = random.choice(SETTLED)
            shown = world.stripe_refund(refund.payment_intent, status, id=refund.stripe_refund_id)
            ledger.advance(refund, shown, actor="webhook", review=None)

        return action

    def throw_away() -> None:
        random.choice((world.days.discard, world.database["flask_refunds.days"].drop))()

    answers = []
    threads = [repeat(move(first)) for first in (0, 20, 40)]
    threads += [repeat(lambda: world.days.refresh(40)) for _ in range(2)]
    threads += [repeat(lambda: answers.append(refunds_of(world.query))) for _ in range(2)]
    threads.append(repeat(throw_away, pause=1))
    for each in threads:
        each.start()
    stop.wait(6)
    wait_until(lambda: stop.is_set() or len(answers) > 10, 60)
    stop.set()
    for each in threads:
        each.join()
    if failures:
        raise failures[0]
    assert len(answers) > 10
    assert set(answers) == {60}


def test_refund_is_in_the_report_of_every_worker_at_once(
    mongo_uri: str, database: Any, sandbox: StripeSandbox
) -> None:
    with pymongo.MongoClient(mongo_uri, tz_aware=True) as client:
        databases = (database, client.get_default_database())
        first, second = (
            Shop(make_app(REFUNDS_MONGO=it, STRIPE_API_BASE=sandbox.url), it) for it in databases
        )
        now = datetime.now(timezone.utc)
        ages = [0 * DAY, 330 * DAY, 330 * DAY, 200 * DAY, 2 * DAY, 0 * DAY]
        purchases = [
            first.add_purchase(sandbox.create_payment(1999), _id=id_at(now - age, number))
            for number, age in enumerate(ages)
        ]
        assert first.flask("init-db").exit_code == 0
        for number, purchase in enumerate(purchases, 1):
            assert first.refund(purchase).status_code == 200
            for shop in (first, second):
                total = shop.client.get(PATH, headers=shop.headers()).json["total"]
                assert (total["refunds"], total["purchases"]["refunded"]) == (number, number)
                assert total["purchases"]["asOf"] is not None
            if number % 2:
                assert second.flask("reconcile").exit_code == 0

"""Several machines and processes: what one of them does, omits or gets wrong harms no other."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flask_refunds import refund_needs_review, refund_succeeded
from flask_refunds.extension import get_refunds
from flask_refunds.storage.ledger import Ledger
from flask_refunds.testing import StripeSandbox, make_event
from tests.integration.unfinished import age, reconcile, unknown
from tests.integration.webhooks import PENDING_CARD, SECRET, send
from tests.shop import Shop, make_app

NOW = timedelta(0)


def make_shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """Return a shop as another process has it: its own app, the same database."""
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=SECRET)
    return Shop(app, database)


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    return make_shop(database, sandbox)


def make_pending(shop: Shop, sandbox: StripeSandbox, count: int) -> list[str]:
    payments = [sandbox.create_payment(2000 + number, "eur", card=PENDING_CARD) for number in range(count)]
    for payment in payments:
        assert shop.refund(shop.add_purchase(payment)).status_code == 202
    age(shop, minutes=10)
    return payments


def settle(sandbox: StripeSandbox, payments: list[str]) -> None:
    for payment in payments:
        sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")


def run(shop: Shop, **options: Any) -> Any:
    with shop.app.app_context():
        return get_refunds(shop.app).reconcile_runner.run(**{"older_than": NOW, "rate": 1000.0} | options)


def retrieved(sandbox: StripeSandbox) -> list[str]:
    """Return the IDs of the refunds that were retrieved, in order."""
    paths = [each.path for each in sandbox.requests if each.method == "GET"]
    return [path.rpartition("/")[2] for path in paths if path.startswith("/v1/refunds/")]


def test_receiver_that_never_returns_keeps_no_other_refund_waiting(
    database: Any, shop: Shop, sandbox: StripeSandbox
) -> None:
    payments = make_pending(shop, sandbox, 5)
    settle(sandbox, payments)
    heard: list[str] = []
    others_heard, may_return = threading.Event(), threading.Event()

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        if refund.payment_intent == payments[0]:
            may_return.wait(120)
        heard.append(refund.payment_intent)
        if set(heard) >= set(payments[1:]):
            others_heard.set()

    with refund_succeeded.connected_to(receiver, sender=shop.app):
        hanging = threading.Thread(target=run, args=(shop,))
        hanging.start()
        try:
            assert others_heard.wait(60)
        finally:
            may_return.set()
            hanging.join()
    assert sorted(heard) == sorted(payments)


def test_pass_that_is_cut_off_continues_behind_what_it_looked_at(shop: Shop, sandbox: StripeSandbox) -> None:
    payments = make_pending(shop, sandbox, 36)
    looked: list[list[str]] = []
    for _ in range(2):
        before, stop_event = len(retrieved(sandbox)), threading.Event()
        run(shop, stop_event=stop_event, on_progress=stop_event.set)
        looked.append(retrieved(sandbox)[before:])
    assert all(0 < len(each) < len(payments) for each in looked)
    assert not set(looked[0]) & set(looked[1])


def test_unknown_outcome_comes_before_pending_refunds(shop: Shop, sandbox: StripeSandbox) -> None:
    make_pending(shop, sandbox, 36)
    payment, _ = unknown(shop, sandbox)
    age(shop, minutes=1)
    with shop.app.app_context():
        first = next(iter(get_refunds(shop.app).reconciler.find(NOW)))
    assert first.refund_id == f"{payment}:1"


def test_process_without_receivers_leaves_the_signals_to_one_that_has_them(
    database: Any, shop: Shop, sandbox: StripeSandbox
) -> None:
    heard: list[str] = []

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        heard.append(refund.id)

    with refund_succeeded.connected_to(receiver, sender=shop.app):
        payments = make_pending(shop, sandbox, 2)
        command = make_shop(database, sandbox)
        settle(sandbox, payments)
        age(shop, minutes=10)
        assert run(command).counts["settled"] == 2
        assert heard == []
        age(shop, minutes=10)
        run(command)
        assert heard == []
        age(shop, minutes=10)
        run(shop)
    assert sorted(heard) == sorted(f"{payment}:1" for payment in payments)


def test_decision_about_an_older_review_leaves_a_newer_one_open(
    shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = sandbox.create_payment(2900, "eur", card=PENDING_CARD)
    assert shop.refund(shop.add_purchase(payment)).status_code == 202
    made = sandbox.return_refund(sandbox.refunds(payment)[0]["id"])
    assert send(shop, make_event("refund.updated", made)).status_code == 200
    if not shop.records()[0]["review"]:  # an older release doesn't notice it
        review = {"why": "amount_differs", "whatToDo": "Look.", "since": datetime.now(timezone.utc)}
        shop.db.flask_refunds.update_one({}, {"$set": {"attention": review}})
    find = Ledger.find

    def find_and_then_hear_of_the_failure(ledger: Ledger, refund_id: str) -> Any:
        found = find(ledger, refund_id)
        monkeypatch.setattr(Ledger, "find", find)
        sandbox.settle(made["id"], "succeeded")
        assert send(shop, make_event("refund.updated", sandbox.refund(made["id"]))).status_code == 200
        failed = sandbox.settle(made["id"], "failed")
        assert send(shop, make_event("refund.failed", failed)).status_code == 200
        return found

    monkeypatch.setattr(Ledger, "find", find_and_then_hear_of_the_failure)
    result = shop.flask("resolve", f"{payment}:1", "--dismiss", "--comment", "the customer answered")
    assert result.exit_code == 2
    [record] = shop.records()
    assert (record["status"], record["review"]["code"]) == ("failed", "failed_after_success")


@pytest.mark.parametrize("lost", ["records", "marks", "both"])
def test_restored_database_equals_stripe_after_one_pass_over_everything(
    shop: Shop, sandbox: StripeSandbox, lost: str
) -> None:
    purchases = [shop.add_purchase(sandbox.create_payment(3000 + each, "eur")) for each in range(4)]
    for purchase in purchases[:3]:
        assert shop.refund(purchase).status_code == 200
    age(shop, minutes=5)
    assert reconcile(shop).exit_code == 0
    if lost != "marks":
        shop.db.flask_refunds.delete_many({"purchaseIds": {"$in": purchases[1:]}})
    if lost != "records":
        shop.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    age(shop, minutes=5)
    since = f"{datetime.now(timezone.utc) - timedelta(days=1):%Y-%m-%d}"
    for _ in range(2):
        reconcile(shop, "--all", "--since", since)
        age(shop, minutes=5)
    assert [shop.status_of(each) for each in purchases] == ["refunded"] * 3 + ["completed"]
    shown = sorted((each["stripeRefundId"], each["status"]) for each in shop.records())
    assert shown == sorted((each["id"], each["status"]) for each in sandbox.refunds())
    assert shop.refund(purchases[1]).status_code == 400


@pytest.mark.parametrize("odd", [{"status": "reversing"}, {"updatedAt": "yesterday"}])
def test_record_that_cannot_be_read_is_named_and_the_others_are_shown(
    shop: Shop, sandbox: StripeSandbox, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    payments = [sandbox.create_payment(500, "eur") for _ in range(3)]
    for payment in payments:
        assert shop.refund(shop.add_purchase(payment)).status_code == 200
    shop.db.flask_refunds.update_one({"paymentIntent": payments[1]}, {"$set": odd})
    for arguments in (("list",), ("export", "--format", "csv"), ("export", "--format", "jsonl")):
        result = shop.flask(*arguments)
        assert result.exit_code == 0, result.output
        assert all(payment in result.output for payment in (payments[0], payments[2]))
        assert any(payments[1] in str(vars(each)["refunds"]) for each in caplog.records)
        caplog.clear()


def test_review_is_signaled_once_although_two_machines_find_it(
    database: Any, shop: Shop, sandbox: StripeSandbox
) -> None:
    heard: list[str] = []

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        heard.append(refund.id)

    machines = [shop, make_shop(database, sandbox)]
    unknown(shop, sandbox, "request_lost")
    age(shop, hours=26)
    with (
        refund_needs_review.connected_to(receiver, sender=machines[0].app),
        refund_needs_review.connected_to(receiver, sender=machines[1].app),
    ):
        threads = [threading.Thread(target=run, args=(each,)) for each in machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(heard) == 1

"""Bulk runs as a host makes them, on a real MongoDB and the sandbox."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from flask_refunds import bulk_refund, plan_bulk_refund, refund_succeeded
from flask_refunds.bulk import BulkResult, Result
from flask_refunds.bulk import outage as outage_module
from flask_refunds.errors import DatabaseUnavailable, InvalidRequest, StripeKeyRejected, StripeUnavailable
from flask_refunds.extension import get_refunds
from flask_refunds.stripe_client.rate_limit import RateLimiter
from flask_refunds.testing import StripeSandbox
from tests.mongod import failing
from tests.shop import Shop, make_app

QUICK = 1000.0


def buy(shop: Shop, sandbox: StripeSandbox, count: int, **fields: Any) -> list[ObjectId]:
    """Purchases with a payment each."""
    return [shop.add_purchase(sandbox.create_payment(1999, "eur"), **fields) for _ in range(count)]


def run(shop: Shop, ids: Any, name: str = "recall", **options: Any) -> dict[ObjectId, BulkResult]:
    """The results of a run, by purchase."""
    found: dict[ObjectId, BulkResult] = {}

    def keep(result: BulkResult) -> None:
        assert result.purchase_id not in found
        found[result.purchase_id] = result

    with shop.app.app_context():
        summary = bulk_refund(name, ids, on_result=keep, **({"rate": QUICK} | options))
    assert summary.counts == Counter(each.result for each in found.values())
    return found


def outcomes(found: dict[ObjectId, BulkResult]) -> dict[ObjectId, str]:
    return {purchase: each.result.value for purchase, each in found.items()}


def test_each_payment_is_refunded_once_in_the_runs_name(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 60)
    with shop.app.app_context():
        results: list[BulkResult] = []
        summary = bulk_refund(
            "recall", map(str, ids), requested_by="ann", reason="duplicate", note="why", rate=QUICK,
            on_result=results.append,
        )  # fmt: skip
    assert (summary.purchases, summary.left, summary.undone) == (60, 0, 0)
    assert summary.counts == {Result.REFUNDED: 60}
    assert summary.amounts == {"eur": 60 * 1999}
    assert {each.purchase_id for each in results} == set(ids)
    rows = shop.records()
    assert len(rows) == len(sandbox.refunds()) == 60
    asked = {(row["bulk"], row["source"], row["requestedBy"], row["reason"], row["note"]) for row in rows}
    assert asked == {("recall", "host", "ann", "duplicate", "why")}
    assert shop.db.purchases.count_documents({"status": "refunded"}) == 60


def test_the_same_run_again_refunds_nothing_and_says_the_same(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 10)
    first = run(shop, ids)
    asked = len(sandbox.requests)
    again = run(shop, ids)
    assert outcomes(again) == outcomes(first) == dict.fromkeys(ids, "refunded")
    assert [each.amount for each in again.values()] == [1999] * 10
    assert len(sandbox.requests) == asked
    assert set(outcomes(run(shop, ids, "another")).values()) == {"already_refunded"}


def test_every_kind_of_purchase_has_its_result(shop: Shop, sandbox: StripeSandbox) -> None:
    [paid, elsewhere, before] = buy(shop, sandbox, 3)
    assert shop.refund(before).status_code == 200
    payment = shop.db.purchases.find_one({"_id": elsewhere})["stripePaymentIntentId"]
    sandbox.refund_in_dashboard(payment)
    pending = shop.add_purchase(sandbox.create_payment(500, card="pm_card_pendingRefund"))
    disputed = shop.add_purchase(sandbox.create_payment(500, card="pm_card_createDispute"))
    wanted = {
        paid: "refunded",
        elsewhere: "already_refunded",
        before: "already_refunded",
        pending: "pending",
        disputed: "failed",
        shop.add_purchase("pi_of_another_account"): "failed",
        shop.add_purchase(None): "no_payment",
        shop.add_purchase(None, status="failed"): "not_completed",
        shop.add_purchase(sandbox.create_payment(500), status="pending"): "not_completed",
        shop.add_purchase(sandbox.create_payment(500), status="refunded"): "already_refunded",
        ObjectId(): "not_found",
    }
    with shop.app.app_context():
        plan = plan_bulk_refund("recall", wanted, rate=QUICK)
        without = plan_bulk_refund("recall", wanted, amounts=False)
    found = run(shop, wanted)

    assert outcomes(found) == wanted
    assert "charged back" in (found[disputed].message or "")
    assert found[before].refund is not None
    assert all(each.amount is None for each in found.values() if each.result is Result.ALREADY_REFUNDED)
    assert (plan.purchases, plan.refundable, plan.payments) == (11, 3, 3)
    assert plan.amounts == {"eur": 1999, "usd": 1000}
    assert {each.value: count for each, count in plan.others.items()} == {
        "already_refunded": 3,
        "payment_unknown": 1,
        "no_payment": 1,
        "not_completed": 2,
        "not_found": 1,
    }
    assert (without.refundable, without.amounts) == (5, None)


def test_a_plan_writes_nothing(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 3)
    with shop.app.app_context():
        plan_bulk_refund("recall", ids, rate=QUICK)
    assert shop.records() == []
    assert {request.method for request in sandbox.requests} == {"GET"}


def test_a_part_that_went_back_already_is_not_counted_twice(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    sandbox.refund_in_dashboard(payment, 500)
    purchase = shop.add_purchase(payment)
    with shop.app.app_context():
        assert plan_bulk_refund("recall", [purchase], rate=QUICK).amounts == {"usd": 1499}
    assert run(shop, [purchase])[purchase].amount == 1499


@pytest.mark.parametrize("apart", [1, 450])
def test_a_cart_goes_back_once_and_its_others_name_that_refund(
    shop: Shop, sandbox: StripeSandbox, apart: int
) -> None:
    """Next to each other, and so far apart that they are looked at in different batches."""
    payment = sandbox.create_payment(3000)
    cart = [ObjectId(f"{number * apart:024x}") for number in range(1, 4)]
    for purchase in cart:
        shop.add_purchase(payment, _id=purchase)
    others = [ObjectId(f"{number:024x}") for number in range(1, 1500)] if apart > 1 else []
    with shop.app.app_context():
        plan = plan_bulk_refund("recall", [*cart, *others], rate=QUICK)
    found = run(shop, [*cart, *others])
    results = [found[purchase] for purchase in cart]

    assert [each.result.value for each in results] == ["refunded", "already_refunded", "already_refunded"]
    assert {each.refund.id for each in results if each.refund} == {f"{payment}:1"}
    assert [each.amount for each in results] == [3000, None, None]
    assert sandbox.money_refunded(payment) == 3000
    assert (plan.refundable, plan.payments, plan.amounts) == (3, 1, {"usd": 3000})
    assert [run(shop, cart)[purchase].amount for purchase in cart] == [3000, None, None]


def test_a_cart_takes_one_turn(shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its others wait until the first has its refund, rather than ask for what that one is about to get."""
    payment = sandbox.create_payment(1999, "eur")
    cart = [shop.add_purchase(payment) for _ in range(5)]
    sandbox.latency = 0.2
    wait, turns = RateLimiter.wait, itertools.count()

    def count_and_wait(rate_limiter: RateLimiter) -> float:
        next(turns)
        return wait(rate_limiter)

    monkeypatch.setattr(RateLimiter, "wait", count_and_wait)
    found = run(shop, cart)
    assert Counter(each.result for each in found.values()) == {
        Result.REFUNDED: 1, Result.ALREADY_REFUNDED: 4
    }  # fmt: skip
    assert next(turns) == 1


def test_what_is_left_unknown_is_asked_again_at_the_end(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 20)
    sandbox.inject("drop_after", times=6)
    sandbox.inject("drop_before", times=6)
    found = run(shop, ids)
    assert set(outcomes(found).values()) == {"refunded"}
    assert len(sandbox.refunds()) == 20


def test_what_stripe_was_too_busy_for_is_asked_again(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 6)
    sandbox.inject("rate_limited", times=8)
    assert set(outcomes(run(shop, ids)).values()) == {"refunded"}
    assert len(sandbox.refunds()) == 6


def test_what_a_dead_call_holds_is_waited_for(shop: Shop, sandbox: StripeSandbox) -> None:
    """The call died after it had asked Stripe; its lease ends while the run waits."""
    [held, free] = buy(shop, sandbox, 2)
    sandbox.inject("drop_after", times=2)
    assert shop.refund(held).status_code == 202
    row = shop.records()[0]
    shop.db.flask_refunds.update_one({}, {"$set": {"leaseExpiresAt": row["createdAt"] + timedelta(hours=1)}})
    seen: list[ObjectId] = []

    def let_the_lease_end(app: Any, refund: Any, **extra: Any) -> None:
        seen.extend(refund.purchase_ids)
        shop.db.flask_refunds.update_one({"_id": row["_id"]}, {"$set": {"leaseExpiresAt": row["createdAt"]}})

    with refund_succeeded.connected_to(let_the_lease_end, sender=shop.app):
        found = run(shop, [held, free])
    assert seen[0] == free
    assert outcomes(found) == {held: "already_refunded", free: "refunded"}  # the endpoint had opened it
    assert len(sandbox.refunds()) == 2


def test_what_stays_held_is_said(shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    [held] = buy(shop, sandbox, 1)
    sandbox.inject("drop_after", times=2)
    assert shop.refund(held).status_code == 202
    shop.db.flask_refunds.update_one(
        {}, [{"$set": {"leaseExpiresAt": {"$add": ["$leaseExpiresAt", 3_600_000]}}}]
    )
    monkeypatch.setattr(get_refunds(shop.app).bulk, "_patience", 0.4)
    assert outcomes(run(shop, [held])) == {held: "in_progress"}


def test_what_nobody_can_tell_any_more_is_left_to_a_person(shop: Shop, sandbox: StripeSandbox) -> None:
    [lost] = buy(shop, sandbox, 1)
    sandbox.inject("drop_before", times=2)
    assert shop.refund(lost).status_code == 202
    ages = {name: shop.records()[0][name] - timedelta(days=2) for name in ("createdAt", "leaseExpiresAt")}
    shop.db.flask_refunds.update_one({}, {"$set": ages})
    found = run(shop, [lost])
    assert outcomes(found) == {lost: "needs_review"}
    assert "settle the refund by hand" in (found[lost].message or "")
    assert outcomes(run(shop, [lost])) == {lost: "needs_review"}
    assert sandbox.refunds() == []


def test_two_runs_of_the_same_share_the_work(database: Any, sandbox: StripeSandbox, mongo_uri: str) -> None:
    """Each on a client of its own; the sandbox would let a payment go back twice."""
    with StripeSandbox(enforce_amount_limit=False) as generous, pymongo.MongoClient(mongo_uri) as client:
        shops = [
            Shop(make_app(REFUNDS_MONGO=each, STRIPE_API_BASE=generous.url), database)
            for each in (database, client.get_default_database())
        ]
        ids = buy(shops[0], generous, 120)
        generous.latency = 0.02
        found: list[dict[ObjectId, BulkResult]] = []
        threads = [threading.Thread(target=lambda shop=shop: found.append(run(shop, ids))) for shop in shops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [outcomes(each) for each in found] == [dict.fromkeys(ids, "refunded")] * 2
        assert len(generous.refunds()) == 120


def test_stopped_it_finishes_what_is_under_way_and_goes_on_next_time(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    ids = buy(shop, sandbox, 60)
    stop_event = threading.Event()
    results: list[BulkResult] = []

    def stop(result: BulkResult) -> None:
        results.append(result)
        if len(results) == 5:
            stop_event.set()

    with shop.app.app_context():
        summary = bulk_refund("recall", ids, rate=10, on_result=stop, stop_event=stop_event)
    assert 0 < summary.left <= 55
    assert summary.undone == summary.left
    assert len(shop.records()) == len(results) == summary.counts[Result.REFUNDED]
    assert {row["status"] for row in shop.records()} == {"succeeded"}
    assert outcomes(run(shop, ids)) == dict.fromkeys(ids, "refunded")
    assert len(sandbox.refunds()) == 60


@pytest.mark.parametrize("command", ["aggregate", "insert"])
def test_a_database_that_comes_back_is_waited_for(
    shop: Shop, sandbox: StripeSandbox, database: Any, command: str
) -> None:
    ids = buy(shop, sandbox, 30)
    outage, waits = failing(database, command), []

    class ItComesBack(threading.Event):
        """The run waits on this between two tries."""

        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            outage.__exit__()
            return super().wait(0)

    outage.__enter__()
    found = run(shop, ids, stop_event=ItComesBack())
    assert outcomes(found) == dict.fromkeys(ids, "refunded")
    assert waits[0] == 0.25
    assert len(sandbox.refunds()) == 30


@pytest.mark.parametrize("command", ["aggregate", "insert"])
def test_a_database_that_stays_away_ends_the_run_and_nothing_is_lost(
    shop: Shop, sandbox: StripeSandbox, database: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    ids = buy(shop, sandbox, 30)
    with monkeypatch.context() as impatient:
        impatient.setattr(outage_module, "OUTAGE_SECONDS", 0.3)
        with failing(database, command), pytest.raises(DatabaseUnavailable):
            run(shop, ids)
    assert outcomes(run(shop, ids)) == dict.fromkeys(ids, "refunded")
    assert len(sandbox.refunds()) == 30


def test_a_key_that_stripe_rejects_ends_the_run_at_once(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 300)
    sandbox.inject("key_rejected", times=None)
    with pytest.raises(StripeKeyRejected):
        run(shop, ids)
    assert len(shop.records()) < 200
    sandbox.clear_faults()
    assert set(outcomes(run(shop, ids)).values()) == {"refunded"}


def test_a_stripe_that_is_gone_ends_the_run(database: Any, sandbox: StripeSandbox) -> None:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_STRIPE_RETRIES=0)
    shop = Shop(app, database)
    ids = buy(shop, sandbox, 300)
    sandbox.inject("drop_before", method="*", path="/v1/", times=None)
    with pytest.raises(StripeUnavailable, match="run the same again later"):
        run(shop, ids)
    assert len(shop.records()) < 200
    sandbox.clear_faults()
    assert set(outcomes(run(shop, ids)).values()) == {"refunded"}
    assert len(sandbox.refunds()) == 300


def test_an_error_of_ours_at_one_purchase_keeps_no_other_waiting(
    shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = buy(shop, sandbox, 5)
    bulk = get_refunds(shop.app).bulk
    refund: Callable[..., Any] = bulk._service.refund

    def stumble(purchase_id: ObjectId, ask: Any) -> Any:
        if purchase_id == ids[2]:
            raise ZeroDivisionError
        return refund(purchase_id, ask)

    monkeypatch.setattr(bulk._service, "refund", stumble)
    monkeypatch.setattr(bulk, "_patience", 0.1)
    found = outcomes(run(shop, ids))
    assert found == {**dict.fromkeys(ids, "refunded"), ids[2]: "unknown"}


def test_receivers_run_in_the_apps_context(shop: Shop, sandbox: StripeSandbox) -> None:
    from flask import current_app

    heard: list[str] = []
    ids = buy(shop, sandbox, 3)

    def receiver(app: Any, **extra: Any) -> None:
        heard.append(current_app.name)

    with refund_succeeded.connected_to(receiver, sender=shop.app):
        run(shop, ids)
    assert heard == ["shop"] * 3


@pytest.mark.parametrize(
    ("name", "ids", "words"),
    [
        ("", [ObjectId()], "A bulk run's name is 1 to 64"),
        ("no spaces", [ObjectId()], "A bulk run's name is 1 to 64"),
        ("recall", ["nonsense"], "'nonsense' is no purchase's id"),
        ("recall", [7], "'7' is no purchase's id"),
    ],
)
def test_what_cannot_be_run(shop: Shop, name: str, ids: list[Any], words: str) -> None:
    with shop.app.app_context():
        for call in (bulk_refund, plan_bulk_refund):
            with pytest.raises(InvalidRequest) as caught:
                call(name, ids)
            assert words in str(caught.value)
            assert "Nothing was refunded." in str(caught.value)


def test_nothing_to_do(shop: Shop) -> None:
    assert run(shop, []) == {}

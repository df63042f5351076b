"""Bulk runs from an app's own code, on a real MongoDB and the sandbox."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pymongo
import pytest
from bson import Decimal128, ObjectId

from flask_refunds import bulk_refund, plan_bulk_refund, refund_succeeded
from flask_refunds.bulk import BulkResult, Result, database_retry
from flask_refunds.errors import DatabaseUnavailable, InvalidRequest, StripeKeyRejected, StripeUnavailable
from flask_refunds.extension import get_refunds
from flask_refunds.stripe_client.rate_limit import RateLimiter
from flask_refunds.testing import StripeSandbox
from tests.mongod import failing
from tests.shop import Shop, make_app

HIGH_RATE = 1000.0


def add_purchases(shop: Shop, sandbox: StripeSandbox, count: int) -> list[ObjectId]:
    """Add purchases with a payment each."""
    return [shop.add_purchase(sandbox.create_payment(1999, "eur")) for _ in range(count)]


def run(shop: Shop, ids: Any, name: str = "recall", **options: Any) -> dict[ObjectId, BulkResult]:
    """Run, and return the results by purchase."""
    found: dict[ObjectId, BulkResult] = {}

    def keep(result: BulkResult) -> None:
        assert result.purchase_id not in found
        found[result.purchase_id] = result

    with shop.app.app_context():
        summary = bulk_refund(name, ids, on_result=keep, **({"rate": HIGH_RATE} | options))
    assert summary.counts == Counter(each.result for each in found.values())
    return found


def values(found: dict[ObjectId, BulkResult]) -> dict[ObjectId, str]:
    return {purchase: each.result.value for purchase, each in found.items()}


def test_run_refunds_each_payment_once_and_stores_its_name(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = add_purchases(shop, sandbox, 60)
    with shop.app.app_context():
        results: list[BulkResult] = []
        summary = bulk_refund(
            "recall", iter(ids), requested_by="ann", reason="duplicate", note="why", rate=HIGH_RATE,
            on_result=results.append,
        )  # fmt: skip
    assert (summary.purchases, summary.unprocessed, summary.incomplete) == (60, 0, 0)
    assert summary.counts == {Result.REFUNDED: 60}
    assert summary.amounts == {"eur": 60 * 1999}
    assert {each.purchase_id for each in results} == set(ids)
    records = shop.records()
    assert len(records) == len(sandbox.refunds()) == 60
    fields = ("bulkRun", "source", "requestedBy", "reason", "note")
    requests = {tuple(record[field] for field in fields) for record in records}
    assert requests == {("recall", "app", "ann", "duplicate", "why")}
    assert shop.db.purchases.count_documents({"status": "refunded"}) == 60


def test_same_run_again_refunds_nothing_and_returns_the_same_results(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    ids = add_purchases(shop, sandbox, 10)
    first = run(shop, ids)
    requests = len(sandbox.requests)
    again = run(shop, ids)
    assert values(again) == values(first) == dict.fromkeys(ids, "refunded")
    assert [each.amount for each in again.values()] == [1999] * 10
    assert len(sandbox.requests) == requests
    assert set(values(run(shop, ids, "another")).values()) == {"already_refunded"}


def test_purchases_that_were_added_to_a_refunded_payment_count_no_amount(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    [purchase] = add_purchases(shop, sandbox, 1)
    payment = shop.db.purchases.find_one({"_id": purchase})["stripePaymentIntentId"]
    run(shop, [purchase])
    shop.db.purchases.delete_one({"_id": purchase})
    added = [shop.add_purchase(payment, status) for status in ("completed", "refunded")]
    again = run(shop, added)
    assert values(again) == dict.fromkeys(added, "already_refunded")
    assert [each.amount for each in again.values()] == [None, None]


def test_plan_and_run_classify_every_kind_of_purchase(shop: Shop, sandbox: StripeSandbox) -> None:
    [paid, external, before] = add_purchases(shop, sandbox, 3)
    assert shop.refund(before).status_code == 200
    payment = shop.db.purchases.find_one({"_id": external})["stripePaymentIntentId"]
    sandbox.dashboard_refund(payment)
    pending = shop.add_purchase(sandbox.create_payment(500, card="pm_card_pendingRefund"))
    disputed = shop.add_purchase(sandbox.create_payment(500, card="pm_card_createDispute"))
    expected = {
        paid: "refunded",
        external: "already_refunded",
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
        plan = plan_bulk_refund("recall", expected, rate=HIGH_RATE)
        without = plan_bulk_refund("recall", expected, amounts=False)
    found = run(shop, expected)

    assert values(found) == expected
    assert "charged back" in (found[disputed].message or "")
    assert found[before].refund is not None
    assert all(each.amount is None for each in found.values() if each.result is Result.ALREADY_REFUNDED)
    assert plan.as_dict() == {
        "name": "recall",
        "purchases": 11,
        "refundable": 2,
        "payments": 2,
        "amounts": {"eur": 1999, "usd": 500},
        "others": {
            "already_refunded": 3, "not_completed": 2, "no_payment": 1, "payment_unknown": 1,
            "charged_back": 1, "not_found": 1
        },
        "partlyRefunded": 0,
        "refundedBefore": {},
        "disputed": 0,
    }  # fmt: skip
    assert (without.refundable, without.as_dict()["amounts"]) == (5, None)


def test_plan_marks_disputed_payments_and_leaves_out_charged_back_ones(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    def buy(inquiry: bool) -> ObjectId:
        payment = sandbox.create_payment(500)
        sandbox.dispute(payment, inquiry=inquiry)
        return shop.add_purchase(payment)

    ids = [*add_purchases(shop, sandbox, 5), buy(True), buy(True), buy(False)]
    with shop.app.app_context():
        plan = plan_bulk_refund("recall", ids, rate=HIGH_RATE)
    assert (plan.refundable, plan.payments, plan.disputed) == (7, 7, 2)
    assert plan.as_dict()["others"] == {"charged_back": 1}
    assert (plan.amounts or {})["usd"] == 1000
    # One request for each payment, and one more for each that is disputed.
    assert len(sandbox.requests) == 8 + 3
    sandbox.inject("key_forbidden", method="GET", path="/v1/disputes", times=None)
    with shop.app.app_context():
        plan = plan_bulk_refund("recall", ids, rate=HIGH_RATE)
    assert (plan.refundable, plan.disputed) == (8, 3)


def test_plan_writes_nothing(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = add_purchases(shop, sandbox, 3)
    with shop.app.app_context():
        plan_bulk_refund("recall", ids, rate=HIGH_RATE)
    assert shop.records() == []
    assert {request.method for request in sandbox.requests} == {"GET"}


def test_partly_refunded_payment_counts_only_the_remaining_amount(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    sandbox.dashboard_refund(payment, 500)
    purchase = shop.add_purchase(payment)
    with shop.app.app_context():
        assert plan_bulk_refund("recall", [purchase], rate=HIGH_RATE).amounts == {"usd": 1499}
    assert run(shop, [purchase])[purchase].amount == 1499


@pytest.mark.parametrize("status", ["failed", "pending"])
def test_cart_whose_first_purchase_is_not_completed_is_planned_and_reported(
    shop: Shop, sandbox: StripeSandbox, status: str
) -> None:
    payment = sandbox.create_payment(70_00, "eur")
    first = shop.add_purchase(payment, status=status)
    second, third = (shop.add_purchase(payment) for _ in range(2))
    cart = [first, second, third]
    with shop.app.app_context():
        plan = plan_bulk_refund("recall", cart, rate=HIGH_RATE)
    assert (plan.refundable, plan.payments, plan.amounts) == (2, 1, {"eur": 70_00})
    for _ in range(2):
        found = run(shop, cart)
        assert values(found) == {first: "not_completed", second: "refunded", third: "already_refunded"}
        assert [found[each].amount for each in cart] == [None, 70_00, None]


@pytest.mark.parametrize("apart", [1, 450])
def test_cart_is_refunded_once_and_its_other_purchases_name_that_refund(
    shop: Shop, sandbox: StripeSandbox, apart: int
) -> None:
    """The purchases are adjacent, or so far apart that they are in different batches."""
    payment = sandbox.create_payment(3000)
    cart = [ObjectId(f"{number * apart:024x}") for number in range(1, 4)]
    for purchase in cart:
        shop.add_purchase(payment, _id=purchase)
    others = [ObjectId(f"{number:024x}") for number in range(1, 1500)] if apart > 1 else []
    with shop.app.app_context():
        plan = plan_bulk_refund("recall", [*cart, *others], rate=HIGH_RATE)
    found = run(shop, [*cart, *others])
    results = [found[purchase] for purchase in cart]

    assert [each.result.value for each in results] == ["refunded", "already_refunded", "already_refunded"]
    assert {each.refund.id for each in results if each.refund} == {f"{payment}:1"}
    assert [each.amount for each in results] == [3000, None, None]
    assert sandbox.money_refunded(payment) == 3000
    assert (plan.refundable, plan.payments, plan.amounts) == (3, 1, {"usd": 3000})
    assert [run(shop, cart)[purchase].amount for purchase in cart] == [3000, None, None]


def test_cart_takes_one_slot(shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other purchases wait for the first one's refund, instead of requesting the same refund."""
    payment = sandbox.create_payment(1999, "eur")
    cart = [shop.add_purchase(payment) for _ in range(5)]
    sandbox.latency = 0.2
    wait, slots = RateLimiter.wait, itertools.count()

    def count_and_wait(rate_limiter: RateLimiter) -> float:
        next(slots)
        return wait(rate_limiter)

    monkeypatch.setattr(RateLimiter, "wait", count_and_wait)
    found = run(shop, cart)
    assert Counter(each.result for each in found.values()) == {
        Result.REFUNDED: 1, Result.ALREADY_REFUNDED: 4
    }  # fmt: skip
    assert next(slots) == 1


def test_unknown_outcomes_are_retried_at_the_end(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = add_purchases(shop, sandbox, 20)
    sandbox.inject("response_lost", times=6)
    sandbox.inject("request_lost", times=6)
    found = run(shop, ids)
    assert set(values(found).values()) == {"refunded"}
    assert len(sandbox.refunds()) == 20


def test_rate_limited_purchases_are_retried(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = add_purchases(shop, sandbox, 6)
    sandbox.inject("rate_limited", times=8)
    assert set(values(run(shop, ids)).values()) == {"refunded"}
    assert len(sandbox.refunds()) == 6


def test_run_waits_for_the_lease_of_a_dead_call(shop: Shop, sandbox: StripeSandbox) -> None:
    """The call died after its request to Stripe, and its lease ends while the run waits."""
    [held, free] = add_purchases(shop, sandbox, 2)
    sandbox.inject("response_lost", times=2)
    assert shop.refund(held).status_code == 202
    record = shop.records()[0]
    shop.db.flask_refunds.update_one(
        {}, {"$set": {"leaseExpiresAt": record["createdAt"] + timedelta(hours=1)}}
    )
    seen: list[ObjectId] = []

    def let_the_lease_end(app: Any, refund: Any, **extra: Any) -> None:
        seen.extend(refund.purchase_ids)
        shop.db.flask_refunds.update_one(
            {"_id": record["_id"]}, {"$set": {"leaseExpiresAt": record["createdAt"]}}
        )

    with refund_succeeded.connected_to(let_the_lease_end, sender=shop.app):
        found = run(shop, [held, free])
    assert seen[0] == free
    assert values(found) == {held: "already_refunded", free: "refunded"}  # the endpoint created it
    assert len(sandbox.refunds()) == 2


def test_refund_in_progress_until_the_end_is_reported(
    shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    [held] = add_purchases(shop, sandbox, 1)
    sandbox.inject("response_lost", times=2)
    assert shop.refund(held).status_code == 202
    shop.db.flask_refunds.update_one(
        {}, [{"$set": {"leaseExpiresAt": {"$add": ["$leaseExpiresAt", 3_600_000]}}}]
    )
    monkeypatch.setattr(get_refunds(shop.app).bulk, "_retry_seconds", 0.4)
    assert values(run(shop, [held])) == {held: "in_progress"}


def test_outcome_unknown_for_too_long_needs_review(shop: Shop, sandbox: StripeSandbox) -> None:
    [lost] = add_purchases(shop, sandbox, 1)
    sandbox.inject("request_lost", times=2)
    assert shop.refund(lost).status_code == 202
    ages = {name: shop.records()[0][name] - timedelta(days=2) for name in ("createdAt", "leaseExpiresAt")}
    shop.db.flask_refunds.update_one({}, {"$set": ages})
    found = run(shop, [lost])
    assert values(found) == {lost: "needs_review"}
    assert "resolve the refund" in (found[lost].message or "")
    assert values(run(shop, [lost])) == {lost: "needs_review"}
    assert sandbox.refunds() == []


def test_same_run_twice_at_once_refunds_each_payment_once(
    database: Any, sandbox: StripeSandbox, mongo_uri: str
) -> None:
    """Each has its own client, and the sandbox would allow a second refund."""
    with StripeSandbox(enforce_amount_limit=False) as generous, pymongo.MongoClient(mongo_uri) as client:
        shops = [
            Shop(make_app(REFUNDS_MONGO=each, STRIPE_API_BASE=generous.url), database)
            for each in (database, client.get_default_database())
        ]
        ids = add_purchases(shops[0], generous, 120)
        generous.latency = 0.02
        found: list[dict[ObjectId, BulkResult]] = []
        threads = [threading.Thread(target=lambda shop=shop: found.append(run(shop, ids))) for shop in shops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [values(each) for each in found] == [dict.fromkeys(ids, "refunded")] * 2
        assert len(generous.refunds()) == 120


def test_stopped_run_finishes_the_refunds_in_progress_and_can_be_continued(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    ids = add_purchases(shop, sandbox, 60)
    stop_event = threading.Event()
    results: list[BulkResult] = []

    def stop(result: BulkResult) -> None:
        results.append(result)
        if len(results) == 5:
            stop_event.set()

    with shop.app.app_context():
        summary = bulk_refund("recall", ids, rate=10, on_result=stop, stop_event=stop_event)
    assert 0 < summary.unprocessed <= 55
    assert summary.incomplete == summary.unprocessed
    assert len(shop.records()) == len(results) == summary.counts[Result.REFUNDED]
    assert {record["status"] for record in shop.records()} == {"succeeded"}
    assert values(run(shop, ids)) == dict.fromkeys(ids, "refunded")
    assert len(sandbox.refunds()) == 60


@pytest.mark.parametrize("command", ["aggregate", "insert"])
def test_run_waits_for_an_unavailable_database(
    shop: Shop, sandbox: StripeSandbox, database: Any, command: str
) -> None:
    ids = add_purchases(shop, sandbox, 30)
    failure, waits = failing(database, command), []

    class Recovery(threading.Event):
        """Ends the failure when the run waits on it between two attempts."""

        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            failure.__exit__()
            return super().wait(0)

    failure.__enter__()
    found = run(shop, ids, stop_event=Recovery())
    assert values(found) == dict.fromkeys(ids, "refunded")
    assert waits[0] == 0.25
    assert len(sandbox.refunds()) == 30


@pytest.mark.parametrize("command", ["aggregate", "insert"])
def test_database_unavailable_for_too_long_ends_the_run_which_can_be_continued(
    shop: Shop, sandbox: StripeSandbox, database: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    ids = add_purchases(shop, sandbox, 30)
    with monkeypatch.context() as patch:
        patch.setattr(database_retry, "MAX_SECONDS", 0.3)
        with failing(database, command), pytest.raises(DatabaseUnavailable):
            run(shop, ids)
    assert values(run(shop, ids)) == dict.fromkeys(ids, "refunded")
    assert len(sandbox.refunds()) == 30


def test_rejected_key_ends_the_run_at_once(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = add_purchases(shop, sandbox, 300)
    sandbox.inject("key_rejected", times=None)
    with pytest.raises(StripeKeyRejected):
        run(shop, ids)
    assert len(shop.records()) < 200
    sandbox.clear_faults()
    assert set(values(run(shop, ids)).values()) == {"refunded"}


def test_unreachable_stripe_ends_the_run(database: Any, sandbox: StripeSandbox) -> None:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_STRIPE_RETRIES=0)
    shop = Shop(app, database)
    ids = add_purchases(shop, sandbox, 300)
    sandbox.inject("request_lost", method="*", path="/v1/", times=None)
    with pytest.raises(StripeUnavailable, match="Run it again later"):
        run(shop, ids)
    assert len(shop.records()) < 200
    sandbox.clear_faults()
    assert set(values(run(shop, ids)).values()) == {"refunded"}
    assert len(sandbox.refunds()) == 300


def test_internal_error_at_one_purchase_does_not_affect_the_others(
    shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = add_purchases(shop, sandbox, 5)
    bulk = get_refunds(shop.app).bulk
    refund: Callable[..., Any] = bulk._service.refund

    def fail_once(purchase_id: ObjectId, request: Any) -> Any:
        if purchase_id == ids[2]:
            raise ZeroDivisionError
        return refund(purchase_id, request)

    monkeypatch.setattr(bulk._service, "refund", fail_once)
    monkeypatch.setattr(bulk, "_retry_seconds", 0.1)
    found = values(run(shop, ids))
    assert found == {**dict.fromkeys(ids, "refunded"), ids[2]: "unknown"}


def test_signal_receivers_run_in_the_app_context(shop: Shop, sandbox: StripeSandbox) -> None:
    from flask import current_app

    names: list[str] = []
    ids = add_purchases(shop, sandbox, 3)

    def receiver(app: Any, **extra: Any) -> None:
        names.append(current_app.name)

    with refund_succeeded.connected_to(receiver, sender=shop.app):
        run(shop, ids)
    assert names == ["shop"] * 3


@pytest.mark.parametrize(
    ("name", "ids", "message"),
    [
        ("", [ObjectId()], "A bulk run's name must be 1 to 64"),
        ("no spaces", [ObjectId()], "A bulk run's name must be 1 to 64"),
        ("recall", "nonsense", "purchase_ids must be a list of IDs"),
        ("recall", [{"order": 7}], "IDs that are documents"),
        ("recall", [Decimal128("7")], "IDs that are documents or decimals"),
    ],
)
def test_invalid_name_or_id_is_rejected(shop: Shop, name: str, ids: Any, message: str) -> None:
    with shop.app.app_context():
        for call in (bulk_refund, plan_bulk_refund):
            with pytest.raises(InvalidRequest) as caught:
                call(name, ids)
            assert message in str(caught.value)
            assert "Nothing was refunded." in str(caught.value)


def test_run_without_purchases_has_no_results(shop: Shop) -> None:
    assert run(shop, []) == {}

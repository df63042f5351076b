"""ReconcileRunner, on a real MongoDB: passes work in parallel, share the work, and reach every record."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from flask_refunds import refund_succeeded
from flask_refunds.core.reconcile import PAGE, ReconcileReport
from flask_refunds.extension import get_refunds
from flask_refunds.testing import StripeSandbox
from tests.bench.reconcile_scale import add_records
from tests.shop import Shop, make_app

PENDING = "4000000000007726"
NOW = timedelta(0)


def make_shop(database: Any, sandbox: StripeSandbox) -> Shop:
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    return make_shop(database, sandbox)


def reconcile(shop: Shop, **options: Any) -> ReconcileReport:
    with shop.app.app_context():
        return get_refunds(shop.app).reconcile_runner.run(**{"older_than": NOW, "rate": 1000.0} | options)


def make_pending(shop: Shop, sandbox: StripeSandbox, count: int) -> list[str]:
    payments = [sandbox.create_payment(1000 + number, card=PENDING) for number in range(count)]
    for payment in payments:
        assert shop.refund(shop.add_purchase(payment)).status_code == 202
    minute_ago = {"$subtract": ["$$NOW", 60_000]}
    shop.db.flask_refunds.update_many({}, [{"$set": {"updatedAt": minute_ago, "lookedAt": minute_ago}}])
    return payments


def dashboard_refund(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    shop.add_purchase(payment)
    sandbox.dashboard_refund(payment)


@contextmanager
def most_at_once(component: Any, method: str) -> Iterator[list[int]]:
    """Yield a list whose only item is the largest number of simultaneous calls of a method."""
    running, most, lock = [0], [0], threading.Lock()
    call = getattr(component, method)

    def counted(*arguments: Any, **options: Any) -> Any:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return call(*arguments, **options)
        finally:
            with lock:
                running[0] -= 1

    with mock.patch.object(component, method, counted):
        yield most


def retrieved(sandbox: StripeSandbox) -> list[str]:
    """Return the paths of the refunds that were retrieved."""
    return [each.path for each in sandbox.requests if each.path.startswith("/v1/refunds/")]


def test_pending_refunds_are_retrieved_in_parallel(shop: Shop, sandbox: StripeSandbox) -> None:
    make_pending(shop, sandbox, 24)
    sandbox.latency = 0.3
    with most_at_once(get_refunds(shop.app).reconciler, "finish") as most:
        assert reconcile(shop).counts == {"open": 24}
    assert most[0] >= 8


def test_refunds_that_the_sweep_finds_are_stored_in_parallel(shop: Shop, sandbox: StripeSandbox) -> None:
    for _ in range(24):
        dashboard_refund(shop, sandbox)
    sandbox.latency = 0.3
    with most_at_once(get_refunds(shop.app).stripe_sync, "upsert_from_stripe") as most:
        report = reconcile(shop)
    assert report.sweep is not None
    assert report.sweep.counts["stored"] == shop.db.flask_refunds.count_documents({}) == 24
    assert most[0] >= 8


def test_sweep_finds_all_parts_of_one_payment(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(2000)
    purchase = shop.add_purchase(payment)
    for _ in range(20):
        sandbox.dashboard_refund(payment, 100)
    report = reconcile(shop)
    assert report.sweep is not None
    assert report.sweep.counts["stored"] == shop.db.flask_refunds.count_documents({}) == 20
    assert shop.status_of(purchase) == "refunded"


def test_ordinary_pass_without_news_makes_one_request(database: Any) -> None:
    two_days_ago = time.time() - 2 * 86400
    with StripeSandbox(clock=lambda: two_days_ago) as sandbox:
        shop = make_shop(database, sandbox)
        for _ in range(150):
            dashboard_refund(shop, sandbox)
            sandbox.advance(600)
        assert reconcile(shop).counts["errors"] == 0
        assert shop.db.flask_refunds.count_documents({"status": "succeeded"}) == 150
        for news in (0, 1, 0):
            for _ in range(news):
                dashboard_refund(shop, sandbox)
            before = len(sandbox.requests)
            assert reconcile(shop).sweep is not None
            assert len(sandbox.requests) - before == 1 + news


def test_pages_of_a_pass_and_the_list_of_reviews_read_a_bounded_number_of_records(
    shop: Shop, database: Any
) -> None:
    add_records(database, 5 * PAGE, reviews=2 * PAGE)
    assert shop.flask("init-db").exit_code == 0
    lists = {"$or": [{f"{each}.sort": {"$exists": True}} for each in ("command", "originatingCommand")]}
    database.command("profile", 1, filter={"ns": f"{database.name}.flask_refunds", **lists})
    report = reconcile(shop)
    database.command("profile", 0)
    assert report.counts == {"followed_up": 5 * PAGE}
    assert (len(report.reviews), report.review_counts.total()) == (100, 2 * PAGE)
    examined: Counter[Any] = Counter()
    for each in database.system.profile.find({"ns": f"{database.name}.flask_refunds"}):
        examined[each.get("cursorid", each["ts"])] += each["docsExamined"]
    assert examined.total() >= 5 * PAGE + 100
    assert max(examined.values()) <= PAGE


def test_parallel_passes_share_the_work(shop: Shop, database: Any, sandbox: StripeSandbox) -> None:
    make_pending(shop, sandbox, 33)
    shops = [make_shop(database, sandbox) for _ in range(5)]
    reports: list[ReconcileReport] = []
    half_a_minute = timedelta(seconds=30)

    def run(each: Shop) -> None:
        reports.append(reconcile(each, older_than=half_a_minute))

    threads = [threading.Thread(target=run, args=(each,)) for each in shops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.counts["open"] for report in reports) == 33
    assert len(retrieved(sandbox)) == len(set(retrieved(sandbox))) == 33
    assert sum(report.sweep is not None for report in reports) >= 1


def test_receiver_that_exits_in_a_pass_costs_only_its_own_record(shop: Shop, sandbox: StripeSandbox) -> None:
    payments = make_pending(shop, sandbox, 4)
    for payment in payments:
        sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    ended: list[str] = []

    def receiver(app: Any, refund_id: str, **extra: Any) -> None:
        if refund_id.startswith(payments[0]):
            raise SystemExit
        ended.append(refund_id)

    with refund_succeeded.connected_to(receiver, sender=shop.app):
        report = reconcile(shop)
    assert sorted(ended) == sorted(f"{payment}:1" for payment in payments[1:])
    assert (report.counts["settled"], report.counts["errors"]) == (3, 1)
    assert {
        record["signalsSent"] for record in shop.records() if record["paymentIntent"] in payments[1:]
    } == {True}


def test_stopped_pass_finishes_the_refunds_in_progress_and_starts_no_other(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    make_pending(shop, sandbox, 60)
    sandbox.latency = 0.1
    stop_event = threading.Event()
    report = reconcile(shop, stop_event=stop_event, on_progress=stop_event.set, rate=50.0)
    assert 0 < report.counts["open"] < 60
    assert report.sweep is None or not report.sweep.is_complete


def test_shop_without_a_webhook_matches_stripe_after_one_full_pass(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payments = [sandbox.create_payment(2000) for _ in range(12)]
    purchases = [shop.add_purchase(payment) for payment in payments]
    for purchase in purchases[:6]:
        assert shop.refund(purchase).status_code == 200
    for payment in payments[:3]:
        sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    for payment in payments[6:9]:
        sandbox.dashboard_refund(payment)
    sandbox.dashboard_refund(payments[9], 500)
    sandbox.dashboard_refund(sandbox.create_payment(700))
    report = reconcile(shop, full=True)
    statuses = [shop.status_of(purchase) for purchase in purchases]
    assert statuses == ["completed"] * 3 + ["refunded"] * 6 + ["completed"] * 3
    assert report.sweep is not None
    assert report.sweep.counts["foreign"] == 1
    assert report.review_counts == {"failed_after_success": 3}
    assert not report.is_clean
    before = len(sandbox.requests)
    assert reconcile(shop).sweep is not None
    assert len(sandbox.requests) - before <= 3

"""The functions for the app's own code that look refunds up or finish them."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from flask_refunds import (
    PurchaseNotFound,
    PurchaseNotRefundable,
    RefundNotFound,
    RefundStatus,
    get_refund,
    list_refunds,
    preview_refund,
    reconcile,
    refund_purchase,
)
from flask_refunds.testing import StripeSandbox
from tests.shop import Shop

PENDING = "4000000000007726"


def test_preview_shows_what_is_left_and_the_refunds_so_far(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(2500)
    sandbox.dashboard_refund(payment, 700)
    purchase = shop.add_purchase(payment)
    with shop.app.app_context():
        preview = preview_refund(purchase)
        assert (preview.payment.refundable, list(preview.refunds)) == (1800, [])
        refund_purchase(purchase, requested_by="ann")
        with pytest.raises(PurchaseNotRefundable):
            preview_refund(purchase)


def test_refunds_are_listed_by_purchase_and_found_by_id(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(2500))
    with shop.app.app_context():
        assert list(list_refunds(purchase)) == []
        made = refund_purchase(purchase, requested_by="ann").refund
        assert [each.id for each in list_refunds(purchase)] == [made.id]
        assert get_refund(made.id).status is RefundStatus.SUCCEEDED


@pytest.mark.parametrize("purchase_id", ["64b5f2c8e13e4a5b6c7d8e9f", 7])
def test_unknown_ids_are_errors(shop: Shop, purchase_id: Any) -> None:
    with shop.app.app_context():
        with pytest.raises(PurchaseNotFound):
            list_refunds(purchase_id)
        with pytest.raises(PurchaseNotFound):
            preview_refund(purchase_id)
        with pytest.raises(RefundNotFound):
            get_refund("pi_unknown:1")


def test_text_is_not_the_id_of_a_purchase_with_an_object_id(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(2500))
    with shop.app.app_context(), pytest.raises(PurchaseNotFound):
        list_refunds(str(purchase))


def test_reconcile_finishes_what_stripe_settled(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(2500, card=PENDING)
    purchase = shop.add_purchase(payment)
    with shop.app.app_context():
        assert refund_purchase(purchase).refund.status is RefundStatus.PENDING
        sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
        report = reconcile(older_than=timedelta(0))
    assert (report.counts["settled"], report.is_clean) == (1, True)
    assert shop.status_of(purchase) == "refunded"


def test_full_reconcile_reads_the_last_60_days_again(shop: Shop, sandbox: StripeSandbox) -> None:
    for _ in range(2):
        payment = sandbox.create_payment(2500)
        shop.add_purchase(payment)
        sandbox.dashboard_refund(payment)
        sandbox.advance(2 * 3600)
    with shop.app.app_context():
        reports = [reconcile(), reconcile(), reconcile(full=True)]
    read = [each.sweep.counts["read"] for each in reports if each.sweep is not None]
    assert read == [2, 1, 2]


def test_reconcile_starts_nothing_once_it_is_stopped(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(2500, card=PENDING)
    purchase = shop.add_purchase(payment)
    stopped = threading.Event()
    stopped.set()
    with shop.app.app_context():
        refund_purchase(purchase)
        sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
        reconcile(older_than=timedelta(0), stop_event=stopped)
    assert shop.status_of(purchase) == "completed"

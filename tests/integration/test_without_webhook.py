"""A shop without a webhook endpoint: one full pass makes the ledger and the purchases equal to Stripe.

``REFUNDS_TEST_PAYMENTS=1000`` runs it with more payments.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import cycle, islice
from typing import Any

import pytest

from flask_refunds.core.reconcile import ReconcileReport
from flask_refunds.extension import get_refunds
from flask_refunds.testing import StripeSandbox
from tests.shop import Shop

PAYMENTS = int(os.environ.get("REFUNDS_TEST_PAYMENTS", "210"))
AMOUNT = 2000
PENDING = "4000000000007726"
OLD_VERSION = "2024-06-20"
"""Captures with it store what they release as a refund that moved no money."""
RELEASED: set[str] = set()
"""The IDs of these refunds."""


class Happenings:
    """What can happen to a payment. Each public method makes a payment and lets one thing happen to it.

    :param shop: sells what is paid; it learns nothing of what happens at Stripe.
    """

    def __init__(self, shop: Shop, sandbox: StripeSandbox) -> None:
        self._shop = shop
        self._sandbox = sandbox

    def all(self) -> list[Callable[[], object]]:
        """Return every public method but this one."""
        names = [each for each in vars(type(self)) if not each.startswith("_") and each != "all"]
        return [getattr(self, name) for name in names]

    def no_refund(self) -> None:
        self._pay()

    def refunded(self) -> None:
        self._refund()

    def refunded_for_two_purchases(self) -> None:
        self._shop.add_purchase(self._refund(), "refunded")

    def pending(self) -> None:
        self._refund(card=PENDING)

    def pending_then_succeeded(self) -> None:
        self._settle(self._refund(card=PENDING), "succeeded")

    def pending_then_failed(self) -> None:
        self._settle(self._refund(card=PENDING), "failed")

    def pending_then_disputed(self) -> None:
        self._sandbox.dispute(self._refund(card=PENDING))

    def returned_by_the_bank(self) -> None:
        self._settle(self._refund(), "failed")

    def returned_by_the_bank_and_refunded_again(self) -> None:
        payment = self._refund()
        self._settle(payment, "failed")
        self._sandbox.dashboard_refund(payment)

    def returned_to_requires_action(self) -> None:
        self._settle(self._refund(), "requires_action")

    def pending_then_requires_action(self) -> None:
        self._settle(self._refund(card=PENDING), "requires_action")

    def requires_action_then_canceled(self) -> None:
        payment = self._refund(card=PENDING)
        self._settle(payment, "requires_action")
        self._settle(payment, "canceled")

    def requires_action_in_dashboard(self) -> None:
        payment = self._pay(method="konbini", currency="jpy")
        self._sandbox.dashboard_refund(payment, instructions_email="ann@example.com")

    def in_dashboard(self) -> None:
        self._sandbox.dashboard_refund(self._pay())

    def in_dashboard_for_two_purchases(self) -> None:
        payment = self._pay()
        self._shop.add_purchase(payment)
        self._sandbox.dashboard_refund(payment)

    def in_dashboard_and_failed(self) -> None:
        payment = self._pay()
        self._sandbox.dashboard_refund(payment)
        self._settle(payment, "failed")

    def part(self) -> None:
        self._sandbox.dashboard_refund(self._pay(), 500)

    def two_parts_of_all(self) -> None:
        payment = self._pay()
        self._sandbox.dashboard_refund(payment, 500)
        self._sandbox.dashboard_refund(payment)

    def two_parts_of_less(self) -> None:
        payment = self._pay()
        self._sandbox.dashboard_refund(payment, 500)
        self._sandbox.dashboard_refund(payment, 700)

    def part_in_dashboard_and_rest(self) -> None:
        self._refund_the_rest("succeeded")

    def part_in_dashboard_that_fails_and_rest(self) -> None:
        self._refund_the_rest("failed")

    def part_of_an_authorization_captured(self) -> None:
        self._sandbox.dashboard_refund(self._authorize(1200))

    def part_of_an_authorization_captured_and_refunded(self) -> None:
        self._call_refund(self._authorize(1200))

    def part_of_what_was_captured(self) -> None:
        self._sandbox.dashboard_refund(self._authorize(1200), 800)

    def several_captures(self) -> None:
        self._call_refund(self._authorize(1200, 300))

    def several_captures_between_dashboard_refunds(self) -> None:
        payment = self._authorize(1200, final=False)
        self._sandbox.dashboard_refund(payment)
        self._sandbox.capture(payment, 300)

    def captured_again_while_pending(self) -> None:
        payment = self._authorize(1200, final=False, card=PENDING)
        self._call_refund(payment)
        self._sandbox.capture(payment, 300)
        self._settle(payment, "succeeded")

    def authorization_canceled(self) -> None:
        self._sandbox.cancel_payment(self._authorize())

    def authorization_canceled_with_an_old_api_version(self) -> None:
        payment = self._authorize()
        self._sandbox.cancel_payment(payment, api_version=OLD_VERSION)
        RELEASED.update(each["id"] for each in self._sandbox.refunds(payment))

    def part_captured_with_an_old_api_version(self) -> None:
        payment = self._authorize()
        self._sandbox.capture(payment, 1200, api_version=OLD_VERSION)
        RELEASED.update(each["id"] for each in self._sandbox.refunds(payment))
        self._sandbox.dashboard_refund(payment, 400)

    def part_captured_with_an_old_api_version_and_refunded(self) -> None:
        payment = self._authorize()
        self._sandbox.capture(payment, 1200, api_version=OLD_VERSION)
        RELEASED.update(each["id"] for each in self._sandbox.refunds(payment))
        self._call_refund(payment)

    def of_another_shop(self) -> None:
        self._sandbox.dashboard_refund(self._sandbox.create_payment(AMOUNT))

    def of_another_shop_with_the_key_of_a_record(self) -> None:
        payment = self._sandbox.create_payment(AMOUNT)
        refund = self._sandbox.dashboard_refund(payment)
        record = self._shop.db.flask_refunds.find_one({"paymentIntent": self._refund()})
        self._sandbox.set_refund(refund["id"], metadata=record["request"]["metadata"])

    def _pay(self, **options: Any) -> str:
        payment = self._sandbox.create_payment(AMOUNT, **options)
        self._shop.add_purchase(payment)
        return payment

    def _authorize(self, *captures: int, final: bool = True, **options: Any) -> str:
        """Pay with a manual capture of these amounts."""
        payment = self._pay(capture="manual", **options)
        for amount in captures:
            self._sandbox.capture(payment, amount, final=final and amount == captures[-1])
        return payment

    def _refund(self, **options: Any) -> str:
        """Pay, and refund with the library."""
        return self._call_refund(self._pay(**options))

    def _call_refund(self, payment: str) -> str:
        purchase = self._shop.db.purchases.find_one({"stripePaymentIntentId": payment})
        assert self._shop.refund(purchase["_id"]).status_code in (200, 202)
        return payment

    def _refund_the_rest(self, status: str) -> None:
        """Refund what a pending part leaves, and then let the part end."""
        payment = self._pay()
        part = self._sandbox.dashboard_refund(payment, 500, status="pending")
        self._call_refund(payment)
        self._sandbox.settle(part["id"], status)

    def _settle(self, payment: str, status: str) -> None:
        self._sandbox.settle(self._sandbox.refunds(payment)[0]["id"], status)


def expected_ledger(shop: Shop, sandbox: StripeSandbox) -> dict[str, list[Any]]:
    """Return the refunds of the shop's payments, from what Stripe shows alone."""
    ours = set(shop.db.purchases.distinct("stripePaymentIntentId"))
    expected = defaultdict(list)
    for refund in sandbox.refunds():
        if refund["payment_intent"] in ours and refund["id"] not in RELEASED:
            shown = refund["id"], refund["status"], refund["amount"], refund["currency"]
            expected[refund["payment_intent"]].append(shown)
    return {payment: sorted(shown) for payment, shown in expected.items()}


def stored_ledger(shop: Shop) -> dict[str, list[Any]]:
    stored = defaultdict(list)
    for record in shop.records():
        shown = record["stripeRefundId"], record["status"], record["amount"], record["currency"]
        stored[record["paymentIntent"]].append(shown)
    return {payment: sorted(shown) for payment, shown in stored.items()}


def wrong_purchases(shop: Shop, sandbox: StripeSandbox) -> Iterator[tuple[str, str]]:
    """Yield each purchase whose status isn't what Stripe's amounts demand, with its payment."""
    for purchase in shop.db.purchases.find():
        payment = purchase["stripePaymentIntentId"]
        moved = (each for each in sandbox.refunds(payment) if each["id"] not in RELEASED)
        succeeded = (each["amount"] for each in moved if each["status"] == "succeeded")
        received = sandbox.payment_intent(payment)["amount_received"]
        if (purchase["status"] == "refunded") is not (0 < received <= sum(succeeded)):
            yield purchase["status"], payment


def reconcile(shop: Shop, *, full: bool) -> ReconcileReport:
    with shop.app.app_context():
        runner = get_refunds(shop.app).reconcile_runner
        return runner.run(older_than=timedelta(0), rate=10_000.0, full=full)


@pytest.fixture
def busy_shop(shop: Shop, sandbox: StripeSandbox) -> Shop:
    """A shop with payments to which everything happened."""
    assert shop.flask("init-db").exit_code == 0
    for happen in islice(cycle(Happenings(shop, sandbox).all()), PAYMENTS):
        happen()
    return shop


def test_one_full_pass_makes_ledger_and_purchases_equal_to_stripe(
    busy_shop: Shop, sandbox: StripeSandbox
) -> None:
    assert stored_ledger(busy_shop) != expected_ledger(busy_shop, sandbox)
    report = reconcile(busy_shop, full=True)
    assert report.sweep is not None
    assert report.sweep.is_complete
    assert (report.sweep.counts["errors"], report.counts["errors"]) == (0, 0)
    assert stored_ledger(busy_shop) == expected_ledger(busy_shop, sandbox)
    assert list(wrong_purchases(busy_shop, sandbox)) == []

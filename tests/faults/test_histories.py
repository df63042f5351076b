"""Random histories violate no invariant, and mutations of the library are detected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
import stripe

from flask_refunds.core import service
from flask_refunds.errors import RequestRejected, StripeCallError
from flask_refunds.storage.purchases import Purchases
from flask_refunds.stripe_client import gateway
from tests.faults.histories import History, run_histories, without_logging
from tests.faults.histories_shop import (
    KILLED_AFTER,
    KILLED_BEFORE,
    CallFailure,
    SimulatedShop,
    call,
    in_process,
)
from tests.faults.invariants import DOUBLED


@pytest.fixture
def shop() -> Iterator[SimulatedShop]:
    with without_logging(), in_process():
        yield SimulatedShop(limit=False)


def test_random_histories_violate_nothing() -> None:
    before = History.count
    run_histories(100, seed=None)
    assert History.count - before >= 100


def test_call_can_be_killed_before_and_after_each_step(shop: SimulatedShop) -> None:
    ends = set()
    for step in range(20):
        for kind in (KILLED_BEFORE, KILLED_AFTER):
            payment = shop.pay("4242424242424242", 1)
            with call(CallFailure(kind, step)):
                assert shop.refund(payment.purchases[0], None).status_code == 200
            records, active = shop.records(payment.id), shop.active_refunds(payment.id)
            ends.add((len(records), len(active), len(shop.signals)))
            shop.signals.clear()
    assert {(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)} <= ends


def test_dashboard_refund_during_a_review_violates_nothing(shop: SimulatedShop) -> None:
    payment = shop.pay("4242424242424242", 1)
    shop.sandbox.refund_in_dashboard(payment.id)
    with call(CallFailure(KILLED_BEFORE, 3)):
        shop.refund(payment.purchases[0], None)
    shop.advance(25 * 3600)
    for event in shop.sandbox.events:
        assert shop.deliver(event).status_code == 200
    shop.reconcile()
    assert not shop.find_violations(payment)


def reject_unknown(error: stripe.StripeError) -> StripeCallError:
    return RequestRejected("none", "Stripe gave no answer.")


def mark_nothing(self: Purchases, payment_intent: str, purchase_ids: Sequence[Any]) -> Any:
    return [], []


MUTATIONS = [(gateway, "_interpret", reject_unknown), (Purchases, "mark_refunded", mark_nothing)]


@pytest.mark.parametrize(("owner", "name", "replacement"), MUTATIONS)
def test_histories_detect_mutation(owner: object, name: str, replacement: object) -> None:
    with mock.patch.object(owner, name, replacement), pytest.raises(AssertionError):
        run_histories(200, seed=1, shrink=False)


def test_idempotency_key_used_after_a_day_is_detected(shop: SimulatedShop) -> None:
    """Stripe forgets a key after a day. Then the same request makes a second refund."""
    payment = shop.pay("4242424242424242", 1)
    find = service.RefundService._find_at_stripe

    def find_nothing(*arguments: Any) -> None:
        find(*arguments)

    with mock.patch.object(service, "RESEND_WITHIN", timedelta(days=2)):
        shop.sandbox.inject("drop_after", times=2)
        shop.refund(payment.purchases[0], None)
        shop.advance(25 * 3600)
        with mock.patch.object(service.RefundService, "_find_at_stripe", find_nothing):
            shop.refund(payment.purchases[0], None)
    assert DOUBLED in {violation.kind for violation in shop.find_violations(payment)}

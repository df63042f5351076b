"""No history breaks the promise, and one that would is found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from unittest import mock

import pytest
import stripe

from flask_refunds.core import service
from flask_refunds.errors import RequestRejected, StripeCallError
from flask_refunds.storage.purchases import Purchases
from flask_refunds.stripe_client import gateway
from tests.faults.histories import History, play, quiet
from tests.faults.histories_shop import KILLED_AFTER, KILLED_BEFORE, Accident, World, call, in_process


@pytest.fixture
def world() -> Iterator[World]:
    with quiet(), in_process():
        yield World(limit=False)


def test_no_history_breaks_the_promise() -> None:
    before = History.count
    play(100, seed=None)
    assert History.count - before >= 100


def test_a_call_can_be_killed_before_and_after_each_of_its_steps(world: World) -> None:
    ends = set()
    for step in range(20):
        for what in (KILLED_BEFORE, KILLED_AFTER):
            paid = world.pay("4242424242424242", 1)
            with call(Accident(what, step)):
                assert world.refund(paid.purchases[0], None).status_code == 200
            ends.add((len(world.rows(paid.payment)), len(world.live(paid.payment)), len(world.heard)))
            world.heard.clear()
    assert {(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)} <= ends


def test_the_dashboard_refunds_what_waits_for_a_person(world: World) -> None:
    paid = world.pay("4242424242424242", 1)
    world.sandbox.refund_in_dashboard(paid.payment)
    with call(Accident(KILLED_BEFORE, 3)):
        world.refund(paid.purchases[0], None)
    world.advance(25 * 3600)
    for event in world.sandbox.events:
        assert world.deliver(event).status_code == 200
    world.reconcile()
    assert not world.violations(paid)


def unknown_is_failed(error: stripe.StripeError) -> StripeCallError:
    return RequestRejected("none", "There was no answer.")


def mark_nothing(self: Purchases, payment_intent: str) -> int:
    return 0


BROKEN = [(gateway, "_understand", unknown_is_failed), (Purchases, "mark_refunded", mark_nothing)]


@pytest.mark.parametrize(("where", "what", "instead"), BROKEN)
def test_a_broken_library_is_found_out(where: object, what: str, instead: object) -> None:
    with mock.patch.object(where, what, instead), pytest.raises(AssertionError):
        play(200, seed=1, shrink=False)


def test_a_key_that_is_used_for_too_long_is_found_out(world: World) -> None:
    """Stripe forgets it after a day: the same request is then a second refund."""
    paid = world.pay("4242424242424242", 1)
    with mock.patch.object(service, "RESEND_WITHIN", timedelta(days=2)):
        world.sandbox.inject("drop_after", times=2)
        world.refund(paid.purchases[0], None)
        world.advance(25 * 3600)
        with mock.patch.object(service.RefundService, "_find_at_stripe", return_value=None):
            world.refund(paid.purchases[0], None)
    assert "doubled" in {violation.kind for violation in world.violations(paid)}

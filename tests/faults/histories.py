"""Random histories of a shop: requests, webhooks, time, faults and crashes in any order.

Hypothesis generates them for the real app on mongomock and the sandbox, one call at a time. Concurrency is
tested in :mod:`tests.faults.schedules`. One case is excluded: a person marks a refund as failed that Stripe
has made or will make.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flask_refunds.errors import NothingToResolve, RefundsError
from flask_refunds.testing import ApiError, Fault
from flask_refunds.testing.faults import FORCED_STATUSES
from tests.faults.histories_shop import (
    FAILURES,
    PRICE,
    CallFailure,
    Payment,
    SimulatedShop,
    call,
    in_process,
)
from tests.faults.invariants import DISAGREES, DOUBLED, Tally, Violation

CARDS = ("4242424242424242", "4000000000007726", "4000000000005126", "4000000000000259", "4000000000000002")
WAIT_SECONDS = (61, 2 * 3600, 22 * 3600, 25 * 3600)
STEPS = 30
LEASE_EXPIRED_SECONDS = 300
HISTORIES_PER_RUN = 250

_indexes = st.integers(0, 99)
_failures = st.builds(CallFailure, st.sampled_from(FAILURES), st.integers(0, 11))
_bodies = st.sampled_from(
    (None, {}, {"reason": "duplicate"}, {"reason": "requested_by_customer", "note": "As agreed."})
)


class History(RuleBasedStateMachine):
    """One history."""

    count: ClassVar[int] = 0
    refunds: ClassVar[int] = 0

    @initialize(limit=st.sampled_from((False, False, True)), card=st.sampled_from(CARDS))
    def open_shop(self, limit: bool, card: str) -> None:
        self.shop = SimulatedShop(limit)
        self.shop.pay(card, 1)

    # People

    @rule(card=st.sampled_from(CARDS), cart=st.integers(1, 2))
    def buy(self, card: str, cart: int) -> None:
        self.shop.pay(card, cart)

    @rule(index=_indexes, body=_bodies)
    def refund(self, index: int, body: dict[str, Any] | None) -> None:
        self._refund(index, body, None)

    @rule(index=_indexes, body=_bodies, failure=_failures)
    def refund_with_failure(self, index: int, body: dict[str, Any] | None, failure: CallFailure) -> None:
        self._refund(index, body, failure)

    @rule(index=_indexes, amount=st.sampled_from((None, 500)))
    def refund_in_dashboard(self, index: int, amount: int | None) -> None:
        try:
            self.shop.sandbox.refund_in_dashboard(self._payment(index).id, amount)
        except ApiError:
            return

    @rule(decision=st.sampled_from(("fail", "dismiss", "retry")))
    def resolve(self, decision: str) -> None:
        if self.shop.has_delayed_requests:
            return
        resolve = getattr(self.shop.refunds.manual_review, decision)
        for record in list(self.shop.db.flask_refunds.find({"review": {"$ne": None}})):
            if decision != "dismiss" and self.shop.refunds_of_record(record["_id"]):
                continue
            try:
                resolve(record["_id"], name="ann", comment="Checked in Stripe.")
            except (NothingToResolve, RefundsError):
                continue

    # Stripe and time

    @rule(fault=st.sampled_from(sorted(Fault)), times=st.integers(1, 3), creating=st.booleans())
    def inject(self, fault: Fault, times: int, creating: bool) -> None:
        if creating or fault in FORCED_STATUSES:
            self.shop.sandbox.inject(fault, times=times)
        else:
            self.shop.sandbox.inject(fault, times=times, method="GET", path="/v1/")

    @rule()
    def clear_faults(self) -> None:
        self.shop.clear_faults()

    @rule(seconds=st.sampled_from(WAIT_SECONDS))
    def wait(self, seconds: int) -> None:
        self.shop.advance(seconds)

    @precondition(lambda self: self.shop.sandbox.refunds())
    @rule(index=_indexes, status=st.sampled_from(("succeeded", "failed", "canceled")))
    def settle(self, index: int, status: str) -> None:
        refunds = self.shop.sandbox.refunds()
        refund = refunds[index % len(refunds)]
        if refund["status"] == "succeeded" and status == "canceled":
            return
        try:
            self.shop.sandbox.settle(refund["id"], status)
        except ValueError:
            return

    @precondition(lambda self: self.shop.sandbox.events)
    @rule(index=_indexes, failure=st.none() | _failures)
    def deliver(self, index: int, failure: CallFailure | None) -> None:
        events = self.shop.sandbox.events
        with call(failure):
            response = self.shop.deliver(events[index % len(events)])
            assert response.status_code in (200, 409, 500, 503), response.text

    @rule(failure=st.none() | _failures)
    def reconcile(self, failure: CallFailure | None) -> None:
        with call(failure):
            try:
                self.shop.reconcile()
            except RefundsError:
                assert failure is not None

    # Invariants

    def _payment(self, index: int) -> Payment:
        return self.shop.payments[index % len(self.shop.payments)]

    def _refund(self, index: int, body: dict[str, Any] | None, failure: CallFailure | None) -> None:
        purchases = self._payment(index).purchases
        with call(failure):
            response = self.shop.refund(purchases[index % len(purchases)], body)
            assert response.content_type == "application/json", response.text
            wrong = self._check_response(response.status_code, response.get_json())
            assert not wrong, f"{wrong}: {response.status_code} {response.text}"

    def _check_response(self, status: int, body: dict[str, Any]) -> str | None:
        """Return what is wrong with a response."""
        if status not in (200, 202, 400, 409, 500, 503):
            return "an undocumented status code"
        if status >= 400 and not {"error", "code"} <= set(body):
            return "an error without a message and a code"
        refund = body.get("refund")
        active = [it["status"] for it in self.shop.refunds_of_record(refund["id"])] if refund else []
        if status == 200 and active != ["succeeded"]:
            return f"the refund at Stripe is {active}"
        # Only if Stripe didn't list a part that was refunded elsewhere. The caller must be told.
        may_follow = bool(refund and refund["amount"] and refund["amount"] < PRICE and body.get("hint"))
        if status == 200 and body["purchase"]["status"] != "refunded" and not may_follow:
            return f"the purchase is {body['purchase']['status']}"
        if refund and status == 202 and refund["status"] != "processing" and not refund["stripeRefundId"]:
            return "the status didn't come from Stripe"
        failed = body.get("code") in ("refund_failed", "stripe_rate_limited", "stripe_key_rejected")
        if failed and active:
            return f"the refund didn't fail, it is {active}"
        return None

    @invariant()
    def no_payment_is_refunded_twice(self) -> None:
        for payment in self.shop.payments:
            active = self.shop.active_refunds(payment.id)
            created_here = [it["amount"] for it in active if it["metadata"].get("refund_id")]
            assert sum(created_here) <= PRICE, Violation(DOUBLED, payment.id, str(created_here))

    def teardown(self) -> None:
        if not hasattr(self, "shop"):
            return
        self.recover()
        for payment in self.shop.payments:
            violations = self.shop.find_violations(payment)
            found = [it for it in violations if not self._is_expected(it, payment)]
            assert not found, (found, self.shop.records(payment.id))
        History.count += 1
        History.refunds += len(self.shop.sandbox.refunds())

    def _is_expected(self, violation: Violation, payment: Payment) -> bool:
        """Accept that purchases don't follow external refunds while an unknown refund waits for a review."""
        records = self.shop.records(payment.id)
        waiting = [record for record in records if record["status"] == "processing" and record["review"]]
        return violation.kind == DISAGREES and bool(waiting)

    def recover(self) -> None:
        """Remove all faults, deliver all events and reconcile once."""
        self.shop.clear_faults()
        self.shop.advance(LEASE_EXPIRED_SECONDS)
        self._deliver_all()
        self.shop.reconcile()
        if self.shop.db.flask_refunds.count_documents({"status": "processing", "review": None}):
            # Stripe repeats a stored 500 as long as it knows the key.
            self.shop.advance(24 * 3600)
            self._deliver_all()
            self.shop.reconcile()

    def _deliver_all(self) -> None:
        for event in self.shop.sandbox.events:
            response = self.shop.deliver(event)
            assert response.status_code == 200, (event["type"], response.text)


@contextmanager
def without_logging() -> Iterator[None]:
    """Disable logging: the library logs every injected fault."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def run_histories(count: int, seed: int | None, *, shrink: bool = True) -> None:
    """Run this many histories.

    :param seed: ``None`` for the same histories in every run.
    :raises AssertionError: with the shortest history that violates an invariant.
    """
    machine = type("History", (History,), {})
    if seed is not None:
        hypothesis.seed(seed)(machine)
    phases = (Phase.explicit, Phase.generate, *((Phase.shrink,) if shrink else ()))
    profile = settings(
        max_examples=count,
        stateful_step_count=STEPS,
        derandomize=seed is None,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    with ExitStack() as contexts:
        contexts.enter_context(without_logging())
        contexts.enter_context(in_process())
        run_state_machine_as_test(machine, settings=profile)


def _run_in_process(seed: int) -> tuple[int, int, str | None]:
    History.count = History.refunds = 0
    try:
        run_histories(HISTORIES_PER_RUN, seed)
    except Exception as failure:
        notes = "\n".join(getattr(failure, "__notes__", ()))
        return History.count, History.refunds, f"seed {seed}: {traceback.format_exc(limit=-3)}\n{notes}"
    return History.count, History.refunds, None


def run(full: bool) -> Tally:
    """Run 10,000 histories in two processes, or 500, and print each that fails."""
    tally = Tally("histories")
    began = time.monotonic()
    seeds = range((10_000 if full else 500) // HISTORIES_PER_RUN)
    with multiprocessing.get_context("spawn").Pool(min(2, os.cpu_count() or 1)) as pool:
        for histories, refunds, failure in pool.imap_unordered(_run_in_process, seeds):
            tally.histories += histories
            tally.refunds += refunds
            if failure is not None:
                print(failure, flush=True)
                tally.violations.append(Violation("history", "", failure.splitlines()[0]))
    print(f"{tally.histories} histories in {time.monotonic() - began:.0f} s", flush=True)
    return tally

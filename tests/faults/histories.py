"""Long histories of a shop: admins, people, Stripe, time, faults and deaths, in any order.

The real app on mongomock and the sandbox, one call at a time, led by Hypothesis; races are the schedules'
part. Left out, because what follows is the person's own doing: somebody who closes a refund as failed that
Stripe has made, or is yet to make.
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
from tests.faults.histories_shop import ACCIDENTS, Accident, World, call, in_process
from tests.faults.invariants import DISAGREES, DOUBLED, Tally, Violation

CARDS = (
    "4242424242424242",
    "4000000000007726",
    "4000000000005126",
    "4000000000000259",
    "4000000000000002",
)
PERIODS = (61, 2 * 3600, 22 * 3600, 25 * 3600)
STEPS = 30
LEASE_IS_OVER = 300

_numbers = st.integers(0, 99)
_accidents = st.builds(Accident, st.sampled_from(ACCIDENTS), st.integers(0, 11))
_bodies = st.sampled_from(
    (None, {}, {"reason": "duplicate"}, {"reason": "requested_by_customer", "note": "He asked nicely."})
)


class History(RuleBasedStateMachine):
    """One history."""

    count: ClassVar[int] = 0
    refunds: ClassVar[int] = 0

    @initialize(limit=st.sampled_from((False, False, True)), card=st.sampled_from(CARDS))
    def open_the_shop(self, limit: bool, card: str) -> None:
        self.world = World(limit)
        self.world.pay(card, 1)

    # People

    @rule(card=st.sampled_from(CARDS), cart=st.integers(1, 2))
    def buy(self, card: str, cart: int) -> None:
        self.world.pay(card, cart)

    @rule(number=_numbers, body=_bodies)
    def refund(self, number: int, body: dict[str, Any] | None) -> None:
        self._refund(number, body, None)

    @rule(number=_numbers, body=_bodies, accident=_accidents)
    def refund_with_an_accident(self, number: int, body: dict[str, Any] | None, accident: Accident) -> None:
        self._refund(number, body, accident)

    @rule(number=_numbers, amount=st.sampled_from((None, 500)))
    def refund_in_the_dashboard(self, number: int, amount: int | None) -> None:
        paid = self._payment(number)
        try:
            self.world.sandbox.refund_in_dashboard(paid.payment, amount)
        except ApiError:
            return

    @rule(verdict=st.sampled_from(("fail", "dismiss", "retry")))
    def resolve(self, verdict: str) -> None:
        if self.world.is_late:
            return
        desk = self.world.refunds.manual_review
        for row in list(self.world.db.flask_refunds.find({"review": {"$ne": None}})):
            if verdict != "dismiss" and self.world.live_of(row["_id"]):
                continue
            try:
                getattr(desk, verdict)(row["_id"], actor="cli:ann", why="looked at Stripe")
            except (NothingToResolve, RefundsError):
                continue

    # Stripe and time

    @rule(fault=st.sampled_from(sorted(Fault)), times=st.integers(1, 3), creating=st.booleans())
    def inject(self, fault: Fault, times: int, creating: bool) -> None:
        if creating or fault in FORCED_STATUSES:
            self.world.sandbox.inject(fault, times=times)
        else:
            self.world.sandbox.inject(fault, times=times, method="GET", path="/v1/")

    @rule()
    def clear_faults(self) -> None:
        self.world.clear_faults()

    @rule(seconds=st.sampled_from(PERIODS))
    def wait(self, seconds: int) -> None:
        self.world.advance(seconds)

    @precondition(lambda self: self.world.sandbox.refunds())
    @rule(number=_numbers, status=st.sampled_from(("succeeded", "failed", "canceled")))
    def settle(self, number: int, status: str) -> None:
        refunds = self.world.sandbox.refunds()
        refund = refunds[number % len(refunds)]
        if refund["status"] == "succeeded" and status == "canceled":
            return
        try:
            self.world.sandbox.settle(refund["id"], status)
        except ValueError:
            return

    @precondition(lambda self: self.world.sandbox.events)
    @rule(number=_numbers, accident=st.none() | _accidents)
    def deliver(self, number: int, accident: Accident | None) -> None:
        events = self.world.sandbox.events
        with call(accident):
            answer = self.world.deliver(events[number % len(events)])
            assert answer.status_code in (200, 409, 500, 503), answer.text

    @rule(accident=st.none() | _accidents)
    def reconcile(self, accident: Accident | None) -> None:
        with call(accident):
            try:
                self.world.reconcile()
            except RefundsError:
                assert accident is not None

    # What must be so

    def _payment(self, number: int) -> Any:
        return self.world.paid[number % len(self.world.paid)]

    def _refund(self, number: int, body: dict[str, Any] | None, accident: Accident | None) -> None:
        paid = self._payment(number)
        with call(accident):
            answer = self.world.refund(paid.purchases[number % len(paid.purchases)], body)
            assert answer.content_type == "application/json", answer.text
            untrue = self._is_untrue(answer.status_code, answer.get_json())
            assert not untrue, f"{untrue}: {answer.status_code} {answer.text}"

    def _is_untrue(self, status: int, body: dict[str, Any]) -> str | None:
        """What is wrong with an answer."""
        if status not in (200, 202, 400, 409, 500, 503):
            return "no answer of the contract"
        if status >= 400 and not {"error", "code"} <= set(body):
            return "an error without words"
        refund = body.get("refund")
        live = [it["status"] for it in self.world.live_of(refund["id"])] if refund else []
        if status == 200 and (live != ["succeeded"] or body["purchase"]["status"] != "refunded"):
            return f"it is {live}"
        if refund and status == 202 and refund["status"] != "processing" and not refund["stripeRefundId"]:
            return "Stripe never said so"
        failed = body.get("code") in ("refund_failed", "stripe_rate_limited", "stripe_key_rejected")
        if failed and live:
            return f"it did not fail, it is {live}"
        return None

    @invariant()
    def no_payment_is_refunded_twice(self) -> None:
        for paid in self.world.paid:
            ours = [it for it in self.world.live(paid.payment) if it["metadata"].get("refund_id")]
            assert len(ours) < 2, Violation(DOUBLED, paid.payment, str(ours))

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.put_right()
        for paid in self.world.paid:
            found = [it for it in self.world.violations(paid) if not self._is_known(it, paid.payment)]
            assert not found, (found, self.world.rows(paid.payment))
        History.count += 1
        History.refunds += len(self.world.sandbox.refunds())

    def _is_known(self, violation: Violation, payment: str) -> bool:
        """While one of our refunds waits for a person, the purchases do not follow the Dashboard's."""
        waiting = [row for row in self.world.rows(payment) if row["status"] == "processing" and row["review"]]
        return violation.kind == DISAGREES and bool(waiting)

    def put_right(self) -> None:
        """Everybody is well again; Stripe delivers all it has to say, and one reconcile runs."""
        self.world.clear_faults()
        self.world.advance(LEASE_IS_OVER)
        self._deliver_all()
        self.world.reconcile()
        if self.world.db.flask_refunds.count_documents({"status": "processing", "review": None}):
            # Stripe replays a stored 500 for as long as it knows the key.
            self.world.advance(24 * 3600)
            self._deliver_all()
            self.world.reconcile()

    def _deliver_all(self) -> None:
        for event in self.world.sandbox.events:
            answer = self.world.deliver(event)
            assert answer.status_code == 200, (event["type"], answer.text)


@contextmanager
def quiet() -> Iterator[None]:
    """The library's warnings of faults that are meant."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def profile(examples: int, *, seed: int | None, shrink: bool = True) -> settings:
    """How Hypothesis works.

    :param seed: ``None`` for the same histories at each run.
    """
    phases = (Phase.explicit, Phase.generate, *((Phase.shrink,) if shrink else ()))
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        derandomize=seed is None,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )


def play(examples: int, seed: int | None, *, shrink: bool = True) -> None:
    """Play so many histories.

    :raises AssertionError: with the shortest history that broke the promise.
    """
    machine = type("History", (History,), {})
    if seed is not None:
        hypothesis.seed(seed)(machine)
    with ExitStack() as around:
        around.enter_context(quiet())
        around.enter_context(in_process())
        run_state_machine_as_test(machine, settings=profile(examples, seed=seed, shrink=shrink))


CHUNK = 250


def _play_apart(seed: int) -> tuple[int, int, str | None]:
    History.count = History.refunds = 0
    try:
        play(CHUNK, seed)
    except Exception as failure:
        notes = "\n".join(getattr(failure, "__notes__", ()))
        return History.count, History.refunds, f"seed {seed}: {traceback.format_exc(limit=-3)}\n{notes}"
    return History.count, History.refunds, None


def run(full: bool) -> Tally:
    """10,000 histories on two processes, or a few; each that fails is printed."""
    tally = Tally("histories")
    began = time.monotonic()
    seeds = range((10_000 if full else 500) // CHUNK)
    with multiprocessing.get_context("spawn").Pool(min(2, os.cpu_count() or 1)) as pool:
        for histories, refunds, failure in pool.imap_unordered(_play_apart, seeds):
            tally.histories += histories
            tally.refunds += refunds
            if failure is not None:
                print(failure, flush=True)
                tally.violations.append(Violation("history", "", failure.splitlines()[0]))
    print(f"{tally.histories} histories in {time.monotonic() - began:.0f} s", flush=True)
    return tally

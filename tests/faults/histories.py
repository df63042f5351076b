"""Random histories of a shop: people, the app, Stripe, machines and time, in any order.

Hypothesis searches for a history that breaks a promise of :mod:`tests.faults.oracle`, and shrinks it. A
history runs one call at a time, on mongomock or on a real MongoDB. Concurrency is tested in
:mod:`tests.faults.schedules`. One case is excluded: a person marks a refund as failed that Stripe has made or
will make.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, ClassVar

import hypothesis
import pymongo
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

from flask_refunds.testing import ApiError, Fault
from flask_refunds.testing.api_versions import API_VERSION, LAST_WITH_RELEASES
from flask_refunds.testing.faults import FORCED_STATUSES
from tests.faults import oracle
from tests.faults.environments import STANDALONE, start_servers
from tests.faults.in_process import FAILURES, CallFailure, in_process
from tests.faults.invariants import Tally, Violation
from tests.faults.world import REFUSALS, World

CARDS = ("4242424242424242", "4000000000007726", "4000000000005126", "4000000000000259", "4000000000000002")
WAIT_SECONDS = (61, 2 * 3600, 22 * 3600, 25 * 3600, 8 * 24 * 3600)
AMOUNTS = (700, 1999, 50_00)
FAILURE_REASONS = ("expired_or_canceled_card", "insufficient_funds", "unknown")
API_VERSIONS = (API_VERSION, LAST_WITH_RELEASES)
STEPS = 30
LEASE_EXPIRED_SECONDS = 400
DAY = 24 * 3600
LONGEST_HISTORY = 50 * DAY
"""A full sweep reads the last 60 days."""
HISTORIES_PER_RUN = 250

_indexes = st.integers(0, 99)
_failures = st.none() | st.builds(CallFailure, st.sampled_from(FAILURES), st.integers(0, 14))
_bodies = st.sampled_from(
    (None, {}, {"reason": "duplicate"}, {"reason": "requested_by_customer", "note": "$5 back, as agreed."})
)
_processes = st.sampled_from(("web", "web", "worker"))


class History(RuleBasedStateMachine):
    """One history."""

    count: ClassVar[int] = 0
    refunds: ClassVar[int] = 0
    database: ClassVar[Callable[[], Any]] = staticmethod(lambda: None)
    traces: ClassVar[list[list[Any]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.trace: list[Any] = []

    @initialize(
        limit=st.booleans(),
        webhooks=st.booleans(),
        card=st.sampled_from(CARDS),
        version=st.sampled_from(API_VERSIONS),
    )
    def open_shop(self, limit: bool, webhooks: bool, card: str, version: str) -> None:
        self.world = World(limit=limit, webhooks=webhooks, api_version=version, database=self.database())
        self.world.pay(1999, 1, card=card)

    # The app

    @rule(amount=st.sampled_from(AMOUNTS), card=st.sampled_from(CARDS), cart=st.integers(1, 3))
    def buy(self, amount: int, card: str, cart: int) -> None:
        self.world.pay(amount, cart, card=card)

    @rule(amount=st.sampled_from(AMOUNTS), cart=st.integers(1, 2))
    def authorize(self, amount: int, cart: int) -> None:
        self.world.pay(amount, cart, capture="manual")

    @rule(index=_indexes, status=st.sampled_from(("completed", "pending")))
    def add_purchase(self, index: int, status: str) -> None:
        self.world.add_purchase(self._payment(index), status, later=True)

    @rule(index=_indexes, status=st.sampled_from(("refunded", "completed", "archived")))
    def mark_purchase(self, index: int, status: str) -> None:
        self._with_purchase(index, lambda it: self.world.rename_status(it, status))

    @rule(index=_indexes, other=_indexes)
    def repoint_purchase(self, index: int, other: int) -> None:
        payment = self._payment(other)
        self._with_purchase(index, lambda it: self.world.repoint(it, payment))

    @rule(index=_indexes)
    def delete_purchase(self, index: int) -> None:
        self._with_purchase(index, self.world.delete_purchase)

    @rule(index=_indexes, refusal=st.sampled_from(sorted(REFUSALS)))
    def refuse_updates(self, index: int, refusal: str) -> None:
        self._with_purchase(index, lambda it: self.world.blocked.update({it: refusal}))

    @rule()
    def allow_updates(self) -> None:
        self.world.blocked.clear()

    @rule(receivers=st.sampled_from(("work", "raise", "exit")))
    def change_receivers(self, receivers: str) -> None:
        self.world.receivers = receivers

    # People

    @rule(index=_indexes, body=_bodies, failure=_failures, process=_processes)
    def refund(self, index: int, body: Any, failure: CallFailure | None, process: str) -> None:
        self._with_purchase(index, lambda it: self._refund(it, body, failure, process))

    @rule(index=_indexes, amount=st.sampled_from((None, 500, 1)), status=st.sampled_from((None, "pending")))
    def dashboard_refund(self, index: int, amount: int | None, status: str | None) -> None:
        self._at_stripe(
            lambda: self.world.sandbox.dashboard_refund(self._payment(index), amount, status=status)
        )

    @rule(index=_indexes)
    def edit_metadata_in_dashboard(self, index: int) -> None:
        """Add a note to a refund. The library's own mark stays, because the oracle needs it."""
        self._with_refund(index, lambda it: self._set(it, metadata={**it["metadata"], "checked": "yes"}))

    @rule(decision=st.sampled_from(("fail", "dismiss", "retry")), checks=st.booleans(), failure=_failures)
    def resolve(self, decision: str, checks: bool, failure: CallFailure | None) -> None:
        if self.world.has_delayed_requests:
            return
        for payment in self.world.payments:
            for shown in self.world.list_refunds(payment):
                if shown["review"]:
                    checked = checks and not self._is_live(payment, shown["id"])
                    self.world.resolve(shown["id"], decision, checked=checked, failure=failure)

    def _is_live(self, payment: str, refund_id: str) -> bool:
        """Return whether a person sees this refund in the Dashboard."""
        live = [it for it in self.world.sandbox.refunds(payment) if it["status"] not in oracle.GONE]
        return any((it["metadata"].get("refund_id") or "").startswith(f"{refund_id}:") for it in live)

    # Stripe, banks and time

    @rule(fault=st.sampled_from(sorted(Fault)), times=st.integers(1, 3), creating=st.booleans())
    def inject(self, fault: Fault, times: int, creating: bool) -> None:
        if creating or fault in FORCED_STATUSES:
            self.world.sandbox.inject(fault, times=times)
        else:
            self.world.sandbox.inject(fault, times=times, method="GET", path="/v1/")

    @rule()
    def clear_faults(self) -> None:
        self.world.sandbox.clear_faults()

    @rule(
        index=_indexes,
        amount=st.none() | st.integers(1, 600),
        final=st.booleans(),
        version=st.sampled_from(API_VERSIONS),
    )
    def capture(self, index: int, amount: int | None, final: bool, version: str) -> None:
        payments = self.world.authorized_payments
        if payments:
            payment = payments[index % len(payments)]
            self._at_stripe(lambda: self.world.capture(payment, amount, final=final, api_version=version))

    @rule(index=_indexes, version=st.sampled_from(API_VERSIONS))
    def cancel_authorization(self, index: int, version: str) -> None:
        self._at_stripe(lambda: self.world.cancel_authorization(self._payment(index), api_version=version))

    @rule(
        index=_indexes,
        status=st.sampled_from(("succeeded", "failed", "canceled", "requires_action", "pending")),
        reason=st.sampled_from(FAILURE_REASONS),
    )
    def settle(self, index: int, status: str, reason: str) -> None:
        def change(refund: Any) -> None:
            if refund["status"] == "succeeded" and status == "canceled":
                return
            self._at_stripe(lambda: self.world.sandbox.settle(refund["id"], status, reason))

        self._with_refund(index, change)

    @rule(index=_indexes)
    def run_out_of_balance(self, index: int) -> None:
        def change(refund: Any) -> None:
            if refund["status"] == "pending":
                self._set(refund, pending_reason="insufficient_funds")

        self._with_refund(index, change)

    @rule(index=_indexes, inquiry=st.booleans())
    def dispute(self, index: int, inquiry: bool) -> None:
        self._at_stripe(lambda: self.world.sandbox.dispute(self._payment(index), inquiry=inquiry))

    @rule(index=_indexes, status=st.sampled_from((None, "reversing")))
    def show_unknown_status(self, index: int, status: str | None) -> None:
        def change(refund: Any) -> None:
            if refund["status"] in oracle.KNOWN:
                self.world.unreadable[refund["id"]] = refund["status"]
                self._set(refund, status=status)

        self._with_refund(index, change)

    @rule(index=_indexes)
    def hide(self, index: int) -> None:
        self.world.hidden.add(self._payment(index))
        self.world.sandbox.hide(self._payment(index))

    @rule()
    def unhide(self) -> None:
        self.world.hidden.clear()
        self.world.sandbox.unhide()

    @rule(seconds=st.sampled_from(WAIT_SECONDS))
    def wait(self, seconds: int) -> None:
        if self.waited + seconds < LONGEST_HISTORY:
            self.waited += seconds
            self.world.advance(seconds)

    waited = 0

    @precondition(lambda self: self.world.webhooks and self.world.events())
    @rule(index=_indexes, failure=_failures, thin=st.booleans())
    def deliver(self, index: int, failure: CallFailure | None, thin: bool) -> None:
        events = self.world.events(thin=thin)
        answer = self.world.deliver(events[index % len(events)], failure)
        assert answer is None or answer.status_code in (200, 409, 500, 503), answer.text

    # Machines and operators

    @rule(failure=_failures, process=_processes, full=st.booleans())
    def reconcile(self, failure: CallFailure | None, process: str, full: bool) -> None:
        self.world.reconcile(failure, getattr(self.world, process), full=full)

    @rule()
    def back_up(self) -> None:
        self.world.back_up()

    @precondition(lambda self: self.world.limit and not self.world.hidden | self.world.unreadable.keys())
    @rule()
    def restore(self) -> None:
        """Only if Stripe limits refunds: a record that was lost can't prevent anything."""
        self.world.restore()

    # The promises

    def _payment(self, index: int) -> str:
        return self.world.payments[index % len(self.world.payments)]

    def _with_purchase(self, index: int, action: Callable[[Any], object]) -> None:
        purchases = self.world.purchases
        if purchases:
            action(purchases[index % len(purchases)])

    def _with_refund(self, index: int, action: Callable[[Any], object]) -> None:
        refunds = self.world.refunds
        if refunds:
            action(refunds[index % len(refunds)])

    def _at_stripe(self, action: Callable[[], object]) -> None:
        """Do something that Stripe may refuse."""
        try:
            action()
        except (ApiError, ValueError, LookupError):
            return
        self.world.observe()

    def _set(self, refund: Any, **fields: Any) -> None:
        self._at_stripe(lambda: self.world.sandbox.set_refund(refund["id"], **fields))

    def _refund(self, purchase: Any, body: Any, failure: CallFailure | None, process: str) -> None:
        payment = self.world.payment_of(purchase)
        before = self.world.describe(payment)
        in_order = failure is None and self.world.is_in_order
        answer = self.world.refund(purchase, body, failure, getattr(self.world, process))
        if answer is None:
            return
        after = self.world.describe(payment)
        shown = answer.get_json()
        wrong = list(oracle.answer_is_true(answer.status_code, shown, before, after, in_order=in_order))
        assert not wrong, (wrong, answer.status_code, shown)

    @invariant()
    def promises_hold(self) -> None:
        wrong = self.world.broken_promises(at_the_end=False)
        assert not wrong, wrong
        self.trace.append(self.world.purchase_statuses)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.recover()
        wrong = self.world.broken_promises(at_the_end=True)
        assert not wrong, (wrong, [self.world.list_refunds(it) for it in {kind[1] for kind in wrong}])
        History.count += 1
        History.refunds += len(self.world.refunds)
        self.traces.append([*self.trace, *map(self._outline, self.world.payments)])

    def _outline(self, payment: str) -> list[tuple[Any, ...]]:
        """Return what is listed of a payment's refunds, without IDs, which differ in each run."""
        shown = self.world.list_refunds(payment)
        outlines = [
            (it["status"], it["amount"], it["source"], it["review"] and it["review"]["code"]) for it in shown
        ]
        return sorted(outlines, key=repr)

    def recover(self) -> None:
        """End all faults, deliver what is due, and reconcile until nothing changes."""
        world = self.world
        world.settle_down()
        if world.hidden:
            self._come_to_rest()
            world.advance(DAY)
            self._come_to_rest("unattended")
            self.unhide()
        self._come_to_rest("unattended", "lost", "doubled")
        for refund_id, status in world.unreadable.items():
            if world.sandbox.refund(refund_id)["status"] not in oracle.KNOWN:
                world.sandbox.set_refund(refund_id, status=status)
        world.unreadable.clear()
        world.observe()
        self._come_to_rest("unattended", "lost", "doubled")
        world.blocked.clear()
        self._come_to_rest()
        if any(
            each["status"] == "processing" and not each["review"]
            for payment in world.payments
            for each in world.list_refunds(payment)
        ):
            world.advance(DAY)  # Stripe repeats a stored 500 as long as it knows the key
            self._come_to_rest()

    def _come_to_rest(self, *kinds: str) -> None:
        """Reconcile until nothing changes. Promises of these kinds hold already then."""
        self.world.advance(LEASE_EXPIRED_SECONDS)
        if self.world.webhooks:
            for event in self.world.sandbox.events:
                answer = self.world.deliver(event)
                assert answer is not None
                if not (self.world.hidden or self.world.unreadable):
                    assert answer.status_code == 200, (event["type"], answer.text)
        for _ in range(2):
            self.world.reconcile(full=True)
            self.world.advance(61)
        broken = [each for each in self.world.broken_promises(at_the_end=True) if each[0] in kinds]
        assert not broken, broken


@contextmanager
def without_logging() -> Iterator[None]:
    """Disable logging: the library logs every injected fault."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def run_histories(
    count: int, seed: int | None, *, shrink: bool = True, database: Callable[[], Any] = lambda: None
) -> list[list[Any]]:
    """Run this many histories, and return what could be seen in each.

    :param seed: ``None`` for the same histories in every run.
    :param database: returns an empty database for a history, or ``None`` for one of mongomock.
    :raises AssertionError: with the shortest history that breaks a promise.
    """
    machine = type("History", (History,), {"database": staticmethod(database), "traces": []})
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
        report_multiple_bugs=shrink,
    )
    with ExitStack() as contexts:
        contexts.enter_context(without_logging())
        contexts.enter_context(in_process())
        run_state_machine_as_test(machine, settings=profile)
    traces: list[list[Any]] = machine.traces  # type: ignore[attr-defined]
    return traces


def fresh_database(client: Any) -> Any:
    """Return an empty database of a server, and drop the last one of this process."""
    own = f"history_{os.getpid()}_"
    for name in client.list_database_names():
        if name.startswith(own):
            client.drop_database(name)
    return client[f"{own}{uuid.uuid4().hex[:8]}"]


def _run_in_process(seed: int, uri: str | None) -> tuple[int, int, str | None]:
    """Run some histories, and return how many, with how many refunds, and how one fails."""
    History.count = History.refunds = 0
    try:
        if uri is None:
            run_histories(HISTORIES_PER_RUN, seed)
        else:
            with pymongo.MongoClient[Any](uri, tz_aware=True) as client:
                run_histories(HISTORIES_PER_RUN, seed, database=partial(fresh_database, client))
    except Exception as failure:
        notes = "\n".join(getattr(failure, "__notes__", ()))
        return History.count, History.refunds, f"seed {seed}: {traceback.format_exc(limit=-3)}\n{notes}"
    return History.count, History.refunds, None


def _run_all(tally: Tally, runs: Sequence[int], uri: str | None = None) -> Tally:
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(min(2, os.cpu_count() or 1)) as pool:
        for histories, refunds, failure in pool.imap_unordered(partial(_run_in_process, uri=uri), runs):
            tally.histories += histories
            tally.refunds += refunds
            if failure is not None:
                print(failure, flush=True)
                kind = next((each for each in oracle.KINDS if repr(each) in failure), "disagreeing")
                tally.violations.append(Violation(kind, "", failure.splitlines()[0]))
    print(f"{tally.name}: {tally.histories} in {time.monotonic() - began:.0f} s", flush=True)
    return tally


def run(full: bool) -> list[Tally]:
    """Run 20,000 histories in two processes and 1,000 on a real MongoDB, or 500 and none.

    Each that fails is printed in its shortest form.
    """
    tallies = [_run_all(Tally("histories"), range(80 if full else 2))]
    if full:
        with start_servers() as servers:
            uri = servers[STANDALONE].uri
            tallies.append(_run_all(Tally("histories on MongoDB"), range(1000, 1004), uri))
    return tallies

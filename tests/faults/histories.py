"""Random histories of a shop: people, the app, Stripe, machines and time, in any order.

Hypothesis searches for a history that breaks a promise of :mod:`tests.faults.oracle`, and shrinks it. A
history runs one call at a time, on mongomock or on a real MongoDB. Concurrency is tested in
:mod:`tests.faults.schedules`. One case is excluded: a person marks a refund as failed that Stripe has made or
will make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from flask_refunds.testing import ApiError, Fault
from flask_refunds.testing.api_versions import API_VERSION, LAST_WITH_RELEASES
from flask_refunds.testing.faults import FORCED_STATUSES
from tests.faults import oracle
from tests.faults.in_process import FAILURES, SUSPENDED, CallFailure, clock, show_dates
from tests.faults.world import OTHERS, RECEIVERS, REFUSALS, World

PENDING_CARD = "4000000000007726"
CARDS = ("4242424242424242", PENDING_CARD, "4000000000005126", "4000000000000259", "4000000000000002")
WAIT_SECONDS = (61, 2 * 3600, 22 * 3600, 25 * 3600, 8 * 24 * 3600)
AMOUNTS = (700, 1999, 50_00)
BULK_RUNS = ("recall", "closing-sale")
FAILURE_REASONS = ("expired_or_canceled_card", "insufficient_funds", "unknown")
PASTS = ("nothing", "returned", "unknown", "refused", "low balance", "too much", "waiting")
CLOCK_ERRORS = (0, -10 * 24 * 3600, -2 * 3600, 3600, 26 * 3600)
API_VERSIONS = (API_VERSION, LAST_WITH_RELEASES)
LEASE_EXPIRED_SECONDS = 400
SETTLING_SECONDS = 3601
"""After this time the sandbox settles a pending refund."""
DAY = 24 * 3600
LONGEST_HISTORY = 50 * DAY
"""A full sweep reads the last 60 days."""

_indexes = st.integers(0, 99)
_failures = st.none() | st.builds(CallFailure, st.sampled_from(FAILURES), st.integers(0, 14))
_failures |= st.builds(CallFailure, st.just(SUSPENDED), st.integers(0, 14), st.sampled_from(sorted(OTHERS)))
_failures_of_passes = _failures | st.builds(
    CallFailure, st.sampled_from((*FAILURES, SUSPENDED)), st.integers(15, 40)
)
"""A pass has more steps, and its sweep comes last."""
_bodies = st.sampled_from(
    (None, {}, {"reason": "duplicate"}, {"reason": "requested_by_customer", "note": "$5 back, as agreed."})
)
_cancel_faults = st.none() | st.sampled_from(sorted(set(Fault) - FORCED_STATUSES))
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
        self._accepted: set[str] = set()
        """The events that the shop has accepted since all faults were over."""

    @initialize(
        limit=st.booleans(),
        webhooks=st.booleans(),
        card=st.sampled_from(CARDS),
        version=st.sampled_from(API_VERSIONS),
        past=st.sampled_from(PASTS),
    )
    def open_shop(self, limit: bool, webhooks: bool, card: str, version: str, past: str = "nothing") -> None:
        """Open a shop.

        :param past: what happened to an earlier refund, so that it needs review or waits for the customer.
        """
        self.world = World(limit=limit, webhooks=webhooks, api_version=version, database=self.database())
        if past != "nothing":
            self.world.pay(1999, 2, card=PENDING_CARD if past == "low balance" else CARDS[0])
            self._have_past(past)
        self.world.pay(1999, 1, card=card)

    def _have_past(self, past: str) -> None:
        if past == "unknown":
            self.inject(fault=Fault.REQUEST_LOST, times=4, creating=True)
        elif past == "waiting":
            self.inject(fault=Fault.REQUIRES_ACTION, times=1, creating=True)
        elif past == "refused":
            self.refuse_updates(index=1, refusal="validator")
        self.refund(0, None, None, "web")
        if past == "unknown":
            self.clear_faults()
            self.wait(WAIT_SECONDS[3])
        elif past == "returned":
            self.settle(index=0, status="failed", reason="unknown")
        elif past == "low balance":
            self.run_out_of_balance(index=0)
        elif past == "too much":
            self.dashboard_refund(index=0, amount=500, status=None)
        self.wait(WAIT_SECONDS[0])
        self.reconcile(failure=None, process="web", full=True)

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

    @rule(receivers=st.sampled_from(RECEIVERS))
    def change_receivers(self, receivers: str) -> None:
        self.world.receivers = receivers

    # People

    @rule(index=_indexes, body=_bodies, failure=_failures, process=_processes)
    def refund(self, index: int, body: Any, failure: CallFailure | None, process: str) -> None:
        self._with_purchase(index, lambda it: self._refund(it, body, failure, process))

    @rule(
        index=_indexes,
        again=st.booleans(),
        numbered=st.booleans(),
        closes=st.booleans(),
        failure=_failures,
        process=_processes,
    )
    def refund_part(
        self, index: int, again: bool, numbered: bool, closes: bool, failure: CallFailure | None, process: str
    ) -> None:
        """Refund a part of a payment, or make the last such call for this purchase again."""

        def act(purchase: Any) -> None:
            call = purchase, self.world.payment_of(purchase)
            body = self.world.wanted.get(call) if again else None
            is_fresh = body is None
            body = body or self.world.want_part(purchase, numbered=numbered, closes=closes)
            if body is not None:
                self.world.wanted[call] = body
                self._refund(purchase, body, failure, process, is_fresh=is_fresh)

        self._with_purchase(index, act)

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
        """Resolve every review. A person who looks at the Dashboard doesn't deny what it shows."""
        if self.world.has_delayed_requests:
            return
        for payment in self.world.payments:
            for shown in self.world.list_refunds(payment):
                is_denied = checks and decision != "dismiss" and self._is_live(payment, shown["id"])
                if shown["review"] and not is_denied:
                    self.world.operators.resolve(shown, decision, checked=checks, failure=failure)

    @rule(index=_indexes, fault=_cancel_faults, failure=_failures, process=_processes)
    def cancel_waiting_refund(
        self, index: int, fault: Fault | None, failure: CallFailure | None, process: str
    ) -> None:
        """Cancel a refund that waits for the customer. If none does, a bank first lets one wait."""
        if not self._listed("requires_action"):
            self.settle(index=index, status="requires_action", reason="unknown")
            self.reconcile(failure=None, process="web", full=False)
        self._cancel(self._listed("requires_action"), index, fault, failure, process)

    @rule(index=_indexes, fault=_cancel_faults, failure=_failures, process=_processes)
    def cancel_any_refund(
        self, index: int, fault: Fault | None, failure: CallFailure | None, process: str
    ) -> None:
        """Try to cancel a refund of any status."""
        self._cancel(self._listed(), index, fault, failure, process)

    def _cancel(
        self,
        shown: Sequence[Mapping[str, Any]],
        index: int,
        fault: Fault | None,
        failure: CallFailure | None,
        process: str,
    ) -> None:
        if not shown:
            return
        world = self.world
        chosen = shown[index % len(shown)]
        injected = fault and world.sandbox.inject(fault, path="/v1/refunds/*/cancel")
        before, in_order = world.describe(chosen["paymentIntent"]), failure is None and world.is_in_order
        answer = world.operators.cancel(chosen, failure, getattr(world, process))
        if injected:
            injected.remove()
        if answer is None:
            return
        after = world.describe(chosen["paymentIntent"])
        if failure is not None and failure.kind == SUSPENDED:
            before = after  # who changed something meanwhile isn't known
        call, shown_answer = world.operators.cancellations[-1], answer.get_json()
        wrong = list(
            oracle.cancellation_is_true(
                call, answer.status_code, shown_answer, before, after, in_order=in_order
            )
        )
        assert not wrong, (wrong, answer.status_code, shown_answer)

    def _listed(self, status: str | None = None) -> list[Mapping[str, Any]]:
        listed = [each for payment in self.world.payments for each in self.world.list_refunds(payment)]
        return [each for each in listed if status in (None, each["status"])]

    def _is_live(self, payment: str, refund_id: str) -> bool:
        return self.world.operators.is_live(payment, refund_id)

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
            known = self.world.unreadable.get(refund["id"], refund["status"])
            if known in oracle.GONE or (known == "succeeded" and status == "canceled"):
                return  # Stripe doesn't document such a change
            self._at_stripe(lambda: self.world.sandbox.settle(refund["id"], status, reason))

        self._with_refund(index, change)

    @rule(index=_indexes)
    def assign_reference(self, index: int) -> None:
        self._with_refund(
            index, lambda refund: self._at_stripe(lambda: self.world.sandbox.assign_reference(refund["id"]))
        )

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
            if refund["status"] in oracle.KNOWN and refund["status"] not in oracle.GONE:
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

    @rule(failure=_failures_of_passes, process=_processes, full=st.booleans())
    def reconcile(self, failure: CallFailure | None, process: str, full: bool) -> None:
        self.world.reconcile(failure, getattr(self.world, process), full=full)

    @rule(shown=st.booleans())
    def show_dates(self, shown: bool) -> None:
        """Let a proxy remove the date of Stripe's answers. MongoDB's clock is right then."""
        if not clock.database_error:
            show_dates(shown)

    @rule(seconds=st.sampled_from(CLOCK_ERRORS))
    def set_database_clock(self, seconds: int) -> None:
        """Let MongoDB's clock be wrong, by more than the moment that a machine uses what it was told."""
        show_dates(True)
        clock.database_error = seconds
        self.world.advance(LEASE_EXPIRED_SECONDS)

    @rule(name=st.sampled_from(BULK_RUNS), process=_processes)
    def plan_bulk(self, name: str, process: str) -> None:
        world, purchases = self.world, self.world.purchases
        in_order, payments = world.is_in_order, self._payments_of(purchases)
        before = [each for payment in payments for each in world.describe(payment).refunds]
        plan = world.operators.plan(name, purchases, getattr(world, process))
        amount = plan.amounts.total() if plan and plan.amounts is not None else None
        planned = [world.describe(payment) for payment in payments]
        wrong = list(oracle.plan_is_true(amount, planned, before, in_order=in_order))
        assert not wrong, (wrong, plan)

    @rule(
        name=st.sampled_from(BULK_RUNS),
        process=_processes,
        failure=_failures_of_passes,
        stop_after=st.none() | st.integers(1, 3),
    )
    def run_bulk(self, name: str, process: str, failure: CallFailure | None, stop_after: int | None) -> None:
        """Refund every purchase, or continue the run of that name."""
        world, purchases = self.world, self.world.purchases
        before = {payment: world.describe(payment) for payment in self._payments_of(purchases)}
        results = world.operators.run(
            name, purchases, getattr(world, process), failure, stop_after=stop_after
        )
        after = {payment: world.describe(payment) for payment in before}
        was_alone = failure is None or failure.kind != SUSPENDED
        wrong = list(oracle.bulk_is_true(results, before if was_alone else after, after))
        assert not wrong, (wrong, results)

    def _payments_of(self, purchases: Sequence[Any]) -> list[str]:
        return sorted({self.world.payment_of(each) for each in purchases})

    @rule()
    def back_up(self) -> None:
        self.world.operators.back_up()

    @precondition(lambda self: self.world.limit and not self.world.hidden | self.world.unreadable.keys())
    @rule(part=st.sampled_from(("ledger", "both")))
    def restore(self, part: str) -> None:
        """Only if Stripe limits refunds: a record that was lost can't prevent anything."""
        self.world.operators.restore(part)

    @rule()
    def restore_purchases(self) -> None:
        self.world.operators.restore("purchases")

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

    def _refund(
        self,
        purchase: Any,
        body: Any,
        failure: CallFailure | None,
        process: str,
        *,
        is_fresh: bool = False,
    ) -> None:
        payment = self.world.payment_of(purchase)
        before = self.world.describe(payment)
        in_order = failure is None and self.world.is_in_order
        was_alone = failure is None or failure.kind != SUSPENDED
        answer = self.world.refund(purchase, body, failure, getattr(self.world, process))
        if answer is None:
            return
        after = self.world.describe(payment)
        shown = answer.get_json()
        if not was_alone:
            before = after  # who made a refund meanwhile isn't known
        amount = (body or {}).get("amount")
        part = next((each for each in after.parts if each.amount == amount), None)
        wrong = list(
            oracle.answer_is_true(
                answer.status_code, shown, before, after, in_order=in_order, part=part, is_fresh=is_fresh
            )
        )
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
        world.advance(SETTLING_SECONDS)
        if world.hidden:
            self._come_to_rest()
            world.advance(DAY)
            self._come_to_rest("unattended")
            self.unhide()
        self._come_to_rest("unattended", "lost", "doubled")
        if world.unreadable:
            for refund_id, status in world.unreadable.items():
                if world.sandbox.refund(refund_id)["status"] not in oracle.KNOWN:
                    world.sandbox.set_refund(refund_id, status=status)
            world.unreadable.clear()
            world.observe()
            self._come_to_rest("unattended", "lost", "doubled")
        if world.blocked:
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
            self._deliver_rest()
        for _ in range(2):
            self.world.reconcile(full=True)
            self.world.advance(61)
        if kinds:
            broken = self.world.broken_promises(at_the_end=True)
            assert not [each for each in broken if each[0] in kinds], broken

    def _deliver_rest(self) -> None:
        """Deliver every event until the shop accepts it. It may have accepted it before."""
        for event in self.world.sandbox.events:
            if event["id"] in self._accepted:
                continue
            answer = self.world.deliver(event)
            assert answer is not None
            if answer.status_code == 200:
                self._accepted.add(event["id"])
            elif not (self.world.hidden or self.world.unreadable):
                raise AssertionError((event["type"], answer.text))

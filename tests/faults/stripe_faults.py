"""Every request to Stripe of every action suffers everything that a request can suffer.

The requests are not listed here: a run without a fault finds them. Each fault hits one request only, or that
one and all that follow until the call is over.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from flask_refunds.testing import Fault, Injected
from tests.faults.environments import (
    REPLICA_SET,
    STANDALONE,
    Clock,
    Room,
    Rooms,
    progress,
    quick_retries,
    two_servers,
)
from tests.faults.invariants import DOUBLED, UNKNOWN, Tally, Violation
from tests.faults.mutations import without
from tests.faults.recovery import call_again, end
from tests.faults.response_checks import Witness
from tests.faults.scenarios import SCENARIOS, Action, Answer, Scenario, perform
from tests.faults.sharing import share_out
from tests.mongod import Mongod
from tests.shop import Shop

SEEDS = 3
WORKERS = 4
IMPATIENCE = 0.3
"""Seconds until an answer counts as missing."""

CALL_SECONDS = 20.0
"""Every call must be answered within this, whatever Stripe does."""

TOO_OLD = timedelta(hours=23)
_STORED = (Fault.ERROR_500, Fault.ERROR_500_AFTER)
_ONLY_OF_REFUNDS = (Fault.PENDING, Fault.REQUIRES_ACTION, Fault.FAILED, Fault.CANCELED)


@dataclass(frozen=True)
class Plan:
    """One scenario, with one seed, and faults at each of its requests.

    :param lasting: whether a fault hits one request only, or that one and all that follow; or each in turn.
    :param broken: the guard that is taken away, or ``None``.
    """

    scenario: Scenario
    seed: int
    faults: Collection[Fault] = tuple(Fault)
    lasting: Collection[bool] = (False, True)
    broken: str | None = None


@dataclass(frozen=True)
class Blow:
    """A fault at the request of this index; ``lasting``: and at all that follow in this call."""

    fault: Fault
    index: int
    lasting: bool


FEW = (
    "refund: fresh",
    "refund: resumed, was made",
    "refund: made in the Dashboard",
    "webhook: Dashboard, charge.refunded",
)
"""What the test suite is content with: the first in every way, the others with single faults only."""


def run(full: bool) -> Tally:
    """Every fault at every request of every scenario; or :func:`few`."""
    plans = every_fault(SCENARIOS, range(SEEDS)) if full else few()
    with two_servers() as servers:
        return carry_out(servers, plans)


def few() -> list[Plan]:
    """What the test suite is content with."""
    plans = every_fault(FEW, range(1))
    return [plans[0], *(replace(plan, lasting=(False,)) for plan in plans[1:])]


def every_fault(names: Iterable[str], seeds: range) -> list[Plan]:
    """Every fault in these scenarios."""
    return [Plan(SCENARIOS[name], seed, list(Fault)) for name in names for seed in seeds]


def carry_out(servers: Mapping[str, Mongod], plans: Sequence[Plan]) -> Tally:
    """Carry out plans on several threads."""
    tally = Tally("Stripe's faults")
    counting = threading.Lock()

    def carry_out_one(worker: Worker, plan: Plan) -> None:
        for refunds, found in worker.carry_out(plan):
            with counting:
                tally.add(refunds, found)
        progress(f"Stripe's faults: {plan.scenario.name}, seed {plan.seed}")

    with quick_retries():
        share_out(plans, WORKERS, lambda: Worker(servers), carry_out_one)
    return tally


class Worker:
    """Rooms, and in each a shop that does not wait for Stripe as long as others do."""

    def __init__(self, servers: Mapping[str, Mongod]) -> None:
        self._rooms = Rooms(servers)
        self._impatient: dict[Room, Shop] = {}

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._rooms.__exit__(*exc)

    def carry_out(self, plan: Plan) -> Iterator[tuple[int, list[Violation]]]:
        """Run the plan without a fault, and then with each at each of the requests that it had."""
        methods, refunds, found = self.run(plan, None)
        yield refunds, found
        for blow in _blows(methods, plan):
            _, refunds, found = self.run(plan, blow)
            yield refunds, found

    def run(self, plan: Plan, blow: Blow | None) -> tuple[list[str], int, list[Violation]]:
        """One history.

        :return: the methods of the action's requests, the refunds at Stripe, and what is wrong.
        """
        rng = random.Random(f"{plan.scenario.name} {plan.seed}")
        room = self._rooms.get(rng.choice((STANDALONE, REPLICA_SET)), strict=plan.scenario.strict)
        action = plan.scenario.prepare(room, rng)
        with without(plan.broken):
            methods, found = self._suffer(room, plan.scenario, action, rng, blow)
        where = f"{plan.scenario.name}, seed {plan.seed}, {blow}"
        refunds = len(room.sandbox.refunds(room.payment))
        return methods, refunds, [replace(each, what=f"{each.what} [{where}]") for each in found]

    def _suffer(
        self, room: Room, scenario: Scenario, action: Action, rng: random.Random, blow: Blow | None
    ) -> tuple[list[str], list[Violation]]:
        witness, asked = Witness(room, action), len(room.sandbox.requests)
        injected = _inject(room, blow) if blow else None
        answer = self._call(room, action)
        methods = [request.method for request in room.sandbox.requests[asked:]]
        assert injected is None or injected.hits, f"{blow} hit nothing"
        found = witness.false_words(answer)
        if injected is not None and injected.fault is Fault.LATE:
            _execute_after_a_reconcile(room, injected)
        room.sandbox.clear_faults()
        found += end(room, scenario, action, rng, unheard=answer.status != 200)
        if blow and blow.fault in _STORED and {each.kind for each in found} == {UNKNOWN}:
            found = _grow_too_old(room)
        return methods, found

    def _call(self, room: Room, action: Action) -> Answer:
        if room not in self._impatient:
            self._impatient[room] = room.open_shop(Clock(), REFUNDS_STRIPE_TIMEOUT=IMPATIENCE)
        began = time.monotonic()
        answer = perform(self._impatient[room].app, room.headers, action)
        took = time.monotonic() - began
        assert took < CALL_SECONDS, f"it took {took:.1f} s"
        return answer


def _blows(methods: Sequence[str], plan: Plan) -> Iterator[Blow]:
    for index, method in enumerate(methods):
        for fault in plan.faults:
            if method == "POST" or fault not in _ONLY_OF_REFUNDS:
                yield from (Blow(fault, index, lasting) for lasting in plan.lasting)


def _inject(room: Room, blow: Blow) -> Injected:
    times = None if blow.lasting else 1
    return room.sandbox.inject(blow.fault, method="*", path="/v1/", times=times, after=blow.index)


def _execute_after_a_reconcile(room: Room, injected: Injected) -> None:
    """Stripe is so late that somebody else has asked again meanwhile."""
    injected.times = 0  # what is held stays held, and nothing more is
    room.reconcile()
    room.sandbox.release()


def _grow_too_old(room: Room) -> list[Violation]:
    """Stripe replays a stored 500 as long as it knows the key, so the row waits; then a person must decide.

    Nobody may send it again: neither while Stripe still knows the key, nor when it has forgotten it.
    """
    made = len(room.sandbox.refunds(room.payment))
    found = []
    for hours in (TOO_OLD, timedelta(hours=2)):
        room.clock.ahead += hours
        room.sandbox.advance(hours.total_seconds())
        room.reconcile()
        found += room.violations() + call_again(room)
    if len(room.sandbox.refunds(room.payment)) != made:
        found.append(Violation(DOUBLED, room.payment, "it was sent again after 23 hours"))
    return found

"""Apply every fault of the sandbox to every request to Stripe of every action.

The requests aren't listed here: a run without a fault finds them. Each fault affects one request, or that one
and all later ones until the call ends.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from flask_refunds.testing import Fault, Injected
from tests.faults.environments import (
    REPLICA_SET,
    STANDALONE,
    Clock,
    Environment,
    EnvironmentPool,
    no_retry_pause,
    print_progress,
    start_servers,
)
from tests.faults.invariants import DOUBLED, UNKNOWN, Tally, Violation
from tests.faults.mutations import apply_mutation
from tests.faults.recovery import recover, refund_again
from tests.faults.response_checks import ResponseChecker
from tests.faults.scenarios import SCENARIOS, Action, Scenario, perform_in_time
from tests.faults.threads import run_in_threads
from tests.mongod import Mongod
from tests.shop import Shop

SEEDS = 3
WORKERS = 4
STRIPE_TIMEOUT = 0.3
"""Seconds until an answer counts as missing."""

RESEND_LIMIT = timedelta(hours=23)
_STORED = (Fault.SERVER_ERROR_BEFORE, Fault.SERVER_ERROR_AFTER)
_ONLY_OF_REFUNDS = (Fault.PENDING, Fault.REQUIRES_ACTION, Fault.FAILED, Fault.CANCELED)


@dataclass(frozen=True)
class Plan:
    """One scenario with one seed, and faults at each of its requests.

    :param lasting: whether a fault affects one request, or that one and all later ones; or each in turn.
    :param mutation: the active mutation, or ``None``.
    """

    scenario: Scenario
    seed: int
    faults: Collection[Fault] = tuple(Fault)
    lasting: Collection[bool] = (False, True)
    mutation: str | None = None


@dataclass(frozen=True)
class FaultAt:
    """A fault at the request with this index. With ``lasting``, also at all later ones of the call."""

    fault: Fault
    index: int
    lasting: bool


QUICK = (
    "refund: first",
    "refund: resumed, was made",
    "refund: made in the Dashboard",
    "refund: the last part",
    "webhook: Dashboard, charge.refunded",
)


def run(full: bool) -> Tally:
    """Apply every fault to every request of every scenario, or run :func:`quick_plans`."""
    plans = plan_all(SCENARIOS, range(SEEDS)) if full else quick_plans()
    with start_servers() as servers:
        return run_plans(servers, plans)


def quick_plans() -> list[Plan]:
    """Return the plans that the test suite runs: the first scenario completely, others with single faults."""
    plans = plan_all(QUICK, range(1))
    return [plans[0], *(replace(plan, lasting=(False,)) for plan in plans[1:])]


def plan_all(names: Iterable[str], seeds: range) -> list[Plan]:
    """Return plans with every fault for these scenarios."""
    return [Plan(SCENARIOS[name], seed) for name in names for seed in seeds]


def run_plans(servers: Mapping[str, Mongod], plans: Sequence[Plan]) -> Tally:
    """Run plans in several threads."""
    tally = Tally("Stripe's faults")

    def run_plan(worker: Worker, plan: Plan) -> None:
        for refunds, found in worker.run_plan(plan):
            tally.add(refunds, found)
        print_progress(f"Stripe's faults: {plan.scenario.name}, seed {plan.seed}")

    with no_retry_pause():
        run_in_threads(plans, WORKERS, lambda: Worker(servers), run_plan)
    return tally


class Worker(EnvironmentPool):
    """Environments, each with a further shop whose timeout for Stripe is short."""

    def __init__(self, servers: Mapping[str, Mongod]) -> None:
        super().__init__(servers)
        self._shops: dict[Environment, Shop] = {}

    def run_plan(self, plan: Plan) -> Iterator[tuple[int, list[Violation]]]:
        """Run the plan without a fault, and then with each fault at each of its requests."""
        methods, refunds, found = self.run(plan, None)
        yield refunds, found
        for fault_at in _all_faults(methods, plan):
            _, refunds, found = self.run(plan, fault_at)
            yield refunds, found

    def run(self, plan: Plan, fault_at: FaultAt | None) -> tuple[list[str], int, list[Violation]]:
        """Run one history.

        :return: the methods of the action's requests, the number of refunds at Stripe, and the violations.
        """
        rng = random.Random(f"{plan.scenario.name} {plan.seed}")
        server = rng.choice((STANDALONE, REPLICA_SET))
        environment = self.get(server, strict=plan.scenario.strict)
        action = plan.scenario.prepare(environment, rng)
        with apply_mutation(plan.mutation):
            methods, found = self._act(environment, plan.scenario, action, rng, fault_at)
        where = f"{plan.scenario.name}, seed {plan.seed}, {fault_at}"
        refunds = len(environment.refunds())
        return methods, refunds, [each.at(where) for each in found]

    def _act(
        self,
        environment: Environment,
        scenario: Scenario,
        action: Action,
        rng: random.Random,
        fault_at: FaultAt | None,
    ) -> tuple[list[str], list[Violation]]:
        checker, requests_before = ResponseChecker(environment, action), len(environment.sandbox.requests)
        injected = _inject(environment, fault_at) if fault_at else None
        shop = self._shop(environment) if fault_at else environment.shop
        response = perform_in_time(shop.app, environment.headers, action)
        methods = [request.method for request in environment.sandbox.requests[requests_before:]]
        assert injected is None or injected.hits, f"{fault_at} affected no request"
        found = checker.find_violations(response)
        if injected is not None and injected.fault is Fault.LATE:
            _execute_after_reconcile(environment, injected)
        environment.sandbox.clear_faults()
        found += recover(environment, scenario, action, rng, undelivered=response.status != 200)
        if fault_at and fault_at.fault in _STORED and {each.kind for each in found} == {UNKNOWN}:
            found = _pass_resend_limit(environment)
        return methods, found

    def _shop(self, environment: Environment) -> Shop:
        """Return a shop that waits a short time. Without a fault, a slow answer mustn't count as missing."""
        if environment not in self._shops:
            self._shops[environment] = environment.open_shop(Clock(), REFUNDS_STRIPE_TIMEOUT=STRIPE_TIMEOUT)
        return self._shops[environment]


def _all_faults(methods: Sequence[str], plan: Plan) -> Iterator[FaultAt]:
    for index, method in enumerate(methods):
        for fault in plan.faults:
            if method == "POST" or fault not in _ONLY_OF_REFUNDS:
                yield from (FaultAt(fault, index, lasting) for lasting in plan.lasting)


def _inject(environment: Environment, fault_at: FaultAt) -> Injected:
    times = None if fault_at.lasting else 1
    return environment.sandbox.inject(
        fault_at.fault, method="*", path="/v1/", times=times, after=fault_at.index
    )


def _execute_after_reconcile(environment: Environment, injected: Injected) -> None:
    """Let Stripe execute a delayed request only after reconcile has sent another one."""
    injected.times = 0  # requests that are already delayed remain so
    environment.reconcile()
    environment.sandbox.release()


def _pass_resend_limit(environment: Environment) -> list[Violation]:
    """Advance the clocks past the time in which Stripe repeats a stored 500. Then a review is required.

    The request must not be sent again, neither while Stripe still knows the key nor afterwards.
    """
    made = len(environment.refunds())
    found = []
    for hours in (RESEND_LIMIT, timedelta(hours=2)):
        environment.clock.ahead += hours
        environment.sandbox.advance(hours.total_seconds())
        environment.reconcile()
        found += environment.find_violations() + refund_again(environment)
    if len(environment.refunds()) != made:
        found.append(Violation(DOUBLED, environment.payment, "the request was sent again after 23 hours"))
    return found

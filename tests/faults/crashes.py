"""Kill a process at every step of every action, one step at a time, and then reconcile once.

The steps aren't listed here: a run without a kill finds them. A history is one scenario, one seed and one
step, and :func:`replay` repeats it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.faults.environments import (
    REPLICA_SET,
    STANDALONE,
    Environment,
    EnvironmentPool,
    no_retry_pause,
    print_progress,
    start_servers,
)
from tests.faults.invariants import Tally, Violation
from tests.faults.mutations import apply_mutation
from tests.faults.prefork_runner import ChildResult, PreforkRunner
from tests.faults.recovery import recover
from tests.faults.response_checks import ResponseChecker
from tests.faults.scenarios import SCENARIOS, Action, Scenario
from tests.faults.threads import run_in_threads
from tests.mongod import Mongod

SEEDS = 20
WORKERS = 2


@dataclass(frozen=True)
class Plan:
    """One scenario with one seed, to be killed at every step.

    :param thorough: whether to kill it before and after each step, or to leave some out.
    :param mutation: the active mutation, or ``None``.
    """

    scenario: Scenario
    seed: int
    thorough: bool = False
    mutation: str | None = None


def run(full: bool) -> list[Tally]:
    """Kill every scenario at every step, with 20 seeds or with one."""
    with start_servers() as servers:
        return run_seeds(servers, range(SEEDS if full else 1), thorough=full)


def run_seeds(servers: Mapping[str, Mongod], seeds: Iterable[int], *, thorough: bool = False) -> list[Tally]:
    """Kill every scenario at every step, with these seeds, and return a tally for each kind of action."""
    plans = [Plan(scenario, seed, thorough) for seed in seeds for scenario in SCENARIOS.values()]
    tallies = {plan.scenario.kind: Tally(f"crash in a {plan.scenario.kind}") for plan in plans}

    def run_plan(worker: Worker, plan: Plan) -> None:
        for refunds, found in worker.run_plan(plan):
            tallies[plan.scenario.kind].add(refunds, found)
        print_progress(f"crashes: {plan.scenario.name}, seed {plan.seed}")

    with no_retry_pause():
        run_in_threads(plans, WORKERS, lambda: Worker(servers), run_plan)
    return list(tallies.values())


class Worker(EnvironmentPool):
    """A prefork runner, and the environments in which its children act."""

    def __init__(self, servers: Mapping[str, Mongod]) -> None:
        super().__init__(servers)
        self._runner = self.enter_context(PreforkRunner())

    def run_plan(self, plan: Plan) -> Iterable[tuple[int, list[Violation]]]:
        """Run the plan without a kill, and then with a kill at each of its steps."""
        steps, refunds, found = self.run(plan, 0)
        yield refunds, found
        for number, step in enumerate(steps, 1):
            if not plan.thorough and _is_left_out(plan.scenario, steps, number):
                continue
            _, refunds, found = self.run(plan, number)
            yield refunds, [each.at(f"killed {step}") for each in found]

    def run(self, plan: Plan, kill_at: int) -> tuple[list[str], int, list[Violation]]:
        """Run one history.

        :return: the steps (empty if killed), the number of refunds at Stripe, and the violations.
        """
        rng = random.Random(f"{plan.scenario.name} {plan.seed}")
        server = rng.choice((STANDALONE, REPLICA_SET))
        environment = self.get(server, strict=plan.scenario.strict)
        action = plan.scenario.prepare(environment, rng)
        checker = ResponseChecker(environment, action)
        result = self._act(environment, action, kill_at, plan.mutation)
        found = checker.find_violations(result.response) if result.response else []
        environment.sandbox.clear_faults()
        with apply_mutation(plan.mutation):
            found += recover(environment, plan.scenario, action, rng, undelivered=result.killed)
        where = f"{plan.scenario.name}, seed {plan.seed}, step {kill_at}"
        refunds = len(environment.refunds())
        return result.steps, refunds, [each.at(where) for each in found]

    def _act(
        self, environment: Environment, action: Action, kill_at: int, mutation: str | None
    ) -> ChildResult:
        result = self._runner.run(
            {
                "uri": environment.uri,
                "stripe": environment.sandbox.url,
                "headers": environment.headers,
                "action": action,
                "kill_at": kill_at,
                "mutation": mutation,
            }
        )
        assert result.killed is (kill_at > 0), f"step {kill_at} was not reached: {result}"
        return result


def _is_left_out(scenario: Scenario, steps: Sequence[str], number: int) -> bool:
    """Return whether a shorter run leaves out this step.

    A kill after a step leaves what a kill before the next one leaves. A sweep reads one page after the other,
    and :mod:`tests.faults.sweeps` ends it at every step.
    """
    is_repeated = steps[number - 1].startswith("after") and number < len(steps)
    return is_repeated or (scenario.kind == "sweep" and number % 3 != 1)


def replay(scenario: str, seed: int, kill_at: int) -> list[Violation]:
    """Repeat one history, whose scenario, seed and step a violation's message names."""
    with start_servers() as servers, no_retry_pause(), Worker(servers) as worker:
        _, _, found = worker.run(Plan(SCENARIOS[scenario], seed), kill_at)
        return found

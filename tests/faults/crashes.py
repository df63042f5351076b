"""A process is killed at every step of every action, one after the other; then reconcile runs once.

The steps are not listed here: a run without a kill finds them. A history is one scenario, one seed and one
step; :func:`replay` runs any of them again.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.faults.environments import (
    REPLICA_SET,
    STANDALONE,
    Room,
    Rooms,
    progress,
    quick_retries,
    two_servers,
)
from tests.faults.invariants import Tally, Violation
from tests.faults.mutations import without
from tests.faults.prefork_runner import Result, Zygote
from tests.faults.recovery import end
from tests.faults.response_checks import Witness
from tests.faults.scenarios import SCENARIOS, Action, Scenario
from tests.faults.sharing import share_out
from tests.mongod import Mongod

SEEDS = 20
WORKERS = 2


@dataclass(frozen=True)
class Plan:
    """One scenario, with one seed, killed at every step.

    :param broken: the guard that is taken away, or ``None``.
    """

    scenario: Scenario
    seed: int
    broken: str | None = None


def run(full: bool) -> list[Tally]:
    """Every scenario killed at every step: with 20 seeds, or with one."""
    with two_servers() as servers:
        return experiment(servers, range(SEEDS if full else 1))


def experiment(servers: Mapping[str, Mongod], seeds: Iterable[int]) -> list[Tally]:
    """Every scenario killed at every step, with these seeds."""
    return carry_out(servers, [Plan(each, seed) for seed in seeds for each in SCENARIOS.values()])


def carry_out(servers: Mapping[str, Mongod], plans: Sequence[Plan]) -> list[Tally]:
    """Carry out plans on several processes; a tally for each kind of action."""
    tallies = {plan.scenario.kind: Tally(f"crash in a {plan.scenario.kind}") for plan in plans}
    counting = threading.Lock()

    def carry_out_one(worker: Worker, plan: Plan) -> None:
        for refunds, found in worker.carry_out(plan):
            with counting:
                tallies[plan.scenario.kind].add(refunds, found)
        progress(f"crashes: {plan.scenario.name}, seed {plan.seed}")

    with quick_retries():
        share_out(plans, WORKERS, lambda: Worker(servers), carry_out_one)
    return list(tallies.values())


class Worker:
    """A zygote, and the rooms in which its children act."""

    def __init__(self, servers: Mapping[str, Mongod]) -> None:
        self._rooms = Rooms(servers)
        self._zygote = Zygote()

    def __enter__(self) -> Worker:
        self._zygote.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._zygote.__exit__(*exc)
        self._rooms.__exit__(*exc)

    def carry_out(self, plan: Plan) -> Iterable[tuple[int, list[Violation]]]:
        """Run the plan without a kill, and then with one at each of the steps that it had."""
        steps, refunds, found = self.run(plan, 0)
        yield refunds, found
        for number, step in enumerate(steps, 1):
            _, refunds, found = self.run(plan, number)
            yield refunds, [replace(each, what=f"{each.what}, killed {step}") for each in found]

    def run(self, plan: Plan, kill_at: int) -> tuple[list[str], int, list[Violation]]:
        """One history.

        :return: the steps that were passed where nothing was killed, the refunds at Stripe, what is wrong.
        """
        rng = random.Random(f"{plan.scenario.name} {plan.seed}")
        room = self._rooms.get(rng.choice((STANDALONE, REPLICA_SET)), strict=plan.scenario.strict)
        action = plan.scenario.prepare(room, rng)
        witness = Witness(room, action)
        result = self._act(room, action, kill_at, plan.broken)
        found = witness.false_words(result.answer) if result.answer else []
        room.sandbox.clear_faults()
        with without(plan.broken):
            found += end(room, plan.scenario, action, rng, unheard=result.killed)
        where = f"{plan.scenario.name}, seed {plan.seed}, step {kill_at}"
        refunds = len(room.sandbox.refunds(room.payment))
        return result.steps, refunds, [replace(each, what=f"{each.what} [{where}]") for each in found]

    def _act(self, room: Room, action: Action, kill_at: int, guard: str | None) -> Result:
        result = self._zygote.run(
            {
                "uri": room.uri,
                "stripe": room.sandbox.url,
                "headers": room.headers,
                "action": action,
                "kill_at": kill_at,
                "broken": guard,
            }
        )
        assert result.killed is (kill_at > 0), f"step {kill_at} was not reached: {result}"
        return result


def replay(scenario: str, seed: int, kill_at: int) -> list[Violation]:
    """One history again: its name, seed and step are those in a violation's words."""
    with two_servers() as servers, quick_retries(), Worker(servers) as worker:
        _, _, found = worker.run(Plan(SCENARIOS[scenario], seed), kill_at)
        return found

"""Lose or delay every MongoDB command of every action.

The commands aren't listed here: a run through the proxy without a loss finds them. The driver retries writes
on a replica set, but not on a standalone server. A loss affects one attempt of one command, or that one and
all later ones until the call ends.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pymongo
import pymongo.common
from flask import Flask

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
from tests.faults.invariants import Tally, Violation
from tests.faults.mongo_proxy import Interference, Loss, MongoProxy
from tests.faults.mutations import apply_mutation
from tests.faults.recovery import recover
from tests.faults.response_checks import ResponseChecker
from tests.faults.scenarios import SCENARIOS, Action, Scenario, perform_in_time
from tests.faults.threads import run_in_threads
from tests.mongod import Mongod

SEEDS = 3
WORKERS, WAITING_WORKERS = 4, 12
QUICK = (
    "refund: first",
    "refund: resumed, was made",
    "webhook: pending settles",
    "reconcile: unknown outcome",
)


@dataclass(frozen=True)
class Plan:
    """One scenario with one seed on one server.

    :param mutation: the active mutation, or ``None``.
    """

    scenario: Scenario
    seed: int
    server: str
    mutation: str | None = None


@dataclass(frozen=True)
class LossAt:
    """A loss of the command with this index. With ``lasting``, also of all later ones of the call."""

    loss: Loss
    index: int
    lasting: bool


def run(full: bool) -> list[Tally]:
    """Apply every loss to every command of every scenario, or of a few."""
    with start_servers() as servers:
        if full:
            return [lose_messages(servers, SCENARIOS, range(SEEDS)), make_unavailable(servers, SCENARIOS)]
        return [lose_messages(servers, QUICK, range(1)), make_unavailable(servers, QUICK[:1])]


def lose_messages(servers: Mapping[str, Mongod], names: Iterable[str], seeds: range) -> Tally:
    """Lose every command, and then every reply."""
    # After a lost connection the driver checks the server again immediately, not after half a second.
    with mock.patch.object(pymongo.common, "MIN_HEARTBEAT_INTERVAL", 0.01):
        losses = ((Loss.REQUEST, False), (Loss.REPLY, False))
        return run_plans(servers, Tally("MongoDB: a message lost"), _plan(names, seeds), losses, WORKERS)


def make_unavailable(servers: Mapping[str, Mongod], names: Iterable[str]) -> Tally:
    """Make MongoDB unreachable, or slower than the call's timeout, from every command on."""
    losses = ((Loss.REQUEST, True), (Loss.REPLY, True), (Loss.HELD, False), (Loss.HELD, True))
    tally = Tally("MongoDB: gone, or late")
    # Nearly all of the time is spent waiting for the timeout of 2 seconds.
    return run_plans(servers, tally, _plan(names, range(1)), losses, WAITING_WORKERS)


def _plan(names: Iterable[str], seeds: range) -> list[Plan]:
    names = list(names)
    return [
        Plan(SCENARIOS[name], seed, server)
        for seed in seeds
        for name in names
        for server in (STANDALONE, REPLICA_SET)
    ]


def run_plans(
    servers: Mapping[str, Mongod],
    tally: Tally,
    plans: Sequence[Plan],
    losses: Sequence[tuple[Loss, bool]],
    workers: int,
) -> Tally:
    """Run plans in several threads: first without a loss, then with every loss of every command."""
    jobs: list[tuple[Plan, LossAt | None]] = []

    def run_job(worker: Worker, job: tuple[Plan, LossAt | None]) -> None:
        plan, loss_at = job
        names, refunds, found = worker.run(plan, loss_at)
        tally.add(refunds, found)
        if loss_at is None:
            jobs.extend(
                (plan, LossAt(loss, index, lasting))
                for index in range(len(names))
                for loss, lasting in losses
            )
        if tally.histories % 100 == 0:
            print_progress(f"{tally.name}: {tally.histories} histories")

    with no_retry_pause():
        run_in_threads([(plan, None) for plan in plans], workers, lambda: Worker(servers), run_job)
        run_in_threads(jobs, workers, lambda: Worker(servers), run_job)
    return tally


class ProxiedShop:
    """An environment's shop whose connection to MongoDB goes through a proxy."""

    def __init__(self, environment: Environment, server: Mongod) -> None:
        self.proxy = MongoProxy(server.port).__enter__()
        uri = environment.uri.replace(f":{server.port}/", f":{self.proxy.port}/")
        # A driver that polls the server's state can be made to poll again immediately.
        self._client: pymongo.MongoClient[Any] = pymongo.MongoClient(
            uri, tz_aware=True, serverMonitoringMode="poll"
        )
        self._environment = environment

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self.proxy.__exit__()

    def start_call(self, interference: Interference | None) -> Flask:
        """Check that the connection works, and then count the commands of a new process."""
        self.proxy.watch()
        self._client.admin.command("ping")
        app = self._environment.open_shop(Clock(), self._client.get_default_database()).app
        self.proxy.watch(interference)
        return app


class Worker(EnvironmentPool):
    """Environments, each with a proxied shop."""

    def __init__(self, servers: Mapping[str, Mongod]) -> None:
        super().__init__(servers)
        self._shops: dict[Environment, ProxiedShop] = {}

    def run(self, plan: Plan, loss_at: LossAt | None) -> tuple[list[str], int, list[Violation]]:
        """Run one history.

        :return: the names of the action's commands, the number of refunds at Stripe, and the violations.
        """
        rng = random.Random(f"{plan.scenario.name} {plan.seed}")
        environment = self.get(plan.server, strict=plan.scenario.strict)
        action = plan.scenario.prepare(environment, rng)
        with apply_mutation(plan.mutation):
            names, found = self._act(environment, plan, action, rng, loss_at)
        where = f"{plan.scenario.name}, seed {plan.seed}, {plan.server}, {loss_at}"
        refunds = len(environment.refunds())
        return names, refunds, [each.at(where) for each in found]

    def _act(
        self, environment: Environment, plan: Plan, action: Action, rng: random.Random, loss_at: LossAt | None
    ) -> tuple[list[str], list[Violation]]:
        if environment not in self._shops:
            self._shops[environment] = ProxiedShop(environment, self._servers[plan.server])
            self.callback(self._shops[environment].close)
        shop = self._shops[environment]
        interference = Interference(loss_at.loss, loss_at.index, loss_at.lasting) if loss_at else None
        app = shop.start_call(interference)
        checker = ResponseChecker(environment, action)
        response = perform_in_time(app, environment.headers, action)
        names = shop.proxy.names
        shop.proxy.watch()
        assert interference is None or interference.hits, f"{loss_at} affected none of {names}"
        found = checker.find_violations(response)
        shop.proxy.release()
        environment.sandbox.clear_faults()
        undelivered = response.status != 200
        return names, found + recover(environment, plan.scenario, action, rng, undelivered=undelivered)

"""Every command to MongoDB of every action is lost, on its way there or on its way back, or comes late.

The commands are not listed here: a run through the proxy without a loss finds them. On a standalone server
the driver retries no write; on a replica set it does. A loss hits one try of one command, or that one and all
that follow until the call is over.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pymongo
import pymongo.common

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
from tests.faults.invariants import Tally, Violation
from tests.faults.mongo_proxy import Interference, Loss, MongoProxy
from tests.faults.mutations import without
from tests.faults.recovery import end
from tests.faults.response_checks import Witness
from tests.faults.scenarios import SCENARIOS, Action, Answer, Scenario, perform
from tests.faults.sharing import share_out
from tests.mongod import Mongod

SEEDS = 3
WORKERS, WAITING_WORKERS = 4, 12
CALL_SECONDS = 20.0
"""Every call must be answered within this, whatever MongoDB does."""

FEW = ("refund: fresh", "refund: resumed, was made", "webhook: pending settles", "reconcile: unknown row")
"""What the short selection is content with."""


@dataclass(frozen=True)
class Plan:
    """One scenario, with one seed, on one server.

    :param broken: the guard that is taken away, or ``None``.
    """

    scenario: Scenario
    seed: int
    server: str
    broken: str | None = None


@dataclass(frozen=True)
class Blow:
    """A loss of the command of this index; ``lasting``: and of all that follow in this call."""

    loss: Loss
    index: int
    lasting: bool


def run(full: bool) -> list[Tally]:
    """Every loss of every command of every scenario; or of some."""
    with two_servers() as servers:
        if full:
            return [lose(servers, SCENARIOS, range(SEEDS)), retry_while_unavailable(servers, SCENARIOS)]
        return [lose(servers, FEW, range(1)), retry_while_unavailable(servers, FEW[:1])]


def lose(servers: Mapping[str, Mongod], names: Iterable[str], seeds: range) -> Tally:
    """Every command is lost, on its way there and on its way back."""
    with mock.patch.object(pymongo.common, "MIN_HEARTBEAT_INTERVAL", 0.01):
        # After a lost connection the driver looks at the server again at once, rather than in half a second.
        blows = ((Loss.REQUEST, False), (Loss.REPLY, False))
        return carry_out(servers, Tally("MongoDB: a message lost"), _plan(names, seeds), blows, WORKERS)


def retry_while_unavailable(servers: Mapping[str, Mongod], names: Iterable[str]) -> Tally:
    """From every command on, MongoDB is gone, or so slow that the call has long given up."""
    blows = ((Loss.REQUEST, True), (Loss.REPLY, True), (Loss.HELD, False), (Loss.HELD, True))
    # Nearly all of the time is spent waiting for the end of an operation's 2 seconds.
    tally = Tally("MongoDB: gone, or late")
    return carry_out(servers, tally, _plan(names, range(1)), blows, WAITING_WORKERS)


def _plan(names: Iterable[str], seeds: range) -> list[Plan]:
    names = list(names)
    return [
        Plan(SCENARIOS[name], seed, server)
        for seed in seeds
        for name in names
        for server in (STANDALONE, REPLICA_SET)
    ]


def carry_out(
    servers: Mapping[str, Mongod],
    tally: Tally,
    plans: Sequence[Plan],
    blows: Sequence[tuple[Loss, bool]],
    workers: int,
) -> Tally:
    """Carry out plans on several threads: first without a loss, then with every blow at every command."""
    counting = threading.Lock()
    struck: list[tuple[Plan, Blow | None]] = []

    def carry_out_one(worker: Worker, job: tuple[Plan, Blow | None]) -> None:
        plan, blow = job
        names, refunds, found = worker.run(plan, blow)
        with counting:
            tally.add(refunds, found)
            if blow is None:
                struck.extend((plan, Blow(loss, at, on)) for at in range(len(names)) for loss, on in blows)
            if tally.histories % 100 == 0:
                progress(f"{tally.name}: {tally.histories} histories")

    with quick_retries():
        share_out([(plan, None) for plan in plans], workers, lambda: Worker(servers), carry_out_one)
        share_out(struck, workers, lambda: Worker(servers), carry_out_one)
    return tally


class Remote:
    """A room's shop, reached through a proxy."""

    def __init__(self, room: Room, server: Mongod) -> None:
        self.proxy = MongoProxy(server.port).__enter__()
        uri = room.uri.replace(f":{server.port}/", f":{self.proxy.port}/")
        # Where the driver polls the server's state, it can be told to look again at once.
        self._client: pymongo.MongoClient[Any] = pymongo.MongoClient(
            uri, tz_aware=True, serverMonitoringMode="poll"
        )
        self.app = room.open_shop(Clock(), self._client.get_default_database()).app

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        self.proxy.__exit__()

    def watch(self, interference: Interference | None) -> None:
        """Begin a call on a connection that works."""
        self.proxy.watch()
        self._client.admin.command("ping")
        self.proxy.watch(interference)


class Worker:
    """Rooms, each with a proxy."""

    def __init__(self, servers: Mapping[str, Mongod]) -> None:
        self._servers = servers
        self._rooms = Rooms(servers)
        self._remotes: dict[Room, Remote] = {}

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        for remote in self._remotes.values():
            remote.close()
        self._rooms.__exit__(*exc)

    def run(self, plan: Plan, blow: Blow | None) -> tuple[list[str], int, list[Violation]]:
        """One history.

        :return: the names of the action's commands, the refunds at Stripe, and what is wrong.
        """
        rng = random.Random(f"{plan.scenario.name} {plan.seed}")
        room = self._rooms.get(plan.server, strict=plan.scenario.strict)
        action = plan.scenario.prepare(room, rng)
        with without(plan.broken):
            names, found = self._suffer(room, plan, action, rng, blow)
        where = f"{plan.scenario.name}, seed {plan.seed}, {plan.server}, {blow}"
        refunds = len(room.sandbox.refunds(room.payment))
        return names, refunds, [replace(each, what=f"{each.what} [{where}]") for each in found]

    def _suffer(
        self, room: Room, plan: Plan, action: Action, rng: random.Random, blow: Blow | None
    ) -> tuple[list[str], list[Violation]]:
        if room not in self._remotes:
            self._remotes[room] = Remote(room, self._servers[plan.server])
        remote = self._remotes[room]
        interference = Interference(blow.loss, blow.index, blow.lasting) if blow else None
        remote.watch(interference)
        witness = Witness(room, action)
        answer = call(room, remote, action)
        names = remote.proxy.names
        remote.proxy.watch()
        assert interference is None or interference.hits, f"{blow} hit nothing of {names}"
        found = witness.false_words(answer)
        remote.proxy.release()
        room.sandbox.clear_faults()
        return names, found + end(room, plan.scenario, action, rng, unheard=answer.status != 200)


def call(room: Room, remote: Remote, action: Action) -> Answer:
    """Do an action, in time."""
    began = time.monotonic()
    answer = perform(remote.app, room.headers, action)
    took = time.monotonic() - began
    assert took < CALL_SECONDS, f"it took {took:.1f} s"
    return answer

"""Run random histories: Hypothesis searches for one that breaks a promise, and shrinks it."""

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
from typing import Any

import hypothesis
import pymongo
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults import oracle
from tests.faults.environments import STANDALONE, start_servers
from tests.faults.histories import History
from tests.faults.in_process import in_process
from tests.faults.invariants import Tally, Violation

STEPS = 30
HISTORIES_PER_RUN = 250


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
        report_multiple_bugs=False,
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

"""``python -m tests.faults``: every fault experiment on servers of its own, and what came of it."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
from collections.abc import Sequence

from tests.faults.environments import progress
from tests.faults.invariants import Tally, table

EXPERIMENTS = {
    "crashes": "tests.faults.crashes:run",
    "stripe_faults": "tests.faults.stripe_faults:run",
    "mongo_faults": "tests.faults.mongo_faults:run",
    "schedules": "tests.faults.schedules:run",
    "histories": "tests.faults.histories:run",
    "failover": "tests.faults.failover:run",
}
"""By name: ``run(full) -> Tally`` or a list of them. Imported when they run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run experiments, print the table and every violation.

    :return: 0, or 1 where a promise was broken.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="what the test suite runs of them")
    again = parser.add_argument("--replay", nargs=3, metavar=("SCENARIO", "SEED", "STEP"))
    again.help = "one crash again, as a violation names it"
    chosen = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # a fault a line would bury the progress
    if chosen.replay:
        return _replay(*chosen.replay)
    tallies = [tally for name in chosen.only for tally in _run(name, full=not chosen.quick)]
    print(table(tallies))
    violations = [violation for tally in tallies for violation in tally.violations]
    for violation in violations:
        print(f"{violation.kind}: {violation.payment_intent}: {violation.what}")
    return 1 if violations else 0


def _run(name: str, *, full: bool) -> list[Tally]:
    module, _, function = EXPERIMENTS[name].partition(":")
    progress(f"{name} …")
    began = time.monotonic()
    result = getattr(importlib.import_module(module), function)(full)
    progress(f"{name}: {time.monotonic() - began:.0f} s")
    return [result] if isinstance(result, Tally) else list(result)


def _replay(scenario: str, seed: str, step: str) -> int:
    from tests.faults.crashes import replay

    found = replay(scenario, int(seed), int(step))
    for violation in found:
        print(f"{violation.kind}: {violation.what}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

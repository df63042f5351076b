"""``python -m tests.faults``: run the fault-injection suite on its own servers and print a report."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
from collections.abc import Sequence

from tests.faults.environments import print_progress
from tests.faults.invariants import Tally, format_table

EXPERIMENTS = {
    "crashes": "tests.faults.crashes:run",
    "stripe_faults": "tests.faults.stripe_faults:run",
    "mongo_faults": "tests.faults.mongo_faults:run",
    "schedules": "tests.faults.schedules:run",
    "histories": "tests.faults.history_runs:run",
    "sweeps": "tests.faults.sweeps:run",
    "failover": "tests.faults.failover:run",
}
"""By name: ``run(full)``, which returns a tally or a list of them. A module is imported when it runs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run experiments, and print the report and every violation.

    :return: 0, or 1 if an invariant was violated.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="run only what the test suite runs")
    replay_option = parser.add_argument("--replay", nargs=3, metavar=("SCENARIO", "SEED", "STEP"))
    replay_option.help = "repeat one crash, as a violation's message names it"
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # the library logs every injected fault
    if options.replay:
        return _replay(*options.replay)
    tallies = [tally for name in options.only for tally in _run(name, full=not options.quick)]
    print(format_table(tallies))
    violations = [violation for tally in tallies for violation in tally.violations]
    for violation in violations:
        print(f"{violation.kind}: {violation.payment_intent}: {violation.message}")
    return 1 if violations else 0


def _run(name: str, *, full: bool) -> list[Tally]:
    module, _, function = EXPERIMENTS[name].partition(":")
    print_progress(f"{name} …")
    began = time.monotonic()
    result = getattr(importlib.import_module(module), function)(full)
    print_progress(f"{name}: {time.monotonic() - began:.0f} s")
    return [result] if isinstance(result, Tally) else list(result)


def _replay(scenario: str, seed: str, step: str) -> int:
    from tests.faults.crashes import replay

    found = replay(scenario, int(seed), int(step))
    for violation in found:
        print(f"{violation.kind}: {violation.message}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

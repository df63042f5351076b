"""``python -m tests.bench``: what things cost, each against another in the same run."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Sequence

from tests.bench.figure import Figure, table

BENCHES = {
    "bulk": "tests.bench.bulk:run",
    "console": "tests.bench.console:run",
    "cpu": "tests.bench.cpu:run",
    "footprint": "tests.bench.footprint:run",
    "listing": "tests.bench.listing:run",
    "metrics": "tests.bench.metrics:run",
    "throughput": "tests.bench.throughput:run",
}
"""By name: ``run(purchases) -> list[Figure]``. Imported when they run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks, print the table.

    :return: 0, or 1 where a budget was overdrawn.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES), metavar="NAME")
    parser.add_argument(
        "--purchases", type=int, default=100_000, help="in the shop that is measured [100000]"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    chosen = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    figures = [figure for name in chosen.only for figure in _run(name, chosen.purchases)]
    print(json.dumps([figure.as_json() for figure in figures], indent=2) if chosen.json else table(figures))
    return 0 if all(figure.is_kept for figure in figures) else 1


def _run(name: str, purchases: int) -> list[Figure]:
    module, _, function = BENCHES[name].partition(":")
    found: list[Figure] = getattr(importlib.import_module(module), function)(purchases)
    return found


if __name__ == "__main__":
    sys.exit(main())

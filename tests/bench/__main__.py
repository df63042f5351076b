"""``python -m tests.bench``: measure what operations cost, each against another in the same run."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Sequence

from tests.bench.measurement import Measurement, format_table

BENCHMARKS = (
    "admin_page",
    "bulk",
    "cpu",
    "footprint",
    "listing",
    "metrics",
    "reconcile_scale",
    "sweep",
    "throughput",
)
"""Modules with a ``run(purchases) -> list[Measurement]``, imported when they run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks and print a table.

    :return: 0, or 1 if a budget is exceeded.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, metavar="NAME")
    parser.add_argument("--purchases", type=int, default=100_000, help="in the measured shop [100000]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    measurements = [each for name in options.only for each in _run(name, options.purchases)]
    if options.json:
        print(json.dumps([each.as_dict() for each in measurements], indent=2))
    else:
        print(format_table(measurements))
    return 0 if all(each.within_budget for each in measurements) else 1


def _run(name: str, purchases: int) -> list[Measurement]:
    measurements: list[Measurement] = importlib.import_module(f"tests.bench.{name}").run(purchases)
    return measurements


if __name__ == "__main__":
    sys.exit(main())

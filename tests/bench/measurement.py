"""A measurement: the ratio of two medians, taken alternately in one run, and its budget."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One ratio.

    :param name: what was measured, and against what.
    :param ratio: the ratio of the medians.
    :param budget: the maximum; ``None`` for no maximum.
    :param detail: the medians.
    :param floor: the minimum; ``None`` for no minimum.
    """

    name: str
    ratio: float
    budget: float | None
    detail: str
    floor: float | None = None

    @property
    def within_budget(self) -> bool:
        return (self.floor or 0) <= self.ratio <= (self.budget or math.inf)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"withinBudget": self.within_budget}


def format_table(measurements: Sequence[Measurement]) -> str:
    width = max(len(each.name) for each in measurements)
    lines = [f"{'':{width}}   ratio   budget  "]
    for each in measurements:
        status = "ok  " if each.within_budget else "OVER" if each.budget is not None else "LOW "
        budget = f"<={each.budget:5.2f}" if each.budget is not None else " " * 7
        if each.floor is not None:
            budget = f">={each.floor:5.2f}"
        lines.append(f"{each.name:{width}}  {each.ratio:6.2f}  {budget}  {status}  {each.detail}")
    return "\n".join(lines)


def median_times(rounds: int, calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median time of each call in seconds. Each round makes every call, so noise affects all."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in times.items()}

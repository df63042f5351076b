"""What a benchmark finds: a ratio of medians, taken in turns in one run, and the budget that it has."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One ratio.

    :param name: what was measured against what.
    :param ratio: the medians' ratio.
    :param budget: what it may be at most; ``None`` where it is told for information.
    :param detail: the medians themselves, for the reader.
    :param floor: what it must be at least.
    """

    name: str
    ratio: float
    budget: float | None
    detail: str
    floor: float | None = None

    @property
    def is_kept(self) -> bool:
        """Whether it is within its budget."""
        return (self.floor or 0) <= self.ratio <= (self.budget or math.inf)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"kept": self.is_kept}


def table(figures: Sequence[Figure]) -> str:
    """For people."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'':{width}}   ratio   budget  "]
    for figure in figures:
        kept = "ok  " if figure.is_kept else "OVER" if figure.budget is not None else "LOW "
        budget = f"<={figure.budget:5.2f}" if figure.budget is not None else " " * 7
        if figure.floor is not None:
            budget = f">={figure.floor:5.2f}"
        lines.append(f"{figure.name:{width}}  {figure.ratio:6.2f}  {budget}  {kept}  {figure.detail}")
    return "\n".join(lines)


def in_turns(rounds: int, calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """The median time of each call, in seconds; each is called once a round, so that noise hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in times.items()}

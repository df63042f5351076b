"""Time that a test can move."""

from __future__ import annotations

from collections.abc import Callable


class Clock:
    """A time source that can be moved forward.

    :param source: gives seconds since the epoch.
    """

    def __init__(self, source: Callable[[], float]) -> None:
        self._source = source
        self._ahead = 0.0

    def __call__(self) -> float:
        return self._source() + self._ahead

    def advance(self, seconds: float) -> None:
        """:raises ValueError: for a way back."""
        if seconds < 0:
            raise ValueError("time only moves forward")
        self._ahead += seconds

    def reset(self) -> None:
        """Back to what the source says."""
        self._ahead = 0.0

"""A clock that a test can move forward."""

from __future__ import annotations

from collections.abc import Callable


class Clock:
    """A time source with an offset, in seconds.

    :param source: returns seconds since the epoch.
    """

    def __init__(self, source: Callable[[], float]) -> None:
        self._source = source
        self.offset = 0.0

    def __call__(self) -> float:
        return self._source() + self.offset

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        :raises ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds}")
        self.offset += seconds

    def set(self, now: float) -> None:
        """Set the clock to a time, in seconds since the epoch."""
        self.offset = now - self._source()

    def reset(self) -> None:
        """Remove the offset."""
        self.offset = 0.0

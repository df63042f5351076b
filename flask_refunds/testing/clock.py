"""A clock that a test can move forward."""

from __future__ import annotations

from collections.abc import Callable


class Clock:
    """A time source with an offset.

    :param source: returns seconds since the epoch.
    """

    def __init__(self, source: Callable[[], float]) -> None:
        self._source = source
        self._offset = 0.0

    def __call__(self) -> float:
        return self._source() + self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        :raises ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds}")
        self._offset += seconds

    def reset(self) -> None:
        """Remove the offset."""
        self._offset = 0.0

"""Time: the present moment, deadlines, and how long one call may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

CALL_SECONDS = 18.0
"""The time limit of one refund call: less than the 30 s after which WSGI servers kill a worker."""


def elapsed() -> float:
    """Return seconds on a clock that never jumps, and that also runs while the machine is suspended."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time. After a machine was suspended it has passed, so that nothing is sent again too late.

    :param at: in the clock's seconds.
    :param now: the clock; tests pass their own.
    """

    at: float
    now: Callable[[], float] = elapsed

    @classmethod
    def after(cls, seconds: float, now: Callable[[], float] = elapsed) -> Deadline:
        """Return the deadline this many seconds from now."""
        return cls(now() + seconds, now)

    def remaining(self) -> float:
        """Return the seconds until the deadline; negative once it has passed."""
        return self.at - self.now()

    def earlier(self, seconds: float) -> Deadline:
        """Return the same deadline, this many seconds earlier."""
        return Deadline(self.at - seconds, self.now)


def now() -> datetime:
    """Return the aware UTC time in whole milliseconds, the precision that MongoDB stores."""
    moment = datetime.now(timezone.utc)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

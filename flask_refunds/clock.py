"""Time: the present moment, deadlines, and how long one call may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

CALL_SECONDS = 18.0
"""How long one refund may work, all told: under the 30 s after which WSGI servers kill a worker."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on a monotonic clock.

    :param at: the point, in that clock's seconds.
    :param now: the clock; a test steps its own.
    """

    at: float
    now: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, now: Callable[[], float] = time.monotonic) -> Deadline:
        """The deadline that many seconds from now."""
        return cls(now() + seconds, now)

    def left(self) -> float:
        """The seconds that are left; negative once it has passed."""
        return self.at - self.now()

    def earlier(self, seconds: float) -> Deadline:
        """The same deadline with that many seconds kept back for what must still follow."""
        return Deadline(self.at - seconds, self.now)


def now() -> datetime:
    """The aware UTC time in whole milliseconds, as MongoDB keeps it."""
    time = datetime.now(timezone.utc)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)

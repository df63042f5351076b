"""Deadline: it also passes while the machine is suspended."""

from __future__ import annotations

import time

import pytest

from flask_refunds.clock import Deadline


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no CLOCK_BOOTTIME")
def test_deadline_passes_while_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline, read = Deadline.after(18), time.clock_gettime

    def read_after_a_night(clock: int) -> float:
        return read(clock) + (8 * 3600 if clock == time.CLOCK_BOOTTIME else 0)

    monkeypatch.setattr(time, "clock_gettime", read_after_a_night)
    assert deadline.remaining() < 0

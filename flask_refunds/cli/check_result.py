"""What one check of ``flask refunds check`` found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """The status of a check."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found, and what to do about it."""

    name: str
    status: Status
    message: str


def ok(name: str, message: str) -> CheckResult:
    """Return a check that passed."""
    return CheckResult(name, Status.OK, message)


def note(name: str, message: str) -> CheckResult:
    """Return a note."""
    return CheckResult(name, Status.NOTE, message)


def fail(name: str, message: str) -> CheckResult:
    """Return a problem."""
    return CheckResult(name, Status.FAIL, message)

"""How long work in bulk waits for a database, and how it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_refunds.bulk.database_retry import outlast
from flask_refunds.errors import DatabaseUnavailable, PurchaseNotFound


class Stopped(threading.Event):
    """Notes the pauses in place of making them."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0)
        return self.is_set()


def failing(times: int, error: type[Exception] = DatabaseUnavailable) -> Callable[[], str]:
    left = iter([True] * times)

    def ask() -> str:
        if next(left, False):
            raise error
        return "answered"

    return ask


def test_it_asks_until_there_is_an_answer() -> None:
    stopped = Stopped()
    assert outlast(failing(7), stopped, lambda: 0.0) == "answered"
    assert stopped.pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_it_gives_up_after_a_minute() -> None:
    stopped = Stopped()
    with pytest.raises(DatabaseUnavailable):
        outlast(failing(1000), stopped, lambda: sum(stopped.pauses))
    assert 60 < sum(stopped.pauses) <= 66


def test_it_gives_up_at_once_when_it_is_stopped() -> None:
    stopped = Stopped()
    stopped.set()
    with pytest.raises(DatabaseUnavailable):
        outlast(failing(1000), stopped)
    assert len(stopped.pauses) == 1


def test_another_error_is_an_answer() -> None:
    stopped = Stopped()
    with pytest.raises(PurchaseNotFound):
        outlast(failing(1, PurchaseNotFound), stopped)
    assert stopped.pauses == []

"""How long work in bulk waits for a database, and how it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_refunds.bulk.database_retry import retry_while_unavailable
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
    stop_event = Stopped()
    assert retry_while_unavailable(failing(7), stop_event, lambda: 0.0) == "answered"
    assert stop_event.pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_it_gives_up_after_a_minute() -> None:
    stop_event = Stopped()
    with pytest.raises(DatabaseUnavailable):
        retry_while_unavailable(failing(1000), stop_event, lambda: sum(stop_event.pauses))
    assert 60 < sum(stop_event.pauses) <= 66


def test_it_gives_up_at_once_when_it_is_stopped() -> None:
    stop_event = Stopped()
    stop_event.set()
    with pytest.raises(DatabaseUnavailable):
        retry_while_unavailable(failing(1000), stop_event)
    assert len(stop_event.pauses) == 1


def test_another_error_is_an_answer() -> None:
    stop_event = Stopped()
    with pytest.raises(PurchaseNotFound):
        retry_while_unavailable(failing(1, PurchaseNotFound), stop_event)
    assert stop_event.pauses == []

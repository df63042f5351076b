"""How long bulk work retries while the database is unavailable, and how it stops."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_refunds.bulk.database_retry import retry_while_unavailable
from flask_refunds.errors import DatabaseUnavailable, PurchaseNotFound


class PauseRecorder(threading.Event):
    """Records the pauses instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0)
        return self.is_set()


@pytest.fixture
def stop_event() -> PauseRecorder:
    return PauseRecorder()


def failing(times: int, error: type[Exception] = DatabaseUnavailable) -> Callable[[], str]:
    failures = iter([True] * times)

    def call() -> str:
        if next(failures, False):
            raise error
        return "answered"

    return call


def test_call_is_retried_at_growing_intervals_until_it_succeeds(stop_event: PauseRecorder) -> None:
    assert retry_while_unavailable(failing(7), stop_event, lambda: 0.0) == "answered"
    assert stop_event.pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_error_is_raised_after_a_minute(stop_event: PauseRecorder) -> None:
    with pytest.raises(DatabaseUnavailable):
        retry_while_unavailable(failing(1000), stop_event, lambda: sum(stop_event.pauses))
    assert 60 < sum(stop_event.pauses) <= 66


def test_error_is_raised_at_once_when_stopped(stop_event: PauseRecorder) -> None:
    stop_event.set()
    with pytest.raises(DatabaseUnavailable):
        retry_while_unavailable(failing(1000), stop_event)
    assert len(stop_event.pauses) == 1


def test_other_errors_are_not_retried(stop_event: PauseRecorder) -> None:
    with pytest.raises(PurchaseNotFound):
        retry_while_unavailable(failing(1, PurchaseNotFound), stop_event)
    assert stop_event.pauses == []

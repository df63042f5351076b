"""ReceiverRegistry: what a process without receivers changes is signaled by another one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import mongomock
import pytest

from flask_refunds.core.sweep import FULL_SWEEP_PERIOD
from flask_refunds.storage.receiver_registry import REMEMBERED, ReceiverRegistry

START = datetime(2024, 3, 15, tzinfo=timezone.utc)


class Processes:
    """Two processes of one app, which share a database and a clock."""

    def __init__(self) -> None:
        self.now = START
        self.has_listeners = True
        self.collection = collection = mongomock.MongoClient(tz_aware=True).shop.state
        self.web = ReceiverRegistry(collection, lambda: self.has_listeners, lambda: self.now)
        self.command = ReceiverRegistry(collection, lambda: False, lambda: self.now)


@pytest.fixture
def processes() -> Processes:
    return Processes()


def test_app_without_receivers_has_no_signals_to_send(processes: Processes) -> None:
    processes.has_listeners = False
    assert not processes.web.must_send()
    assert not processes.command.must_send()


def test_command_without_receivers_leaves_signals_to_a_process_with_them(processes: Processes) -> None:
    assert processes.web.must_send()
    assert processes.command.must_send()


def test_command_that_runs_first_learns_of_receivers_within_a_minute(processes: Processes) -> None:
    assert not processes.command.must_send()
    processes.web.must_send()
    processes.now += timedelta(minutes=1)
    assert processes.command.must_send()


def test_receivers_that_are_connected_later_are_registered_immediately(processes: Processes) -> None:
    processes.has_listeners = False
    processes.web.must_send()
    processes.has_listeners = True
    assert processes.web.must_send()
    assert processes.command.must_send()


def test_process_with_receivers_writes_once_a_day(processes: Processes) -> None:
    processes.web.must_send()
    processes.collection.delete_many({})
    processes.now += timedelta(days=1, milliseconds=-1)
    assert processes.web.must_send()
    assert processes.collection.count_documents({}) == 0
    processes.now += timedelta(milliseconds=1)
    processes.web.must_send()
    assert processes.collection.count_documents({}) == 1


@pytest.mark.parametrize("known", [False, True])
def test_process_without_receivers_reads_once_a_minute(processes: Processes, known: bool) -> None:
    if known:
        processes.web.must_send()
    assert processes.command.must_send() is known
    processes.collection.delete_many({}) if known else processes.web.must_send()
    processes.now += timedelta(minutes=1, milliseconds=-1)
    assert processes.command.must_send() is known
    processes.now += timedelta(milliseconds=1)
    assert processes.command.must_send() is not known


def test_receivers_are_forgotten_three_months_after_the_last_process_with_them(processes: Processes) -> None:
    for _ in range(20):
        processes.web.must_send()
        processes.now += timedelta(days=1)
    processes.now += FULL_SWEEP_PERIOD
    assert processes.command.must_send()
    processes.now += REMEMBERED - FULL_SWEEP_PERIOD
    assert not processes.command.must_send()

"""ServerClock, on a real MongoDB: a machine's own clock doesn't matter."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock

import pymongo
import pytest

from flask_refunds import clock
from flask_refunds.errors import DatabaseUnavailable
from flask_refunds.storage.server_clock import SYNC_SECONDS, ServerClock
from flask_refunds.testing import StripeSandbox
from tests.mongod import failing
from tests.shop import Shop, make_app


def server_time(database: Any) -> datetime:
    time: datetime = database.command("hello")["localTime"]
    return time.replace(tzinfo=timezone.utc)


def test_clock_shows_the_servers_time_whatever_the_local_clock_shows(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "datetime", None)  # the local clock isn't read at all
    before = server_time(database)
    shown = ServerClock(database)()
    assert before - timedelta(seconds=1) <= shown <= server_time(database) + timedelta(seconds=1)
    assert shown.tzinfo is timezone.utc
    assert shown.microsecond % 1000 == 0


def test_clock_asks_the_server_once_in_half_a_minute(mongo_uri: str) -> None:
    commands: list[str] = []

    class Listener(pymongo.monitoring.CommandListener):
        def started(self, event: Any) -> None:
            commands.extend(name for name in [event.command_name] if name == "hello")

        def succeeded(self, event: Any) -> None: ...
        def failed(self, event: Any) -> None: ...

    seconds = [100.0]
    with pymongo.MongoClient(mongo_uri, event_listeners=[Listener()]) as client:
        server_clock = ServerClock(client.get_default_database(), lambda: seconds[0])
        first = server_clock()
        seconds[0] += SYNC_SECONDS
        assert server_clock() - first == timedelta(seconds=SYNC_SECONDS)
        assert commands == ["hello"]
        seconds[0] += 1
        server_clock()
    assert commands == ["hello", "hello"]


@pytest.mark.parametrize(("error", "shown"), [(-0.2, 30), (0.2, 30.21), (-7200, -7169.99)])
def test_clock_goes_back_only_if_the_servers_clock_did(error: float, shown: float) -> None:
    elapsed = [100.0]
    seconds = [0.0]
    began = datetime(2026, 3, 1, tzinfo=timezone.utc)
    database = Mock(spec=pymongo.database.Database)
    database.command = lambda name: {"localTime": began + timedelta(seconds=seconds[0])}
    server_clock = ServerClock(database, lambda: elapsed[0])
    assert server_clock() == began
    elapsed[0] += SYNC_SECONDS
    assert server_clock() == began + timedelta(seconds=SYNC_SECONDS)
    elapsed[0] += 0.01
    seconds[0] = 30.01 + error
    assert server_clock() == began + timedelta(seconds=shown)


@pytest.mark.parametrize("days", [9, 0.2, -0.2, -3])
def test_refund_on_a_machine_with_a_wrong_clock_can_be_resumed_elsewhere(
    database: Any, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch, days: float
) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
    other = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
    purchase = shop.add_purchase(sandbox.create_payment(1999))

    class WrongTime(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=days)

    monkeypatch.setattr(clock, "datetime", WrongTime)
    sandbox.inject("response_lost", times=2)
    assert shop.refund(purchase).json["refund"]["status"] == "processing"
    monkeypatch.undo()
    assert other.refund(purchase).json["refund"]["status"] == "succeeded"
    created = other.records()[0]["createdAt"]
    assert abs(created - server_time(database)) < timedelta(minutes=1)


def test_unavailable_server_is_an_error_and_not_a_guess(database: Any) -> None:
    with failing(database, "hello"), pytest.raises(DatabaseUnavailable):
        ServerClock(database)()

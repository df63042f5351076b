"""Moving the time of this process."""

from __future__ import annotations

import copy
import datetime as datetime_module
import pickle
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from time import time as seconds

import bson
import jwt
import pytest
from itsdangerous import SignatureExpired, TimestampSigner

from flask_refunds import clock
from flask_refunds.storage.server_clock import ServerClock
from flask_refunds.testing.process_time import process_time

SECRET = "a-secret-that-is-long-enough-for-hs256"
TWO_DAYS = timedelta(days=2)


@pytest.fixture(autouse=True)
def _real_time_afterwards() -> Iterator[None]:
    yield
    process_time.reset()


def test_every_way_to_read_the_time_moves_and_comes_back() -> None:
    def read() -> list[datetime]:
        return [
            datetime.now(timezone.utc),
            datetime.now().astimezone(),
            datetime.today().astimezone(),
            datetime_module.datetime.now(timezone.utc),
            datetime.utcnow().replace(tzinfo=timezone.utc),  # noqa: DTZ003
            datetime.fromtimestamp(time.time(), timezone.utc),
            datetime.fromtimestamp(seconds(), timezone.utc),
            datetime.fromtimestamp(time.time_ns() / 1e9, timezone.utc),
            clock.now(),
        ]

    real, today, monotonic = datetime.now(timezone.utc), date.today(), time.monotonic()  # noqa: DTZ011
    process_time.move(3600)
    process_time.move(TWO_DAYS.total_seconds() - 3600)
    assert all(timedelta() <= moment - real - TWO_DAYS < timedelta(minutes=1) for moment in read())
    assert date.today() == datetime_module.date.today() == today + TWO_DAYS  # noqa: DTZ011
    assert time.monotonic() - monotonic < 60
    process_time.reset()
    assert all(moment - real < timedelta(minutes=1) for moment in read())
    assert (type(datetime), type(time.time), date.today()) == (type, type(len), today)  # noqa: DTZ011


def test_moved_objects_have_the_ordinary_types() -> None:
    before = datetime(2024, 3, 15, tzinfo=timezone.utc)
    real_type = type(before)
    process_time.move(60)
    made = [
        datetime.now(timezone.utc),
        datetime(2024, 3, 15, tzinfo=timezone.utc),
        datetime.fromisoformat("2024-03-15T00:00:00+00:00"),
        datetime.strptime("2024-03-15 +0000", "%Y-%m-%d %z"),
        datetime.combine(date(2024, 3, 15), datetime.min.time(), timezone.utc),
    ]
    assert {type(each) for each in made} == {real_type}
    assert made[1:] == [before] * 4
    assert all(isinstance(each, datetime) and isinstance(each, date) for each in made)
    assert not isinstance(date(2024, 3, 15), datetime)
    assert issubclass(real_type, datetime)
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made
    assert bson.decode(bson.encode({"at": before}))["at"] == before.replace(tzinfo=None)


def test_tokens_and_signed_values_expire() -> None:
    signer = TimestampSigner(SECRET)
    signed = signer.sign("cart")
    expires = datetime.now(timezone.utc) + timedelta(hours=1)
    token = jwt.encode({"exp": expires}, SECRET, algorithm="HS256")
    process_time.move(7200)
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(token, SECRET, ["HS256"])
    with pytest.raises(SignatureExpired):
        signer.unsign(signed, max_age=3600)
    assert jwt.decode(jwt.encode({"iat": time.time()}, SECRET), SECRET, ["HS256"])
    assert signer.unsign(signer.sign("cart"), max_age=5) == b"cart"


def test_clock_of_a_mongodb_server_moves(database: object) -> None:
    server_clock = ServerClock(database)  # type: ignore[arg-type]
    before = server_clock()
    process_time.move(3600)
    assert timedelta() <= server_clock() - before - timedelta(hours=1) < timedelta(minutes=1)
    process_time.reset()
    assert server_clock() - before < timedelta(minutes=1)
    process_time.move(3600)
    assert server_clock() - before < timedelta(hours=2)

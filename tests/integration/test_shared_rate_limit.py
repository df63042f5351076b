"""One rate for several processes, on a real MongoDB."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pymongo
import pytest

from flask_refunds.stripe_client.rate_limit import LocalSlots, RateLimiter
from flask_refunds.stripe_client.shared_rate_limit import SharedSlots, _reserve
from tests.mongod import failing


@pytest.fixture
def machines(mongo_uri: str) -> Iterator[list[SharedSlots]]:
    """The slots of four machines, each with its own client; 100 a second."""
    clients: list[Any] = [pymongo.MongoClient(mongo_uri) for _ in range(4)]
    yield [
        SharedSlots(client.get_default_database()["flask_refunds.rate"], "test", 100) for client in clients
    ]
    for client in clients:
        client.close()


@pytest.fixture
def slots(machines: list[SharedSlots]) -> SharedSlots:
    return machines[0]


@pytest.fixture
def collection(database: Any) -> Any:
    return database["flask_refunds.rate"]


def reserve(slots: SharedSlots, count: int) -> None:
    for _ in range(count):
        slots.reserve()


def gap(slots: SharedSlots) -> float:
    """The milliseconds from the next slot to the one after it."""
    slots.reserve()
    document: Any = slots._collection.find_one()
    milliseconds: float = document["next"] - document["slot"]
    return milliseconds


def run_threads(work: Callable[[Any], None], *arguments: Any) -> None:
    threads = [threading.Thread(target=work, args=(each,)) for each in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_each_slot_is_given_out_once(machines: list[SharedSlots], collection: Any) -> None:
    """Including the first ones, when all machines insert the document at once."""
    together = threading.Barrier(8)
    reserved: list[tuple[float, float]] = []

    def work(slots: SharedSlots) -> None:
        together.wait(timeout=10)
        for _ in range(25):
            document = slots._update(_reserve(1.0))
            reserved.append((document["slot"], document["next"]))

    run_threads(work, *machines, *machines)
    assert len(reserved) == 200
    for (_, end), (start, _) in pairwise(sorted(reserved)):
        assert start >= end
    assert collection.count_documents({}) == 1


def test_slots_follow_at_the_rate(slots: SharedSlots) -> None:
    started = time.monotonic()
    assert slots.reserve() == 0.0
    reserve(slots, 49)
    wait = slots.reserve()
    assert 0.499 - (time.monotonic() - started) < wait <= 0.5


@pytest.mark.parametrize("hours", [-1, 1], ids=["idle for an hour", "clock set back by an hour"])
def test_slots_restart_from_the_current_time(slots: SharedSlots, collection: Any, hours: int) -> None:
    slots.reserve()
    collection.update_one({}, [{"$set": {"next": {"$add": ["$next", hours * 3_600_000]}}}])
    assert slots.reserve() == 0.0
    document = collection.find_one()
    assert document["next"] == document["at"] + 10


def test_429_lowers_the_rate_of_all_machines_until_it_recovers(
    machines: list[SharedSlots], collection: Any
) -> None:
    machines[0].reserve()
    for _ in range(24):
        machines[0].slow_down()
    document = collection.find_one()
    assert document["next"] == document["slowedAt"] + 100
    assert 18 < gap(machines[1]) < 21
    collection.update_one({}, [{"$set": {"slowedAt": {"$subtract": ["$slowedAt", 60_000]}}}])
    assert gap(machines[2]) == 10


def test_repeated_429s_lower_the_rate_to_a_limit(slots: SharedSlots, collection: Any) -> None:
    for _ in range(120):
        slots.slow_down()
    assert collection.find_one()["factor"] == 8.0
    assert 70 < gap(slots) <= 80


def test_local_and_shared_slots_slow_down_alike(slots: SharedSlots) -> None:
    local = LocalSlots(100, iter([0.0] * 100).__next__)
    for _ in range(12):
        local.slow_down()
        slots.slow_down()
    first, second = local.reserve(), local.reserve()
    assert gap(slots) == pytest.approx((second - first) * 1000, rel=0.02)


def test_each_process_keeps_the_rate_while_mongodb_is_unavailable(
    slots: SharedSlots, database: Any, collection: Any
) -> None:
    slots.reserve()
    before = collection.find_one()
    with failing(database, "findAndModify"):
        started = time.monotonic()
        assert slots.reserve() == 0.0
        reserve(slots, 49)
        wait = slots.reserve()
        assert 0.499 - (time.monotonic() - started) < wait <= 0.5
        slots.slow_down()
        next_slot = slots._local._next
        slots.reserve()
        assert slots._local._next - next_slot > 0.0101
    assert collection.find_one() == before


def test_live_and_test_mode_have_separate_slots(collection: Any) -> None:
    live, test = SharedSlots(collection, "live", 1), SharedSlots(collection, "test", 1)
    reserve(live, 10)
    assert test.reserve() == 0.0


def test_two_rate_limiters_keep_one_rate(machines: list[SharedSlots]) -> None:
    """Measured by the test's clock, not by MongoDB's."""
    times: list[float] = []

    def work(rate_limiter: RateLimiter) -> None:
        for _ in range(10):
            rate_limiter.wait()
            times.append(time.monotonic())

    limiters = [RateLimiter(slots) for slots in machines[:2]]
    run_threads(work, *(limiters * 5))
    assert len(times) == 100
    assert max(times) - min(times) > 0.9

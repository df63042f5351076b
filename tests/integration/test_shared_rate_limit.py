"""One rate between threads and processes, in a real MongoDB."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pymongo
import pytest

from flask_refunds.stripe_client.rate_limit import LocalSlots, RateLimiter
from flask_refunds.stripe_client.shared_rate_limit import SharedSlots, _reserving
from tests.mongod import failing


@pytest.fixture
def others(mongo_uri: str) -> Iterator[list[SharedSlots]]:
    """SlotAllocator of four machines, each with a client of its own."""
    clients: list[Any] = [pymongo.MongoClient(mongo_uri) for _ in range(4)]
    yield [
        SharedSlots(client.get_default_database()["flask_refunds.rate"], "test", 1000) for client in clients
    ]
    for client in clients:
        client.close()


@pytest.fixture
def turns(database: Any) -> SharedSlots:
    return SharedSlots(database["flask_refunds.rate"], "test", 100)


def kept(database: Any) -> dict[str, Any]:
    [document] = database["flask_refunds.rate"].find()
    return dict(document)


def test_nobody_gets_the_turn_of_another(others: list[SharedSlots], database: Any) -> None:
    """Also where all of them make the document."""
    together = threading.Barrier(8)
    reserved: list[tuple[float, float]] = []

    def reserve(turns: SharedSlots) -> None:
        together.wait(timeout=10)
        for _ in range(25):
            found = turns._update(_reserving(4, 1.0))
            reserved.append((found["first"], found["next"]))

    threads = [threading.Thread(target=reserve, args=(others[number % 4],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(reserved) == 200
    for (_, end), (begin, _) in pairwise(sorted(reserved)):
        assert begin >= end
    assert database["flask_refunds.rate"].count_documents({}) == 1


def test_turns_follow_each_other_at_the_rate(turns: SharedSlots) -> None:
    first, gap = turns.reserve(50)
    assert (first, gap) == (0.0, 0.01)
    second, _ = turns.reserve(1)
    assert 0.3 < second <= 0.5


def test_idle_turns_are_not_saved_up(turns: SharedSlots, database: Any) -> None:
    turns.reserve(1)
    database["flask_refunds.rate"].update_one({}, [{"$set": {"next": {"$subtract": ["$next", 3_600_000]}}}])
    assert turns.reserve(10)[0] == 0.0
    assert turns.reserve(1)[0] <= 0.1


def test_a_clock_that_was_set_back_stops_nobody(turns: SharedSlots, database: Any) -> None:
    turns.reserve(1)
    database["flask_refunds.rate"].update_one({}, [{"$set": {"next": {"$add": ["$next", 3_600_000]}}}])
    assert turns.reserve(1)[0] == 0.0


def test_a_429_slows_all_of_them(others: list[SharedSlots], database: Any) -> None:
    others[0].reserve(1)
    for _ in range(24):
        others[0].slow_down()
    first, gap = others[1].reserve(1)
    assert 0.02 < first <= 0.1
    assert 0.0018 < gap < 0.0021
    database["flask_refunds.rate"].update_one(
        {}, [{"$set": {"slowedAt": {"$subtract": ["$slowedAt", 60_000]}}}]
    )
    assert others[2].reserve(1)[1] == 0.001


def test_slower_and_slower_has_an_end(turns: SharedSlots, database: Any) -> None:
    for _ in range(120):
        turns.slow_down()
    assert kept(database)["slowness"] == 8.0
    assert turns.reserve(1)[1] <= 0.08


def test_where_mongodb_does_not_answer_each_keeps_the_rate_by_itself(
    turns: SharedSlots, database: Any
) -> None:
    turns.reserve(1)
    before = kept(database)
    with failing(database, "findAndModify"):
        assert turns.reserve(50) == (0.0, 0.01)
        assert 0.3 < turns.reserve(1)[0] <= 0.5
        turns.slow_down()
        assert turns.reserve(1)[1] > 0.0101
    assert kept(database) == before


def test_each_mode_has_its_own(database: Any) -> None:
    live = SharedSlots(database["flask_refunds.rate"], "live", 1)
    test = SharedSlots(database["flask_refunds.rate"], "test", 1)
    live.reserve(10)
    assert test.reserve(1)[0] == 0.0


def test_two_paces_keep_one_rate(others: list[SharedSlots]) -> None:
    """Measured on their own clocks, which stand beside MongoDB's."""
    gone: list[float] = []

    def work(rate_limiter: RateLimiter) -> None:
        for _ in range(10):
            rate_limiter.wait()
            gone.append(time.monotonic())

    for turns in others:
        turns._gap = 10.0  # 100 a second
    paces = [RateLimiter(turns) for turns in others[:2]]
    threads = [threading.Thread(target=work, args=(pace,)) for pace in paces for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gone) == 100
    assert max(gone) - min(gone) > 0.9


def test_alone_it_is_the_same_arithmetic(turns: SharedSlots) -> None:
    alone = LocalSlots(100, iter([0.0] * 100).__next__)
    for _ in range(12):
        alone.slow_down()
        turns.slow_down()
    assert alone.reserve(1)[1] == pytest.approx(turns.reserve(1)[1], rel=0.02)

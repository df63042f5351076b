"""What Stripe may do to a request, and a worker that is killed while it waits for Stripe."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

import pytest

from flask_refunds.testing import Fault
from tests.faults.environments import REPLICA_SET, STANDALONE, Rooms
from tests.faults.invariants import table
from tests.faults.scenarios import SCENARIOS, perform
from tests.faults.sharing import share_out
from tests.faults.stripe_faults import CALL_SECONDS, carry_out, few
from tests.integration.workers import gunicorn
from tests.mongod import Mongod


def test_every_fault_at_every_request(servers: Mapping[str, Mongod]) -> None:
    tally = carry_out(servers, few())
    assert not tally.violations, table([tally])
    assert tally.histories > 150


@pytest.mark.parametrize("server", [STANDALONE, REPLICA_SET])
def test_a_worker_killed_by_gunicorn(rooms: Rooms, server: str) -> None:
    """Its timeout raises SystemExit in the view, past every ``except Exception``."""
    room = environments.get(server, strict=False)
    purchase = room.pay(random.Random(server))
    hanging = room.sandbox.inject("hang_after")
    options = ("--workers", "1", "--worker-class", "sync", "--timeout", "2")
    with gunicorn(*options, MONGO_URI=room.uri, STRIPE_API_BASE=room.sandbox.url) as served:
        began = time.monotonic()
        # However the connection ends, it brings none of our answers.
        with pytest.raises((OSError, ValueError)):
            served.post(f"/api/payments/admin/refund/{purchase}", room.headers)
        assert time.monotonic() - began < CALL_SECONDS
    assert hanging.hits == 1
    [row] = room.records()
    assert row["status"] == "processing"
    room.sandbox.clear_faults()
    room.reconcile()
    assert room.violations() == []
    assert [refund["status"] for refund in room.sandbox.refunds(room.payment)] == ["succeeded"]


def test_a_stripe_that_hangs(servers: Mapping[str, Mongod]) -> None:
    """With the timeouts that hosts have: each call is answered in time, no refund is lost or made twice."""
    stories = (
        ("refund: fresh", Fault.HANG_BEFORE),
        ("refund: fresh", Fault.HANG_AFTER),
        ("refund: fresh", Fault.SLOW_DRIP),
        ("refund: resumed, was made", Fault.HANG_BEFORE),
        ("webhook: Dashboard, charge.refunded", Fault.HANG_BEFORE),
    )
    share_out(stories, len(stories), lambda: Rooms(servers), _hang)


def _hang(rooms: Rooms, story: tuple[str, Fault]) -> None:
    name, fault = story
    rng, scenario = random.Random(name), SCENARIOS[name]
    room = environments.get(STANDALONE, strict=scenario.strict)
    action = scenario.prepare(room, rng)
    room.sandbox.inject(fault, method="*", path="/v1/", times=None)
    began = time.monotonic()
    answer = perform(room.shop.app, room.headers, action)
    took = time.monotonic() - began
    assert took < CALL_SECONDS, f"{story}: {took:.1f} s"
    assert answer.status == (503 if action["do"] == "deliver" else 202), (story, answer)
    room.sandbox.clear_faults()
    if scenario.only_by_event:
        room.hear_from_stripe(rng)
    room.reconcile()
    assert room.violations() == [], story

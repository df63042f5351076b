"""What may become of a message to MongoDB, and a MongoDB that stands still."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping
from typing import Any
from unittest import mock

import pytest

from flask_refunds.stripe_client.transport import Transport
from tests.faults.environments import REPLICA_SET, STANDALONE, Room, Rooms
from tests.faults.invariants import table
from tests.faults.mongo_faults import CALL_SECONDS, FEW, lose, retry_while_unavailable
from tests.faults.response_checks import Witness
from tests.faults.scenarios import SCENARIOS, Action, Answer, perform
from tests.mongod import Mongod


def test_every_message_lost(servers: Mapping[str, Mongod]) -> None:
    tally = lose(servers, FEW, range(1))
    assert not tally.violations, table([tally])
    assert tally.histories > 100


def test_gone_or_late_from_every_command_on(servers: Mapping[str, Mongod]) -> None:
    tally = retry_while_unavailable(servers, FEW[:1])
    assert not tally.violations, table([tally])
    assert tally.histories > 40


def call_in_time(room: Room, action: Action) -> Answer:
    began = time.monotonic()
    answer = perform(room.shop.app, room.headers, action)
    took = time.monotonic() - began
    assert took < CALL_SECONDS, f"{took:.1f} s"
    return answer


@pytest.mark.parametrize("server", [STANDALONE, REPLICA_SET])
@pytest.mark.parametrize("name", ["refund: fresh", "webhook: pending settles"])
def test_a_mongodb_that_is_frozen(
    servers: Mapping[str, Mongod], rooms: Rooms, server: str, name: str
) -> None:
    room = environments.get(server, strict=False)
    action = SCENARIOS[name].prepare(room, random.Random(name))
    asked = len(room.sandbox.requests)
    with servers[server].frozen():
        answer = call_in_time(room, action)
    assert (answer.status, answer.body["code"]) == (500, "database_unavailable")
    assert len(room.sandbox.requests) == asked
    assert call_in_time(room, action).status == 200
    room.reconcile()
    assert room.violations() == []


@pytest.mark.parametrize("server", [STANDALONE, REPLICA_SET])
def test_a_mongodb_that_freezes_while_stripe_works(
    servers: Mapping[str, Mongod], rooms: Rooms, server: str
) -> None:
    room = environments.get(server, strict=False)
    action = SCENARIOS["refund: fresh"].prepare(room, random.Random(server))
    witness = Witness(room, action)
    send = Transport.request
    with contextlib.ExitStack() as ice:

        def send_and_freeze(*arguments: Any) -> Any:
            answer = send(*arguments)
            ice.enter_context(servers[server].frozen())
            return answer

        with mock.patch.object(Transport, "request", send_and_freeze):
            answer = call_in_time(room, action)
    assert (answer.status, answer.body["message"]) == (202, "Refund submitted")
    assert witness.false_words(answer) == []
    room.reconcile()
    assert room.violations() == []
    assert len(room.sandbox.refunds(room.payment)) == 1

"""Lost and delayed MongoDB messages, and a MongoDB server that is suspended."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from typing import Any
from unittest import mock

import pytest

from flask_refunds.stripe_client.transport import Transport
from tests.faults.environments import REPLICA_SET, STANDALONE, EnvironmentPool
from tests.faults.invariants import format_table
from tests.faults.mongo_faults import QUICK, lose_messages, make_unavailable
from tests.faults.response_checks import ResponseChecker
from tests.faults.scenarios import SCENARIOS, perform_in_time
from tests.mongod import Mongod


def test_loss_of_every_message_violates_nothing(servers: Mapping[str, Mongod]) -> None:
    tally = lose_messages(servers, QUICK, range(1))
    assert not tally.violations, format_table([tally])
    assert tally.histories > 100


def test_mongodb_unavailable_from_every_command_on_violates_nothing(servers: Mapping[str, Mongod]) -> None:
    tally = make_unavailable(servers, QUICK[:1])
    assert not tally.violations, format_table([tally])
    assert tally.histories > 40


@pytest.mark.parametrize("server", [STANDALONE, REPLICA_SET])
@pytest.mark.parametrize("name", ["refund: first", "webhook: pending settles"])
def test_suspended_mongodb_returns_500_without_a_request_to_stripe(
    servers: Mapping[str, Mongod], environments: EnvironmentPool, server: str, name: str
) -> None:
    environment = environments.get(server, strict=False)
    action = SCENARIOS[name].prepare(environment, random.Random(name))
    requests_before = len(environment.sandbox.requests)
    with servers[server].frozen():
        response = perform_in_time(environment.shop.app, environment.headers, action)
    assert (response.status, response.body["code"]) == (500, "database_unavailable")
    assert len(environment.sandbox.requests) == requests_before
    assert perform_in_time(environment.shop.app, environment.headers, action).status == 200
    environment.reconcile()
    assert environment.find_violations() == []


@pytest.mark.parametrize("server", [STANDALONE, REPLICA_SET])
def test_mongodb_suspended_during_the_request_to_stripe_returns_202(
    servers: Mapping[str, Mongod], environments: EnvironmentPool, server: str
) -> None:
    environment = environments.get(server, strict=False)
    action = SCENARIOS["refund: first"].prepare(environment, random.Random(server))
    checker = ResponseChecker(environment, action)
    send = Transport.request
    with contextlib.ExitStack() as suspended:

        def send_and_suspend(*arguments: Any) -> Any:
            answer = send(*arguments)
            suspended.enter_context(servers[server].frozen())
            return answer

        with mock.patch.object(Transport, "request", send_and_suspend):
            response = perform_in_time(environment.shop.app, environment.headers, action)
    assert (response.status, response.body["refund"]["status"]) == (202, "processing")
    assert checker.find_violations(response) == []
    environment.reconcile()
    assert environment.find_violations() == []
    assert len(environment.refunds()) == 1

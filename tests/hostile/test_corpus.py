"""Requests that nobody honest makes: each is answered as it must be, and moves nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pymongo
import pytest

from flask_refunds.testing import StripeSandbox, signed_event
from tests.canaries import WEBHOOK_SECRET, Canaries
from tests.hostile import inputs, tokens, webhooks
from tests.hostile.targets import ADMIN, PREFIX, REFUNDED, SETTLED, Case, World
from tests.mongod import TestServer


def corpus() -> dict[str, Case]:
    """Every case by its name; made anew for each, because tokens and signatures grow old."""
    pairs = [*tokens.cases(), *inputs.cases(), *webhooks.cases()]
    named = dict(pairs)
    assert len(named) == len(pairs), "two cases have one name"
    return named


@pytest.fixture(scope="module")
def world(mongo_server: TestServer) -> Iterator[World]:
    name = f"refunds_hostile_{uuid.uuid4().hex[:12]}"
    with pymongo.MongoClient(mongo_server.uri(name), tz_aware=True) as client, StripeSandbox() as sandbox:
        world = World(client.get_default_database(), sandbox)
        world.furnish()
        settle(world)
        yield world
        client.drop_database(name)


def settle(world: World) -> None:
    """One refund is made and told of, so that there is something to replay."""
    client = world.apps["shop"].test_client()
    headers = dict(tokens.bearer(tokens.good(ADMIN)))
    assert client.post(f"{PREFIX}/admin/refund/{SETTLED}", headers=headers).status_code == 200
    body, signature = signed_event(world.event(), WEBHOOK_SECRET)
    assert client.post(f"{PREFIX}{webhooks.PATH}", data=body, headers=signature).status_code == 200


@pytest.fixture
def canaries() -> Iterator[Canaries]:
    with Canaries() as canaries:
        yield canaries
    assert canaries.hits == []
    assert canaries.answers


def ask(world: World, case: Case, canaries: Canaries) -> None:
    """Make a request, and look at the answer and at what it left behind."""
    before = world.look()
    client = world.apps[case.app].test_client()
    answer = client.open(
        f"{PREFIX}{case.path}", method=case.method, headers=list(case.headers), data=case.body
    )
    canaries.inspect(answer.status_code, answer.headers.items(), answer.get_data())
    assert answer.status_code == case.status, answer.get_data(as_text=True)[:500]
    if case.code is not None:
        assert answer.json is not None
        assert answer.json["code"] == case.code
        assert answer.json["error"]
    assert "X-Injected" not in answer.headers
    assert world.look() == before


@pytest.mark.parametrize("name", corpus())
def test_a_hostile_request(world: World, canaries: Canaries, name: str) -> None:
    ask(world, corpus()[name], canaries)


def test_there_are_enough_of_them() -> None:
    assert len(corpus()) >= 150


@pytest.mark.parametrize("status", ["succeeded", "pending", "requires_action"])
def test_a_replayed_event_changes_nothing(world: World, canaries: Canaries, status: str) -> None:
    """The same again, or an older one late."""
    body, headers = signed_event(world.event(status), WEBHOOK_SECRET)
    for _ in range(2):
        ask(world, Case("POST", webhooks.PATH, 200, None, tuple(headers.items()), body), canaries)


def test_an_event_replayed_after_its_time(world: World, canaries: Canaries) -> None:
    import time

    body, headers = signed_event(world.event("failed"), WEBHOOK_SECRET, timestamp=int(time.time()) - 301)
    case = Case("POST", webhooks.PATH, 400, "invalid_request", tuple(headers.items()), body)
    ask(world, case, canaries)


def test_the_purchase_that_they_attack_could_be_refunded(world: World) -> None:
    """Or else a request that gets through would not show."""
    found = world.database.purchases.find_one(
        {"status": "completed", "stripePaymentIntentId": world.intents["completed"]}
    )
    assert str(found["_id"]) in tokens.REFUND
    assert world.sandbox.payment_intent(world.intents["completed"])["status"] == "succeeded"
    assert REFUNDED not in tokens.REFUND

"""Hostile requests: each gets the expected response, and changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from flask_refunds.testing import StripeSandbox, signed_event
from tests.canaries import WEBHOOK_SECRET, Canaries
from tests.hostile import inputs, tokens, webhooks
from tests.hostile.targets import ADMIN, PREFIX, REFUNDED, SETTLED, Case, Targets
from tests.mongod import TestServer


def corpus() -> dict[str, Case]:
    """Return the cases by name, with new tokens and signatures, because these expire."""
    pairs = [*tokens.cases(), *inputs.cases(), *webhooks.cases()]
    named = dict(pairs)
    assert len(named) == len(pairs), "two cases have one name"
    return named


@pytest.fixture(scope="module")
def targets(mongo_server: TestServer) -> Iterator[Targets]:
    name = f"refunds_hostile_{uuid.uuid4().hex[:12]}"
    with pymongo.MongoClient(mongo_server.uri(name), tz_aware=True) as client, StripeSandbox() as sandbox:
        targets = Targets(client.get_default_database(), sandbox)
        targets.populate()
        settle(targets)
        yield targets
        client.drop_database(name)


def settle(targets: Targets) -> None:
    """Make a refund and send its event, which tests can replay."""
    client = targets.apps["shop"].test_client()
    headers = dict(tokens.bearer(tokens.valid_token(ADMIN)))
    assert client.post(f"{PREFIX}/admin/refund/{SETTLED}", headers=headers).status_code == 200
    body, signature = signed_event(targets.event(), WEBHOOK_SECRET)
    assert client.post(f"{PREFIX}{webhooks.PATH}", data=body, headers=signature).status_code == 200


@pytest.fixture
def canaries() -> Iterator[Canaries]:
    with Canaries() as canaries:
        yield canaries
    assert canaries.hits == []
    assert canaries.answers


def send(targets: Targets, case: Case, canaries: Canaries) -> None:
    """Send a request, and check its response and that nothing changed."""
    before = targets.snapshot()
    client = targets.apps[case.app].test_client()
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
    assert targets.snapshot() == before


@pytest.mark.parametrize("name", corpus())
def test_hostile_request_is_rejected_and_changes_nothing(
    targets: Targets, canaries: Canaries, name: str
) -> None:
    send(targets, corpus()[name], canaries)


def test_corpus_has_at_least_150_requests() -> None:
    assert len(corpus()) >= 150


def test_replayed_event_changes_nothing(targets: Targets, canaries: Canaries) -> None:
    body, headers = signed_event(targets.event(), WEBHOOK_SECRET)
    for _ in range(2):
        send(targets, Case("POST", webhooks.PATH, 200, None, tuple(headers.items()), body), canaries)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "pending"},
        {"status": "failed", "failure_reason": "\ud800"},
        {"status": "completed"},
        {"status": {"$gt": ""}},
        {"status": "pending", "amount": 10**30, "currency": None},
        {"status": "pending", "amount": "1", "created": float("inf")},
        {"status": "failed", "metadata": {"refund_id": {"$ne": None}}, "charge": {"amount_captured": 1}},
    ],
)
def test_event_that_disagrees_with_stripe_only_causes_a_read(
    targets: Targets, canaries: Canaries, changes: dict[str, Any]
) -> None:
    documents, requests, refunds = targets.snapshot()
    body, headers = signed_event(targets.event(**changes), WEBHOOK_SECRET)
    answer = targets.apps["shop"].test_client().post(f"{PREFIX}{webhooks.PATH}", data=body, headers=headers)
    canaries.inspect(answer.status_code, answer.headers.items(), answer.get_data())
    assert answer.status_code == 200
    after, requests_after, refunds_after = targets.snapshot()
    for record in [*documents["flask_refunds"], *after["flask_refunds"]]:
        for note in ("unreadSince", "lookedAt", "purchasesVerified"):  # so that it is read again later
            record.pop(note, None)
    assert (after, refunds_after) == (documents, refunds)
    [read] = requests_after[len(requests) :]
    assert (read.method, read.path) == ("GET", f"/v1/refunds/{refunds[0]['id']}")


def test_event_replayed_after_five_minutes_is_rejected(targets: Targets, canaries: Canaries) -> None:
    import time

    body, headers = signed_event(targets.event("failed"), WEBHOOK_SECRET, timestamp=int(time.time()) - 301)
    case = Case("POST", webhooks.PATH, 400, "invalid_request", tuple(headers.items()), body)
    send(targets, case, canaries)


def test_attacked_purchase_is_refundable(targets: Targets) -> None:
    """Otherwise a successful attack wouldn't change anything."""
    found = targets.database.purchases.find_one(
        {"status": "completed", "stripePaymentIntentId": targets.intents["completed"]}
    )
    assert str(found["_id"]) in tokens.REFUND
    assert targets.sandbox.payment_intent(targets.intents["completed"])["status"] == "succeeded"
    assert REFUNDED not in tokens.REFUND

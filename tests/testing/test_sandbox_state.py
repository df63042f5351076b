"""A sandbox's objects as JSON: another sandbox continues where the first one was."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_refunds.testing import Cards, StripeSandbox
from flask_refunds.testing.state import _OBJECTS, _SETS
from tests.testing.http_client import HttpClient

DAY = 86400


@pytest.fixture
def continued() -> Iterator[Callable[..., StripeSandbox]]:
    """Return a function that loads a sandbox's objects into a new sandbox."""
    with contextlib.ExitStack() as stack:

        def load(sandbox: StripeSandbox, **options: Any) -> StripeSandbox:
            other = stack.enter_context(StripeSandbox())
            other.load(json.loads(json.dumps(sandbox.dump())), **options)
            return other

        yield load


def test_everything_is_the_same_in_another_sandbox(
    sandbox: StripeSandbox, continued: Callable[..., StripeSandbox]
) -> None:
    platform = sandbox.create_payment(2000, transfer_to="acct_1", application_fee_amount=100)
    direct = sandbox.create_payment(900, account="acct_2", card=Cards.REFUND_PENDING)
    held = sandbox.create_payment(3000, capture="manual")
    sandbox.capture(held, 1000, api_version="2024-06-20")
    disputed = sandbox.create_payment(700, card=Cards.DISPUTED)
    sandbox.dashboard_refund(platform, 500)
    sandbox.dashboard_refund(direct)
    hidden = sandbox.create_payment(100)
    sandbox.hide(hidden)
    sandbox.create_checkout_session(disputed)
    sandbox.create_payment(300, intent=False)
    sandbox.advance(60)

    other = continued(sandbox)
    for payment in (platform, direct, held, disputed):
        assert other.payment_intent(payment) == sandbox.payment_intent(payment)
        assert other.charge(payment) == sandbox.charge(payment)
        assert other.refunds(payment) == sandbox.refunds(payment)
        assert other.money_refunded(payment) == sandbox.money_refunded(payment)
    assert other.events == sandbox.events
    assert other.thin_events == sandbox.thin_events
    assert other.transfer(platform) == sandbox.transfer(platform)
    assert other.application_fee(platform) == sandbox.application_fee(platform)
    dumped, again = sandbox.dump(), other.dump()
    for each in (dumped, again):
        del each["now"]
        for account in each["accounts"]:
            for platform_or_connected in (account, *account["connected"].values()):
                for event in platform_or_connected["events"]:
                    del event["sequence"]
                for transition in platform_or_connected["delayed"]:
                    del transition["sequence"]
    assert again == dumped


def test_every_kind_of_object_is_dumped(sandbox: StripeSandbox) -> None:
    account = sandbox._accounts[False]
    kinds = {name for name, value in vars(account).items() if isinstance(value, (dict, list, set))}
    made_from_others = {"_refunds_of", "_refund_origins", "_cards", "connected_accounts"}
    made_by_this_process = {"webhook_endpoints", "event_destinations"}
    assert kinds == {*_OBJECTS, *_SETS, *made_from_others, *made_by_this_process}


def test_life_goes_on_in_the_other_sandbox(
    sandbox: StripeSandbox, continued: Callable[..., StripeSandbox]
) -> None:
    payment = sandbox.create_payment(900, card=Cards.REFUND_PENDING)
    sandbox.dashboard_refund(payment, 400)
    other = continued(sandbox)
    before = len(other.events)
    other.advance(3600)
    other.dashboard_refund(payment, 500)
    assert [refund["status"] for refund in other.refunds(payment)] == ["succeeded", "pending"]
    assert other.charge(payment)["amount_refunded"] == 900
    new = [event["type"] for event in other.events[before:]]
    assert new == ["refund.updated", "charge.refund.updated", "refund.created", "charge.refunded"]
    assert [refund["status"] for refund in sandbox.refunds(payment)] == ["pending"]


def test_idempotency_key_still_replays(
    sandbox: StripeSandbox, continued: Callable[..., StripeSandbox], payment: str
) -> None:
    request = {"payment_intent": payment, "amount": 700}
    with contextlib.closing(HttpClient(sandbox.url)) as client:
        first = client.post("/v1/refunds", request, key="k")
    other = continued(sandbox)
    with contextlib.closing(HttpClient(other.url)) as client:
        second = client.post("/v1/refunds", request, key="k")
    assert second.json == first.json
    assert second.headers["Idempotent-Replayed"] == "true"
    assert other.money_refunded(payment) == 700


def test_time_continues_or_goes_back(sandbox: StripeSandbox, continued: Callable[..., StripeSandbox]) -> None:
    sandbox.advance(DAY)
    dumped = sandbox.dump()
    assert abs(continued(sandbox).now() - time.time() - DAY) < 60
    dumped["now"] -= 30 * DAY  # a file of the last month
    sandbox.load(dumped, at_its_time=True)
    assert abs(sandbox.now() - time.time() + 29 * DAY) < 60


def test_registered_webhooks_are_kept(sandbox: StripeSandbox) -> None:
    received: list[dict[str, Any]] = []
    sandbox.add_webhook("https://shop.example/hook", "whsec_1", receive=received.append)
    sandbox.load(StripeSandbox().dump())
    sandbox.create_payment(500)
    assert received
    assert len(sandbox.dump()["accounts"][0]["events"]) == len(received)
    with contextlib.closing(HttpClient(sandbox.url)) as client:
        assert len(client.get("/v1/webhook_endpoints").json["data"]) == 1

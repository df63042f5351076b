"""Signals: what receivers get, and when they count as called."""

from __future__ import annotations

import asyncio
import functools
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import mongomock
import pytest
from flask import Flask

from flask_refunds import refund_failed, refund_succeeded
from flask_refunds.models import RefundStatus
from flask_refunds.signals import SignalSender
from flask_refunds.testing import StripeSandbox
from tests.shop import Shop, make_app
from tests.unit.refund_harness import make_refund


@pytest.fixture
def refund_with_receiver(mock_shop: Shop, sandbox: StripeSandbox) -> Iterator[Callable[..., Any]]:
    """Connect a receiver, make a refund that succeeds, and return its record."""
    connected: list[Any] = []

    def refund_with_receiver(receiver: Any) -> Any:
        refund_succeeded.connect(receiver, sender=mock_shop.app)
        connected.append(receiver)
        answer = mock_shop.refund(mock_shop.add_purchase(sandbox.create_payment(1999)))
        assert (answer.status_code, answer.get_json()["message"]) == (200, "Refund successful")
        [record] = mock_shop.records()
        assert record["status"] == "succeeded"
        return record

    yield refund_with_receiver
    for receiver in connected:
        refund_succeeded.disconnect(receiver)


def test_receiver_gets_the_app_the_refund_and_its_id(
    mock_shop: Shop, refund_with_receiver: Callable[..., Any]
) -> None:
    received: list[Any] = []

    def receiver(sender: Flask, **payload: Any) -> None:
        received.append((sender, payload))

    record = refund_with_receiver(receiver)
    [(sender, payload)] = received
    assert sender is mock_shop.app
    assert payload.keys() == {"refund", "refund_id"}
    assert payload["refund_id"] == payload["refund"].id == record["_id"]
    assert record["signalsSent"]


def _wrap_in_a_function(work: Callable[..., Awaitable[None]]) -> Any:
    def receiver(*args: Any, **payload: Any) -> Awaitable[None]:
        return work(*args, **payload)

    return receiver


class _Callable:
    def __init__(self, work: Callable[..., Awaitable[None]]) -> None:
        self._work = work

    async def __call__(self, *args: Any, **payload: Any) -> None:
        await self._work(*args, **payload)


AWAITED = {
    "coroutine function": lambda work: work,
    "partial": functools.partial,
    "callable object": _Callable,
    "function that gives a coroutine": _wrap_in_a_function,
}


@pytest.mark.parametrize("kind", AWAITED)
def test_async_receiver_is_awaited(refund_with_receiver: Callable[..., Any], kind: str) -> None:
    received: list[str] = []

    async def work(sender: Flask, refund_id: str, **extra: Any) -> None:
        await asyncio.sleep(0)
        received.append(refund_id)

    record = refund_with_receiver(AWAITED[kind](work))
    assert received == [record["_id"]]
    assert record["signalsSent"]


async def _raises(*args: Any, **payload: Any) -> None:
    raise RuntimeError


async def _is_canceled(*args: Any, **payload: Any) -> None:
    raise asyncio.CancelledError


def _raises_at_once(*args: Any, **payload: Any) -> None:
    raise RuntimeError


def _wants_no_refund_id(sender: Flask, refund: Any) -> None:
    raise AssertionError("called")


@pytest.mark.parametrize("receiver", [_raises, _is_canceled, _raises_at_once, _wants_no_refund_id])
def test_receiver_that_did_not_return_leaves_signals_unsent(
    refund_with_receiver: Callable[..., Any], receiver: Any
) -> None:
    assert not refund_with_receiver(receiver)["signalsSent"]


@pytest.mark.parametrize("obstacle", ["no asgiref", "a running loop"])
def test_coroutine_that_cannot_be_awaited_leaves_signals_unsent(
    sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    app = make_app(REFUNDS_MONGO=mongomock.MongoClient(tz_aware=True).shop, STRIPE_API_BASE=sandbox.url)
    received: list[str] = []

    async def receiver(sender: Flask, refund_id: str, **extra: Any) -> None:
        received.append(refund_id)

    def send() -> bool:
        return SignalSender(app).send(make_refund(id="pi_1:1", status=RefundStatus.FAILED))

    async def send_in_a_loop() -> bool:
        return send()

    with (
        refund_failed.connected_to(receiver, sender=app),
        warnings.catch_warnings(record=True) as warned,
    ):
        if obstacle == "no asgiref":
            monkeypatch.setitem(sys.modules, "asgiref.sync", None)
            assert send() is False
        else:
            assert asyncio.run(send_in_a_loop()) is False
    assert received == []
    assert [str(each.message) for each in warned] == []

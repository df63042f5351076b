"""Who is told, and when he counts as told."""

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
from flask_refunds.signals import SignalSender
from flask_refunds.testing import StripeSandbox
from tests.shop import Shop, make_app
from tests.unit.test_rendering import REFUND


@pytest.fixture
def telling(mock_shop: Shop, sandbox: StripeSandbox) -> Iterator[Callable[..., Any]]:
    """Connects a receiver, makes a refund that succeeds, and gives its row."""
    connected: list[Any] = []

    def telling(receiver: Any) -> Any:
        refund_succeeded.connect(receiver, sender=mock_shop.app)
        connected.append(receiver)
        answer = mock_shop.refund(mock_shop.add_purchase(sandbox.create_payment(1999)))
        assert (answer.status_code, answer.get_json()["message"]) == (200, "Refund successful")
        [row] = mock_shop.records()
        assert row["status"] == "succeeded"
        return row

    yield telling
    for receiver in connected:
        refund_succeeded.disconnect(receiver)


def test_the_payload(mock_shop: Shop, telling: Callable[..., Any]) -> None:
    heard: list[Any] = []

    def receiver(sender: Flask, **payload: Any) -> None:
        heard.append((sender, payload))

    row = telling(receiver)
    [(sender, payload)] = heard
    assert sender is mock_shop.app
    assert payload.keys() == {"refund", "refund_id"}
    assert payload["refund_id"] == payload["refund"].id == row["_id"]
    assert row["signals_sent"]


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
def test_an_async_receiver_runs_to_its_end(telling: Callable[..., Any], kind: str) -> None:
    heard: list[str] = []

    async def work(sender: Flask, refund_id: str, **extra: Any) -> None:
        await asyncio.sleep(0)
        heard.append(refund_id)

    row = telling(AWAITED[kind](work))
    assert heard == [row["_id"]]
    assert row["signals_sent"]


async def _raises(*args: Any, **payload: Any) -> None:
    raise RuntimeError


async def _is_canceled(*args: Any, **payload: Any) -> None:
    raise asyncio.CancelledError


def _raises_at_once(*args: Any, **payload: Any) -> None:
    raise RuntimeError


def _wants_no_refund_id(sender: Flask, refund: Any) -> None:
    raise AssertionError("called")


@pytest.mark.parametrize("receiver", [_raises, _is_canceled, _raises_at_once, _wants_no_refund_id])
def test_who_did_not_run_to_his_end_is_not_told(telling: Callable[..., Any], receiver: Any) -> None:
    assert not telling(receiver)["signals_sent"]


@pytest.mark.parametrize("obstacle", ["no asgiref", "a running loop"])
def test_a_coroutine_that_cannot_be_awaited_is_not_told(
    sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    app = make_app(REFUNDS_MONGO=mongomock.MongoClient(tz_aware=True).shop, STRIPE_API_BASE=sandbox.url)
    heard: list[str] = []

    async def receiver(sender: Flask, refund_id: str, **extra: Any) -> None:
        heard.append(refund_id)

    def announce() -> bool:
        return SignalSender(app).announce(REFUND)

    async def announce_in_a_loop() -> bool:
        return announce()

    with (
        refund_failed.connected_to(receiver, sender=app),
        warnings.catch_warnings(record=True) as warned,
    ):
        if obstacle == "no asgiref":
            monkeypatch.setitem(sys.modules, "asgiref.sync", None)
            assert announce() is False
        else:
            assert asyncio.run(announce_in_a_loop()) is False
    assert heard == []
    assert [str(each.message) for each in warned] == []

"""What the log is told of each step, to the letter."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flask_refunds.errors import (
    DatabaseUnavailable,
    RefundFailed,
)
from flask_refunds.models import RefundStatus
from flask_refunds.storage.ledger import Ledger
from tests.told import Told
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, error_object, lost, refund_object
from tests.unit.world import (
    CREATE,
    LIST,
    RETRIEVE,
    WHOLE,
    World,
    fact,
    freeze_after_opening,
    listed,
    news_from_elsewhere,
    open_row,
)

BY = {"refund_id": REFUND_ID, "by": "endpoint:admin"}
OPENED = {"event": "refund_opened", "reason": None, **BY}


def test_what_is_told_of_an_unknown_outcome(world: World, told: Told) -> None:
    def unknown(code: str, request_id: str | None) -> dict[str, Any]:
        return {"event": "outcome_unknown", "code": code, "stripe_request_id": request_id, **BY}

    world.refund((*CREATE, lost()))
    assert told() == [OPENED, unknown("APIConnectionError", None)]
    for calls, code in ((2, "api_error"), (3, "lock_timeout")):
        world.refund((*LIST, (500, error_object(code, "api_error"))))
        resumed = {"event": "refund_resumed", "calls": calls, **BY}
        assert told() == [resumed, unknown(code, f"req_{calls}")]


def test_what_is_told_of_a_call_that_was_frozen(
    world: World, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_after_opening(world, monkeypatch, timedelta(seconds=60))
    world.refund()
    lost_lease = {"event": "outcome_unknown", "code": "lease_lost", "stripe_request_id": None, **BY}
    assert told() == [OPENED, lost_lease]


def away(*args: Any, **kwargs: Any) -> Any:
    """A database that cannot be reached."""
    raise DatabaseUnavailable


def test_what_is_told_where_the_database_could_not_note_it(
    world: World, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "climb", away)
    assert world.refund((*CREATE, (200, refund_object()))).refund.status is RefundStatus.PROCESSING
    assert told() == [OPENED, {"event": "ledger_behind", "error": "DatabaseUnavailable", **BY}]


def test_what_is_told_of_a_lease_that_is_kept(
    world: World, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "release", away)
    world.refund((*CREATE, lost()))
    assert told()[2:] == [{"event": "lease_kept", "refund_id": REFUND_ID}]


def test_what_is_told_where_the_database_could_not_note_that_receivers_heard(
    world: World, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.listen()
    open_row(world)
    heard = world.books.apply(world.row(), fact("pending"), by="webhook")
    assert heard == world.row()
    assert heard.announced is True
    told()
    monkeypatch.setattr(Ledger, "mark_announced", away)
    unsaid = world.books.apply(world.row(), fact("succeeded"), by="webhook")
    assert unsaid.announced is False
    assert told()[1:] == [{"event": "receivers_again", "refund_id": REFUND_ID}]


def test_what_is_told_where_stripe_does_not_say(world: World, told: Told) -> None:
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    told()
    world.refund((*RETRIEVE, lost()))
    assert told() == [{"event": "stripe_unanswered", "refund_id": REFUND_ID, "code": "APIConnectionError"}]


def test_what_is_told_of_a_refund_made_anew(world: World, told: Told) -> None:
    world.refund((*CREATE, (200, refund_object())))
    world.books.apply(world.row(), fact("failed"), by="webhook")
    settled = {
        "event": "refund_status",
        "status": "succeeded",
        "code": None,
        "amount": 1999,
        "currency": "usd",
        "stripe_refund_id": "re_1",
        "stripe_request_id": "req_1",
        **BY,
    }
    failed = {**settled, "status": "failed", "code": "unknown", "by": "webhook"}
    why = {
        "event": "attention_asked",
        "refund_id": REFUND_ID,
        "status": "failed",
        "why": "failed_after_success",
    }
    assert told() == [OPENED, settled, failed, why]
    world.stripe.script[:] = [(*CREATE, (400, error_object("charge_disputed")))]
    with pytest.raises(RefundFailed):
        world.service.refund(world.cart[0], WHOLE)
    second = {**BY, "refund_id": f"{PAYMENT}:2"}
    assert told() == [
        {"event": "refund_opened", "reason": "duplicate", **second},
        {"event": "refund_resolved", "status": "failed", **BY},
        {"event": "refund_refused", "code": "charge_disputed", "stripe_request_id": "req_2", **second},
    ]


def test_what_is_told_of_a_refund_from_elsewhere(world: World, told: Told) -> None:
    news_from_elsewhere(world)
    assert told() == [
        {
            "event": "refund_recorded",
            "refund_id": REFUND_ID,
            "status": "succeeded",
            "code": None,
            "amount": 1999,
            "currency": "usd",
            "by": "webhook",
            "stripe_refund_id": "re_1",
            "stripe_request_id": "req_1",
        }
    ]


def test_who_resumes_a_refund_is_named(world: World, told: Told) -> None:
    world.refund((*CREATE, lost()))
    told()
    world.stripe.script[:] = [listed(refund_object())]
    world.service.resume(world.row(), by="reconcile")
    resumed, settled = told()
    assert resumed == {"event": "refund_resumed", "refund_id": REFUND_ID, "by": "reconcile", "calls": 2}
    assert (settled["event"], settled["by"]) == ("refund_status", "reconcile")
    assert world.row().history[-1]["by"] == "reconcile"

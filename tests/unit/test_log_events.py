"""Log events of the refund protocol, field by field."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from flask_refunds.errors import (
    DatabaseUnavailable,
    RefundFailed,
)
from flask_refunds.log import LogEvent, log_event
from flask_refunds.models import RefundStatus
from flask_refunds.storage.ledger import Ledger
from tests.log_records import LogRecords
from tests.unit.refund_harness import (
    CREATE,
    FULL_REQUEST,
    LIST,
    RETRIEVE,
    RefundHarness,
    create_record,
    listed,
    record_external_refund,
    stripe_refund,
    suspend_after_creating,
)
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, error_object, lost, refund_object

BY = {"refund_id": REFUND_ID, "actor": "api:admin"}
OPENED = {"event": "refund_created", "reason": None, **BY}


def test_unknown_outcome_is_logged_with_code_and_request_id(
    harness: RefundHarness, log_records: LogRecords
) -> None:
    def unknown(code: str, request_id: str | None) -> dict[str, Any]:
        return {"event": "outcome_unknown", "code": code, "stripe_request_id": request_id, **BY}

    harness.refund((*CREATE, lost()))
    assert log_records() == [OPENED, unknown("connection_failed", None)]
    for calls, code in ((2, "api_error"), (3, "lock_timeout")):
        harness.refund((*LIST, (500, error_object(code, "api_error"))))
        resumed = {"event": "refund_resumed", "attempts": calls, **BY}
        assert log_records() == [resumed, unknown(code, f"req_{calls}")]


def test_lost_lease_is_logged_as_unknown_outcome(
    harness: RefundHarness, log_records: LogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspend_after_creating(harness, monkeypatch, timedelta(seconds=60))
    harness.refund()
    lost_lease = {"event": "outcome_unknown", "code": "lease_lost", "stripe_request_id": None, **BY}
    assert log_records() == [OPENED, lost_lease]


def away(*args: Any, **kwargs: Any) -> Any:
    """Replace a database operation with one that fails."""
    raise DatabaseUnavailable


def test_failed_ledger_update_is_logged_with_its_error(
    harness: RefundHarness, log_records: LogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "advance", away)
    assert harness.refund((*CREATE, (200, refund_object()))).refund.status is RefundStatus.PROCESSING
    assert log_records() == [OPENED, {"event": "ledger_update_failed", "error": "DatabaseUnavailable", **BY}]


def test_failed_lease_release_is_logged(
    harness: RefundHarness, log_records: LogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "release_lease", away)
    harness.refund((*CREATE, lost()))
    assert log_records()[2:] == [{"event": "lease_release_failed", "refund_id": REFUND_ID}]


def test_unstored_signal_delivery_is_logged_as_redelivery(
    harness: RefundHarness, log_records: LogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.connect_receivers()
    create_record(harness)
    received = harness.transitions.apply(harness.record(), stripe_refund("pending"), actor="webhook")
    assert received == harness.record()
    assert received.signals_sent is True
    log_records()
    monkeypatch.setattr(Ledger, "mark_signals_sent", away)
    unsaid = harness.transitions.apply(harness.record(), stripe_refund("succeeded"), actor="webhook")
    assert unsaid.signals_sent is False
    assert log_records()[1:] == [{"event": "signal_redelivery_scheduled", "refund_id": REFUND_ID}]


def test_failed_stripe_request_is_logged_with_its_code(
    harness: RefundHarness, log_records: LogRecords
) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    log_records()
    harness.refund((*RETRIEVE, lost()))
    assert log_records() == [
        {"event": "stripe_request_failed", "refund_id": REFUND_ID, "code": "connection_failed"}
    ]


def test_failed_and_repeated_refund_is_logged_step_by_step(
    harness: RefundHarness, log_records: LogRecords
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), stripe_refund("failed"), actor="webhook")
    settled = {
        "event": "refund_status_changed",
        "status": "succeeded",
        "code": None,
        "amount": 1999,
        "currency": "usd",
        "stripe_refund_id": "re_1",
        "stripe_request_id": "req_1",
        **BY,
    }
    failed = {**settled, "status": "failed", "code": "unknown", "actor": "webhook"}
    why = {
        "event": "refund_needs_review",
        "refund_id": REFUND_ID,
        "status": "failed",
        "code": "failed_after_success",
    }
    assert log_records() == [OPENED, settled, failed, why]
    harness.stripe.script[:] = [(*CREATE, (400, error_object("charge_disputed")))]
    with pytest.raises(RefundFailed):
        harness.service.refund(harness.cart[0], FULL_REQUEST)
    second = {**BY, "refund_id": f"{PAYMENT}:2"}
    assert log_records() == [
        {"event": "refund_created", "reason": "duplicate", **second},
        {"event": "refund_rejected", "code": "charge_disputed", "stripe_request_id": "req_2", **second},
    ]


def test_external_refund_is_logged(harness: RefundHarness, log_records: LogRecords) -> None:
    record_external_refund(harness)
    assert log_records() == [
        {
            "event": "external_refund_recorded",
            "refund_id": f"{PAYMENT}:re_1",
            "status": "succeeded",
            "code": None,
            "amount": 1999,
            "currency": "usd",
            "actor": "webhook",
            "stripe_refund_id": "re_1",
            "stripe_request_id": "req_1",
        }
    ]


def test_resumed_refund_is_logged_with_the_actor(harness: RefundHarness, log_records: LogRecords) -> None:
    harness.refund((*CREATE, lost()))
    log_records()
    harness.stripe.script[:] = [listed(refund_object()), (*RETRIEVE, (200, refund_object()))]
    harness.service.resume(harness.record(), actor="reconcile")
    resumed, settled = log_records()
    assert resumed == {"event": "refund_resumed", "refund_id": REFUND_ID, "actor": "reconcile", "attempts": 2}
    assert (settled["event"], settled["actor"]) == ("refund_status_changed", "reconcile")
    assert harness.record().history[-1]["actor"] == "reconcile"


@pytest.mark.parametrize("name", ["identity", "purchase_id"])
def test_id_that_is_an_email_address_is_hashed(log_records: LogRecords, name: str) -> None:
    log_event(LogEvent.BULK_ITEM_FAILED, **{name: "eve@shop.example"})
    [fields] = log_records()
    assert re.fullmatch("sha256-[0-9a-f]{12}", fields[name])

"""EventHandler: which events concern this app, and what it retrieves for thin ones."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.core.webhook_events import EventHandler
from flask_refunds.errors import InvalidRequest, StripeUnavailable
from flask_refunds.models import RefundStatus
from tests.unit.refund_harness import CREATE, RETRIEVE, RefundHarness, listed
from tests.unit.stripe_stub import PAYMENT, error_object, lost, refund_object


@pytest.fixture
def handler(harness: RefundHarness) -> EventHandler:
    return EventHandler(harness.stripe_sync, livemode=False)


def thin(kind: str, related_id: str, **fields: Any) -> dict[str, Any]:
    """Return a thin event (https://docs.stripe.com/event-destinations)."""
    return {
        "id": "evt_test_65",
        "object": "v2.core.event",
        "type": kind,
        "livemode": False,
        "created": "2026-10-14T09:27:55.000Z",
        "context": None,
        "related_object": {"id": related_id, "type": kind.split(".")[1], "url": f"/v1/refunds/{related_id}"},
    } | fields


def snapshot(kind: str, obj: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "object": "event",
        "type": kind,
        "livemode": False,
        "data": {"object": obj},
    } | fields


def handle(harness: RefundHarness, handler: EventHandler, event: Any, *script: Any) -> bool:
    harness.stripe.script[:] = script
    try:
        return handler.handle(event)
    finally:
        harness.stripe.assert_done()


@pytest.mark.parametrize("kind", ["v1.refund.created", "v1.refund.updated", "v1.refund.failed"])
def test_thin_refund_event_retrieves_the_refund_and_applies_it(
    harness: RefundHarness, handler: EventHandler, kind: str
) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    assert handle(harness, handler, thin(kind, "re_1"), *[(*RETRIEVE, (200, refund_object()))] * 2)
    assert harness.record().status is RefundStatus.SUCCEEDED
    assert harness.statuses() == {"refunded"}


def test_thin_charge_event_lists_the_refunds_of_its_payment(
    harness: RefundHarness, handler: EventHandler
) -> None:
    charge = ("GET", "/v1/charges/ch_7", (200, {"object": "charge", "payment_intent": PAYMENT}))
    event, external = thin("v1.charge.refunded", "ch_7"), refund_object(metadata={})
    assert handle(harness, handler, event, charge, listed(external), (*RETRIEVE, (200, external)))
    assert harness.record("re_1").source == "external"


@pytest.mark.parametrize(
    "answer", [(404, error_object("resource_missing")), (200, refund_object(payment_intent="pi_x"))]
)
def test_thin_event_of_another_payment_is_ignored(
    harness: RefundHarness, handler: EventHandler, answer: Any
) -> None:
    assert not handle(harness, handler, thin("v1.refund.updated", "re_1"), (*RETRIEVE, answer))
    assert harness.db.flask_refunds.count_documents({}) == 0


@pytest.mark.parametrize(
    "answer",
    [lost(), (500, error_object("", "api_error")), (401, error_object("")), (400, error_object("other"))],
)
def test_thin_event_that_cannot_be_retrieved_must_be_sent_again(
    harness: RefundHarness, handler: EventHandler, answer: Any
) -> None:
    with pytest.raises(StripeUnavailable):
        handle(harness, handler, thin("v1.refund.updated", "re_1"), (*RETRIEVE, answer))


def test_thin_event_without_related_object_is_malformed(handler: EventHandler) -> None:
    with pytest.raises(InvalidRequest):
        handler.handle(thin("v1.refund.updated", "re_1", related_object=None))


FOREIGN: dict[str, Any] = {
    "ping": thin("v2.core.event_destination.ping", "ed_1"),
    "thin event of another type": thin("v1.billing.meter.no_meter_found", "m_1"),
    "type without an object": {"type": "customer.created"},
    "live event at a test endpoint": snapshot("refund.updated", refund_object(), livemode=True),
    "event of a connected account": snapshot("refund.updated", refund_object(), account="acct_9"),
    "thin event of a connected account": thin("v1.refund.updated", "re_1", context="acct_9"),
    "other type of the other mode": snapshot("customer.created", {"object": "customer"}, livemode=True),
}


@pytest.mark.parametrize("event", FOREIGN.values(), ids=FOREIGN)
def test_event_that_is_not_this_apps_is_ignored_without_a_request(
    harness: RefundHarness, handler: EventHandler, event: Any
) -> None:
    assert handle(harness, handler, event) is False


@pytest.mark.parametrize(
    "event", [{}, {"type": 3}, {"type": "refund.updated"}, snapshot("refund.updated", {}, livemode="no")]
)
def test_body_without_the_fields_of_an_event_is_malformed(handler: EventHandler, event: Any) -> None:
    with pytest.raises(InvalidRequest):
        handler.handle(event)

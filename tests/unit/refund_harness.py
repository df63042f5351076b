"""The protocol's harness: a ledger on mongomock, a scripted Stripe, and a clock that the test steps."""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import mongomock
import pytest
from bson import ObjectId

from flask_refunds.clock import Deadline
from flask_refunds.core.payments import PaymentResolver
from flask_refunds.core.service import RefundService
from flask_refunds.core.stripe_options import StripeOptions
from flask_refunds.core.stripe_sync import StripeSync
from flask_refunds.core.transitions import RefundTransitions
from flask_refunds.instrumentation import Observers
from flask_refunds.metrics.aggregation import MetricsQuery
from flask_refunds.metrics.report import MetricsReport
from flask_refunds.models import (
    Failure,
    Mark,
    RefundRecord,
    RefundRequest,
    RefundStatus,
    ReviewCode,
    StripeRefund,
)
from flask_refunds.purchase_fields import PurchaseFields
from flask_refunds.refund_details import NO_DETAILS
from flask_refunds.signals import (
    SignalSender,
    refund_failed,
    refund_needs_review,
    refund_pending,
    refund_succeeded,
)
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.purchases import Purchases
from flask_refunds.storage.references import References
from flask_refunds.stripe_client.gateway import Gateway
from tests.unit.stripe_stub import PAYMENT, StubTransport, refund_key, refund_object

CREATE = ("POST", "/v1/refunds")
LIST = ("GET", "/v1/refunds")
RETRIEVE = ("GET", "/v1/refunds/re_1")
REQUEST = RefundRequest(requested_by="admin", source="api")
FULL_REQUEST = replace(REQUEST, reason="duplicate", note="paid twice")
START = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)
ALL_SIGNALS = (refund_succeeded, refund_pending, refund_failed, refund_needs_review)


class RefundHarness:
    """A ledger, two purchases of one payment, a scripted Stripe, and receivers that record signals."""

    def __init__(self) -> None:
        self.now = START
        self.app = object()
        self.signals: list[tuple[str, str]] = []
        self.observed: list[tuple[str, str]] = []
        self.db = mongomock.MongoClient(tz_aware=True).shop
        self.stripe = StubTransport([], clock=lambda: self.now)
        self.cart = [ObjectId(), ObjectId()]
        for purchase in self.cart:
            self.db.purchases.insert_one(
                {"_id": purchase, "status": "completed", "stripePaymentIntentId": PAYMENT}
            )
        self.gateway = gateway = Gateway("sk_test_1", "https://stripe.test", retries=0, transport=self.stripe)
        signal_sender = SignalSender(self.app)
        lease = timedelta(seconds=60)
        self.references = References(self.db.references)
        self.purchases = purchases = Purchases(
            self.db.purchases, self.db.flask_refunds, self.references, PurchaseFields()
        )
        self.ledger = Ledger(self.db.flask_refunds, lambda: self.now, lease, signal_sender.has_listeners)
        observers = Observers()
        observers.add(self)
        self.transitions = RefundTransitions(self.ledger, purchases, signal_sender, observers)
        payments = PaymentResolver(purchases, lambda: gateway)
        self.stripe_sync = StripeSync(self.ledger, purchases, payments, lambda: gateway, self.transitions)
        self.service = RefundService(
            ledger=self.ledger,
            purchases=purchases,
            payments=payments,
            options=StripeOptions({}, lambda: gateway),
            gateway=lambda: gateway,
            transitions=self.transitions,
            stripe_sync=self.stripe_sync,
            clock=lambda: self.now,
        )

    def report(self) -> MetricsReport:
        collections = (self.db.flask_refunds, self.db.purchases)
        return MetricsQuery(*collections, lambda: self.now, PurchaseFields()).report()

    def refund(self, *script: Any) -> Any:
        self.stripe.script[:] = script
        try:
            return self.service.refund(self.cart[0], REQUEST)
        finally:
            self.stripe.assert_done()

    @property
    def marks(self) -> list[Mark]:
        return [Mark(each, "completed") for each in self.cart]

    def statuses(self) -> set[str]:
        return {purchase["status"] for purchase in self.db.purchases.find()}

    def record(self, number: int | str = 1) -> RefundRecord:
        return self.ledger.get(f"{PAYMENT}:{number}")

    def refund_changed(self, refund: RefundRecord) -> None:
        """Record a status as an observer."""
        self.observed.append((refund.id, refund.status.value))

    def stripe_request_finished(self, request: str, result: str, seconds: float) -> None: ...

    def connect_receivers(self) -> None:
        """Record every signal; the receivers live as long as this harness."""
        self.receivers = [self._hear_by(signal) for signal in ALL_SIGNALS]

    def _hear_by(self, signal: Any) -> Any:
        def receiver(app: Any, refund: RefundRecord, **extra: Any) -> None:
            self.signals.append((signal.name, refund.status.value))

        signal.connect(receiver, sender=self.app)
        return receiver


def stripe_refund(status: str, **fields: Any) -> StripeRefund:
    failure = Failure("unknown", "x") if status in ("failed", "canceled") else None
    whole = StripeRefund(
        "re_1", PAYMENT, RefundStatus(status), 1999, 1999, "usd", refund_key(), None, failure, START, "req_1"
    )
    return replace(whole, **{"charge": "ch_1", "livemode": False, **fields})


def make_refund(**fields: Any) -> RefundRecord:
    """Return a refund record with these fields; the others are ``None``."""
    fields.setdefault("details", NO_DETAILS)
    return RefundRecord(**{each.name: fields.get(each.name) for each in dataclass_fields(RefundRecord)})


def listed(*refunds: dict[str, Any]) -> Any:
    """Return the scripted request and answer of a payment's list of refunds."""
    return (*LIST, (200, {"object": "list", "data": list(refunds), "has_more": False}))


def create_record(harness: RefundHarness) -> RefundRecord:
    purchases: dict[str, Any] = {"purchase_ids": harness.cart, "to_mark": harness.marks}
    return harness.ledger.create(PAYMENT, 1, **purchases, request=REQUEST)


def suspend_after_creating(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch, how_long: timedelta
) -> None:
    """Let time pass between a call's record and its request to Stripe."""
    opened = Ledger.create

    def freeze(*args: Any, **kwargs: Any) -> RefundRecord:
        refund = opened(*args, **kwargs)
        harness.now += how_long
        return refund

    monkeypatch.setattr(Ledger, "create", freeze)


def record_external_refund(harness: RefundHarness) -> None:
    store(harness, "succeeded", metadata={})


def store(harness: RefundHarness, status: str, **fields: Any) -> RefundRecord:
    """Store a refund that Stripe shows with this status, as a webhook event brings it."""
    shown = refund_object(status=status, **fields)
    harness.stripe.script[:] = [("GET", f"/v1/refunds/{shown['id']}", (200, shown))]
    stored = harness.stripe_sync.upsert_from_event(shown["id"], PAYMENT, None, Deadline.after(10))
    harness.stripe.assert_done()
    return stored


def mark_failed_manually(harness: RefundHarness) -> RefundRecord | None:
    """Mark a refund with an unknown result as failed, as a person does."""
    create_record(harness)
    harness.now += timedelta(hours=25)
    harness.transitions.request_review(harness.record(), ReviewCode.UNKNOWN_TOO_LONG, actor="reconcile")
    harness.now += timedelta(minutes=1)
    return harness.transitions.mark_failed_manually(
        harness.record(), actor="cli:ann", comment="not at Stripe"
    )

"""The protocol, step by step, on mongomock, a scripted Stripe and a clock that the test steps."""

from __future__ import annotations

import contextlib
import itertools
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import mongomock
import pytest
from bson import ObjectId

from flask_refunds.books import Books
from flask_refunds.deadline import Deadline
from flask_refunds.errors import (
    DatabaseUnavailable,
    OutcomeUnknown,
    PaymentIntentMissing,
    PurchaseNotRefundable,
    RefundFailed,
    RefundInProgress,
    StripeKeyRejected,
    StripeRateLimited,
)
from flask_refunds.gateway import Gateway
from flask_refunds.intake import Intake
from flask_refunds.ledger import UNKNOWN_TOO_LONG, Ledger
from flask_refunds.models import Failure, Refund, RefundStatus, StripeRefund, is_refunded
from flask_refunds.observers import Observers
from flask_refunds.purchases import Purchases
from flask_refunds.service import Ask, RefundService
from flask_refunds.signals import Announcer, refund_attention, refund_failed, refund_pending, refund_succeeded
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, StubTransport, error_object, lost, refund_object

CREATE = ("POST", "/v1/refunds")
LIST = ("GET", "/v1/refunds")
RETRIEVE = ("GET", "/v1/refunds/re_1")
CAPTURED = ("GET", f"/v1/payment_intents/{PAYMENT}", (200, {"amount_received": 1999}))
ASK = Ask(requested_by="admin", source="endpoint")
START = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)


class World:
    """A ledger, two purchases of one payment, a scripted Stripe, and who listens, taking notes."""

    def __init__(self) -> None:
        self.now = START
        self.app = object()
        self.heard: list[tuple[str, str]] = []
        self.observed: list[tuple[str, str]] = []
        self.db = mongomock.MongoClient(tz_aware=True).shop
        self.stripe = StubTransport([])
        self.cart = [ObjectId(), ObjectId()]
        for purchase in self.cart:
            self.db.purchases.insert_one(
                {"_id": purchase, "status": "completed", "stripePaymentIntentId": PAYMENT}
            )
        gateway = Gateway("sk_test_1", "https://stripe.test", retries=0, transport=self.stripe)
        self.ledger = Ledger(self.db.refunds, lambda: self.now, timedelta(seconds=60))
        purchases = Purchases(self.db.purchases, "stripePaymentIntentId")
        observers = Observers()
        observers.add(self)
        self.books = Books(self.ledger, purchases, Announcer(self.app), observers)
        self.intake = Intake(self.ledger, purchases, lambda: gateway, self.books)
        self.service = RefundService(
            ledger=self.ledger,
            purchases=purchases,
            gateway=lambda: gateway,
            books=self.books,
            intake=self.intake,
            clock=lambda: self.now,
        )

    def refund(self, *script: Any) -> Any:
        self.stripe.script[:] = script
        try:
            return self.service.refund(self.cart[0], ASK)
        finally:
            self.stripe.assert_done()

    def statuses(self) -> set[str]:
        return {purchase["status"] for purchase in self.db.purchases.find()}

    def row(self, number: int = 1) -> Refund:
        return self.ledger.get(f"{PAYMENT}:{number}")

    def refund_changed(self, refund: Refund) -> None:
        """The world is its own observer."""
        self.observed.append((refund.id, refund.status.value))

    def stripe_answered(self, request: str, outcome: str, seconds: float) -> None: ...

    def listen(self) -> None:
        """Hear every signal; the receivers live as long as this world."""
        self.receivers = [self._hear_by(signal) for signal in ALL_SIGNALS]

    def _hear_by(self, signal: Any) -> Any:
        def receiver(app: Any, refund: Refund, **extra: Any) -> None:
            self.heard.append((signal.name, refund.status.value))

        signal.connect(receiver, sender=self.app)
        return receiver


ALL_SIGNALS = (refund_succeeded, refund_pending, refund_failed, refund_attention)


@pytest.fixture
def world() -> World:
    return World()


def fact(status: str, **fields: Any) -> StripeRefund:
    failure = Failure("unknown", "x") if status in ("failed", "canceled") else None
    whole = StripeRefund(
        "re_1", PAYMENT, RefundStatus(status), 1999, "usd", REFUND_ID, None, failure, START, "req_1"
    )
    return replace(whole, **fields)


WHOLE = replace(ASK, reason="duplicate", note="paid twice")


def test_the_whole_row(world: World) -> None:
    """Its names are a contract: shops query them, and older rows have them."""
    world.stripe.script[:] = [(*CREATE, (200, refund_object(status="pending")))]
    world.service.refund(world.cart[0], WHOLE)
    world.now += timedelta(hours=1)
    world.books.apply(world.row(), fact("succeeded", reason="fraudulent", request_id="req_2"), by="webhook")
    row = world.db.refunds.find_one()
    assert re.fullmatch("[0-9a-f]{32}", row.pop("owner"))
    assert row == {
        "_id": REFUND_ID,
        "paymentIntent": PAYMENT,
        "number": 1,
        "source": "endpoint",
        "status": "succeeded",
        "createdAt": START,
        "updatedAt": world.now,
        "leasedUntil": world.now,
        "settledAt": world.now,
        "announced": True,
        "checked": False,
        "purchaseIds": world.cart,
        "reason": "fraudulent",
        "note": "paid twice",
        "requestedBy": "admin",
        "request": {
            "payment_intent": PAYMENT,
            "metadata": {"refund_id": REFUND_ID},
            "reason": "duplicate",
        },
        "calls": 1,
        "stripeRefundId": "re_1",
        "amount": 1999,
        "currency": "usd",
        "failure": None,
        "attention": None,
        "history": [
            {"at": START, "status": "processing", "by": "endpoint:admin"},
            {
                "at": START,
                "status": "pending",
                "by": "endpoint:admin",
                "stripeRequestId": "req_1",
                "attention": None,
            },
            {
                "at": world.now,
                "status": "succeeded",
                "by": "webhook",
                "stripeRequestId": "req_2",
                "attention": None,
            },
        ],
    }
    assert world.stripe.sent[0].params["reason"] == "duplicate"


def test_the_row_is_there_before_stripe_is_asked(world: World) -> None:
    seen: list[dict[str, Any]] = []
    world.stripe.before = lambda sent: seen.extend(world.db.refunds.find())
    world.refund((*CREATE, (200, refund_object())))
    [row] = seen
    assert re.fullmatch("[0-9a-f]{32}", row.pop("owner"))
    assert row == {
        "_id": REFUND_ID,
        "paymentIntent": PAYMENT,
        "number": 1,
        "source": "endpoint",
        "status": "processing",
        "createdAt": START,
        "updatedAt": START,
        "leasedUntil": START + timedelta(seconds=60),
        "announced": True,
        "checked": True,
        "purchaseIds": world.cart,
        "reason": None,
        "note": None,
        "requestedBy": "admin",
        "request": {"payment_intent": PAYMENT, "metadata": {"refund_id": REFUND_ID}},
        "calls": 1,
        "history": [{"at": START, "status": "processing", "by": "endpoint:admin"}],
    }
    assert "reason" not in world.stripe.sent[0].params


def test_the_whole_row_of_a_refund_from_elsewhere(world: World) -> None:
    failure = Failure("lost_or_stolen_card", "The card is gone.")
    world.stripe.script[:] = [CAPTURED]
    news = fact("failed", refund_id=None, reason="duplicate", failure=failure)
    world.intake.take_in(news, Deadline.after(10), by="webhook")
    assert world.db.refunds.find_one() == {
        "_id": REFUND_ID,
        "paymentIntent": PAYMENT,
        "number": 1,
        "source": "dashboard",
        "status": "failed",
        "createdAt": START,
        "updatedAt": START,
        "leasedUntil": START,
        "settledAt": START,
        "announced": True,
        "checked": False,
        "purchaseIds": world.cart,
        "captured": 1999,
        "reason": "duplicate",
        "stripeRefundId": "re_1",
        "amount": 1999,
        "currency": "usd",
        "failure": {"code": "lost_or_stolen_card", "message": "The card is gone."},
        "history": [{"at": START, "status": "failed", "by": "webhook", "stripeRequestId": "req_1"}],
    }


@pytest.mark.parametrize(
    ("answer", "error", "code", "message"),
    [
        ((400, error_object("charge_disputed")), RefundFailed, "charge_disputed", "No."),
        ((429, error_object("rate_limit")), StripeRateLimited, "rate_limited", "No."),
        ((401, error_object("")), StripeKeyRejected, "key_rejected", "Stripe does not accept the key."),
    ],
)
def test_the_whole_refusal(world: World, answer: Any, error: Any, code: str, message: str) -> None:
    with pytest.raises(error) as refusal:
        world.refund((*CREATE, answer))
    row = world.row()
    assert refusal.value.refund == row
    assert (row.status, row.settled_at, row.failure) == (RefundStatus.FAILED, START, Failure(code, message))
    assert row.history[1:] == [
        {"at": START, "status": "failed", "by": "endpoint:admin", "stripeRequestId": "req_1"}
    ]
    assert world.statuses() == {"completed"}


@pytest.mark.parametrize(("status", "then"), [("succeeded", "refunded"), ("pending", "completed")])
def test_the_answer_shows_the_purchase_as_it_now_is(world: World, status: str, then: str) -> None:
    before = world.db.purchases.find_one({"_id": world.cart[0]})
    outcome = world.refund((*CREATE, (200, refund_object(status=status))))
    assert outcome.purchase == {**before, "status": then}
    assert outcome.refund == world.row()


@pytest.mark.parametrize(
    ("status", "error"), [("completed", PaymentIntentMissing), ("refunded", PurchaseNotRefundable)]
)
def test_a_purchase_without_a_payment(world: World, status: str, error: type[Exception]) -> None:
    world.db.purchases.update_one(
        {"_id": world.cart[0]}, {"$set": {"status": status}, "$unset": {"stripePaymentIntentId": 1}}
    )
    with pytest.raises(error) as refusal:
        world.refund()
    assert type(refusal.value) is error


def test_a_refund_at_work_is_shown_to_who_must_wait(world: World) -> None:
    open_row(world)
    with pytest.raises(RefundInProgress) as waiting:
        world.refund()
    assert waiting.value.refund == world.row()


def test_a_refund_that_is_made_is_shown_to_who_asks_again(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    with pytest.raises(PurchaseNotRefundable) as again:
        world.refund()
    assert again.value.refund == world.row()
    world.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable) as left_behind:
        world.refund((*RETRIEVE, (200, refund_object())))
    assert left_behind.value.refund == world.row()


def test_a_purchase_that_the_host_marked_while_its_refund_was_unknown(world: World) -> None:
    """Its log is read all the same, and the refund goes on."""
    world.refund((*CREATE, lost()))
    world.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    outcome = world.refund(listed(refund_object()))
    assert (outcome.refund.status, outcome.purchase["status"]) == (RefundStatus.SUCCEEDED, "refunded")


def test_a_purchase_that_the_host_refunded_himself(world: World) -> None:
    world.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    with pytest.raises(PurchaseNotRefundable):
        world.refund()
    assert world.db.refunds.count_documents({}) == 0


def test_to_check_a_row_lets_the_purchases_follow_it(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    world.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    world.books.check(world.row())
    assert (world.row().checked, world.statuses()) == (True, {"refunded"})


def test_to_check_a_refusal_leaves_to_the_host_what_he_marked(world: World) -> None:
    """Stripe never showed a refund, so no purchase followed one."""
    with pytest.raises(RefundFailed):
        world.refund((*CREATE, (400, error_object("charge_disputed"))))
    world.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    world.books.check(world.row())
    assert (world.row().checked, world.statuses()) == (True, {"refunded"})


class Told:
    """What the log was told since the last look."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "flask_refunds")
        self._caplog = caplog

    def __call__(self) -> list[dict[str, Any]]:
        facts = [vars(record)["refunds"] for record in self._caplog.records]
        self._caplog.clear()
        return facts


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


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


def test_a_row_keeps_the_bulk_run_that_opened_it(world: World) -> None:
    run = replace(ASK, bulk="recall-2024")
    world.stripe.script[:] = [(*CREATE, (200, refund_object(status="pending")))]
    world.service.refund(world.cart[0], run)
    world.stripe.script[:] = [(*RETRIEVE, (200, refund_object(status="pending")))]
    world.service.refund(world.cart[1], replace(run, bulk="another"))
    assert (world.row().bulk, world.db.refunds.count_documents({})) == ("recall-2024", 1)


def test_a_row_of_no_bulk_run_has_no_such_field(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    assert ("bulk" in world.db.refunds.find_one(), world.row().bulk) == (False, None)


def test_the_purchases_follow_before_the_row_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    mark, climb = Purchases.mark_refunded, Ledger.climb
    monkeypatch.setattr(Purchases, "mark_refunded", lambda *a: (order.append("purchases"), mark(*a))[1])
    monkeypatch.setattr(Ledger, "climb", lambda *a, **k: (order.append("row"), climb(*a, **k))[1])
    world.refund((*CREATE, (200, refund_object())))
    assert order == ["purchases", "row"]


def test_the_purchases_go_back_before_the_row_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.refund((*CREATE, (200, refund_object())))
    seen: list[set[str]] = []
    climb = Ledger.climb
    monkeypatch.setattr(Ledger, "climb", lambda *a, **k: (seen.append(world.statuses()), climb(*a, **k))[1])
    world.books.apply(world.row(), fact("failed"), by="webhook")
    assert seen == [{"completed"}]


@pytest.mark.parametrize(
    ("status", "other_way"), [("succeeded", "mark_completed"), ("failed", "mark_refunded")]
)
def test_to_align_writes_nothing_that_it_must_take_back(
    world: World, status: str, other_way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.books.apply(open_row(world), fact(status), by="webhook")
    monkeypatch.delattr(Purchases, other_way)
    assert world.books.align(PAYMENT)


def test_a_row_is_not_checked_while_a_later_one_is_at_work(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    world.books.apply(world.row(), fact("failed"), by="webhook")
    world.refund((*CREATE, lost()))
    assert world.row(2).status is RefundStatus.PROCESSING
    world.books.check(world.row(1))
    assert not world.row(1).checked


def test_to_align_gives_up_on_a_log_that_never_stands_still(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = open_row(world)
    turns = itertools.cycle([RefundStatus.SUCCEEDED, RefundStatus.FAILED])
    monkeypatch.setattr(Ledger, "read_log", lambda *a: [replace(row, status=next(turns))])
    assert not world.books.align(PAYMENT)


FACTS = ["requires_action", "pending", "succeeded", "failed"]


@pytest.mark.parametrize("order", list(itertools.permutations(FACTS)))
def test_news_in_any_order_ends_in_one_state(world: World, order: tuple[str, ...]) -> None:
    refund = open_row(world)
    for status in (*order, *order):
        world.books.apply(world.ledger.get(refund.id), fact(status), by="webhook")
    assert world.row().status is RefundStatus.FAILED
    assert world.statuses() == {"completed"}


@pytest.mark.parametrize("order", list(itertools.permutations(FACTS[:3])))
def test_news_read_before_a_rival_wrote_ends_in_one_state(world: World, order: tuple[str, ...]) -> None:
    stale = open_row(world)
    for status in order:
        world.books.apply(stale, fact(status), by="webhook")
    assert world.row().status is RefundStatus.SUCCEEDED
    assert world.statuses() == {"refunded"}


def test_a_success_read_before_its_failure_was_written_does_not_stand(world: World) -> None:
    stale = open_row(world)
    world.books.apply(stale, fact("failed"), by="webhook")
    current = world.books.apply(stale, fact("succeeded"), by="endpoint")
    assert current.status is RefundStatus.FAILED
    assert world.statuses() == {"completed"}


def test_a_success_that_fails_later(world: World) -> None:
    world.listen()
    world.refund((*CREATE, (200, refund_object())))
    world.books.apply(world.row(), fact("failed"), by="webhook")
    row = world.row()
    assert (row.status, row.attention and row.attention.why) == (RefundStatus.FAILED, "failed_after_success")
    assert world.statuses() == {"completed"}
    assert world.heard == [
        ("refund-succeeded", "succeeded"),
        ("refund-failed", "failed"),
        ("refund-attention", "failed"),
    ]
    outcome = world.refund((*CREATE, (200, refund_object(id="re_2", metadata={"refund_id": f"{PAYMENT}:2"}))))
    assert outcome.refund.id == f"{PAYMENT}:2"
    assert world.statuses() == {"refunded"}
    at, by = START, "endpoint:admin"
    assert world.row(1).history == [
        {"at": at, "status": "processing", "by": by},
        {"at": at, "status": "succeeded", "by": by, "stripeRequestId": "req_1", "attention": None},
        {
            "at": at,
            "status": "failed",
            "by": "webhook",
            "stripeRequestId": "req_1",
            "attention": "failed_after_success",
        },
        {"at": at, "status": "failed", "by": by, "why": f"Refunded again as {PAYMENT}:2."},
    ]
    assert world.row(1).attention is None


def test_late_news_of_an_old_number_leaves_the_new_one_alone(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    world.books.apply(world.row(), fact("failed"), by="webhook")
    world.refund((*CREATE, (200, refund_object(id="re_2", metadata={"refund_id": f"{PAYMENT}:2"}))))
    for status in FACTS:
        world.books.apply(world.row(1), fact(status), by="webhook")
    assert world.statuses() == {"refunded"}
    assert world.row(2).status is RefundStatus.SUCCEEDED


def test_late_news_of_a_refund_that_stripe_failed_touches_no_purchase(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment either: a crash in it would leave a purchase refunded that nobody has paid back."""
    with pytest.raises(RefundFailed):
        world.refund((*CREATE, (200, refund_object(status="failed"))))
    monkeypatch.delattr(Purchases, "mark_refunded")
    assert world.books.apply(world.row(), fact("succeeded"), by="webhook").status is RefundStatus.FAILED


def test_what_stripe_shows_outweighs_a_failure_that_we_concluded(world: World) -> None:
    with pytest.raises(RefundFailed):
        world.refund((*CREATE, (400, error_object("charge_disputed"))))
    world.books.apply(world.row(), fact("succeeded"), by="webhook")
    row = world.row()
    assert (row.status, row.attention and row.attention.why) == (
        RefundStatus.SUCCEEDED,
        "found_after_failure",
    )
    assert world.statuses() == {"refunded"}


@pytest.mark.parametrize("other", [{"amount": 1000}, {"currency": "eur"}])
@pytest.mark.parametrize("later", ["pending", "succeeded"])
def test_another_amount_or_currency_asks_for_a_person(
    world: World, other: dict[str, Any], later: str
) -> None:
    world.listen()
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    for _ in range(2):
        world.books.apply(world.row(), fact(later, **other), by="webhook")
        shown = (other.get("amount", 1999), other.get("currency", "usd"))
        assert (world.row().amount, world.row().currency) == shown
    world.books.apply(world.row(), fact("succeeded", **other), by="webhook")
    row = world.row()
    assert (row.status, row.attention and row.attention.why) == (RefundStatus.SUCCEEDED, "amount_differs")
    assert (row.amount, row.currency) == shown
    assert ("refund-attention", later) in world.heard


def test_an_amount_that_a_person_has_looked_at_asks_for_nobody(world: World) -> None:
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    world.books.apply(world.row(), fact("pending", amount=1000), by="webhook")
    assert world.ledger.dismiss(world.row(), by="command:ann", why="it is in order")
    for status in ("pending", "succeeded"):
        world.books.apply(world.row(), fact(status, amount=1000), by="reconcile")
        assert world.row().attention is None
    assert (world.row().amount, world.row().currency) == (1000, "usd")
    assert world.row().history[2] == {
        "at": START,
        "status": "pending",
        "by": "webhook",
        "attention": "amount_differs",
        "stripeRequestId": "req_1",
        "amountBefore": 1999,
    }
    assert [entry.get("amountBefore") for entry in world.row().history] == [None, None, 1999, None, None]


def test_a_row_that_a_restore_left_out_keeps_nobody_waiting(world: World) -> None:
    refusal = (*CREATE, (400, error_object("charge_disputed")))
    for _ in range(3):
        with pytest.raises(RefundFailed):
            world.refund(refusal)
    world.db.refunds.delete_one({"number": 2})
    with pytest.raises(RefundFailed):
        world.refund(refusal)
    assert [row["number"] for row in world.db.refunds.find().sort("number", 1)] == [1, 3, 4]


def test_each_change_is_told_once(world: World) -> None:
    world.listen()
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    for _ in range(3):
        world.books.apply(world.row(), fact("succeeded"), by="webhook")
    assert world.heard == [("refund-pending", "pending"), ("refund-succeeded", "succeeded")]
    assert world.row().announced


def test_a_receiver_that_raises_spoils_nothing_and_stays_unsaid(world: World) -> None:
    def broken(app: Any, refund: Refund, **extra: Any) -> None:
        raise RuntimeError("the mail server is down")

    world.listen()
    with refund_succeeded.connected_to(broken, sender=world.app):
        outcome = world.refund((*CREATE, (200, refund_object())))
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert world.heard == [("refund-succeeded", "succeeded")]
    assert not world.row().announced


def test_the_history_only_grows(world: World) -> None:
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    world.now += timedelta(hours=1)
    world.books.apply(world.row(), fact("succeeded"), by="webhook")
    assert [(entry["status"], entry["by"]) for entry in world.row().history] == [
        ("processing", "endpoint:admin"),
        ("pending", "endpoint:admin"),
        ("succeeded", "webhook"),
    ]
    assert [entry["at"] for entry in world.row().history] == [START, START, START + timedelta(hours=1)]


def test_an_unknown_outcome_frees_the_row_at_once(world: World) -> None:
    assert world.refund((*CREATE, lost())).refund.status is RefundStatus.PROCESSING
    outcome = world.refund(
        (*LIST, (200, {"object": "list", "data": [], "has_more": False})),
        (*CREATE, (200, refund_object())),
    )
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert {sent.headers["Idempotency-Key"] for sent in world.stripe.sent if sent.method == "POST"} == {
        REFUND_ID
    }


def test_a_row_that_stripe_has_already_is_adopted_and_not_sent(world: World) -> None:
    world.refund((*CREATE, lost()))
    outcome = world.refund(listed(refund_object()))
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert world.stripe.sent[-1].params["payment_intent"] == PAYMENT
    assert outcome.refund.history[-1]["by"] == "endpoint:admin"


def test_nothing_is_sent_while_stripe_cannot_say_what_it_has(world: World) -> None:
    world.refund((*CREATE, lost()))
    assert world.refund((*LIST, lost())).refund.status is RefundStatus.PROCESSING
    assert world.refund((*LIST, (401, error_object("")))).refund.status is RefundStatus.PROCESSING


def listed(*refunds: dict[str, Any]) -> Any:
    """Stripe's list of a payment's refunds, asked for and answered."""
    return (*LIST, (200, {"object": "list", "data": list(refunds), "has_more": False}))


ALREADY = (*CREATE, (400, error_object("charge_already_refunded")))


def test_a_row_whose_refund_stripe_made_and_whose_key_it_forgot(world: World) -> None:
    outcome = world.refund(ALREADY, listed(refund_object()))
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert world.stripe.sent[-1].params["payment_intent"] == PAYMENT
    [row] = world.ledger.read_log(PAYMENT)
    assert (row.source, row.stripe_refund_id, row.history[-1]["by"]) == ("endpoint", "re_1", "endpoint:admin")
    assert world.statuses() == {"refunded"}


def test_a_row_for_which_nothing_was_left(world: World) -> None:
    with pytest.raises(PurchaseNotRefundable):
        world.refund(ALREADY, listed(refund_object(metadata={})), CAPTURED)
    ours, elsewhere = world.ledger.read_log(PAYMENT)
    assert (ours.status, ours.history[-1]["by"]) == (RefundStatus.FAILED, "endpoint:admin")
    assert (elsewhere.source, elsewhere.purchase_ids) == ("dashboard", world.cart)
    assert world.statuses() == {"refunded"}


def test_a_refund_of_the_dashboard_that_fails_while_a_call_learns_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its event leaves the purchases to the call, whose row is not settled yet."""
    refuse = Ledger.refuse

    def fail_first(*args: Any, **kwargs: Any) -> Refund | None:
        world.intake.take_in(fact("failed", refund_id=None), Deadline.after(10), by="webhook")
        return refuse(*args, **kwargs)

    monkeypatch.setattr(Ledger, "refuse", fail_first)
    with pytest.raises(PurchaseNotRefundable):
        world.refund(ALREADY, listed(refund_object(metadata={})), CAPTURED)
    assert world.statuses() == {"completed"}


def test_a_purchase_that_a_rival_refunds_after_it_was_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe is not asked about it again."""
    opened = Ledger.open

    def rival_first(*args: Any, **kwargs: Any) -> Refund:
        monkeypatch.setattr(Ledger, "open", opened)
        world.service.refund(world.cart[1], ASK)
        return opened(*args, **kwargs)

    monkeypatch.setattr(Ledger, "open", rival_first)
    with pytest.raises(PurchaseNotRefundable):
        world.refund((*CREATE, (200, refund_object())))
    assert len(world.ledger.read_log(PAYMENT)) == 1


def test_a_key_rejected_while_in_doubt_is_no_failure(world: World) -> None:
    world.refund((*CREATE, lost()))
    nothing = (200, {"object": "list", "data": [], "has_more": False})
    outcome = world.refund((*LIST, nothing), (*CREATE, (401, error_object(""))))
    assert outcome.refund.status is RefundStatus.PROCESSING


def test_a_key_rejected_at_the_first_try_is(world: World) -> None:
    with pytest.raises(StripeKeyRejected):
        world.refund((*CREATE, (401, error_object(""))))
    assert world.row().status is RefundStatus.FAILED


@pytest.mark.parametrize(("seconds", "allowed"), [(59, False), (60, True)])
def test_the_lease(world: World, seconds: int, allowed: bool) -> None:
    open_row(world)
    world.now += timedelta(seconds=seconds)
    if not allowed:
        with pytest.raises(RefundInProgress):
            world.refund()
        return
    found = (200, {"object": "list", "data": [refund_object()], "has_more": False})
    assert world.refund((*LIST, found)).refund.status is RefundStatus.SUCCEEDED


def freeze_after_opening(world: World, monkeypatch: pytest.MonkeyPatch, how_long: timedelta) -> None:
    """Let time pass between a call's row and its request."""
    opened = Ledger.open

    def freeze(*args: Any, **kwargs: Any) -> Refund:
        refund = opened(*args, **kwargs)
        world.now += how_long
        return refund

    monkeypatch.setattr(Ledger, "open", freeze)


def test_a_call_that_was_frozen_past_its_lease_sends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_after_opening(world, monkeypatch, timedelta(hours=25))
    assert world.refund().refund.status is RefundStatus.PROCESSING


def test_only_the_owner_concludes_a_failure(world: World) -> None:
    """A call whose lease ran out while it waited for Stripe must not fail the row under its successor."""

    def outlast(sent: Any) -> None:
        world.now += timedelta(seconds=61)
        assert world.ledger.take(world.row()) is not None

    world.stripe.before = outlast
    outcome = world.refund((*CREATE, (400, error_object("charge_disputed"))))
    assert outcome.refund.status is RefundStatus.PROCESSING
    assert world.row().status is RefundStatus.PROCESSING


@pytest.mark.parametrize(
    ("age", "sent"), [(timedelta(hours=23), True), (timedelta(hours=23, milliseconds=1), False)]
)
def test_the_23_hours(world: World, age: timedelta, sent: bool) -> None:
    world.listen()
    world.refund((*CREATE, lost()))
    world.now += age
    nothing = (*LIST, (200, {"object": "list", "data": [], "has_more": False}))
    if sent:
        assert (
            world.refund(nothing, (*CREATE, (200, refund_object()))).refund.status is RefundStatus.SUCCEEDED
        )
        return
    for _ in range(3):  # the lease is given up each time
        outcome = world.refund(nothing)
        assert outcome.refund.status is RefundStatus.PROCESSING
        assert outcome.refund.attention is not None
        assert outcome.refund.attention.since == world.now
    assert world.heard == [("refund-attention", "processing")]
    assert world.row().history[1:] == [
        {"at": world.now, "status": "processing", "by": "endpoint:admin", "attention": "unknown_too_long"}
    ]


def test_a_succeeded_row_whose_purchases_were_left_behind(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    world.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(PurchaseNotRefundable):
        world.refund((*RETRIEVE, (200, refund_object())))
    assert world.statuses() == {"refunded"}


def test_a_pending_row_of_which_stripe_has_no_news_leaves_the_purchases_to_the_host(world: World) -> None:
    pending = (200, refund_object(status="pending"))
    world.refund((*CREATE, pending))
    world.db.purchases.update_one({"_id": world.cart[1]}, {"$set": {"status": "refunded"}})
    world.refund((*RETRIEVE, pending))
    assert world.statuses() == {"completed", "refunded"}


def test_a_call_that_finds_the_news_signs_it(world: World) -> None:
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    world.refund((*RETRIEVE, (200, refund_object())))
    assert (world.row().status.value, world.row().history[-1]["by"]) == ("succeeded", "endpoint:admin")


def test_a_succeeded_row_that_stripe_calls_failed_by_now(world: World) -> None:
    world.refund((*CREATE, (200, refund_object())))
    world.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    with pytest.raises(RefundFailed):
        world.refund((*RETRIEVE, (200, refund_object(status="failed"))))
    assert world.statuses() == {"completed"}


def test_elsewhere_and_ours_side_by_side(world: World) -> None:
    """A partial refund of the Dashboard, then ours for the rest; the partial one failing opens nothing."""
    partial = fact("succeeded", id="re_0", refund_id=None, amount=500)
    world.stripe.script[:] = [CAPTURED]
    world.intake.take_in(partial, Deadline.after(10), by="webhook")
    assert world.statuses() == {"completed"}
    world.refund((*CREATE, (200, refund_object(amount=1499, metadata={"refund_id": f"{PAYMENT}:2"}))))
    assert world.statuses() == {"refunded"}
    world.intake.take_in(replace(partial, status=RefundStatus.FAILED), Deadline.after(10), by="webhook")
    assert world.statuses() == {"refunded"}
    assert world.row(1).status is RefundStatus.FAILED


@pytest.mark.parametrize("elsewhere", [True, False])
def test_receivers_find_the_purchases_as_they_now_are(world: World, elsewhere: bool) -> None:
    seen: list[set[str]] = []

    def look(app: Any, refund: Refund, **extra: Any) -> None:
        seen.append(world.statuses())

    with (
        refund_succeeded.connected_to(look, sender=world.app),
        refund_failed.connected_to(look, sender=world.app),
    ):
        if elsewhere:
            world.stripe.script[:] = [CAPTURED]
            world.intake.take_in(fact("succeeded", refund_id=None), Deadline.after(10), by="webhook")
        else:
            world.refund((*CREATE, (200, refund_object())))
        world.intake.take_in(fact("failed", refund_id=None), Deadline.after(10), by="webhook")
    assert seen == [{"refunded"}, {"completed"}]


def test_who_resumes_a_refund_is_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.refund((*CREATE, lost()))
    world.stripe.script[:] = [listed(refund_object())]
    caplog.clear()
    with caplog.at_level("INFO", "flask_refunds"):
        world.service.resume(world.row(), by="reconcile")
    resumed = next(vars(record)["refunds"] for record in caplog.records)
    assert resumed == {"event": "refund_resumed", "refund_id": REFUND_ID, "by": "reconcile", "calls": 2}
    assert world.row().history[-1]["by"] == "reconcile"


def test_a_reconciler_that_comes_too_late_finds_nothing_wrong(world: World) -> None:
    stale = open_row(world)
    world.books.apply(stale, fact("succeeded"), by="webhook")
    world.stripe.script[:] = [(*RETRIEVE, (200, refund_object()))]
    assert world.service.resume(stale, by="reconcile").status is RefundStatus.SUCCEEDED


def test_news_from_elsewhere_is_taken_in_once(world: World) -> None:
    made = fact("succeeded", refund_id=None)
    world.stripe.script[:] = [CAPTURED]
    for _ in range(3):
        world.intake.take_in(made, Deadline.after(10), by="webhook")
    assert len(world.ledger.read_log(PAYMENT)) == 1
    assert is_refunded(world.ledger.read_log(PAYMENT))
    assert world.statuses() == {"refunded"}


def test_news_from_elsewhere_whose_purchases_were_left_behind(world: World) -> None:
    made = fact("succeeded", refund_id=None)
    world.stripe.script[:] = [CAPTURED]
    world.intake.take_in(made, Deadline.after(10), by="webhook")
    world.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    world.intake.take_in(made, Deadline.after(10), by="webhook")
    assert world.statuses() == {"refunded"}


def give_up(world: World) -> Refund | None:
    """A person's word on a row of which Stripe never said how it ended."""
    open_row(world)
    world.now += timedelta(hours=25)
    world.books.flag(world.row(), UNKNOWN_TOO_LONG, by="reconcile")
    return world.books.give_up(world.row(), by="command:ann", why="not at Stripe")


def test_what_a_person_gives_up(world: World) -> None:
    given_up = give_up(world)
    assert given_up == world.row()
    assert (given_up.status, given_up.attention) == (RefundStatus.FAILED, None)
    assert given_up.failure == Failure("given_up", "A person found that Stripe never made this refund.")
    assert given_up.history[-1] == {
        "at": world.now,
        "status": "failed",
        "by": "command:ann",
        "why": "not at Stripe",
    }


@pytest.mark.parametrize(
    ("happen", "status"),
    [
        (lambda world: world.refund((*CREATE, (200, refund_object()))), "succeeded"),
        (lambda world: world.refund((*CREATE, (400, error_object("charge_disputed")))), "failed"),
        (lambda world: news_from_elsewhere(world), "succeeded"),
        (give_up, "failed"),
    ],
    ids=["climb", "refuse", "record", "give_up"],
)
@pytest.mark.parametrize("heard", [True, False])
def test_every_change_is_observed_and_stays_unsaid_until_it_is_heard(
    world: World, happen: Any, status: str, heard: bool
) -> None:
    """Whoever finds a row unsaid after a crash looks for ``False``, and for nothing like it."""
    seen: list[Any] = []

    def receiver(app: Any, refund: Refund, **extra: Any) -> None:
        seen.append(world.db.refunds.find_one({"_id": refund.id})["announced"])

    signals = ALL_SIGNALS if heard else ()
    with contextlib.ExitStack() as listening, contextlib.suppress(RefundFailed):
        for signal in signals:
            listening.enter_context(signal.connected_to(receiver, sender=world.app))
        happen(world)
    assert world.observed == [(REFUND_ID, status)]
    assert set(seen) == ({False} if heard else set())
    assert world.db.refunds.find_one()["announced"] is True


def news_from_elsewhere(world: World) -> None:
    world.stripe.script[:] = [CAPTURED]
    world.intake.take_in(fact("succeeded", refund_id=None), Deadline.after(10), by="webhook")


@pytest.mark.parametrize("announced", [True, False])
def test_to_dismiss_a_case_says_nothing_and_leaves_nothing_said(world: World, announced: bool) -> None:
    world.refund((*CREATE, (200, refund_object())))
    world.books.apply(world.row(), fact("succeeded", amount=1000), by="webhook")
    world.db.refunds.update_one({}, {"$set": {"announced": announced}})
    assert world.ledger.dismiss(world.row(), by="command:ann", why="in order")
    assert world.row().announced is announced


def test_a_case_of_which_nobody_knows_the_end_cannot_be_dismissed(world: World) -> None:
    """Also where it was still settled when the person looked at it."""
    open_row(world)
    world.books.flag(world.row(), UNKNOWN_TOO_LONG, by="reconcile")
    assert world.ledger.dismiss(world.row(), by="command:ann", why="in order") is None
    assert world.row().attention is not None


def test_a_pending_refund_from_elsewhere_that_succeeds(world: World) -> None:
    world.stripe.script[:] = [CAPTURED]
    for status, then in (("pending", "completed"), ("succeeded", "refunded")):
        world.intake.take_in(fact(status, refund_id=None), Deadline.after(10), by="webhook")
        assert world.statuses() == {then}


def test_news_of_ours_that_is_none_leaves_the_purchases_to_the_host(world: World) -> None:
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    world.db.purchases.update_one({"_id": world.cart[1]}, {"$set": {"status": "refunded"}})
    world.intake.take_in(fact("pending"), Deadline.after(10), by="webhook")
    assert world.statuses() == {"completed", "refunded"}


def test_a_payment_is_known_by_its_log_where_the_host_has_deleted_the_purchases(world: World) -> None:
    world.refund((*CREATE, (200, refund_object(status="pending"))))
    world.db.purchases.delete_many({})
    assert world.intake.knows(PAYMENT)
    assert not world.intake.knows("pi_2")


def test_a_payment_is_known_by_its_purchases_and_a_placeholder_is_none(world: World) -> None:
    world.db.purchases.insert_one({"status": "completed", "stripePaymentIntentId": "free"})
    assert [world.intake.knows(each) for each in (PAYMENT, "free")] == [True, False]


@pytest.mark.parametrize("rivals", [2, 3])
def test_rivals_that_write_the_log_first(world: World, rivals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes the number that was free when the log was read."""
    record, left = Ledger.record, [rivals]

    def rival_first(self: Ledger, made: StripeRefund, number: int, **kwargs: Any) -> Refund:
        if left[0]:
            left[0] -= 1
            record(self, replace(made, id=f"re_rival_{number}"), number, **kwargs)
        return record(self, made, number, **kwargs)

    monkeypatch.setattr(Ledger, "record", rival_first)
    world.stripe.script[:] = [CAPTURED] * min(rivals + 1, 3)
    news = fact("failed", refund_id=None)
    if rivals < 3:
        world.intake.take_in(news, Deadline.after(10), by="webhook")
        assert [row.stripe_refund_id for row in world.ledger.read_log(PAYMENT)][-1] == "re_1"
        return
    with pytest.raises(OutcomeUnknown, match=r"^ledger_busy: Too many calls write this payment's log\.$"):
        world.intake.take_in(news, Deadline.after(10), by="webhook")


def test_a_foreign_refund_id_is_elsewhere(world: World) -> None:
    world.stripe.script[:] = [CAPTURED]
    world.intake.take_in(
        fact("succeeded", refund_id="pi_of_another_shop:1"), Deadline.after(10), by="webhook"
    )
    assert world.row().source == "dashboard"


def test_two_refunds_that_bear_one_id_are_two_rows(world: World) -> None:
    """As when a request comes to Stripe after the key is forgotten: money that moved is in the ledger."""
    world.refund((*CREATE, (200, refund_object())))
    world.stripe.script[:] = [CAPTURED]
    for _ in range(2):
        world.intake.take_in(fact("succeeded", id="re_2"), Deadline.after(10), by="webhook")
    assert [row.stripe_refund_id for row in world.ledger.read_log(PAYMENT)] == ["re_1", "re_2"]


def test_a_refund_that_failed_does_not_undo_the_one_that_has_its_number(world: World) -> None:
    """As after the ledger was lost: the second refund's event comes first, and gets the first number."""
    world.stripe.script[:] = [CAPTURED, CAPTURED]
    second = fact("succeeded", id="re_2", refund_id=f"{PAYMENT}:2")
    for made in (second, fact("failed")):
        world.intake.take_in(made, Deadline.after(10), by="webhook")
    assert [row.status.value for row in world.ledger.read_log(PAYMENT)] == ["succeeded", "failed"]
    assert world.statuses() == {"refunded"}


def open_row(world: World) -> Refund:
    return world.ledger.open(
        PAYMENT,
        1,
        purchase_ids=world.cart,
        reason=None,
        note=None,
        requested_by="admin",
        source="endpoint",
    )

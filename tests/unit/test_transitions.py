"""What becomes of a fact: the order of the writes, the ladder, who is told, and what a check may do."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flask_refunds.clock import Deadline
from flask_refunds.errors import RefundFailed
from flask_refunds.models import Failure, Refund, RefundStatus, ReviewCode
from flask_refunds.signals import refund_failed, refund_succeeded
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.purchases import Purchases
from tests.unit.refund_harness import (
    ALL_SIGNALS,
    CAPTURED,
    CREATE,
    START,
    RefundHarness,
    create_record,
    fact,
    give_up,
    news_from_elsewhere,
)
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, error_object, lost, refund_object


def test_to_check_a_row_lets_the_purchases_follow_it(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    harness.transitions.verify_purchases(harness.record())
    assert (harness.record().purchases_verified, harness.statuses()) == (True, {"refunded"})


def test_to_check_a_refusal_leaves_to_the_host_what_he_marked(harness: RefundHarness) -> None:
    """Stripe never showed a refund, so no purchase followed one."""
    with pytest.raises(RefundFailed):
        harness.refund((*CREATE, (400, error_object("charge_disputed"))))
    harness.db.purchases.update_many({}, {"$set": {"status": "refunded"}})
    harness.transitions.verify_purchases(harness.record())
    assert (harness.record().purchases_verified, harness.statuses()) == (True, {"refunded"})


def test_the_purchases_follow_before_the_row_does(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    mark, advance = Purchases.mark_refunded, Ledger.advance
    monkeypatch.setattr(Purchases, "mark_refunded", lambda *a: (order.append("purchases"), mark(*a))[1])
    monkeypatch.setattr(Ledger, "advance", lambda *a, **k: (order.append("row"), advance(*a, **k))[1])
    harness.refund((*CREATE, (200, refund_object())))
    assert order == ["purchases", "row"]


def test_the_purchases_go_back_before_the_row_fails(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    seen: list[set[str]] = []
    advance = Ledger.advance
    monkeypatch.setattr(
        Ledger, "advance", lambda *a, **k: (seen.append(harness.statuses()), advance(*a, **k))[1]
    )
    harness.transitions.apply(harness.record(), fact("failed"), actor="webhook")
    assert seen == [{"completed"}]


@pytest.mark.parametrize(
    ("status", "other_way"), [("succeeded", "mark_completed"), ("failed", "mark_refunded")]
)
def test_to_align_writes_nothing_that_it_must_take_back(
    harness: RefundHarness, status: str, other_way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.transitions.apply(create_record(harness), fact(status), actor="webhook")
    monkeypatch.delattr(Purchases, other_way)
    assert harness.transitions.sync_purchases(PAYMENT)


def test_a_row_is_not_checked_while_a_later_one_is_at_work(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), fact("failed"), actor="webhook")
    harness.refund((*CREATE, lost()))
    assert harness.record(2).status is RefundStatus.PROCESSING
    harness.transitions.verify_purchases(harness.record(1))
    assert not harness.record(1).purchases_verified


def test_to_align_gives_up_on_a_log_that_never_stands_still(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = create_record(harness)
    turns = itertools.cycle([RefundStatus.SUCCEEDED, RefundStatus.FAILED])
    monkeypatch.setattr(Ledger, "list_for_payment", lambda *a: [replace(row, status=next(turns))])
    assert not harness.transitions.sync_purchases(PAYMENT)


FACTS = ["requires_action", "pending", "succeeded", "failed"]


@pytest.mark.parametrize("order", list(itertools.permutations(FACTS)))
def test_news_in_any_order_ends_in_one_state(harness: RefundHarness, order: tuple[str, ...]) -> None:
    refund = create_record(harness)
    for status in (*order, *order):
        harness.transitions.apply(harness.ledger.get(refund.id), fact(status), actor="webhook")
    assert harness.record().status is RefundStatus.FAILED
    assert harness.statuses() == {"completed"}


@pytest.mark.parametrize("order", list(itertools.permutations(FACTS[:3])))
def test_news_read_before_a_rival_wrote_ends_in_one_state(
    harness: RefundHarness, order: tuple[str, ...]
) -> None:
    stale = create_record(harness)
    for status in order:
        harness.transitions.apply(stale, fact(status), actor="webhook")
    assert harness.record().status is RefundStatus.SUCCEEDED
    assert harness.statuses() == {"refunded"}


def test_a_success_read_before_its_failure_was_written_does_not_stand(harness: RefundHarness) -> None:
    stale = create_record(harness)
    harness.transitions.apply(stale, fact("failed"), actor="webhook")
    current = harness.transitions.apply(stale, fact("succeeded"), actor="endpoint")
    assert current.status is RefundStatus.FAILED
    assert harness.statuses() == {"completed"}


def test_a_success_that_fails_later(harness: RefundHarness) -> None:
    harness.listen()
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), fact("failed"), actor="webhook")
    row = harness.record()
    assert (row.status, row.review and row.review.code) == (RefundStatus.FAILED, "failed_after_success")
    assert harness.statuses() == {"completed"}
    assert harness.heard == [
        ("refund-succeeded", "succeeded"),
        ("refund-failed", "failed"),
        ("refund-review", "failed"),
    ]
    outcome = harness.refund(
        (*CREATE, (200, refund_object(id="re_2", metadata={"refund_id": f"{PAYMENT}:2"})))
    )
    assert outcome.refund.id == f"{PAYMENT}:2"
    assert harness.statuses() == {"refunded"}
    at, by = START, "api:admin"
    assert harness.record(1).history == [
        {"at": at, "status": "processing", "actor": by},
        {"at": at, "status": "succeeded", "actor": by, "stripeRequestId": "req_1", "review": None},
        {
            "at": at,
            "status": "failed",
            "actor": "webhook",
            "stripeRequestId": "req_1",
            "review": "failed_after_success",
        },
        {"at": at, "status": "failed", "actor": by, "why": f"Refunded again as {PAYMENT}:2."},
    ]
    assert harness.record(1).review is None


def test_late_news_of_an_old_number_leaves_the_new_one_alone(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), fact("failed"), actor="webhook")
    harness.refund((*CREATE, (200, refund_object(id="re_2", metadata={"refund_id": f"{PAYMENT}:2"}))))
    for status in FACTS:
        harness.transitions.apply(harness.record(1), fact(status), actor="webhook")
    assert harness.statuses() == {"refunded"}
    assert harness.record(2).status is RefundStatus.SUCCEEDED


def test_late_news_of_a_refund_that_stripe_failed_touches_no_purchase(
    harness: RefundHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment either: a crash in it would leave a purchase refunded that nobody has paid back."""
    with pytest.raises(RefundFailed):
        harness.refund((*CREATE, (200, refund_object(status="failed"))))
    monkeypatch.delattr(Purchases, "mark_refunded")
    assert (
        harness.transitions.apply(harness.record(), fact("succeeded"), actor="webhook").status
        is RefundStatus.FAILED
    )


def test_what_stripe_shows_outweighs_a_failure_that_we_concluded(harness: RefundHarness) -> None:
    with pytest.raises(RefundFailed):
        harness.refund((*CREATE, (400, error_object("charge_disputed"))))
    harness.transitions.apply(harness.record(), fact("succeeded"), actor="webhook")
    row = harness.record()
    assert (row.status, row.review and row.review.code) == (
        RefundStatus.SUCCEEDED,
        "found_after_failure",
    )
    assert harness.statuses() == {"refunded"}


@pytest.mark.parametrize("other", [{"amount": 1000}, {"currency": "eur"}])
@pytest.mark.parametrize("later", ["pending", "succeeded"])
def test_another_amount_or_currency_asks_for_a_person(
    harness: RefundHarness, other: dict[str, Any], later: str
) -> None:
    harness.listen()
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    for _ in range(2):
        harness.transitions.apply(harness.record(), fact(later, **other), actor="webhook")
        shown = (other.get("amount", 1999), other.get("currency", "usd"))
        assert (harness.record().amount, harness.record().currency) == shown
    harness.transitions.apply(harness.record(), fact("succeeded", **other), actor="webhook")
    row = harness.record()
    assert (row.status, row.review and row.review.code) == (RefundStatus.SUCCEEDED, "amount_differs")
    assert (row.amount, row.currency) == shown
    assert ("refund-review", later) in harness.heard


def test_an_amount_that_a_person_has_looked_at_asks_for_nobody(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.transitions.apply(harness.record(), fact("pending", amount=1000), actor="webhook")
    assert harness.ledger.dismiss(harness.record(), actor="cli:ann", why="it is in order")
    for status in ("pending", "succeeded"):
        harness.transitions.apply(harness.record(), fact(status, amount=1000), actor="reconcile")
        assert harness.record().review is None
    assert (harness.record().amount, harness.record().currency) == (1000, "usd")
    assert harness.record().history[2] == {
        "at": START,
        "status": "pending",
        "actor": "webhook",
        "review": "amount_differs",
        "stripeRequestId": "req_1",
        "previousAmount": 1999,
    }
    assert [entry.get("previousAmount") for entry in harness.record().history] == [
        None,
        None,
        1999,
        None,
        None,
    ]


def test_each_change_is_told_once(harness: RefundHarness) -> None:
    harness.listen()
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    for _ in range(3):
        harness.transitions.apply(harness.record(), fact("succeeded"), actor="webhook")
    assert harness.heard == [("refund-pending", "pending"), ("refund-succeeded", "succeeded")]
    assert harness.record().signals_sent


def test_a_receiver_that_raises_spoils_nothing_and_stays_unsaid(harness: RefundHarness) -> None:
    def broken(app: Any, refund: Refund, **extra: Any) -> None:
        raise RuntimeError("the mail server is down")

    harness.listen()
    with refund_succeeded.connected_to(broken, sender=harness.app):
        outcome = harness.refund((*CREATE, (200, refund_object())))
    assert outcome.refund.status is RefundStatus.SUCCEEDED
    assert harness.heard == [("refund-succeeded", "succeeded")]
    assert not harness.record().signals_sent


def test_the_history_only_grows(harness: RefundHarness) -> None:
    harness.refund((*CREATE, (200, refund_object(status="pending"))))
    harness.now += timedelta(hours=1)
    harness.transitions.apply(harness.record(), fact("succeeded"), actor="webhook")
    assert [(entry["status"], entry["actor"]) for entry in harness.record().history] == [
        ("processing", "api:admin"),
        ("pending", "api:admin"),
        ("succeeded", "webhook"),
    ]
    assert [entry["at"] for entry in harness.record().history] == [START, START, START + timedelta(hours=1)]


@pytest.mark.parametrize("elsewhere", [True, False])
def test_receivers_find_the_purchases_as_they_now_are(harness: RefundHarness, elsewhere: bool) -> None:
    seen: list[set[str]] = []

    def look(app: Any, refund: Refund, **extra: Any) -> None:
        seen.append(harness.statuses())

    with (
        refund_succeeded.connected_to(look, sender=harness.app),
        refund_failed.connected_to(look, sender=harness.app),
    ):
        if elsewhere:
            harness.stripe.script[:] = [CAPTURED]
            harness.stripe_sync.upsert_from_stripe(
                fact("succeeded", refund_id=None), Deadline.after(10), actor="webhook"
            )
        else:
            harness.refund((*CREATE, (200, refund_object())))
        harness.stripe_sync.upsert_from_stripe(
            fact("failed", refund_id=None), Deadline.after(10), actor="webhook"
        )
    assert seen == [{"refunded"}, {"completed"}]


def test_what_a_person_gives_up(harness: RefundHarness) -> None:
    given_up = give_up(harness)
    assert given_up == harness.record()
    assert (given_up.status, given_up.review) == (RefundStatus.FAILED, None)
    assert given_up.failure == Failure("given_up", "A person found that Stripe never made this refund.")
    assert given_up.history[-1] == {
        "at": harness.now,
        "status": "failed",
        "actor": "cli:ann",
        "why": "not at Stripe",
    }


@pytest.mark.parametrize(
    ("happen", "status"),
    [
        (lambda harness: harness.refund((*CREATE, (200, refund_object()))), "succeeded"),
        (lambda harness: harness.refund((*CREATE, (400, error_object("charge_disputed")))), "failed"),
        (lambda harness: news_from_elsewhere(harness), "succeeded"),
        (give_up, "failed"),
    ],
    ids=["advance", "refuse", "record", "give_up"],
)
@pytest.mark.parametrize("heard", [True, False])
def test_every_change_is_observed_and_stays_unsaid_until_it_is_heard(
    harness: RefundHarness, happen: Any, status: str, heard: bool
) -> None:
    """Whoever finds a row unsaid after a crash looks for ``False``, and for nothing like it."""
    seen: list[Any] = []

    def receiver(app: Any, refund: Refund, **extra: Any) -> None:
        seen.append(harness.db.flask_refunds.find_one({"_id": refund.id})["signals_sent"])

    signals = ALL_SIGNALS if heard else ()
    with contextlib.ExitStack() as listening, contextlib.suppress(RefundFailed):
        for signal in signals:
            listening.enter_context(signal.connected_to(receiver, sender=harness.app))
        happen(harness)
    assert harness.observed == [(REFUND_ID, status)]
    assert set(seen) == ({False} if heard else set())
    assert harness.db.flask_refunds.find_one()["signals_sent"] is True


@pytest.mark.parametrize("signals_sent", [True, False])
def test_to_dismiss_a_case_says_nothing_and_leaves_nothing_said(
    harness: RefundHarness, signals_sent: bool
) -> None:
    harness.refund((*CREATE, (200, refund_object())))
    harness.transitions.apply(harness.record(), fact("succeeded", amount=1000), actor="webhook")
    harness.db.flask_refunds.update_one({}, {"$set": {"signals_sent": signals_sent}})
    assert harness.ledger.dismiss(harness.record(), actor="cli:ann", why="in order")
    assert harness.record().signals_sent is signals_sent


def test_a_case_of_which_nobody_knows_the_end_cannot_be_dismissed(harness: RefundHarness) -> None:
    """Also where it was still settled when the person looked at it."""
    create_record(harness)
    harness.transitions.request_review(harness.record(), ReviewCode.UNKNOWN_TOO_LONG, actor="reconcile")
    assert harness.ledger.dismiss(harness.record(), actor="cli:ann", why="in order") is None
    assert harness.record().review is not None

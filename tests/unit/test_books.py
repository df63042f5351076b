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
from flask_refunds.models import UNKNOWN_TOO_LONG, Failure, Refund, RefundStatus
from flask_refunds.signals import refund_failed, refund_succeeded
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.purchases import Purchases
from tests.unit.stripe_stub import PAYMENT, REFUND_ID, error_object, lost, refund_object
from tests.unit.world import (
    ALL_SIGNALS,
    CAPTURED,
    CREATE,
    START,
    World,
    fact,
    give_up,
    news_from_elsewhere,
    open_row,
)


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

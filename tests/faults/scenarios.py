"""What a refund, a webhook delivery or a reconcile may find, each as a short story before the action itself.

A seed varies what may vary: amount, currency, the size of the cart, the words of the request, and which of
Stripe's misfortunes came first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId
from flask import Flask

from flask_refunds.errors import RefundsError
from flask_refunds.extension import get_refunds
from flask_refunds.testing import signed_event
from tests.faults.environments import SECRET, WEBHOOK_PATH, Room

PENDING, DISPUTED = "4000000000007726", "4000000000000259"
EXECUTED = ("drop_after", "error_500_after", "garbage", "truncated", "empty", "wrong_object")
NOT_EXECUTED = ("drop_before", "error_502_html", "error_503", "conflict")

Action = Mapping[str, Any]
"""What is to be done, as JSON: another process does it."""


@dataclass(frozen=True)
class Scenario:
    """One story.

    ``strict``: Stripe refuses what exceeds the payment. ``only_by_event``: something happened at Stripe that
    a shop can learn of by webhook only (a refund made in the Dashboard, a success that failed later), so that
    the events must have come before anything is concluded.
    """

    name: str
    prepare: Callable[[Room, random.Random], Action]
    strict: bool = False
    only_by_event: bool = False

    @property
    def kind(self) -> str:
        """``refund``, ``webhook`` or ``reconcile``."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Answer:
    """What the action was answered; ``status`` is an exit status as the command's where it is reconcile."""

    status: int
    body: Mapping[str, Any]


def perform(app: Flask, headers: Mapping[str, str], action: Action) -> Answer:
    """Do it, in this process."""
    if action["do"] == "reconcile":
        return _reconcile(app)
    client = app.test_client()
    if action["do"] == "deliver":
        body, signature = signed_event(action["event"], SECRET)
        response = client.post(WEBHOOK_PATH, data=body, headers=signature)
    else:
        path = f"/api/payments/admin/refund/{action['purchase']}"
        response = client.post(path, headers=dict(headers), json=action["body"])
    return Answer(response.status_code, dict(response.get_json()))


def _reconcile(app: Flask) -> Answer:
    """What the command does; its test runner exchanges ``sys.stdout``, and so is for one thread only."""
    reconciler = get_refunds(app).reconciler
    try:
        report = reconciler.run(reconciler.find(timedelta(0)))
    except RefundsError as error:
        return Answer(2, {"error": error.message})
    return Answer(1 if report.attention else 0, report.counts)


def _refund(purchase: ObjectId, rng: random.Random) -> Action:
    body = rng.choice(({}, {"reason": "requested_by_customer"}, {"reason": "duplicate", "note": "Twice."}))
    return {"do": "refund", "purchase": str(purchase), "body": body}


def _deliver(event: Mapping[str, Any]) -> Action:
    return {"do": "deliver", "event": event}


RECONCILE: Action = {"do": "reconcile"}


def fresh(room: Room, rng: random.Random) -> Action:
    return _refund(room.pay(rng, cart=1), rng)


def cart(room: Room, rng: random.Random) -> Action:
    return _refund(room.pay(rng, cart=rng.choice((2, 2, 5))), rng)


def pending(room: Room, rng: random.Random) -> Action:
    return _refund(room.pay(rng, card=PENDING), rng)


def lost_answer(room: Room, rng: random.Random) -> Action:
    room.sandbox.inject(rng.choice(("drop_after", "drop_before", "garbage", "truncated", "empty")))
    return fresh(room, rng)


def _left_unknown(room: Room, rng: random.Random, faults: tuple[str, ...]) -> ObjectId:
    purchase = room.pay(rng)
    room.sandbox.inject(rng.choice(faults), times=2)
    room.shop.refund(purchase)
    room.sandbox.clear_faults()
    [row] = room.records()
    assert row["status"] == "processing", row
    return purchase


def resume_executed(room: Room, rng: random.Random) -> Action:
    return _refund(_left_unknown(room, rng, EXECUTED), rng)


def resume_not_executed(room: Room, rng: random.Random) -> Action:
    return _refund(_left_unknown(room, rng, NOT_EXECUTED), rng)


def disputed(room: Room, rng: random.Random) -> Action:
    return _refund(room.pay(rng, card=DISPUTED), rng)


def refunded_in_dashboard(room: Room, rng: random.Random) -> Action:
    purchase = room.pay(rng)
    _refund_part_in_dashboard(room, rng)
    room.sandbox.refund_in_dashboard(room.payment)
    if rng.random() < 0.3:
        room.receive(room.news("refund.created")[0])
    return _refund(purchase, rng)


def _refund_part_in_dashboard(room: Room, rng: random.Random) -> None:
    paid = room.sandbox.payment_intent(room.payment)["amount"]
    room.sandbox.refund_in_dashboard(room.payment, rng.randint(1, paid - 1))


def part_in_dashboard(room: Room, rng: random.Random) -> Action:
    purchase = room.pay(rng)
    _refund_part_in_dashboard(room, rng)
    if rng.random() < 0.5:
        room.receive(room.news("refund.created")[0])
    return _refund(purchase, rng)


def second_number(room: Room, rng: random.Random) -> Action:
    purchase = room.pay(rng)
    after_success = rng.random() < 0.5
    if not after_success:
        room.sandbox.inject(rng.choice(("failed", "canceled", "insufficient_balance")))
    room.shop.refund(purchase)
    if after_success:
        _fail_later(room)
        room.receive(room.news("refund.failed")[-1])
    [row] = room.records()
    assert row["status"] in ("failed", "canceled"), row
    return _refund(purchase, rng)


def _fail_later(room: Room) -> None:
    room.sandbox.settle(room.sandbox.refunds(room.payment)[0]["id"], "failed", "lost_or_stolen_card")


def _settled_later(room: Room, rng: random.Random) -> None:
    """A refund that was pending and now has succeeded, or come back."""
    room.shop.refund(room.pay(rng, card=PENDING))
    status = rng.choice(("succeeded", "succeeded", "failed"))
    room.sandbox.settle(room.sandbox.refunds(room.payment)[0]["id"], status)


def event_settles(room: Room, rng: random.Random) -> Action:
    _settled_later(room, rng)
    return _deliver(room.news(rng.choice(("refund.updated", "charge.refund.updated")))[-1])


def event_fails(room: Room, rng: random.Random) -> Action:
    room.shop.refund(room.pay(rng))
    _fail_later(room)
    return _deliver(room.news(rng.choice(("refund.updated", "refund.failed")))[-1])


def event_of_unknown(room: Room, rng: random.Random) -> Action:
    _left_unknown(room, rng, EXECUTED)
    return _deliver(room.news(rng.choice(("refund.created", "charge.refunded")))[-1])


def _event_of_dashboard(room: Room, rng: random.Random, kind: str) -> Action:
    room.pay(rng)
    if rng.random() < 0.5:
        _refund_part_in_dashboard(room, rng)
    room.sandbox.refund_in_dashboard(room.payment)
    return _deliver(room.news(kind)[-1])


def dashboard_created(room: Room, rng: random.Random) -> Action:
    return _event_of_dashboard(room, rng, "refund.created")


def dashboard_charge(room: Room, rng: random.Random) -> Action:
    return _event_of_dashboard(room, rng, "charge.refunded")


def unknown_row(room: Room, rng: random.Random) -> Action:
    _left_unknown(room, rng, EXECUTED + NOT_EXECUTED)
    return RECONCILE


def settled_row(room: Room, rng: random.Random) -> Action:
    _settled_later(room, rng)
    return RECONCILE


def unannounced_row(room: Room, rng: random.Random) -> Action:
    """As a call leaves it that is killed just before the receivers."""
    room.shop.refund(room.pay(rng, card=rng.choice((PENDING, DISPUTED, "4242424242424242"))))
    room.db.flask_refunds.update_one({"_id": f"{room.payment}:1"}, {"$set": {"signals_sent": False}})
    room.db.heard.delete_many({})
    return RECONCILE


def unchecked_row(room: Room, rng: random.Random) -> Action:
    """As two calls leave it, one of which was so slow that its marks came after the other's."""
    fails = rng.random() < 0.5
    if fails:
        room.sandbox.inject("failed")
    room.shop.refund(room.pay(rng))
    wrong = "refunded" if fails else "completed"
    room.db.purchases.update_one({"_id": rng.choice(room.purchases)}, {"$set": {"status": wrong}})
    return RECONCILE


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("refund: fresh", fresh),
        Scenario("refund: cart", cart),
        Scenario("refund: pending", pending),
        Scenario("refund: lost answer, asked again", lost_answer),
        Scenario("refund: resumed, was made", resume_executed),
        Scenario("refund: resumed, was not made", resume_not_executed),
        Scenario("refund: disputed", disputed),
        Scenario("refund: made in the Dashboard", refunded_in_dashboard, strict=True, only_by_event=True),
        Scenario("refund: part in the Dashboard", part_in_dashboard, only_by_event=True),
        Scenario("refund: second number", second_number),
        Scenario("webhook: pending settles", event_settles),
        Scenario("webhook: success fails", event_fails, only_by_event=True),
        Scenario("webhook: of an unknown outcome", event_of_unknown),
        Scenario("webhook: Dashboard, refund.created", dashboard_created, strict=True, only_by_event=True),
        Scenario("webhook: Dashboard, charge.refunded", dashboard_charge, strict=True, only_by_event=True),
        Scenario("reconcile: unknown row", unknown_row),
        Scenario("reconcile: settled row", settled_row),
        Scenario("reconcile: unannounced row", unannounced_row),
        Scenario("reconcile: unchecked row", unchecked_row),
    )
}

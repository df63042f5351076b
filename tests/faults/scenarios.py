"""Scenarios for a refund, a webhook delivery, a reconcile or a sweep: each prepares a state and an action.

The seed varies the amount, the currency, the number of purchases, the request body, and which fault happened
before.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId
from flask import Flask

from flask_refunds.errors import RefundsError, StripeCallError
from flask_refunds.extension import get_refunds
from flask_refunds.testing import signed_event
from tests.faults.environments import SECRET, WEBHOOK_PATH, Environment

CALL_SECONDS = 20.0
"""How long a call may take, whatever MongoDB and Stripe do."""

PENDING, DISPUTED = "4000000000007726", "4000000000000259"
EXECUTED = (
    "response_lost",
    "server_error_after",
    "unreadable_response",
    "truncated_response",
    "empty_response",
    "wrong_object",
)
NOT_EXECUTED = ("request_lost", "bad_gateway", "service_unavailable", "conflict")

Action = Mapping[str, Any]
"""What to do, as JSON, because another process does it."""


@dataclass(frozen=True)
class Scenario:
    """A prepared state and an action.

    ``strict``: Stripe rejects refunds that exceed the payment. ``only_by_event``: the shop can learn only by
    webhook what happened at Stripe (a refund in the Dashboard, a success that failed later), so the
    invariants hold only after the events.
    """

    name: str
    prepare: Callable[[Environment, random.Random], Action]
    strict: bool = False
    only_by_event: bool = False

    @property
    def kind(self) -> str:
        """``refund``, ``webhook``, ``reconcile`` or ``sweep``."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class ActionResponse:
    """The response to an action. For a reconcile or a sweep, ``status`` is the command's exit status."""

    status: int
    body: Mapping[str, Any]


def perform(app: Flask, headers: Mapping[str, str], action: Action) -> ActionResponse:
    """Perform an action in this process."""
    if action["do"] == "reconcile":
        return _reconcile(app)
    if action["do"] == "sweep":
        return _sweep(app)
    client = app.test_client()
    if action["do"] == "deliver":
        body, signature = signed_event(action["event"], SECRET)
        response = client.post(WEBHOOK_PATH, data=body, headers=signature)
    else:
        path = f"/api/payments/admin/refund/{action['purchase']}"
        response = client.post(path, headers=dict(headers), json=action["body"])
    return ActionResponse(response.status_code, dict(response.get_json()))


def perform_in_time(app: Flask, headers: Mapping[str, str], action: Action) -> ActionResponse:
    """Perform an action, and check how long it takes."""
    began = time.monotonic()
    response = perform(app, headers, action)
    seconds = time.monotonic() - began
    assert seconds < CALL_SECONDS, f"{action} took {seconds:.1f} s"
    return response


def _reconcile(app: Flask) -> ActionResponse:
    """Do what the command does. Click's test runner replaces ``sys.stdout``, so it isn't thread-safe."""
    reconciler = get_refunds(app).reconciler
    try:
        report = reconciler.run(reconciler.find(timedelta(0)))
    except RefundsError as error:
        return ActionResponse(2, {"error": error.message})
    return ActionResponse(1 if report.reviews else 0, report.counts)


def _sweep(app: Flask) -> ActionResponse:
    try:
        report = get_refunds(app).sweep.run()
    except (RefundsError, StripeCallError) as error:
        return ActionResponse(2, {"error": error.code})
    is_clean = report is not None and report.is_complete and not report.counts["errors"]
    return ActionResponse(0 if is_clean else 1, report.counts if report else {})


def _refund(purchase: ObjectId, rng: random.Random) -> Action:
    body = rng.choice(({}, {"reason": "requested_by_customer"}, {"reason": "duplicate", "note": "Twice."}))
    return {"do": "refund", "purchase": str(purchase), "body": body}


def _deliver(event: Mapping[str, Any]) -> Action:
    return {"do": "deliver", "event": event}


RECONCILE: Action = {"do": "reconcile"}
SWEEP: Action = {"do": "sweep"}


def first_refund(environment: Environment, rng: random.Random) -> Action:
    return _refund(environment.pay(rng, cart=1), rng)


def several_purchases(environment: Environment, rng: random.Random) -> Action:
    return _refund(environment.pay(rng, cart=rng.choice((2, 2, 5))), rng)


def pending(environment: Environment, rng: random.Random) -> Action:
    return _refund(environment.pay(rng, card=PENDING), rng)


def lost_answer(environment: Environment, rng: random.Random) -> Action:
    environment.sandbox.inject(
        rng.choice(
            ("response_lost", "request_lost", "unreadable_response", "truncated_response", "empty_response")
        )
    )
    return first_refund(environment, rng)


def _leave_unknown(environment: Environment, rng: random.Random, faults: tuple[str, ...]) -> ObjectId:
    purchase = environment.pay(rng)
    environment.sandbox.inject(rng.choice(faults), times=2)
    environment.shop.refund(purchase)
    environment.sandbox.clear_faults()
    [record] = environment.records()
    assert record["status"] == "processing", record
    return purchase


def resume_executed(environment: Environment, rng: random.Random) -> Action:
    return _refund(_leave_unknown(environment, rng, EXECUTED), rng)


def resume_not_executed(environment: Environment, rng: random.Random) -> Action:
    return _refund(_leave_unknown(environment, rng, NOT_EXECUTED), rng)


def disputed(environment: Environment, rng: random.Random) -> Action:
    return _refund(environment.pay(rng, card=DISPUTED), rng)


def refunded_in_dashboard(environment: Environment, rng: random.Random) -> Action:
    purchase = environment.pay(rng)
    _refund_part_in_dashboard(environment, rng)
    environment.sandbox.dashboard_refund(environment.payment)
    if rng.random() < 0.3:
        environment.deliver(environment.events("refund.created")[0])
    return _refund(purchase, rng)


def _refund_part_in_dashboard(environment: Environment, rng: random.Random) -> None:
    paid = environment.sandbox.payment_intent(environment.payment)["amount"]
    environment.sandbox.dashboard_refund(environment.payment, 10 * rng.randint(1, paid // 10 - 1))


def part_in_dashboard(environment: Environment, rng: random.Random) -> Action:
    purchase = environment.pay(rng)
    _refund_part_in_dashboard(environment, rng)
    if rng.random() < 0.5:
        environment.deliver(environment.events("refund.created")[0])
    return _refund(purchase, rng)


def after_failure(environment: Environment, rng: random.Random) -> Action:
    purchase = environment.pay(rng)
    after_success = rng.random() < 0.5
    if not after_success:
        environment.sandbox.inject(rng.choice(("failed", "canceled", "insufficient_balance")))
    environment.shop.refund(purchase)
    if after_success:
        _fail_later(environment)
        environment.deliver(environment.events("refund.failed")[-1])
    [record] = environment.records()
    assert record["status"] in ("failed", "canceled"), record
    return _refund(purchase, rng)


def _fail_later(environment: Environment) -> None:
    [refund] = environment.refunds()
    environment.sandbox.settle(refund["id"], "failed", "lost_or_stolen_card")


def _settle_later(environment: Environment, rng: random.Random) -> None:
    """Make a pending refund that then succeeds or fails."""
    environment.shop.refund(environment.pay(rng, card=PENDING))
    status = rng.choice(("succeeded", "succeeded", "failed"))
    environment.sandbox.settle(environment.refunds()[0]["id"], status)


def event_settles(environment: Environment, rng: random.Random) -> Action:
    _settle_later(environment, rng)
    return _deliver(environment.events(rng.choice(("refund.updated", "charge.refund.updated")))[-1])


def event_fails(environment: Environment, rng: random.Random) -> Action:
    environment.shop.refund(environment.pay(rng))
    _fail_later(environment)
    return _deliver(environment.events(rng.choice(("refund.updated", "refund.failed")))[-1])


def event_of_unknown(environment: Environment, rng: random.Random) -> Action:
    _leave_unknown(environment, rng, EXECUTED)
    return _deliver(environment.events(rng.choice(("refund.created", "charge.refunded")))[-1])


def _event_of_dashboard(environment: Environment, rng: random.Random, event_type: str) -> Action:
    environment.pay(rng)
    if rng.random() < 0.5:
        _refund_part_in_dashboard(environment, rng)
    environment.sandbox.dashboard_refund(environment.payment)
    return _deliver(environment.events(event_type)[-1])


def dashboard_created(environment: Environment, rng: random.Random) -> Action:
    return _event_of_dashboard(environment, rng, "refund.created")


def dashboard_charge(environment: Environment, rng: random.Random) -> Action:
    return _event_of_dashboard(environment, rng, "charge.refunded")


def unknown_outcome(environment: Environment, rng: random.Random) -> Action:
    _leave_unknown(environment, rng, EXECUTED + NOT_EXECUTED)
    return RECONCILE


def settled_at_stripe(environment: Environment, rng: random.Random) -> Action:
    _settle_later(environment, rng)
    return RECONCILE


def signals_not_sent(environment: Environment, rng: random.Random) -> Action:
    """Prepare what a call leaves that is killed immediately before its receivers run."""
    environment.shop.refund(environment.pay(rng, card=rng.choice((PENDING, DISPUTED, "4242424242424242"))))
    changed = environment.db.flask_refunds.update_one(
        {"_id": f"{environment.payment}:1", "signalsSent": True}, {"$set": {"signalsSent": False}}
    )
    assert changed.modified_count == 1
    environment.db.signals.delete_many({})
    return RECONCILE


def purchases_not_verified(environment: Environment, rng: random.Random) -> Action:
    """Prepare what two calls leave if the slower one marks the purchases last, by an older status."""
    fails = rng.random() < 0.5
    if fails:
        environment.sandbox.inject("failed")
    environment.shop.refund(environment.pay(rng))
    wrong = "refunded" if fails else "completed"
    environment.db.purchases.update_one(
        {"_id": rng.choice(environment.purchases)}, {"$set": {"status": wrong}}
    )
    return RECONCILE


def change_everything(environment: Environment, rng: random.Random) -> Action:
    """Prepare a shop without a webhook, whose payments all changed at Stripe: several pages of a sweep."""
    changes = [_fail_after_success, _settle_later, _refund_twice_in_dashboard, _pay_abroad]
    for change in rng.sample(changes, len(changes)):
        change(environment, rng)
    return SWEEP


def change_since_last_sweep(environment: Environment, rng: random.Random) -> Action:
    """Prepare the same for an ordinary sweep, which follows a full one."""
    assert get_refunds(environment.shop.app).sweep.run() is not None
    return change_everything(environment, rng)


def _fail_after_success(environment: Environment, rng: random.Random) -> None:
    environment.shop.refund(environment.pay(rng))
    _fail_later(environment)


def _refund_twice_in_dashboard(environment: Environment, rng: random.Random) -> None:
    environment.pay(rng)
    _refund_part_in_dashboard(environment, rng)
    environment.sandbox.dashboard_refund(environment.payment)


def _pay_abroad(environment: Environment, rng: random.Random) -> None:
    """Refund a payment of another app of the same Stripe account."""
    environment.sandbox.dashboard_refund(environment.sandbox.create_payment(500, "usd"))


def last_part(environment: Environment, rng: random.Random) -> Action:
    """Refund the last part of a payment, so that its purchases must be marked."""
    purchase = part_in_dashboard(environment, rng)["purchase"]
    captured = environment.sandbox.payment_intent(environment.payment)["amount_received"]
    rest = captured - environment.sandbox.money_refunded(environment.payment)
    body = {"amount": rest, "refundable": rest, **rng.choice(({}, {"number": 1}))}
    return {"do": "refund", "purchase": purchase, "body": body}


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("refund: first", first_refund),
        Scenario("refund: several purchases", several_purchases),
        Scenario("refund: pending", pending),
        Scenario("refund: lost answer, retried", lost_answer),
        Scenario("refund: resumed, was made", resume_executed),
        Scenario("refund: resumed, was not made", resume_not_executed),
        Scenario("refund: disputed", disputed),
        Scenario("refund: made in the Dashboard", refunded_in_dashboard, strict=True, only_by_event=True),
        Scenario("refund: part in the Dashboard", part_in_dashboard, only_by_event=True),
        Scenario("refund: the last part", last_part, only_by_event=True),
        Scenario("refund: after a failed refund", after_failure),
        Scenario("webhook: pending settles", event_settles),
        Scenario("webhook: success fails", event_fails, only_by_event=True),
        Scenario("webhook: of an unknown outcome", event_of_unknown),
        Scenario("webhook: Dashboard, refund.created", dashboard_created, strict=True, only_by_event=True),
        Scenario("webhook: Dashboard, charge.refunded", dashboard_charge, strict=True, only_by_event=True),
        Scenario("reconcile: unknown outcome", unknown_outcome),
        Scenario("reconcile: settled at Stripe", settled_at_stripe),
        Scenario("reconcile: signals not sent", signals_not_sent),
        Scenario("reconcile: purchases not verified", purchases_not_verified),
        Scenario("sweep: full", change_everything, strict=True),
        Scenario("sweep: since the last one", change_since_last_sweep, strict=True),
    )
}

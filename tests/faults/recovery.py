"""Recovery after a fault by Stripe's events, one reconcile and a further request."""

from __future__ import annotations

import random

from tests.faults.environments import Environment
from tests.faults.invariants import DISAGREES, DOUBLED, Violation
from tests.faults.response_checks import ResponseChecker
from tests.faults.scenarios import Action, Scenario, perform


def recover(
    environment: Environment, scenario: Scenario, action: Action, rng: random.Random, *, undelivered: bool
) -> list[Violation]:
    """Reconcile once, with Stripe's events before or after it. The invariants must also hold in between.

    After a sweep, what one command does must suffice without any event: a reconcile, then a sweep.

    :param undelivered: whether the action was an event without a 2xx response, so that Stripe resends it.
    """
    if scenario.kind == "sweep":
        environment.reconcile()
        environment.sweep()
        return environment.find_violations() + refund_again(environment)
    found = []
    events_first = rng.random() < 0.5
    if events_first:
        _deliver_events(environment, action, rng, undelivered=undelivered)
    environment.reconcile()
    if events_first or not scenario.only_by_event:
        found += environment.find_violations()
    if not events_first:
        _deliver_events(environment, action, rng, undelivered=undelivered)
        found += environment.find_violations()
    return found + refund_again(environment)


def _deliver_events(
    environment: Environment, action: Action, rng: random.Random, *, undelivered: bool
) -> None:
    if undelivered and action["do"] == "deliver":
        assert environment.deliver(action["event"]) == 200
    environment.deliver_all(rng)


def refund_again(environment: Environment) -> list[Violation]:
    """Request the refund once more. No money may move twice, and the response must be true."""
    status, is_part = _active_refund(environment)
    action = {"do": "refund", "purchase": str(environment.purchases[-1]), "body": {}}
    before = len(environment.refunds())
    checker = ResponseChecker(environment, action)
    response = perform(environment.later_shop.app, environment.headers, action)
    found = checker.find_violations(response) + environment.find_violations()
    if status is not None and len(environment.refunds()) != before:
        found.append(Violation(DOUBLED, environment.payment, "a further request made a further refund"))
    expected = 400 if status == "succeeded" else 202
    if is_part:  # it isn't continued, and leaves nothing
        expected = 409 if status == "processing" else 400
    if status is not None and response.status != expected:
        message = f"the response to a further request was {response}, while the refund is {status}"
        found.append(Violation(DISAGREES, environment.payment, message))
    return found


def _active_refund(environment: Environment) -> tuple[str | None, bool]:
    """Return the status of the refund that prevents another one, and whether it is a part.

    The status is ``None`` if there is money to refund.
    """
    created_here = [
        record
        for record in environment.records()
        if record["status"] not in ("failed", "canceled") and record["source"] != "external"
    ]
    if created_here:
        return str(created_here[-1]["status"]), created_here[-1].get("part") is not None
    is_refunded = environment.shop.status_of(environment.purchases[-1]) == "refunded"
    return "succeeded" if is_refunded else None, False

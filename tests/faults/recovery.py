"""What Stripe, the operator's cron and the admin do after an accident; and what is wrong then."""

from __future__ import annotations

import random

from tests.faults.environments import Room
from tests.faults.invariants import DISAGREES, DOUBLED, Violation
from tests.faults.response_checks import Witness
from tests.faults.scenarios import Action, Scenario, perform


def end(
    room: Room, scenario: Scenario, action: Action, rng: random.Random, *, unheard: bool
) -> list[Violation]:
    """One reconcile; Stripe's events come before it or after it, and in between nothing may be wrong either.

    :param unheard: whether the action was an event that was not answered 2xx, so that Stripe sends it again.
    """
    found: list[Violation] = []
    events_first = rng.random() < 0.5
    if events_first:
        _hear(room, action, rng, unheard=unheard)
    room.reconcile()
    if events_first or not scenario.only_by_event:
        found += room.violations()
    if not events_first:
        _hear(room, action, rng, unheard=unheard)
        found += room.violations()
    return found + call_again(room)


def _hear(room: Room, action: Action, rng: random.Random, *, unheard: bool) -> None:
    if unheard and action["do"] == "deliver":
        assert room.receive(action["event"]) == 200
    room.hear_from_stripe(rng)


def call_again(room: Room) -> list[Violation]:
    """The admin asks once more: nothing may move twice, and what he is told must be so."""
    status = _live_status(room)
    action = {"do": "refund", "purchase": str(room.purchases[-1]), "body": {}}
    before, witness = len(room.sandbox.refunds(room.payment)), Witness(room, action)
    answer = perform(room.later.app, room.headers, action)
    found = witness.false_words(answer) + room.violations()
    if status is not None and len(room.sandbox.refunds(room.payment)) != before:
        found.append(Violation(DOUBLED, room.payment, "called again, and money moved again"))
    if status is not None and answer.status != (400 if status == "succeeded" else 202):
        found.append(Violation(DISAGREES, room.payment, f"called again for {status}, it answered {answer}"))
    return found


def _live_status(room: Room) -> str | None:
    """How the refund stands that bars a further one; ``None`` where there is something left to refund."""
    rows = [row for row in room.records() if row["status"] not in ("failed", "canceled")]
    ours = [row for row in rows if row["source"] != "dashboard"]
    if ours:
        return str(ours[-1]["status"])
    return "succeeded" if room.shop.status_of(room.purchases[-1]) == "refunded" else None

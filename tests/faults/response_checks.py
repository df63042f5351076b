"""Whether what a caller was told is so, at the moment when he is told it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask_refunds.models import RefundStatus
from tests.faults.environments import Room
from tests.faults.invariants import DISAGREES, Violation
from tests.faults.scenarios import Action, Answer

_GONE = ("failed", "canceled")


class Witness:
    """Knows how things stood before an action, and so what the action did.

    :param room: just before the action.
    """

    def __init__(self, room: Room, action: Action) -> None:
        self._room = room
        self._action = action
        self._before = {refund["id"] for refund in room.sandbox.refunds(room.payment)}

    def false_words(self, answer: Answer) -> list[Violation]:
        """What is untrue of the action's answer."""
        checks = {"reconcile": self._of_reconcile, "deliver": self._of_event, "refund": self._of_refund}
        if checks[self._action["do"]](answer):
            return []
        what = f"it was answered {answer.status} {dict(answer.body)}"
        return [Violation(DISAGREES, self._room.payment, what)]

    def _of_reconcile(self, answer: Answer) -> bool:
        return answer.status in (0, 1, 2)

    def _of_event(self, answer: Answer) -> bool:
        """A 2xx is said only when what the event says is in the ledger; else Stripe must send it again."""
        if answer.status != 200:
            return answer.status in (409, 500, 503)
        obj = self._action["event"]["data"]["object"]
        facts = [obj] if obj["object"] == "refund" else self._at_stripe()
        rows = {row.get("stripeRefundId"): row for row in self._room.records()}
        return all(fact["id"] in rows and _covers(rows[fact["id"]], fact) for fact in facts)

    def _of_refund(self, answer: Answer) -> bool:
        checks = {
            200: self._is_refunded,
            202: self._is_submitted,
            400: self._is_refused,
            409: self._is_on_its_way,
            500: self._nothing_happened,
            503: self._nothing_happened,
        }
        return answer.status in checks and checks[answer.status](answer)

    def _is_refunded(self, answer: Answer) -> bool:
        purchases = list(self._room.db.purchases.find({"_id": {"$in": self._room.purchases}}))
        marked = all(purchase["status"] == "refunded" for purchase in purchases)
        return marked and answer.body["purchase"]["status"] == "refunded" and self._has_succeeded()

    def _is_submitted(self, answer: Answer) -> bool:
        if answer.body["refund"]["status"] != "processing":
            return self._is_on_its_way(answer)
        # "Nobody knows" is no lie where somebody could have known: the transitions may have lost the answer again.
        return any(row["_id"] == answer.body["refund"]["id"] for row in self._room.records())

    def _is_on_its_way(self, answer: Answer) -> bool:
        return any(row["status"] not in _GONE for row in self._room.records())

    def _is_refused(self, answer: Answer) -> bool:
        if answer.body["code"] == "purchase_not_refundable":
            return self._has_succeeded()
        return answer.body["code"] == "refund_failed" and not self._made()

    def _nothing_happened(self, answer: Answer) -> bool:
        return "othing was refunded" in answer.body["error"] and not self._made()

    def _has_succeeded(self) -> bool:
        return any(refund["status"] == "succeeded" for refund in self._at_stripe())

    def _made(self) -> list[Mapping[str, Any]]:
        """What moved, or is about to, by this action."""
        return [
            refund
            for refund in self._at_stripe()
            if refund["id"] not in self._before and refund["status"] not in _GONE
        ]

    def _at_stripe(self) -> Sequence[Mapping[str, Any]]:
        return self._room.sandbox.refunds(self._room.payment)


def _covers(row: Mapping[str, Any], fact: Mapping[str, Any]) -> bool:
    return RefundStatus(row["status"]).rank >= RefundStatus(fact["status"]).rank

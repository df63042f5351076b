"""Check that a response is true at the moment when the caller gets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.faults.environments import Environment
from tests.faults.invariants import DISAGREES, UNSAID, Violation
from tests.faults.scenarios import Action, ActionResponse

_ENDED_UNPAID = ("failed", "canceled")
_NOTHING_REFUNDED = (
    "database_unavailable",
    "stripe_key_rejected",
    "stripe_rate_limited",
    "stripe_unavailable",
)


class ResponseChecker:
    """Compares the state before and after an action with its response.

    :param environment: in its state before the action.
    """

    def __init__(self, environment: Environment, action: Action) -> None:
        self._environment = environment
        self._action = action
        self._before = {refund["id"] for refund in environment.refunds()}

    def find_violations(self, response: ActionResponse) -> list[Violation]:
        """Return a violation if the response isn't true."""
        checks = {
            "reconcile": self._check_reconcile,
            "sweep": self._check_sweep,
            "deliver": self._check_event,
            "refund": self._check_refund,
        }
        if checks[self._action["do"]](response):
            return []
        message = f"the response was {response.status} {dict(response.body)}"
        return [Violation(DISAGREES, self._environment.payment, message)]

    def _check_reconcile(self, response: ActionResponse) -> bool:
        return response.status in (0, 1, 2)

    def _check_sweep(self, response: ActionResponse) -> bool:
        """Require that a complete sweep has brought ledger and purchases in step with Stripe.

        Receivers may be told by the next reconcile: a lost answer looks like a record of another process.
        """
        if response.status != 0:
            return response.status in (1, 2)
        found = self._environment.find_violations()
        return not found or (all(each.kind == UNSAID for each in found) and self._is_left("signalsSent"))

    def _check_event(self, response: ActionResponse) -> bool:
        """Require what Stripe shows now in the ledger for a 2xx. Otherwise Stripe must resend the event."""
        if response.status != 200:
            return response.status in (409, 500, 503)
        obj = self._action["event"]["data"]["object"]
        concerned = [
            each for each in self._environment.refunds() if obj["id"] in (each["id"], each["charge"])
        ]
        recorded = {each.get("stripeRefundId"): each["status"] for each in self._environment.records()}
        return bool(concerned) and all(recorded.get(each["id"]) == each["status"] for each in concerned)

    def _check_refund(self, response: ActionResponse) -> bool:
        checks = {
            200: self._is_refunded,
            202: self._is_submitted,
            400: self._is_rejected,
            409: self._has_active_record,
            500: self._nothing_was_refunded,
            503: self._nothing_was_refunded,
        }
        return response.status in checks and checks[response.status](response)

    def _is_refunded(self, response: ActionResponse) -> bool:
        """Require marked purchases, or that reconcile marks them, as after a lost list. A hint says so."""
        if response.body["purchase"]["status"] != "refunded":
            is_said = "amount" in self._action["body"] or bool(response.body.get("hint"))
            return is_said and self._is_left("purchasesVerified") and self._has_succeeded()
        purchases = self._environment.db.purchases.find({"_id": {"$in": self._environment.purchases}})
        return all(each["status"] == "refunded" for each in purchases) and self._has_succeeded()

    def _is_submitted(self, response: ActionResponse) -> bool:
        if response.body["refund"]["status"] != "processing":
            return self._has_active_record(response)
        # The record may know the outcome already: this call may have lost its answer from the database.
        return any(record["_id"] == response.body["refund"]["id"] for record in self._environment.records())

    def _has_active_record(self, response: ActionResponse) -> bool:
        return any(record["status"] not in _ENDED_UNPAID for record in self._environment.records())

    def _is_rejected(self, response: ActionResponse) -> bool:
        if response.body["code"] == "purchase_not_refundable":
            return self._has_succeeded()
        return response.body["code"] in ("refund_failed", "payment_unknown") and not self._made()

    def _nothing_was_refunded(self, response: ActionResponse) -> bool:
        return response.body["code"] in _NOTHING_REFUNDED and not self._made()

    def _is_left(self, field: str) -> bool:
        """Return whether a record still needs this of a reconcile."""
        return any(record.get(field) is False for record in self._environment.records())

    def _has_succeeded(self) -> bool:
        return any(refund["status"] == "succeeded" for refund in self._environment.refunds())

    def _made(self) -> list[Mapping[str, Any]]:
        """Return the refunds that this action made and that didn't fail."""
        return [
            refund
            for refund in self._environment.refunds()
            if refund["id"] not in self._before and refund["status"] not in _ENDED_UNPAID
        ]

"""A Stripe account: its objects, and Stripe's rules for changing them.

This module does no I/O and no locking. The caller provides the clock and holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from .cards import Card
from .delayed_transitions import DelayedTransitions
from .errors import card_declined, invalid, missing
from .events import NO_API_CALL, ApiCall, EventLog, StoredEvent
from .objects import (
    JsonObject,
    copy_json,
    format_amount,
    new_charge,
    new_dispute,
    new_id,
    new_payment_intent,
    new_refund,
    new_webhook_endpoint,
    refund_next_action,
)

FAILED_OR_CANCELED = frozenset({"failed", "canceled"})
REFUND_STATUSES = frozenset({"pending", "requires_action", "succeeded"}) | FAILED_OR_CANCELED
_FORCED_REFUND_SETTLES_AS = {"pending": "succeeded"}


class Account:
    """The objects of one account in one mode.

    :param now: returns seconds since the epoch.
    :param livemode: the mode of every object.
    :param enforce_amount_limit: False accepts refunds of more than the amount paid. A double refund
        then shows in :meth:`money_refunded`.
    :param refund_settles_after: seconds until a refund of an asynchronous test card changes its status.
    :param on_event: called with each new event, with the lock held.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        livemode: bool = False,
        enforce_amount_limit: bool = True,
        refund_settles_after: float = 3600.0,
        on_event: Callable[[StoredEvent], None] | None = None,
    ) -> None:
        self.livemode = livemode
        self.enforce_amount_limit = enforce_amount_limit
        self.refund_settles_after = refund_settles_after
        self.other_mode: Account | None = None
        self._now = now
        self.events = EventLog(now=now, livemode=livemode, on_event=on_event)
        self._intents: dict[str, JsonObject] = {}
        self._charges: dict[str, JsonObject] = {}
        self._refunds: dict[str, JsonObject] = {}
        self._refunds_of: dict[str, list[JsonObject]] = {}
        self._cards: dict[str, Card] = {}
        self._delayed_transitions = DelayedTransitions()
        self.webhook_endpoints: list[JsonObject] = []

    # Reading

    def payment_intent(self, identifier: str, *, param: str = "intent") -> JsonObject:
        """Return a payment intent, or raise a 404 :class:`ApiError`."""
        return cast(JsonObject, self._get("payment_intent", identifier, param))

    def charge(self, identifier: str, *, param: str = "id") -> JsonObject:
        """Return a charge, or raise a 404 :class:`ApiError`."""
        return cast(JsonObject, self._get("charge", identifier, param))

    def refund(self, identifier: str, *, param: str = "id") -> JsonObject:
        """Return a refund, or raise a 404 :class:`ApiError`."""
        return cast(JsonObject, self._get("refund", identifier, param))

    def event(self, identifier: str, *, param: str = "id") -> JsonObject:
        """Return an event, or raise a 404 :class:`ApiError`."""
        return cast(StoredEvent, self._get("event", identifier, param)).load()

    def refunds(self, *, payment_intent: str | None = None, charge: str | None = None) -> list[JsonObject]:
        """Return the refunds of a payment intent, of a charge, or all; oldest first.

        :raises ApiError: 404 if the payment intent or charge doesn't exist.
        """
        if charge is not None:
            intent = self.charge(charge, param="charge")["payment_intent"]
            return [refund for refund in self.refunds_of(intent) if refund["charge"] == charge]
        if payment_intent is not None:
            self.payment_intent(payment_intent, param="payment_intent")
        return self.refunds_of(payment_intent)

    def refunds_of(self, payment_intent: str | None) -> list[JsonObject]:
        """Return the refunds of a payment intent, oldest first. None returns all refunds."""
        if payment_intent is None:
            return list(self._refunds.values())
        return list(self._refunds_of.get(payment_intent, ()))

    def money_refunded(self, payment_intent: str) -> int:
        """Return the sum of the refunds that are neither failed nor canceled, in minor units."""
        refunds = self.refunds_of(payment_intent)
        return sum(each["amount"] for each in refunds if each["status"] not in FAILED_OR_CANCELED)

    def balance(self) -> JsonObject:
        """Return the balance: what was paid and not refunded, by currency."""
        totals: dict[str, int] = {}
        for charge in self._charges.values():
            remaining = charge["amount_captured"] - charge["amount_refunded"]
            totals[charge["currency"]] = totals.get(charge["currency"], 0) + remaining
        return {
            "object": "balance",
            "available": [
                {"amount": amount, "currency": currency, "source_types": {"card": amount}}
                for currency, amount in sorted((totals or {"usd": 0}).items())
            ],
            "livemode": self.livemode,
            "pending": [],
        }

    def add_webhook_endpoint(self, url: str, events: Sequence[str]) -> None:
        """Register a webhook endpoint. The caller delivers the events."""
        endpoint = new_webhook_endpoint(url, events, created=self._time(), livemode=self.livemode)
        self.webhook_endpoints.append(endpoint)

    # Payments

    def create_payment_intent(
        self,
        *,
        amount: int,
        currency: str,
        card: Card | None = None,
        confirm: bool = False,
        call: ApiCall = NO_API_CALL,
        **optional: Any,
    ) -> JsonObject:
        """Create a payment intent, and pay it if ``confirm`` is true.

        :param optional: ``metadata``, ``description``, ``receipt_email``.
        :raises ApiError: 402 if the card is declined.
        """
        intent = new_payment_intent(
            amount=amount,
            currency=currency,
            created=self._time(),
            livemode=self.livemode,
            **optional,
        )
        self._intents[intent["id"]] = intent
        if card is not None:
            self._attach(intent, card)
        self.events.emit("payment_intent.created", intent, call)
        return self._pay(intent, call) if confirm else intent

    def confirm_payment_intent(
        self, identifier: str, *, card: Card | None = None, call: ApiCall = NO_API_CALL
    ) -> JsonObject:
        """Pay a payment intent.

        :raises ApiError: 404; 400 if it is already paid or has no card; 402 if the card is declined.
        """
        intent = self.payment_intent(identifier)
        if intent["status"] == "succeeded":
            raise invalid(
                "You cannot confirm this PaymentIntent because it has already succeeded after "
                "being previously confirmed.",
                code="payment_intent_unexpected_state",
                payment_intent=copy_json(intent),
            )
        if card is not None:
            self._attach(intent, card)
        return self._pay(intent, call)

    def _attach(self, intent: JsonObject, card: Card) -> None:
        self._cards[intent["id"]] = card
        intent.update(payment_method=new_id("pm"), status="requires_confirmation")

    def _pay(self, intent: JsonObject, call: ApiCall) -> JsonObject:
        card = self._cards.get(intent["id"])
        if card is None:
            raise invalid(
                "You cannot confirm this PaymentIntent because it's missing a payment method. "
                "Update the PaymentIntent with a payment method and then confirm it again.",
                code="payment_intent_unexpected_state",
                payment_intent=copy_json(intent),
            )
        charge = new_charge(intent, card, created=self._time())
        self._charges[charge["id"]] = charge
        intent["latest_charge"] = charge["id"]
        if card.decline_code is not None:
            self._decline(intent, charge, card.decline_code, call)
        intent.update(status="succeeded", amount_received=intent["amount"], last_payment_error=None)
        self.events.emit("charge.succeeded", charge, call)
        self.events.emit("payment_intent.succeeded", intent, call)
        if card.disputed:
            charge["disputed"] = True
            dispute = new_dispute(charge, created=self._time())
            self.events.emit("charge.dispute.created", dispute, NO_API_CALL)
        return intent

    def _decline(self, intent: JsonObject, charge: JsonObject, decline_code: str, call: ApiCall) -> None:
        error = card_declined(decline_code, charge=charge["id"])
        del self._cards[intent["id"]]
        intent.update(
            status="requires_payment_method",
            payment_method=None,
            last_payment_error=dict(error.error),
        )
        self.events.emit("charge.failed", charge, call)
        self.events.emit("payment_intent.payment_failed", intent, call)
        error.error["payment_intent"] = copy_json(intent)
        raise error

    # Refunds

    def create_refund(
        self,
        *,
        payment_intent: str | None = None,
        charge: str | None = None,
        amount: int | None = None,
        instructions_email: str = "customer@example.com",
        call: ApiCall = NO_API_CALL,
        **optional: Any,
    ) -> JsonObject:
        """Refund a payment: ``amount``, or the full remaining amount.

        :param optional: ``reason``, ``metadata``.
        :raises ApiError: 404; 400 if the charge can't be refunded or ``amount`` is too large.
        """
        refunded_charge = self._get_refundable_charge(payment_intent, charge)
        amount = self._refund_amount(refunded_charge, amount)
        refund = new_refund(refunded_charge, amount=amount, created=self._time(), **optional)
        self._refunds[refund["id"]] = refund
        self._refunds_of.setdefault(refunded_charge["payment_intent"], []).append(refund)
        card = self._cards[refunded_charge["payment_intent"]]
        self._set_status(refund, call.forced_status or card.refund_status, email=instructions_email)
        if call.forced_status == "pending":
            refund["pending_reason"] = "insufficient_funds"
        self.events.emit("refund.created", refund, call)
        if refund["status"] == "failed":
            self.events.emit("refund.failed", refund, call)
        if refund["status"] not in FAILED_OR_CANCELED:
            self.events.emit("charge.refunded", refunded_charge, call)
        self._delay_settlement(refund, card, call)
        return refund

    def update_refund(
        self,
        identifier: str,
        *,
        metadata: Mapping[str, str] | None = None,
        call: ApiCall = NO_API_CALL,
    ) -> JsonObject:
        """Change a refund's metadata. An empty value removes its key, an empty mapping removes all.

        :raises ApiError: 404.
        """
        refund = self.refund(identifier)
        if metadata is not None:
            old = refund["metadata"]
            merged = {**old, **metadata} if metadata else {}
            refund["metadata"] = {key: value for key, value in merged.items() if value}
            self._emit_update(refund, {"metadata": old}, call)
        return refund

    def cancel_refund(self, identifier: str, *, call: ApiCall = NO_API_CALL) -> JsonObject:
        """Cancel a refund that requires an action by the customer.

        :raises ApiError: 404; 400 if it has another status (https://docs.stripe.com/api/refunds/cancel).
        """
        refund = self.refund(identifier)
        if refund["status"] != "requires_action":
            raise invalid(
                f"Refund {identifier} has a status of {refund['status']}. You can only cancel "
                "refunds with a status of requires_action."
            )
        self._change_status(refund, "canceled", "merchant_request", call)
        return refund

    def settle(self, identifier: str, status: str, failure_reason: str | None = None) -> JsonObject:
        """Change a refund's status, as the bank or a Dashboard user can.

        :param status: one of Stripe's statuses. A succeeded refund can still fail.
        :raises ApiError: 404.
        :raises ValueError: Stripe doesn't allow this change.
        """
        refund = self.refund(identifier)
        current = refund["status"]
        reopens = current == "succeeded" and status not in FAILED_OR_CANCELED
        if status not in REFUND_STATUSES or current in FAILED_OR_CANCELED or current == status or reopens:
            raise ValueError(f"A refund can't change from {current} to {status}.")
        self._change_status(refund, status, failure_reason, NO_API_CALL)
        return refund

    def apply_due_transitions(self) -> None:
        """Apply the delayed status changes that are due."""
        for due in self._delayed_transitions.pop_due(self._now()):
            refund = self._refunds[due.refund_id]
            if refund["status"] == due.from_status:
                self._change_status(refund, due.to_status, None, NO_API_CALL)

    def _get_refundable_charge(self, payment_intent: str | None, charge_id: str | None) -> JsonObject:
        if charge_id is not None:
            charge = self.charge(charge_id, param="charge")
            intent = self._intents[charge["payment_intent"]]
        else:
            intent = self.payment_intent(payment_intent or "", param="payment_intent")
            charge = self._charges.get(intent["latest_charge"] or "", {})
        if charge.get("status") != "succeeded":
            raise invalid(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                code="payment_intent_unexpected_state",
                param="payment_intent",
            )
        if charge["disputed"]:
            raise invalid(
                f"Charge {charge['id']} has been charged back; cannot issue a refund.",
                code="charge_disputed",
            )
        return charge

    def _refund_amount(self, charge: Mapping[str, Any], amount: int | None) -> int:
        remaining = charge["amount"] - charge["amount_refunded"]
        if not self.enforce_amount_limit:
            return amount or (remaining if remaining > 0 else charge["amount"])
        if remaining <= 0:
            raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
        if amount is not None and amount > remaining:
            requested = format_amount(amount, charge["currency"])
            unrefunded = format_amount(remaining, charge["currency"])
            raise invalid(
                f"Refund amount ({requested}) is greater than unrefunded amount on charge ({unrefunded})",
                param="amount",
            )
        return amount or remaining

    def _change_status(
        self, refund: JsonObject, status: str, failure_reason: str | None, call: ApiCall
    ) -> None:
        old = {key: refund[key] for key in refund if key != "metadata"}
        self._set_status(refund, status, failure_reason)
        changed = {key: value for key, value in old.items() if refund[key] != value}
        self._emit_update(refund, changed, call)
        if status == "failed":
            self.events.emit("refund.failed", refund, call)

    def _set_status(
        self,
        refund: JsonObject,
        status: str,
        failure_reason: str | None = None,
        email: str = "customer@example.com",
    ) -> None:
        unpaid = status in FAILED_OR_CANCELED
        default = "merchant_request" if status == "canceled" else "expired_or_canceled_card"
        refund.update(
            status=status,
            failure_reason=(failure_reason or default) if unpaid else None,
            failure_balance_transaction=new_id("txn") if unpaid else None,
            pending_reason="processing" if status == "pending" else None,
            next_action=refund_next_action(email, now=self._time()) if status == "requires_action" else None,
        )
        charge = self._charges[refund["charge"]]
        charge["amount_refunded"] = self.money_refunded(charge["payment_intent"])
        charge["refunded"] = charge["amount_refunded"] >= charge["amount"]

    def _delay_settlement(self, refund: JsonObject, card: Card, call: ApiCall) -> None:
        if call.forced_status is None:
            settles_as = card.refund_settles_as
        else:
            settles_as = _FORCED_REFUND_SETTLES_AS.get(call.forced_status)
        if settles_as is not None:
            due_at = self._now() + self.refund_settles_after
            self._delayed_transitions.add(
                due_at, refund["id"], from_status=refund["status"], to_status=settles_as
            )

    def _emit_update(self, refund: JsonObject, previous: Mapping[str, Any], call: ApiCall) -> None:
        # charge.refund.updated is the name from before API version 2024-10-28. Stripe sends both.
        for event_type in ("refund.updated", "charge.refund.updated"):
            self.events.emit(event_type, refund, call, previous)

    def _get(self, kind: str, identifier: str, param: str) -> Any:
        found = self._objects(kind).get(identifier)
        if found is None:
            raise missing(kind, identifier, param=param, hint=self._hint(kind, identifier))
        return found

    def _hint(self, kind: str, identifier: str) -> str:
        if self.other_mode is None or identifier not in self.other_mode._objects(kind):
            return ""
        other, this = ("live", "test") if self.other_mode.livemode else ("test", "live")
        return (
            f"; a similar object exists in {other} mode, but a {this} mode key was used to make this request."
        )

    def _objects(self, kind: str) -> Mapping[str, Any]:
        by_kind: dict[str, Mapping[str, Any]] = {
            "payment_intent": self._intents,
            "charge": self._charges,
            "refund": self._refunds,
            "event": self.events.by_id,
        }
        return by_kind[kind]

    def _time(self) -> int:
        return int(self._now())

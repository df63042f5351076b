"""One Stripe account: what it holds, and Stripe's rules for changing it.

No I/O, no lock, no clock of its own: whoever calls brings the time and keeps others out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from .cards import Card
from .errors import card_declined, invalid, missing
from .events import NO_API_CALL, ApiCall, EventLog, StoredEvent
from .objects import (
    JsonObject,
    money,
    new_charge,
    new_dispute,
    new_id,
    new_payment_intent,
    new_refund,
    new_webhook_endpoint,
    refund_action,
    snapshot,
)
from .delayed_transitions import DelayedTransitions

FAILED_OR_CANCELED = frozenset({"failed", "canceled"})
REFUND_STATUSES = frozenset({"pending", "requires_action", "succeeded"}) | FAILED_OR_CANCELED
_FORCED_ENDS = {"pending": "succeeded"}


class Account:
    """The objects of one account in one mode.

    :param now: gives the time in seconds since the epoch.
    :param livemode: what every object says.
    :param enforce_amount_limit: False lets refunds exceed what was paid, and a charge be refunded
        over and over, so that a double payer shows in the money.
    :param refund_settles_after: seconds until a refund of an asynchronous test card changes.
    :param on_event: told of each event, with the lock held.
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
        self.twin: Account | None = None
        self._now = now
        self.events = EventLog(now=now, livemode=livemode, on_event=on_event)
        self._intents: dict[str, JsonObject] = {}
        self._charges: dict[str, JsonObject] = {}
        self._refunds: dict[str, JsonObject] = {}
        self._refunds_of: dict[str, list[JsonObject]] = {}
        self._cards: dict[str, Card] = {}
        self._schedule = DelayedTransitions()
        self.webhook_endpoints: list[JsonObject] = []

    # Reading

    def payment_intent(self, identifier: str, *, param: str = "intent") -> JsonObject:
        """:raises ApiError: 404."""
        return cast(JsonObject, self._find("payment_intent", identifier, param))

    def charge(self, identifier: str, *, param: str = "id") -> JsonObject:
        """:raises ApiError: 404."""
        return cast(JsonObject, self._find("charge", identifier, param))

    def refund(self, identifier: str, *, param: str = "id") -> JsonObject:
        """:raises ApiError: 404."""
        return cast(JsonObject, self._find("refund", identifier, param))

    def event(self, identifier: str, *, param: str = "id") -> JsonObject:
        """:raises ApiError: 404."""
        return cast(StoredEvent, self._find("event", identifier, param)).load()

    def refunds(self, *, payment_intent: str | None = None, charge: str | None = None) -> list[JsonObject]:
        """Refunds, oldest first.

        :raises ApiError: 404 when there is no such payment intent or charge.
        """
        if charge is not None:
            paid_by = self.charge(charge, param="charge")["payment_intent"]
            return [refund for refund in self.refunds_of(paid_by) if refund["charge"] == charge]
        if payment_intent is not None:
            self.payment_intent(payment_intent, param="payment_intent")
        return self.refunds_of(payment_intent)

    def refunds_of(self, payment_intent: str | None) -> list[JsonObject]:
        """Refunds, oldest first: all for None, none for a payment intent that is not there."""
        if payment_intent is None:
            return list(self._refunds.values())
        return list(self._refunds_of.get(payment_intent, ()))

    def money_refunded(self, payment_intent: str) -> int:
        """The sum of the refunds that did not come to nothing, in minor units."""
        return sum(it["amount"] for it in self._live(payment_intent))

    def balance(self) -> JsonObject:
        """What was paid and not refunded, by currency."""
        totals: dict[str, int] = {}
        for charge in self._charges.values():
            held = charge["amount_captured"] - charge["amount_refunded"]
            totals[charge["currency"]] = totals.get(charge["currency"], 0) + held
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
        """Register where events go; whoever calls delivers them."""
        endpoint = new_webhook_endpoint(url, events, created=self._time(), livemode=self.livemode)
        self.webhook_endpoints.append(endpoint)

    # Paying

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
        """A new payment intent, paid at once when ``confirm`` is true.

        :param optional: ``metadata``, ``description``, ``receipt_email``.
        :raises ApiError: 402 when the card is declined.
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

        :raises ApiError: 404; 400 when it is paid already or has no card; 402 when declined.
        """
        intent = self.payment_intent(identifier)
        if intent["status"] == "succeeded":
            raise invalid(
                "You cannot confirm this PaymentIntent because it has already succeeded after "
                "being previously confirmed.",
                code="payment_intent_unexpected_state",
                payment_intent=snapshot(intent),
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
                payment_intent=snapshot(intent),
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
        error.error["payment_intent"] = snapshot(intent)
        raise error

    # Refunding

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
        """Refund a payment, in full unless ``amount`` says how much.

        :param optional: ``reason``, ``metadata``.
        :raises ApiError: 404; 400 when the charge cannot be refunded, or not by that much.
        """
        paid = self._refundable(payment_intent, charge)
        refund = new_refund(paid, amount=self._refund_amount(paid, amount), created=self._time(), **optional)
        self._refunds[refund["id"]] = refund
        self._refunds_of.setdefault(paid["payment_intent"], []).append(refund)
        card = self._cards[paid["payment_intent"]]
        self._become(refund, call.forced_status or card.refund_status, email=instructions_email)
        if call.forced_status == "pending":
            refund["pending_reason"] = "insufficient_funds"
        self.events.emit("refund.created", refund, call)
        if refund["status"] == "failed":
            self.events.emit("refund.failed", refund, call)
        if refund["status"] not in FAILED_OR_CANCELED:
            self.events.emit("charge.refunded", paid, call)
        ends = card.refund_ends if call.forced_status is None else _FORCED_ENDS.get(call.forced_status)
        if ends is not None:
            self._settle_later(refund, ends)
        return refund

    def update_refund(
        self,
        identifier: str,
        *,
        metadata: Mapping[str, str] | None = None,
        call: ApiCall = NO_API_CALL,
    ) -> JsonObject:
        """Change a refund's metadata: ``""`` unsets a key, an empty mapping all of them.

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
        """Cancel a refund that waits for the customer.

        :raises ApiError: 404; 400 in any other state
            (https://docs.stripe.com/api/refunds/cancel).
        """
        refund = self.refund(identifier)
        if refund["status"] != "requires_action":
            raise invalid(
                f"Refund {identifier} has a status of {refund['status']}. You can only cancel "
                "refunds with a status of requires_action."
            )
        self._change(refund, "canceled", "merchant_request", call)
        return refund

    def settle(self, identifier: str, status: str, failure_reason: str | None = None) -> JsonObject:
        """Let a refund become what the bank, or the Dashboard, makes of it.

        :param status: any of Stripe's; ``succeeded`` may still become ``failed``.
        :raises ApiError: 404.
        :raises ValueError: when no refund could go that way.
        """
        refund = self.refund(identifier)
        was = refund["status"]
        backwards = was == "succeeded" and status not in FAILED_OR_CANCELED
        if status not in REFUND_STATUSES or was in FAILED_OR_CANCELED or was == status or backwards:
            raise ValueError(f"a refund that is {was} cannot become {status}")
        self._change(refund, status, failure_reason, NO_API_CALL)
        return refund

    def run_due(self) -> None:
        """Settle the refunds of asynchronous test cards whose time has come."""
        for due in self._schedule.pop_due(self._now()):
            refund = self._refunds[due.refund_id]
            if refund["status"] == due.before:
                self._change(refund, due.after, None, NO_API_CALL)

    def _refundable(self, payment_intent: str | None, charge: str | None) -> JsonObject:
        if charge is not None:
            paid = self.charge(charge, param="charge")
            intent = self._intents[paid["payment_intent"]]
        else:
            intent = self.payment_intent(payment_intent or "", param="payment_intent")
            paid = self._charges.get(intent["latest_charge"] or "", {})
        if paid.get("status") != "succeeded":
            raise invalid(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                code="payment_intent_unexpected_state",
                param="payment_intent",
            )
        if paid["disputed"]:
            raise invalid(
                f"Charge {paid['id']} has been charged back; cannot issue a refund.",
                code="charge_disputed",
            )
        return paid

    def _refund_amount(self, charge: Mapping[str, Any], amount: int | None) -> int:
        left = charge["amount"] - charge["amount_refunded"]
        if not self.enforce_amount_limit:
            return amount or (left if left > 0 else charge["amount"])
        if left <= 0:
            raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
        if amount is not None and amount > left:
            asked, most = money(amount, charge["currency"]), money(left, charge["currency"])
            raise invalid(
                f"Refund amount ({asked}) is greater than unrefunded amount on charge ({most})",
                param="amount",
            )
        return amount or left

    def _change(self, refund: JsonObject, status: str, failure_reason: str | None, call: ApiCall) -> None:
        old = {key: refund[key] for key in refund if key != "metadata"}
        self._become(refund, status, failure_reason)
        changed = {key: value for key, value in old.items() if refund[key] != value}
        self._emit_update(refund, changed, call)
        if status == "failed":
            self.events.emit("refund.failed", refund, call)

    def _become(
        self,
        refund: JsonObject,
        status: str,
        failure_reason: str | None = None,
        email: str = "customer@example.com",
    ) -> None:
        gone = status in FAILED_OR_CANCELED
        default = "merchant_request" if status == "canceled" else "expired_or_canceled_card"
        refund.update(
            status=status,
            failure_reason=(failure_reason or default) if gone else None,
            failure_balance_transaction=new_id("txn") if gone else None,
            pending_reason="processing" if status == "pending" else None,
            next_action=(refund_action(email, now=self._time()) if status == "requires_action" else None),
        )
        charge = self._charges[refund["charge"]]
        charge["amount_refunded"] = self.money_refunded(charge["payment_intent"])
        charge["refunded"] = charge["amount_refunded"] >= charge["amount"]

    def _settle_later(self, refund: JsonObject, ends: str) -> None:
        due_at = self._now() + self.refund_settles_after
        self._schedule.add(due_at, refund["id"], before=refund["status"], after=ends)

    def _live(self, payment_intent: str) -> Iterable[JsonObject]:
        refunds = self._refunds_of.get(payment_intent, ())
        return (refund for refund in refunds if refund["status"] not in FAILED_OR_CANCELED)

    def _emit_update(self, refund: JsonObject, previous: Mapping[str, Any], call: ApiCall) -> None:
        # charge.refund.updated is what API versions before 2024-10-28 sent; Stripe sends both.
        for type_ in ("refund.updated", "charge.refund.updated"):
            self.events.emit(type_, refund, call, previous)

    def _find(self, kind: str, identifier: str, param: str) -> Any:
        found = self._stored(kind).get(identifier)
        if found is None:
            raise missing(kind, identifier, param=param, hint=self._hint(kind, identifier))
        return found

    def _hint(self, kind: str, identifier: str) -> str:
        if self.twin is None or identifier not in self.twin._stored(kind):
            return ""
        there, here = ("live", "test") if self.twin.livemode else ("test", "live")
        return (
            f"; a similar object exists in {there} mode, but a {here} mode key was used to make this request."
        )

    def _stored(self, kind: str) -> Mapping[str, Any]:
        stores: dict[str, Mapping[str, Any]] = {
            "payment_intent": self._intents,
            "charge": self._charges,
            "refund": self._refunds,
            "event": self.events.by_id,
        }
        return stores[kind]

    def _time(self) -> int:
        return int(self._now())

"""Stripe's rules for refunds (https://docs.stripe.com/refunds)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .cards import Card
from .delayed_transitions import DelayedTransitions
from .errors import ApiError, invalid
from .events import NO_API_CALL, ApiCall
from .objects import (
    JsonObject,
    copy_json,
    format_amount,
    new_id,
    new_refund,
    new_transfer_reversal,
    refund_next_action,
)
from .payments import Payments
from .stored_objects import FAILED_OR_CANCELED

TRANSITIONS: dict[str, frozenset[str]] = {
    "pending": frozenset({"succeeded", "requires_action", "failed", "canceled"}),
    "requires_action": frozenset({"pending", "succeeded", "failed", "canceled"}),
    # The bank returns the money: the refund fails, or the customer must give other account details.
    "succeeded": frozenset({"requires_action", "failed", "canceled"}),
    "failed": frozenset(),
    "canceled": frozenset(),
}
"""The statuses that a refund can change to."""

DESTINATIONS = {
    "boleto": "br_bank_transfer",
    "customer_balance": "eu_bank_transfer",
    "konbini": "jp_bank_transfer",
    "multibanco": "multibanco",
    "promptpay": "th_bank_transfer",
}
"""Payment methods without a way back, and where their refunds go once the customer named an account."""

_FORCED_REFUND_SETTLES_AS = {"pending": "succeeded"}
_DEFAULT_EMAIL = "customer@example.com"


class Refunds(Payments):
    """The refunds of an account.

    :param enforce_amount_limit: False accepts refunds of more than the amount captured. A double refund
        then shows in :meth:`money_refunded`.
    :param refund_settles_after: seconds until a refund of an asynchronous test card changes its status.
    """

    def __init__(
        self, *, enforce_amount_limit: bool = True, refund_settles_after: float = 3600.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.enforce_amount_limit = enforce_amount_limit
        self.refund_settles_after = refund_settles_after
        self._delayed_transitions = DelayedTransitions()

    def create_refund(
        self,
        *,
        payment_intent: str | None = None,
        charge: str | None = None,
        amount: int | None = None,
        instructions_email: str | None = None,
        reverse_transfer: bool = False,
        refund_application_fee: bool = False,
        call: ApiCall = NO_API_CALL,
        **optional: Any,
    ) -> JsonObject:
        """Refund a payment: ``amount``, or the full remaining amount.

        :param optional: ``reason``, ``metadata``.
        :raises ApiError: 404; 400 if the charge can't be refunded or ``amount`` is too large.
        """
        refunded_charge = self._get_refundable_charge(payment_intent, charge)
        amount = self._refund_amount(refunded_charge, amount)
        method = refunded_charge["payment_method_details"]["type"]
        self._check_email(method, instructions_email)
        self._check_connect_flags(refunded_charge, amount, reverse_transfer, refund_application_fee)
        refund = new_refund(
            refunded_charge,
            amount=amount,
            created=self._time(),
            instructions_email=instructions_email,
            destination=DESTINATIONS.get(method, method),
            **optional,
        )
        self._refunds[refund["id"]] = refund
        self._refund_origins[refund["id"]] = refunded_charge["id"], amount
        self._refunds_of.setdefault(refunded_charge["payment_intent"], []).append(refund)
        self._set_first_status(refund, method, call)
        if reverse_transfer:
            self._reverse_transfer(refunded_charge, refund)
        if refund_application_fee:
            self._refund_fee(refunded_charge, amount)
        self._emit("refund.created", refund, call)
        if refund["status"] == "failed":
            self._emit("refund.failed", refund, call)
        if refund["status"] not in FAILED_OR_CANCELED:
            self._emit("charge.refunded", refunded_charge, call)
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
        :raises ValueError: Stripe doesn't allow this change (:data:`TRANSITIONS`).
        """
        refund = self.refund(identifier)
        current = refund["status"]
        if status not in TRANSITIONS.get(current, TRANSITIONS):
            raise ValueError(f"A refund can't change from {current} to {status}.")
        self._change_status(refund, status, failure_reason, NO_API_CALL)
        return refund

    def set_refund(self, identifier: str, **fields: Any) -> JsonObject:
        """Set fields of a refund to any values, also to ones that Stripe doesn't document.

        :raises ApiError: 404.
        :raises ValueError: the ID or the time of creation would change.
        """
        if not fields.keys().isdisjoint(("id", "created")):
            raise ValueError("The ID and the time of creation of a refund can't change.")
        refund = self.refund(identifier)
        old = {name: refund.get(name) for name, value in fields.items() if refund.get(name) != value}
        refund.update(copy_json(fields))
        self._update_charge_totals(self._charge_of(refund))
        self._emit_update(refund, old, NO_API_CALL)
        return refund

    def assign_reference(self, identifier: str, reference: str | None) -> JsonObject:
        """Set the bank's reference of a refund, which doesn't change its status.

        :param reference: None if the bank doesn't provide one.
        :raises ApiError: 404.
        """
        refund = self.refund(identifier)
        old = copy_json(refund["destination_details"])
        details = refund["destination_details"][old["type"]]
        details.update(reference=reference, reference_status="available" if reference else "unavailable")
        self._emit_update(refund, {"destination_details": old}, NO_API_CALL)
        return refund

    def dispute(self, identifier: str, *, reason: str = "fraudulent", inquiry: bool = False) -> JsonObject:
        """Dispute the charge of a payment intent. Its pending refunds fail.

        :raises ApiError: 404 if the payment is unknown or has no charge.
        """
        dispute = super().dispute(identifier, reason=reason, inquiry=inquiry)
        for refund in self._refunds_of.get(identifier, ()):
            if refund["status"] == "pending" and not inquiry:
                failure_reason = "charge_for_pending_refund_disputed"
                self._change_status(refund, "failed", failure_reason, NO_API_CALL)
        return dispute

    def apply_due_transitions(self) -> None:
        """Apply the delayed status changes that are due."""
        for due in self._delayed_transitions.pop_due(self._now()):
            refund = self._refunds[due.refund_id]
            if refund["status"] == due.from_status:
                self._change_status(refund, due.to_status, None, NO_API_CALL)

    # The checks before a refund

    def _get_refundable_charge(self, payment_intent: str | None, charge_id: str | None) -> JsonObject:
        if charge_id is not None:
            charge = self.charge(charge_id, param="charge")
            intent = self._intents[charge["payment_intent"]]
        else:
            intent = self.payment_intent(payment_intent or "", param="payment_intent")
            charge = self._charges.get(intent["latest_charge"] or "", {})
        if charge.get("status") != "succeeded" or intent["status"] == "canceled":
            raise _not_refundable(f"({intent['id']}) does not have a successful charge to refund.")
        if not charge["amount_captured"]:
            raise _not_refundable(
                f"({intent['id']}) could not be refunded because it has a status of requires_capture. "
                "You can cancel the PaymentIntent instead."
            )
        disputes = self._disputes_of.get(charge["id"], ())
        if not all(dispute["is_charge_refundable"] for dispute in disputes):
            raise invalid(
                f"Charge {charge['id']} has been charged back; cannot issue a refund.",
                code="charge_disputed",
            )
        return charge

    def _refund_amount(self, charge: Mapping[str, Any], amount: int | None) -> int:
        captured: int = charge["amount_captured"]
        remaining = captured - self.money_refunded(charge["payment_intent"])
        if not self.enforce_amount_limit:
            return amount or (remaining if remaining > 0 else captured)
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

    def _check_email(self, method: str, email: str | None) -> None:
        if method in DESTINATIONS and email is None:
            raise invalid(
                f"A refund of a {method} payment needs an email address for the refund instructions.",
                code="parameter_missing",
                param="instructions_email",
            )

    def _check_connect_flags(
        self, charge: Mapping[str, Any], amount: int, reverse_transfer: bool, refund_application_fee: bool
    ) -> None:
        for wanted, flag, thing, found in (
            (reverse_transfer, "reverse_transfer", "transfer", charge.get("transfer")),
            (refund_application_fee, "refund_application_fee", "application fee", charge["application_fee"]),
        ):
            if wanted and not found:
                raise invalid(f"Attempting to {flag} on {charge['id']}, but it has no {thing}")
            if wanted and not charge["captured"] and amount < charge["amount_captured"]:
                # https://docs.stripe.com/payments/multicapture#refunds
                raise invalid(f"Partial refunds of a multicapture payment don't support {flag}.", param=flag)

    # Changing a refund

    def _change_status(
        self, refund: JsonObject, status: str, failure_reason: str | None, call: ApiCall
    ) -> None:
        old = {key: refund[key] for key in refund if key != "metadata"}
        self._set_status(refund, status, failure_reason)
        changed = {key: value for key, value in old.items() if refund[key] != value}
        self._emit_update(refund, changed, call)
        if status == "failed":
            self._emit("refund.failed", refund, call)

    def _set_status(self, refund: JsonObject, status: str, failure_reason: str | None = None) -> None:
        unpaid = status in FAILED_OR_CANCELED
        default = "merchant_request" if status == "canceled" else "expired_or_canceled_card"
        next_action = None
        if status == "requires_action":
            next_action = refund_next_action(refund["instructions_email"] or _DEFAULT_EMAIL, now=self._time())
        refund.update(
            status=status,
            failure_reason=(failure_reason or default) if unpaid else None,
            failure_balance_transaction=new_id("txn") if unpaid else None,
            pending_reason="processing" if status == "pending" else None,
            next_action=next_action,
        )
        self._update_charge_totals(self._charge_of(refund))

    def _set_first_status(self, refund: JsonObject, method: str, call: ApiCall) -> None:
        card = self._cards[refund["payment_intent"]]
        status = "requires_action" if method in DESTINATIONS else card.refund_status
        self._set_status(refund, call.forced_status or status)
        if call.forced_status == "pending":
            refund["pending_reason"] = "insufficient_funds"
        self._delay_settlement(refund, card, call)

    def _charge_of(self, refund: Mapping[str, Any]) -> JsonObject:
        charge, _ = self._refund_origins[refund["id"]]
        return self._charges[charge]

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
            self._emit(event_type, refund, call, previous)

    # Connect

    def _reverse_transfer(self, charge: Mapping[str, Any], refund: JsonObject) -> None:
        """Reverse the transfer in proportion to the refund."""
        transfer = self._transfers[charge["transfer"]]
        amount = _share(refund["amount"], charge, transfer["amount"], transfer["amount_reversed"])
        reversal = new_transfer_reversal(transfer, amount=amount, created=self._time())
        reversal["source_refund"] = refund["id"]
        refund["transfer_reversal"] = reversal["id"]
        transfer["reversals"]["data"].insert(0, reversal)
        transfer["amount_reversed"] += amount
        transfer["reversed"] = transfer["amount_reversed"] >= transfer["amount"]
        self._emit("transfer.reversed", transfer)

    def _refund_fee(self, charge: JsonObject, amount: int) -> None:
        """Refund the application fee in proportion to the refund."""
        fee = self._fee_of(charge)
        if fee is None:
            return
        fee["amount_refunded"] += _share(amount, charge, fee["amount"], fee["amount_refunded"])
        fee["refunded"] = fee["amount_refunded"] >= fee["amount"]
        (self.platform or self)._emit("application_fee.refunded", fee)


def _share(amount: int, charge: Mapping[str, Any], total: int, used: int) -> int:
    """Return the part of ``total`` that belongs to ``amount``; at most what is left."""
    captured: int = charge["amount_captured"]
    return min(total - used, round(total * amount / captured))


def _not_refundable(reason: str) -> ApiError:
    message = f"This PaymentIntent {reason}"
    return invalid(message, code="payment_intent_unexpected_state", param="payment_intent")

"""Stripe's rules for payments: authorization, capture, cancellation and disputes."""

from __future__ import annotations

from typing import Any

from .cards import Card
from .errors import ApiError, card_declined, invalid
from .events import NO_API_CALL, ApiCall
from .objects import (
    JsonObject,
    copy_json,
    new_application_fee,
    new_charge,
    new_checkout_session,
    new_dispute,
    new_id,
    new_payment_intent,
    new_transfer,
)
from .stored_objects import StoredObjects

_CANCELABLE = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action")


class Payments(StoredObjects):
    """The payments of an account."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.platform: Payments | None = None
        self.connected_accounts: dict[str, Payments] = {}

    def create_payment_intent(
        self,
        *,
        amount: int,
        currency: str,
        card: Card | None = None,
        confirm: bool = False,
        is_shown: bool = True,
        call: ApiCall = NO_API_CALL,
        **optional: Any,
    ) -> JsonObject:
        """Create a payment intent, and pay it if ``confirm`` is true.

        :param is_shown: False makes a charge without a payment intent, as the older Charges API did.
        :param optional: ``capture_method``, ``metadata``, ``transfer_data`` and others that Stripe
            documents; ``method`` for a payment method that isn't a card.
        :raises ApiError: 400 if the destination of the transfer is unknown; 402 if the card is declined.
        """
        self._check_connect_options(optional.get("transfer_data"), optional.get("application_fee_amount"))
        intent = new_payment_intent(
            amount=amount,
            currency=currency,
            created=self._time(),
            livemode=self.livemode,
            **optional,
        )
        self._intents[intent["id"]] = intent
        if not is_shown:
            self._unshown_intents.add(intent["id"])
        if card is not None:
            self._attach(intent, card)
        self._emit("payment_intent.created", intent, call)
        return self._pay(intent, call) if confirm else intent

    def confirm_payment_intent(
        self,
        identifier: str,
        *,
        card: Card | None = None,
        capture_method: str | None = None,
        call: ApiCall = NO_API_CALL,
    ) -> JsonObject:
        """Pay a payment intent.

        :raises ApiError: 404; 400 if it is already paid or has no card; 402 if the card is declined.
        """
        intent = self.payment_intent(identifier)
        if intent["status"] in ("succeeded", "canceled", "requires_capture"):
            reason = f"it has a status of {intent['status']}."
            if intent["status"] == "succeeded":
                reason = "it has already succeeded after being previously confirmed."
            raise _unexpected_state(intent, f"You cannot confirm this PaymentIntent because {reason}")
        if card is not None:
            self._attach(intent, card)
        intent["capture_method"] = capture_method or intent["capture_method"]
        return self._pay(intent, call)

    def capture_payment_intent(
        self,
        identifier: str,
        amount: int | None = None,
        *,
        final: bool = True,
        application_fee_amount: int | None = None,
        transfer_amount: int | None = None,
        call: ApiCall = NO_API_CALL,
    ) -> JsonObject:
        """Capture an authorized payment, or a part of it (https://docs.stripe.com/payments/multicapture).

        :param amount: in minor units; None for all that is left. 0 releases the rest.
        :param final: whether Stripe releases the rest. Otherwise more can be captured.
        :raises ApiError: 404; 400 if there is nothing to capture or ``amount`` is too large.
        """
        intent = self.payment_intent(identifier)
        amount = intent["amount_capturable"] if amount is None else amount
        self._check_capture(intent, amount, final)
        if application_fee_amount is not None:
            intent["application_fee_amount"] = application_fee_amount
        if transfer_amount is not None and intent["transfer_data"]:
            intent["transfer_data"] = {**intent["transfer_data"], "amount": transfer_amount}
        return self._capture(intent, amount, final, call)

    def cancel_payment_intent(
        self, identifier: str, *, reason: str | None = None, call: ApiCall = NO_API_CALL
    ) -> JsonObject:
        """Cancel a payment intent. An authorization is released; if a part was captured, that part stays.

        :param reason: ``expired`` if Stripe cancels it because the authorization expired.
        :raises ApiError: 404; 400 if it is already paid or canceled.
        """
        intent = self.payment_intent(identifier)
        if intent["status"] not in _CANCELABLE:
            raise _unexpected_state(
                intent,
                f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}. Only "
                "a PaymentIntent with one of the following statuses may be canceled: "
                f"{', '.join(_CANCELABLE)}.",
            )
        if intent["amount_received"]:
            return self._capture(intent, 0, True, call)
        authorized = intent["amount_capturable"]
        intent.update(
            status="canceled", amount_capturable=0, canceled_at=self._time(), cancellation_reason=reason
        )
        if authorized:
            charge = self._charges[intent["latest_charge"]]
            stripe_reason = "expired_uncaptured_charge" if reason == "expired" else None
            self._release(charge, authorized, call, stripe_reason)
            if reason == "expired":
                self._emit("charge.expired", charge, call)
        self._emit("payment_intent.canceled", intent, call)
        return intent

    def dispute(self, identifier: str, *, reason: str = "fraudulent", inquiry: bool = False) -> JsonObject:
        """Dispute the charge of a payment intent. The charge can't be refunded unless it is an inquiry.

        :raises ApiError: 404 if the payment is unknown or has no charge.
        """
        charge = self.charge(self.payment_intent(identifier)["latest_charge"] or "")
        dispute = new_dispute(charge, created=self._time(), reason=reason, inquiry=inquiry)
        charge["disputed"] = True
        self._disputes_of.setdefault(charge["id"], []).append(dispute)
        self._emit("charge.dispute.created", dispute)
        return dispute

    def create_checkout_session(self, payment: str | None, *, mode: str) -> JsonObject:
        """Create the Checkout session that a payment was made with, or one without a payment.

        :raises ApiError: 404 if the payment is unknown.
        """
        intent = None if payment is None else self.payment_intent(payment)
        session = new_checkout_session(intent, created=self._time(), livemode=self.livemode, mode=mode)
        self._sessions[session["id"]] = session
        return session

    def _attach(self, intent: JsonObject, card: Card) -> None:
        self._cards[intent["id"]] = card
        intent.update(payment_method=new_id("pm"), status="requires_confirmation")

    def _pay(self, intent: JsonObject, call: ApiCall) -> JsonObject:
        card = self._cards.get(intent["id"])
        if card is None:
            raise _unexpected_state(
                intent,
                "You cannot confirm this PaymentIntent because it's missing a payment method. Update the "
                "PaymentIntent with a payment method and then confirm it again.",
            )
        if card.requires_authentication:
            next_action = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
            intent.update(status="requires_action", next_action=next_action)
            self._emit("payment_intent.requires_action", intent, call)
            return intent
        charge = new_charge(intent, card, created=self._time())
        self._charges[charge["id"]] = charge
        intent["latest_charge"] = charge["id"]
        if card.decline_code is not None:
            self._decline(intent, charge, card.decline_code, call)
        intent.update(status="requires_capture", amount_capturable=intent["amount"], last_payment_error=None)
        if intent["capture_method"] == "manual":
            self._emit("charge.succeeded", charge, call)
            self._emit("payment_intent.amount_capturable_updated", intent, call)
            return intent
        self._take_money(intent, charge, intent["amount"])
        self._close(intent, charge)
        self._emit("charge.succeeded", charge, call)
        self._emit("payment_intent.succeeded", intent, call)
        self._dispute_as_card_says(intent)
        return intent

    def _decline(self, intent: JsonObject, charge: JsonObject, decline_code: str, call: ApiCall) -> None:
        error = card_declined(decline_code, charge=charge["id"])
        charge.update(failure_code=error.error["code"], failure_message=error.error["message"])
        del self._cards[intent["id"]]
        intent.update(
            status="requires_payment_method",
            payment_method=None,
            last_payment_error=dict(error.error),
        )
        self._emit("charge.failed", charge, call)
        self._emit("payment_intent.payment_failed", intent, call)
        error.error["payment_intent"] = copy_json(intent)
        raise error

    def _check_capture(self, intent: JsonObject, amount: int, final: bool) -> None:
        if intent["status"] != "requires_capture":
            reason = "it has already been captured."
            if intent["status"] != "succeeded":
                reason = (
                    f"it has a status of {intent['status']}. Only a PaymentIntent with one of the "
                    "following statuses may be captured: requires_capture."
                )
            message = f"This PaymentIntent could not be captured because {reason}"
            raise _unexpected_state(intent, message)
        capturable: int = intent["amount_capturable"]
        at_least = 0 if final and intent["amount_received"] else 1
        if not at_least <= amount <= capturable:
            raise invalid(
                f"The amount to capture ({amount}) must be at least {at_least} and at most the capturable "
                f"amount ({capturable}).",
                code="amount_too_large" if amount > capturable else "amount_too_small",
                param="amount_to_capture",
            )

    def _capture(self, intent: JsonObject, amount: int, final: bool, call: ApiCall) -> JsonObject:
        charge = self._charges[intent["latest_charge"]]
        capturable = intent["amount_capturable"]
        if amount:
            self._take_money(intent, charge, amount)
            self._emit(
                "charge.updated", charge, call, {"amount_captured": charge["amount_captured"] - amount}
            )
        rest = intent["amount_capturable"]
        if final:
            self._close(intent, charge)
        updated = "payment_intent.amount_capturable_updated"
        self._emit(updated, intent, call, {"amount_capturable": capturable})
        if final:
            if rest:
                self._release(charge, rest, call)
            self._emit("charge.captured", charge, call, {"captured": False})
            self._emit("payment_intent.succeeded", intent, call)
            self._dispute_as_card_says(intent)
        return intent

    def _take_money(self, intent: JsonObject, charge: JsonObject, amount: int) -> None:
        intent["amount_received"] += amount
        intent["amount_capturable"] -= amount
        charge["amount_captured"] += amount
        charge["balance_transaction"] = charge["balance_transaction"] or new_id("txn")
        charge["application_fee_amount"] = intent["application_fee_amount"]
        charge["transfer_data"] = intent["transfer_data"]
        self._transfer(charge)
        self._take_fee(charge)

    def _close(self, intent: JsonObject, charge: JsonObject) -> None:
        intent.update(status="succeeded", amount_capturable=0)
        charge["captured"] = True
        self._update_charge_totals(charge)

    def _update_charge_totals(self, charge: JsonObject) -> None:
        charge["amount_refunded"] = self.money_refunded(charge["payment_intent"])
        # A charge with more to capture isn't refunded: https://docs.stripe.com/payments/multicapture#refunds
        charge["refunded"] = charge["captured"] and charge["amount_refunded"] >= charge["amount_captured"]

    def _dispute_as_card_says(self, intent: JsonObject) -> None:
        card = self._cards[intent["id"]]
        if card.dispute is not None:
            self.dispute(intent["id"], reason=card.dispute, inquiry=card.inquiry)

    # Connect

    def _check_connect_options(self, transfer_data: JsonObject | None, fee: int | None) -> None:
        destination = (transfer_data or {}).get("destination")
        if destination is not None and destination not in self.connected_accounts:
            message = f"No such destination: '{destination}'"
            raise invalid(message, code="resource_missing", param="transfer_data[destination]")
        if fee is not None and destination is None and self.platform is None:
            raise invalid(
                "Can only apply an application_fee_amount when the PaymentIntent is attempting a direct "
                "payment (using an OAuth key or Stripe-Account header) or destination payment (using "
                "`transfer_data[destination]`).",
                param="application_fee_amount",
            )

    def _transfer(self, charge: JsonObject) -> None:
        """Transfer what was captured so far (https://docs.stripe.com/connect/destination-charges)."""
        if not charge["transfer_data"]:
            return
        wanted = charge["transfer_data"].get("amount")
        amount = min(charge["amount_captured"], wanted or charge["amount_captured"])
        transfer = self._transfers.get(charge.get("transfer", ""))
        if transfer is None:
            transfer = new_transfer(charge, amount=amount, created=self._time())
            self._transfers[transfer["id"]] = transfer
            charge["transfer"] = transfer["id"]
        transfer["amount"] = amount

    def _take_fee(self, charge: JsonObject) -> None:
        """Take the application fee, which is at most the captured amount."""
        if charge["application_fee_amount"] is None:
            return
        amount = min(charge["application_fee_amount"], charge["amount_captured"])
        fee = self._fee_of(charge)
        if fee is None:
            payer = (charge["transfer_data"] or {}).get("destination") or self.account_id
            fee = new_application_fee(charge, account=payer, amount=amount, created=self._time())
            (self.platform or self)._application_fees[fee["id"]] = fee
            charge["application_fee"] = fee["id"]
        fee["amount"] = amount

    def _fee_of(self, charge: JsonObject) -> JsonObject | None:
        return (self.platform or self)._application_fees.get(charge["application_fee"] or "")


def _unexpected_state(intent: JsonObject, message: str) -> ApiError:
    return invalid(message, code="payment_intent_unexpected_state", payment_intent=copy_json(intent))

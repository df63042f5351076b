"""What a test can make happen at Stripe without an HTTP request: payments, refunds, banks and disputes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from .account import FAILED_OR_CANCELED, Account
from .api_versions import API_VERSION
from .cards import UNKNOWN_CARD_HELP, Cards, find_card
from .clock import Clock
from .errors import ApiError
from .events import ApiCall, StoredEvent
from .objects import CARD, JsonObject, copy_json, new_id

_REFERENCE = "74500000000000000000000"


class AccountControls:
    """The accounts of a sandbox, and the methods that change them. All methods are thread-safe."""

    def __init__(
        self,
        *,
        livemode: bool = False,
        enforce_amount_limit: bool = True,
        refund_settles_after: float = 3600.0,
        api_version: str = API_VERSION,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._livemode = livemode
        self._account_options: dict[str, Any] = {
            "enforce_amount_limit": enforce_amount_limit,
            "refund_settles_after": refund_settles_after,
            "api_version": api_version,
        }
        self._changed = threading.Condition()
        self._clock = Clock(clock)
        self._accounts = self._new_accounts()
        self.after_change: Callable[[], None] = lambda: None
        """Called after each change that a method of this class made, in the thread that called it."""

    @property
    def refund_settles_after(self) -> float:
        """Seconds until a new refund of an asynchronous test card changes its status. You can set it at any
        time."""
        seconds: float = self._account_options["refund_settles_after"]
        return seconds

    @refund_settles_after.setter
    def refund_settles_after(self, seconds: float) -> None:
        with self._changed:
            self._account_options["refund_settles_after"] = seconds
            for account in self._all_accounts():
                account.refund_settles_after = seconds

    # Payments

    def create_payment(
        self,
        amount: int,
        currency: str = "usd",
        card: str = Cards.SUCCEEDS,
        metadata: Mapping[str, str] | None = None,
        *,
        livemode: bool | None = None,
        capture: Literal["automatic", "manual"] = "automatic",
        account: str | None = None,
        method: str = CARD,
        transfer_to: str | None = None,
        transfer_amount: int | None = None,
        application_fee_amount: int | None = None,
        intent: bool = True,
    ) -> str:
        """Pay with a test card.

        :param amount: in minor units, a whole number: 1999 for 19.99.
        :param card: one of :class:`~flask_refunds.testing.Cards`, another number, or an ID such as
            ``pm_card_pendingRefund``.
        :param livemode: by default, the mode of ``secret_key`` or else test mode.
        :param capture: ``manual`` only authorizes the payment; see :meth:`capture`.
        :param account: the connected account that the payment is made on (a direct charge). A new ID
            connects an account.
        :param method: the type of the payment method, for example ``konbini``. Refunds of some types need
            an ``instructions_email`` and wait for the customer.
        :param transfer_to: the connected account that gets the money (a destination charge).
        :param transfer_amount: how much of it; by default all.
        :param intent: False makes a charge without a payment intent, as the older Charges API did.
        :return: the payment intent's ID, or the charge's. If the card is declined, the payment intent is
            unpaid.
        :raises ValueError: the amount, card or ``capture`` is invalid.
        :raises ApiError: ``application_fee_amount`` without a connected account.
        """
        test_card = find_card(card)
        if test_card is None:
            raise ValueError(f"Unknown test card {card!r}. {UNKNOWN_CARD_HELP}")
        _check_amount(amount)
        if capture not in ("automatic", "manual"):
            raise ValueError(f"capture must be 'automatic' or 'manual', not {capture!r}.")
        for each in (account, transfer_to):
            if each is not None:
                self.connect_account(each)
        options: JsonObject = {"capture_method": capture, "method": method}
        if transfer_to is not None:
            part = {} if transfer_amount is None else {"amount": transfer_amount}
            options["transfer_data"] = {"destination": transfer_to, **part}
        with self._changed:
            chosen = self._account(self._livemode if livemode is None else livemode, account)
            try:
                created = chosen.create_payment_intent(
                    amount=amount,
                    currency=currency.lower(),
                    card=test_card,
                    confirm=True,
                    metadata=dict(metadata or {}),
                    application_fee_amount=application_fee_amount,
                    is_shown=intent,
                    **options,
                )
            except ApiError as declined:
                if "payment_intent" not in declined.error:
                    raise
                created = declined.error["payment_intent"]
            self._changed.notify_all()
            payment = str(created["id" if intent else "latest_charge"])
        self.after_change()
        return payment

    def create_checkout_session(
        self, payment_intent: str | None = None, *, mode: str = "payment", account: str | None = None
    ) -> str:
        """Create the Checkout session that a payment was made with.

        The other methods also take its ID in place of the payment intent's.

        :param payment_intent: by default none: the session isn't paid, or it started a subscription.
        :param mode: ``payment``, ``setup`` or ``subscription``.
        :param account: the connected account of a session without a payment.
        :return: the session's ID, ``cs_…``.
        :raises LookupError: the payment intent is unknown.
        """
        if payment_intent is not None:
            session = self._modify(lambda each: each.create_checkout_session(payment_intent, mode=mode))
            return str(session["id"])
        with self._changed:
            chosen = self._account(self._livemode, account)
            return str(chosen.create_checkout_session(None, mode=mode)["id"])

    def capture(
        self,
        payment_intent: str,
        amount: int | None = None,
        *,
        final: bool = True,
        api_version: str | None = None,
    ) -> JsonObject:
        """Capture an authorized payment, or a part of it.

        :param amount: in minor units; by default all that is left.
        :param final: False keeps the rest authorized, so that more can be captured.
        :param api_version: the version of the request; a version before ``2025-03-31.basil`` stores the
            released rest as a refund, which readers with any version see. By default, only readers with
            such a version see it.
        :return: a copy of the payment intent.
        :raises ApiError: Stripe would reject the capture.
        """
        _check_amount(amount, at_least=0)
        call = ApiCall(api_version=api_version)
        return self._modify(
            lambda account: account.capture_payment_intent(payment_intent, amount, final=final, call=call)
        )

    def cancel_payment(
        self, payment_intent: str, *, reason: str | None = None, api_version: str | None = None
    ) -> JsonObject:
        """Cancel an authorization. No money moves; a part that was captured stays.

        :param reason: ``expired`` if Stripe cancels it after seven days.
        :param api_version: see :meth:`capture`.
        :return: a copy of the payment intent.
        :raises ApiError: the payment is already captured or canceled.
        """
        call = ApiCall(api_version=api_version)
        return self._modify(
            lambda account: account.cancel_payment_intent(payment_intent, reason=reason, call=call)
        )

    def dispute(
        self, payment_intent: str, *, reason: str = "fraudulent", inquiry: bool = False
    ) -> JsonObject:
        """Dispute a payment. Its pending refunds fail, and Stripe refuses new ones.

        :param inquiry: the customer's bank only asks; refunds are still possible.
        :return: a copy of the dispute.
        """
        intent = self._intent_of(payment_intent)
        return self._modify(lambda account: account.dispute(intent, reason=reason, inquiry=inquiry))

    def payment_intent(self, payment_intent: str) -> JsonObject:
        """Return a copy of a payment intent.

        :raises LookupError: the ID is unknown.
        """
        return self._read(lambda account: account.payment_intent(payment_intent))

    def charge(self, payment_intent: str) -> JsonObject:
        """Return a copy of a payment intent's latest charge.

        :raises LookupError: the ID is unknown, or the payment intent has no charge.
        """
        charge = self.payment_intent(self._intent_of(payment_intent))["latest_charge"]
        return self._read(lambda account: account.charge(charge))

    def transfer(self, payment_intent: str) -> JsonObject:
        """Return a copy of the transfer of a payment.

        :raises LookupError: the payment has none.
        """
        transfer = self.charge(payment_intent).get("transfer") or "tr_none"
        return self._read(lambda account: account.transfer(transfer))

    def application_fee(self, payment_intent: str) -> JsonObject:
        """Return a copy of the application fee of a payment.

        :raises LookupError: the payment has none.
        """
        fee = self.charge(payment_intent)["application_fee"] or "fee_none"
        return self._read(lambda account: account.application_fee(fee))

    def connect_account(self, account: str | None = None) -> str:
        """Connect an account to the platform, in both modes, and return its ID.

        Requests name it in ``Stripe-Account`` or ``Stripe-Context``. It has its own objects.

        :param account: ``acct_…``; by default a new ID.
        """
        account_id = account or new_id("acct")
        with self._changed:
            for platform in self._accounts.values():
                if account_id not in platform.connected_accounts:
                    platform.connect(self._new_account(platform.livemode, account_id))
        return account_id

    def hide(self, identifier: str) -> None:
        """Answer requests that name this object with 404, as Stripe does for objects of another account.

        :param identifier: a payment (with its charge and its refunds) or a refund.
        :raises LookupError: the payment intent is unknown.
        """
        with self._changed:
            for account in self._all_accounts():
                account.hidden.add(identifier)
        if not str(identifier).startswith(("re_", "pyr_")):
            intent = self._intent_of(identifier)
            refunds = [refund["id"] for refund in self.refunds(identifier)]
            charge = self.payment_intent(intent)["latest_charge"]
            for account in self._all_accounts():
                account.hidden.update(filter(None, [charge, *refunds]))

    def unhide(self) -> None:
        """Undo every :meth:`hide`."""
        with self._changed:
            for account in self._all_accounts():
                account.hidden.clear()

    # Refunds

    def refund(self, refund_id: str) -> JsonObject:
        """Return a copy of a refund.

        :raises LookupError: the ID is unknown.
        """
        return self._read(lambda account: account.refund(refund_id))

    def refunds(self, payment_intent: str | None = None) -> list[JsonObject]:
        """Return copies of a payment's refunds, or of all refunds; oldest first.

        :raises LookupError: the payment is unknown.
        """
        with self._changed:
            self._apply_due_transitions()
            intent = payment_intent and self._intent_of(payment_intent)
            found = [
                copy_json(account.at_version(refund))
                for account in self._all_accounts()
                for refund in account.refunds_of(intent)
            ]
        return sorted(found, key=lambda refund: int(refund["created"]))

    def money_refunded(self, payment_intent: str) -> int:
        """Return the sum of the refunds that are neither failed nor canceled, in minor units.

        :raises LookupError: the payment is unknown.
        """
        with self._changed:
            self._apply_due_transitions()
            intent = self._intent_of(payment_intent)
            return sum(account.money_refunded(intent) for account in self._all_accounts())

    def assert_refunded_once(self, payment_intent: str, amount: int | None = None) -> None:
        """Fail unless the payment has exactly one refund that is neither failed nor canceled.

        :param amount: what it must have returned, in minor units; by default all that was captured.
        :raises AssertionError: lists the payment's refunds.
        """
        expected = self.charge(payment_intent)["amount_captured"] if amount is None else amount
        refunds = self.refunds(payment_intent)
        alive = [each["amount"] for each in refunds if each["status"] not in FAILED_OR_CANCELED]
        if alive != [expected]:
            shown = [f"{each['id']} {each['amount']} {each['status']}" for each in refunds]
            raise AssertionError(
                f"{payment_intent} should be refunded once, {expected}. "
                f"Its refunds: {', '.join(shown) or 'none'}"
            )

    def dashboard_refund(
        self,
        payment_intent: str,
        amount: int | None = None,
        *,
        status: str | None = None,
        instructions_email: str | None = None,
    ) -> JsonObject:
        """Refund as a Dashboard user does: without metadata and without an idempotency key.

        :param amount: in minor units; by default the full remaining amount.
        :param status: the first status; by default the card's. A pending refund waits for the account's
            balance and succeeds later.
        :param instructions_email: the customer's address, which some payment methods need.
        :return: a copy of the refund.
        :raises ApiError: Stripe would reject the refund.
        """
        _check_amount(amount)
        intent, call = self._intent_of(payment_intent), ApiCall(forced_status=status)
        return self._modify(
            lambda account: account.create_refund(
                payment_intent=intent,
                amount=amount,
                instructions_email=instructions_email,
                call=call,
            )
        )

    def settle(self, refund_id: str, status: str, failure_reason: str | None = None) -> JsonObject:
        """Change a refund's status to ``succeeded``, ``failed``, ``canceled``, …, and send the events.

        :param failure_reason: one of https://docs.stripe.com/refunds#failed-refunds
        :return: a copy of the refund.
        :raises LookupError: the ID is unknown.
        :raises ValueError: Stripe doesn't allow this change.
        """
        return self._modify(lambda account: account.settle(refund_id, status, failure_reason))

    def return_refund(self, refund_id: str) -> JsonObject:
        """Let the customer's bank return a refund: it requires an action by the customer again.

        :return: a copy of the refund, with a new ``next_action``.
        :raises ValueError: the refund failed, was canceled or already requires an action.
        """
        return self.settle(refund_id, "requires_action")

    def assign_reference(self, refund_id: str, reference: str | None = _REFERENCE) -> JsonObject:
        """Set the bank's reference in ``destination_details``. The status doesn't change.

        Stripe shows it up to seven business days after the refund
        (https://docs.stripe.com/refunds#tracing-refunds).

        :param reference: None if the bank doesn't provide one.
        :return: a copy of the refund.
        """
        return self._modify(lambda account: account.assign_reference(refund_id, reference))

    def set_refund(self, refund_id: str, **fields: Any) -> JsonObject:
        """Set fields of a refund to any values, and send ``refund.updated``.

        Use it for what Stripe documents (``pending_reason``, ``receipt_number``) and for what a client must
        survive: ``status=None``, an unknown status, an ``amount`` that isn't a number. :meth:`money_refunded`
        counts the amount that was refunded unless the status is ``failed`` or ``canceled``.

        :return: a copy of the refund.
        :raises LookupError: the ID is unknown.
        :raises ValueError: ``fields`` has ``id`` or ``created``, which can't change.
        """
        return self._modify(lambda account: account.set_refund(refund_id, **fields))

    def advance(self, seconds: float) -> None:
        """Move the clock forward, and apply the status changes that become due."""
        with self._changed:
            self._clock.advance(seconds)
            self._apply_due_transitions()
            self._changed.notify_all()
        self.after_change()

    def now(self) -> float:
        """Return the sandbox's time, in seconds since the epoch."""
        return self._clock()

    # Internals

    def _publish(self, account: Account, event: StoredEvent) -> None:
        """Handle a new event. Called with the lock held."""

    def _new_accounts(self) -> dict[bool, Account]:
        accounts = {livemode: self._new_account(livemode) for livemode in (False, True)}
        accounts[False].other_mode, accounts[True].other_mode = accounts[True], accounts[False]
        return accounts

    def _new_account(self, livemode: bool, account_id: str | None = None) -> Account:
        account = Account(now=self._clock, livemode=livemode, account_id=account_id, **self._account_options)
        account.events.on_event = partial(self._publish, account)
        return account

    def _intent_of(self, payment: str) -> str:
        """Return the payment intent of a payment that exists.

        :raises LookupError: the ID is unknown.
        """
        if not isinstance(payment, str):
            raise TypeError(f"A payment is named by its ID, such as purchase.payment, not by {payment!r}.")
        return str(self._read(lambda account: {"id": account.intent_of(payment)})["id"])

    def _account(self, livemode: bool, account_id: str | None = None) -> Account:
        platform = self._accounts[livemode]
        return next(each for each in platform.with_connected() if each.account_id == account_id)

    def _all_accounts(self) -> list[Account]:
        return [account for platform in self._accounts.values() for account in platform.with_connected()]

    def _apply_due_transitions(self) -> None:
        for account in self._all_accounts():
            account.apply_due_transitions()

    def _read(self, find: Callable[[Account], JsonObject]) -> JsonObject:
        with self._changed:
            self._apply_due_transitions()
            return self._in_any_account(find)

    def _modify(self, change: Callable[[Account], JsonObject]) -> JsonObject:
        with self._changed:
            self._apply_due_transitions()
            changed = self._in_any_account(change)
            self._changed.notify_all()
        self.after_change()
        return changed

    def _in_any_account(self, action: Callable[[Account], JsonObject]) -> JsonObject:
        """Run an action on the account and mode that has the object."""
        for account in self._all_accounts():
            try:
                return dict(copy_json(account.at_version(action(account))))
            except ApiError as error:
                if error.status != 404:
                    raise
                missing = error
        raise LookupError(str(missing))


def _check_amount(amount: int | None, *, at_least: int = 1) -> None:
    if amount is not None and (not isinstance(amount, int) or amount < at_least):
        raise ValueError(f"An amount is a whole number of minor units (1999 for 19.99), not {amount!r}.")

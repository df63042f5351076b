"""Store refunds that Stripe shows: in the record that requested them, or as external refunds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from ..clock import Deadline
from ..errors import OutcomeUnknown
from ..models import RefundRecord, RefundStatus, ReviewCode, StripeRefund, UnreadableRefund, is_payment
from ..refund_details import NO_DETAILS, RefundDetails
from ..storage.ledger import Ledger
from ..storage.purchases import Purchases
from .payments import PaymentResolver
from .transitions import RefundTransitions

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

_ATTEMPTS = 3


class StripeSync:
    """Brings the ledger up to date with what Stripe shows of a payment.

    :param gateway: returns the gateway, which is created when first needed.
    """

    def __init__(
        self,
        ledger: Ledger,
        purchases: Purchases,
        payments: PaymentResolver,
        gateway: Callable[[], Gateway],
        transitions: RefundTransitions,
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._payments = payments
        self._gateway = gateway
        self._transitions = transitions

    def is_known_payment(
        self, payment: str, charge: str | None, deadline: Deadline, account: str | None = None
    ) -> bool:
        """Return whether a payment belongs to this app: it has a record, or it paid a purchase.

        :param charge: its charge, if that is known.
        :param account: the connected account that has it, which the record or the purchase must name.
        :raises StripeCallError: Stripe doesn't tell of which Checkout session it is.
        :raises DatabaseUnavailable: 500.
        """
        if not is_payment(payment):
            return False
        if any(each.stripe_account == account for each in self._ledger.list_for_payment(payment)):
            return True
        if self._purchases.payments_among({payment: charge}, account):
            return True
        is_of_session = self._payments.find_sessions(payment, deadline, account)
        return is_of_session and bool(self._purchases.payments_among({payment: charge}, account))

    def is_known_account(self, account: str) -> bool:
        """Return whether a purchase or a record names this connected account.

        :raises DatabaseUnavailable: 500.
        """
        return self._purchases.has_account(account) or self._ledger.has_account(account)

    def find_accounts(self) -> list[str]:
        """Return the connected accounts of this app's payments.

        :raises DatabaseUnavailable: 500.
        """
        if self._purchases.fields.stripe_account is None:
            return []
        return sorted({*self._purchases.find_accounts(), *self._ledger.find_accounts()})

    def find_known(
        self, stripe_refunds: Collection[StripeRefund], account: str | None = None
    ) -> dict[str, list[RefundRecord]]:
        """Return the refund records of those of these refunds' payments that belong to this app.

        :param stripe_refunds: some hundreds at most.
        :param account: the connected account that has them.
        :return: no records for a payment with one that can't be read, so that its refunds aren't skipped.
        :raises DatabaseUnavailable: 500.
        """
        charges = {it.payment_intent: it.charge for it in stripe_refunds if is_payment(it.payment_intent)}
        refunds = self._ledger.list_for_payments(charges)
        unrecorded = {each: charges[each] for each in refunds if refunds[each] == []}
        paid = self._purchases.payments_among(unrecorded, account)
        return {each: refunds[each] or [] for each in refunds if refunds[each] != [] or each in paid}

    def find_sessions(self, payment: str, deadline: Deadline, account: str | None = None) -> bool:
        """Remember the Checkout session of a payment, as :meth:`PaymentResolver.find_sessions` does."""
        return self._payments.find_sessions(payment, deadline, account)

    def list_refunds(
        self, payment_intent: str, deadline: Deadline, *, account: str | None = None
    ) -> tuple[list[StripeRefund], list[UnreadableRefund]]:
        """Return every refund of a payment that Stripe shows, oldest first.

        :return: the refunds, and those in a form that this library doesn't know.
        :raises StripeCallError: the list isn't available, or not completely.
        """
        return self._gateway().on(account).list_refunds(payment_intent, deadline)

    def retrieve_refund(
        self, stripe_refund_id: str, deadline: Deadline, account: str | None = None
    ) -> StripeRefund:
        """Return a refund as Stripe shows it now.

        :raises StripeCallError: it isn't available.
        """
        return self._gateway().on(account).retrieve_refund(stripe_refund_id, deadline)

    def find_payment(self, charge: str, deadline: Deadline, account: str | None = None) -> str | None:
        """Return the payment of a charge.

        :raises StripeCallError: the charge isn't available.
        """
        return self._gateway().on(account).find_payment(charge, deadline)

    def upsert_all(
        self, payment_intent: str, deadline: Deadline, *, actor: str, account: str | None = None
    ) -> list[UnreadableRefund]:
        """Store every refund of a payment that Stripe shows.

        :param account: the connected account that has the payment.
        :return: those in a form that this library doesn't know. Then the sum of the refunds isn't known.
        :raises StripeCallError: as :meth:`list_refunds` and :meth:`upsert_from_stripe` do.
        :raises DatabaseUnavailable: 500; they can be stored again.
        """
        refunds, unreadable = self.list_refunds(payment_intent, deadline, account=account)
        for each in refunds:
            self.upsert_from_stripe(each, deadline, actor=actor)
        return unreadable

    def upsert_from_stripe(self, hint: StripeRefund, deadline: Deadline, *, actor: str) -> RefundRecord:
        """Store a refund that Stripe shows in a list. If that is news, the refund is read again.

        :param actor: what brought it, for the history.
        :return: the refund record as it is now.
        :raises StripeCallError: the refund can't be read, or other calls kept changing the records.
        :raises DatabaseUnavailable: 500; the same refund can be stored again.
        """
        return self._upsert(
            hint.id,
            hint.payment_intent,
            lambda refunds: find_shown(refunds, hint),
            deadline,
            actor,
            hint.stripe_account,
        )

    def upsert_from_event(
        self,
        stripe_refund_id: str,
        payment_intent: str,
        status: str | None,
        deadline: Deadline,
        account: str | None = None,
        *,
        details: RefundDetails = NO_DETAILS,
    ) -> RefundRecord:
        """Store a refund that an event names. If what it says is news, the refund is read.

        :param status: from the event, whose API version isn't known: nothing in it is stored.
        :param details: from the event.
        :return: the refund record as it is now.
        :raises StripeCallError: the refund can't be read, or other calls kept changing the records.
        :raises DatabaseUnavailable: 500; the same event can be handled again.
        """

        def find_current(refunds: Sequence[RefundRecord]) -> RefundRecord | None:
            shown = (stripe_refund_id, status)
            known = (it for it in refunds if (it.stripe_refund_id, it.status.value) == shown)
            return next((it for it in known if not details.adds_to(it.details)), None)

        refund = self._upsert(stripe_refund_id, payment_intent, find_current, deadline, "webhook", account)
        if refund.status.is_settled and status not in (None, refund.status.value):
            self._ledger.mark_doubtful(refund)  # the event may be old, or Stripe's answer
        return refund

    def _upsert(
        self,
        stripe_refund_id: str,
        payment_intent: str,
        find_current: Callable[[Sequence[RefundRecord]], RefundRecord | None],
        deadline: Deadline,
        actor: str,
        account: str | None,
    ) -> RefundRecord:
        for _ in range(_ATTEMPTS):
            refunds = self._ledger.list_for_payment(payment_intent)
            known = find_current(refunds)
            if known is not None:
                if not known.created_here:
                    # A crash may have prevented the purchases from being marked when it was recorded.
                    self._transitions.sync_purchases(payment_intent)
                return known
            current = self._gateway().on(account).retrieve_refund(stripe_refund_id, deadline)
            stored = self._store(current, refunds, actor=actor)
            if stored is not None:
                return stored
        raise OutcomeUnknown("ledger_busy", "Too many calls are changing this payment's refunds.")

    def _store(
        self, current: StripeRefund, refunds: list[RefundRecord], *, actor: str
    ) -> RefundRecord | None:
        """Store a fresh read; ``None`` if the records have changed since they were read."""
        known = _find_record(refunds, current)
        if known is not None:
            return self._transitions.apply(known, current, actor=actor)
        for each in refunds:  # before the insert, so that a crash doesn't lose the review
            if current.refund_id is not None and each.idempotency_key == current.refund_id:
                self._transitions.request_review(each, ReviewCode.MADE_TWICE, actor=actor)
        return self._transitions.record_external(current, actor=actor)

    def refresh(self, refund: RefundRecord, deadline: Deadline, *, actor: str) -> RefundRecord:
        """Update a refund that Stripe knows.

        :return: the refund record as it is now.
        :raises StripeCallError: it can't be read, or other calls kept changing it.
        :raises DatabaseUnavailable: 500.
        """
        for _ in range(_ATTEMPTS):
            gateway = self._gateway().on(refund.stripe_account)
            current = gateway.retrieve_refund(refund.stripe_refund_id or "", deadline)
            updated = self._transitions.apply(refund, current, actor=actor)
            if updated is not None:
                return updated
            refund = self._ledger.get(refund.id)
        raise OutcomeUnknown("ledger_busy", "Too many calls are changing this refund.")


def _find_record(refunds: Sequence[RefundRecord], stripe_refund: StripeRefund) -> RefundRecord | None:
    """Return the record of this refund, one that was created here first: by its ID at Stripe, or else the one
    that requested it and has none yet.

    Two refunds at Stripe can carry one record's key, after Stripe forgot it or a person copied metadata.
    """
    known = [each for each in refunds if each.stripe_refund_id == stripe_refund.id]
    requested = [it for it in refunds if stripe_refund.is_requested_by(it) and not it.stripe_refund_id]
    created_here = [each for each in known if each.created_here]
    return next(iter(created_here + requested + known), None)


def find_shown(refunds: Sequence[RefundRecord], stripe_refund: StripeRefund) -> RefundRecord | None:
    """Return the record of this refund if it shows the refund as Stripe does."""
    record = _find_record(refunds, stripe_refund)
    if record is None or record.stripe_refund_id != stripe_refund.id:
        return None
    return record if _shown(record) == _shown(stripe_refund) else None


def _shown(refund: RefundRecord | StripeRefund) -> tuple[RefundStatus, int | None, str | None, RefundDetails]:
    return refund.status, refund.amount, refund.currency, refund.details

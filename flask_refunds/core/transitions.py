"""Apply what Stripe reports: to the purchases, then to the ledger, then to the app's receivers.

A crash between two of these steps leaves the record as it was, so the same report is applied again. Reports
may come from an answer, an event or reconcile, in any order and more than once: the rank of the status
decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import DatabaseUnavailable
from ..instrumentation import Observers
from ..log import LogEvent, log_event
from ..models import Failure, Refund, RefundStatus, ReviewCode, StripeRefund, is_refunded
from ..signals import SignalSender
from ..storage.ledger import Ledger
from ..storage.purchases import Purchases

_SYNC_ATTEMPTS = 3


class RefundTransitions:
    """Keeps the ledger, the purchases and the receivers consistent.

    :param observers: notified of each new status, apart from the receivers.
    """

    def __init__(
        self, ledger: Ledger, purchases: Purchases, signal_sender: SignalSender, observers: Observers
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._signal_sender = signal_sender
        self._observers = observers

    def apply(self, refund: Refund, stripe_refund: StripeRefund, *, actor: str) -> Refund:
        """Update a refund to what Stripe shows.

        The call whose update moves the record sends the signals. A call that finds the record moved already
        makes sure that the purchases follow it.

        :param actor: what brought the report, for the history.
        :return: the refund as it is now.
        :raises DatabaseUnavailable: 500; the same report can be applied again.
        """
        review = ReviewCode.AMOUNT_DIFFERS if _amount_differs(refund, stripe_refund) else None
        if stripe_refund.status.rank <= refund.status.rank and not _revives(refund, stripe_refund):
            if review is None:
                return refund
            return self.request_review(refund, review, actor=actor, stripe_refund=stripe_refund)
        if refund.created_here:
            self._mark_purchases(refund.payment_intent, stripe_refund.status)
        advanced = self._ledger.advance(refund.id, stripe_refund, actor=actor, review=review)
        if advanced is None or not refund.created_here or stripe_refund.status.is_failed_or_canceled:
            # Another call moved the record, or may have marked the purchases by its previous status.
            self.sync_purchases(refund.payment_intent)
        if advanced is None:
            return self._ledger.get(refund.id)
        self._observers.refund_changed(advanced)
        _log_status(LogEvent.REFUND_STATUS_CHANGED, advanced, stripe_refund, actor=actor)
        return self.send_signals(advanced)

    def record_external(
        self, stripe_refund: StripeRefund, number: int, *, amount_received: int, actor: str
    ) -> Refund:
        """Record a refund that was made elsewhere.

        :param amount_received: what its payment had received, in minor units.
        :raises NumberTaken: another call used this number first.
        :raises DatabaseUnavailable: 500.
        """
        recorded = self._ledger.record_external(
            stripe_refund,
            number,
            amount_received=amount_received,
            purchase_ids=self._purchases.ids_of(stripe_refund.payment_intent),
            actor=actor,
        )
        self._observers.refund_changed(recorded)
        self.sync_purchases(stripe_refund.payment_intent)
        _log_status(LogEvent.EXTERNAL_REFUND_RECORDED, recorded, stripe_refund, actor=actor)
        return self.send_signals(recorded)

    def mark_rejected(
        self, refund: Refund, failure: Failure, *, actor: str, request_id: str | None
    ) -> Refund:
        """Mark a refund that Stripe rejected as failed. Only the call that holds its lease may do so.

        :return: the refund as it is now.
        :raises DatabaseUnavailable: 500; it may be marked.
        """
        rejected = self._ledger.mark_rejected(refund, failure, actor=actor, request_id=request_id)
        if rejected is None:
            return self._ledger.get(refund.id)
        self._observers.refund_changed(rejected)
        log_event(
            LogEvent.REFUND_REJECTED,
            refund_id=refund.id,
            code=failure.code,
            actor=actor,
            stripe_request_id=request_id,
        )
        return self.send_signals(rejected)

    def mark_failed_manually(self, refund: Refund, *, actor: str, comment: str) -> Refund | None:
        """Mark a refund with an unknown outcome as failed, because a person found that it wasn't made.

        :return: the refund as it is now, or ``None`` if it doesn't need review or another call works on it.
        :raises DatabaseUnavailable: 500; it may be marked.
        """
        failed = self._ledger.mark_failed_manually(refund, actor=actor, comment=comment)
        if failed is None:
            return None
        self._observers.refund_changed(failed)
        return self.send_signals(failed)

    def request_review(
        self, refund: Refund, code: ReviewCode, *, actor: str, stripe_refund: StripeRefund | None = None
    ) -> Refund:
        """Request a review of a refund, unless one is open.

        :param stripe_refund: what Stripe shows, if that is the reason.
        :return: the refund as it is now.
        :raises DatabaseUnavailable: 500.
        """
        updated = self._ledger.request_review(refund, code, actor=actor, stripe_refund=stripe_refund)
        if updated is None:
            return refund
        _log_review(updated)
        return self.send_signals(updated)

    def send_signals(self, refund: Refund) -> Refund:
        """Send the signals of a refund's current state, unless every receiver has handled it.

        :return: the refund as it is now.
        """
        if refund.signals_sent or not self._signal_sender.send(refund):
            return refund
        try:
            self._ledger.mark_signals_sent(refund)
        except DatabaseUnavailable:
            log_event(LogEvent.SIGNAL_REDELIVERY_SCHEDULED, refund_id=refund.id)
            return refund
        return replace(refund, signals_sent=True)

    def verify_purchases(self, refund: Refund) -> None:
        """Make sure that the purchases match a refund; see :attr:`Refund.purchases_verified`.

        Call this only when no call that read the record before its last change can still be in progress. Such
        a call might still mark the purchases and then crash.

        :raises DatabaseUnavailable: 500; the refund remains to be verified.
        """
        # Without a refund at Stripe, this library never marked a purchase: any mark is the app's own.
        marks_purchases = refund.status is RefundStatus.SUCCEEDED or (
            refund.status.is_failed_or_canceled and refund.stripe_refund_id is not None
        )
        if not marks_purchases or self.sync_purchases(refund.payment_intent):
            self._ledger.mark_purchases_verified(refund)

    def sync_purchases(self, payment_intent: str) -> bool:
        """Make the purchases match the payment's refunds, repeatedly if these change meanwhile.

        :return: whether they match. ``False`` while another call may be about to change both.
        :raises DatabaseUnavailable: 500.
        """
        refunds = self._ledger.list_for_payment(payment_intent)
        for _ in range(_SYNC_ATTEMPTS):
            if is_refunded(refunds):
                self._purchases.mark_refunded(payment_intent)
            elif any(refund.status is RefundStatus.PROCESSING for refund in refunds):
                # The call that holds the lease marks the purchases before the record, and may just have.
                return False
            else:
                self._purchases.mark_completed(payment_intent)
            before, refunds = refunds, self._ledger.list_for_payment(payment_intent)
            if _statuses(before) == _statuses(refunds):
                return True
        return False

    def _mark_purchases(self, payment_intent: str, status: RefundStatus) -> None:
        """Mark the purchases after a refund created here, which is for the whole remaining amount."""
        if status is RefundStatus.SUCCEEDED:
            self._purchases.mark_refunded(payment_intent)
        elif status.is_failed_or_canceled:
            self._purchases.mark_completed(payment_intent)


def _revives(refund: Refund, stripe_refund: StripeRefund) -> bool:
    """Return whether Stripe shows a refund that was marked as failed without being found at Stripe."""
    return (
        refund.status.is_failed_or_canceled
        and refund.stripe_refund_id is None
        and not stripe_refund.status.is_failed_or_canceled
    )


def _amount_differs(refund: Refund, stripe_refund: StripeRefund) -> bool:
    """Return whether Stripe shows a different amount or currency than before, or did so earlier."""
    if refund.review is not None and refund.review.code is ReviewCode.AMOUNT_DIFFERS:
        return True
    shown = (stripe_refund.amount, stripe_refund.currency)
    return refund.amount is not None and (refund.amount, refund.currency) != shown


def _log_status(event: LogEvent, refund: Refund, stripe_refund: StripeRefund, *, actor: str) -> None:
    log_event(
        event,
        refund_id=refund.id,
        status=refund.status.value,
        code=refund.failure.code if refund.failure else None,
        amount=refund.amount,
        currency=refund.currency,
        actor=actor,
        stripe_refund_id=stripe_refund.id,
        stripe_request_id=stripe_refund.request_id,
    )
    _log_review(refund)


def _log_review(refund: Refund) -> None:
    if refund.review is not None:
        log_event(
            LogEvent.REFUND_NEEDS_REVIEW,
            refund_id=refund.id,
            status=refund.status.value,
            code=refund.review.code.value,
        )


def _statuses(refunds: Sequence[Refund]) -> list[RefundStatus]:
    return [refund.status for refund in refunds]

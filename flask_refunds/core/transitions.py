"""Apply what Stripe reports: to the purchases, then to the ledger, then to the app's receivers.

A stored status changes only by a fresh read at Stripe, made after the record was read, in an update that
requires the record's version. Events and lists are hints that cause such a read: their order doesn't matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from ..errors import DatabaseUnavailable
from ..instrumentation import Observers
from ..log import LogEvent, log_event
from ..models import Failure, Mark, RefundRecord, RefundStatus, ReviewCode, StripeRefund
from ..payment_refunds import exceeds_payment, find_unjustified_marks, is_refunded
from ..signals import SignalSender
from ..storage.ledger import Ledger
from ..storage.purchases import Purchases

_SYNC_ATTEMPTS = 3
_FAILED_BY_DISPUTE = "charge_for_pending_refund_disputed"
_LOW_BALANCE = "insufficient_funds"
_REPLACED = (ReviewCode.FAILED_AFTER_SUCCESS, ReviewCode.UNKNOWN_TOO_LONG, ReviewCode.UNREADABLE_AT_STRIPE)
"""Reviews of failed refunds that a new refund closes: the customer hasn't received the money."""


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

    def apply(
        self, refund: RefundRecord, stripe_refund: StripeRefund, *, actor: str, first_answer: bool = False
    ) -> RefundRecord | None:
        """Update a refund to what Stripe shows.

        :param stripe_refund: a fresh read, made after the record was read.
        :param actor: what brought it, for the history.
        :param first_answer: whether it answers the only attempt so far. Before any other one, a call may
            have marked the purchases and crashed.
        :return: the refund as it is now, or ``None`` if the record has changed since it was read. Then read
            both again.
        :raises DatabaseUnavailable: 500; it can be applied again.
        """
        review = _review_of(refund, stripe_refund)
        if stripe_refund.status is refund.status:
            refund = self._mark_read(refund)
            refund = self._ledger.update_details(refund, stripe_refund.details, actor=actor)
            if review is None or (refund.review is not None and refund.review.code is review):
                return refund
            shown = stripe_refund if review is ReviewCode.AMOUNT_DIFFERS else None
            return self.request_review(refund, review, actor=actor, stripe_refund=shown)
        # A refund of the whole payment needs no other refund to decide. Its purchases are marked first, so
        # that the record stays unfinished until they are.
        planned = _marks_alone(refund, stripe_refund)
        held = [refund.payment_intent, *refund.references]
        if planned and not self._write(refund, lambda: self._mark_refunded([refund], held, planned)):
            review = review or ReviewCode.PURCHASE_NOT_UPDATED
        # A refund of the rest marks nothing by itself, and no other call marked for it before this answer.
        is_unmarked = first_answer and not planned and stripe_refund.status is RefundStatus.SUCCEEDED
        advanced = self._ledger.advance(
            refund, stripe_refund, actor=actor, review=review, forget_marks=is_unmarked
        )
        is_unpaid = first_answer and stripe_refund.status is not RefundStatus.SUCCEEDED
        is_decided = is_unpaid or (planned and refund.part is None)
        # What an earlier attempt made may have been recorded as external.
        if advanced is None or refund.attempts > 1 or not is_decided:
            self.sync_purchases(refund.payment_intent)
        if advanced is None:
            return None
        self._observers.refund_changed(advanced)
        if refund.status is RefundStatus.PROCESSING and (refund.number or 0) > 1:
            with suppress(DatabaseUnavailable):  # verify_purchases repeats it
                refunds = self._ledger.list_for_payment(refund.payment_intent)
                self._close_replaced(advanced, refunds, actor=actor)
        _log_status(LogEvent.REFUND_STATUS_CHANGED, advanced, stripe_refund, actor=actor)
        return self.send_signals(advanced)

    def record_external(self, stripe_refund: StripeRefund, *, actor: str) -> RefundRecord | None:
        """Record a refund that was made elsewhere.

        :return: its record, or ``None`` if it was recorded before.
        :raises DatabaseUnavailable: 500.
        """
        payment = stripe_refund.payment_intent
        purchase_ids = self._purchases.ids_of(self._purchases.references_of(payment, [stripe_refund.charge]))
        recorded = self._ledger.record_external(stripe_refund, purchase_ids=purchase_ids, actor=actor)
        if recorded is None:
            return None
        self._observers.refund_changed(recorded)
        self.sync_purchases(stripe_refund.payment_intent)
        _log_status(LogEvent.EXTERNAL_REFUND_RECORDED, recorded, stripe_refund, actor=actor)
        requested = replace(recorded, status=RefundStatus.PROCESSING, amount=None)
        review = _review_of(requested, stripe_refund)
        if review is not None:
            recorded = self.request_review(recorded, review, actor=actor)
        return self.send_signals(recorded)

    def mark_rejected(
        self, refund: RefundRecord, failure: Failure, *, actor: str, request_id: str | None
    ) -> RefundRecord:
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

    def mark_failed_manually(
        self, refund: RefundRecord, *, actor: str, comment: str, keep_review: bool = False
    ) -> RefundRecord | None:
        """Mark a refund with an unknown outcome as failed, because a person found that it wasn't made.

        :param keep_review: whether its review stays open, until another refund replaces it.
        :return: the refund as it is now, or ``None`` if it doesn't need review or another call works on it.
        :raises DatabaseUnavailable: 500; it may be marked.
        """
        failed = self._ledger.mark_failed_manually(
            refund, actor=actor, comment=comment, keep_review=keep_review
        )
        if failed is None:
            return None
        self._observers.refund_changed(failed)
        return self.send_signals(failed)

    def request_review(
        self, refund: RefundRecord, code: ReviewCode, *, actor: str, stripe_refund: StripeRefund | None = None
    ) -> RefundRecord:
        """Request a review of a refund, unless one is open, or a person just closed the same one.

        :param stripe_refund: what Stripe shows, if that is the reason. Then it isn't the same one.
        :return: the refund as it is now.
        :raises DatabaseUnavailable: 500.
        """
        if stripe_refund is None and _was_closed(refund, code):
            return refund
        updated = self._ledger.request_review(refund, code, actor=actor, stripe_refund=stripe_refund)
        if updated is None:
            return refund
        _log_review(updated)
        return self.send_signals(updated)

    def send_signals(self, refund: RefundRecord) -> RefundRecord:
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

    def verify_purchases(self, refund: RefundRecord) -> None:
        """Make sure that the purchases match a refund; see :attr:`Refund.purchases_verified`.

        Call this only when no call that read the record before its last change can still be in progress. Such
        a call might still mark the purchases and then crash.

        :raises DatabaseUnavailable: 500; the refund remains to be verified.
        """
        if refund.may_have_marked:
            matching = self.sync_purchases(refund.payment_intent)
            if matching is None:
                return
            self._forget_undone_marks(matching)
        if refund.closed_purchase_ids:
            held = self._purchases.references_of(refund.payment_intent, [refund.charge])
            if not self._mark_closed(refund, held):
                return
        refunds = self._ledger.hide_duplicates(refund.payment_intent)
        self._close_replaced(refund, refunds, actor="reconcile")
        if refund.review is not None and refund.review.code is ReviewCode.PURCHASE_NOT_UPDATED:
            comment = "The purchases are updated now."
            refund = self._ledger.dismiss(refund, actor="reconcile", comment=comment) or refund
        self._ledger.mark_purchases_verified(refund)

    def sync_purchases(self, payment_intent: str) -> Sequence[RefundRecord] | None:
        """Make the purchases match the payment's refunds, repeatedly if these change meanwhile.

        The sum of the succeeded refunds decides. Purchases that the app marked itself are left alone. If
        MongoDB rejects the status of a purchase, the payment's last refund needs review. Records that
        duplicate others are hidden.

        :return: the refunds that they match; ``None`` while another call may be about to change both.
        :raises DatabaseUnavailable: 500.
        """
        refunds = self._ledger.hide_duplicates(payment_intent)
        for _ in range(_SYNC_ATTEMPTS):
            if not self._sync_once(payment_intent, refunds):
                return None
            before, refunds = refunds, self._ledger.list_for_payment(payment_intent)
            if _statuses(before) == _statuses(refunds):
                return before
        return None

    def _sync_once(self, payment_intent: str, refunds: Sequence[RefundRecord]) -> bool:
        held = self._purchases.references_of(payment_intent, [each.charge for each in refunds])
        if is_refunded(refunds):
            settled = [each for each in refunds if each.status is RefundStatus.SUCCEEDED][-1]
            completed = self._purchases.find_completed(held)
            if completed:
                self._ledger.add_marks(settled, completed)
            if exceeds_payment(refunds):
                self._request_review_once(settled, ReviewCode.AMOUNTS_DISAGREE)
            is_marked = self._write(settled, lambda: self._mark_refunded(refunds, held, completed))
            return is_marked or self._report_rejected(settled)
        if self._may_be_in_progress(refunds):
            # The call that holds the lease marks the purchases before the record, and may just have.
            return False
        if not all(self._mark_closed(each, held) for each in refunds if _was_rejected(each)):
            return False
        marks = find_unjustified_marks(refunds)
        if not marks:
            return True
        # The marks stay stored until no call can be in progress that may yet write what it had planned.
        last = refunds[-1]
        is_undone = self._write(last, lambda: not self._purchases.mark_completed(held, marks))
        return is_undone or self._report_rejected(last)

    def _mark_closed(self, refund: RefundRecord, held: Sequence[str]) -> bool:
        """Mark the purchase that a part closed, if it is completed.

        :return: whether MongoDB accepted it. If not, the refund needs review.
        """
        if not refund.closed_purchase_ids or refund.status is not RefundStatus.SUCCEEDED:
            return True
        completed = self._purchases.find_completed(held)
        closed = [each for each in completed if each.purchase_id in refund.closed_purchase_ids]
        if not closed:
            return True
        self._ledger.add_marks(refund, closed)
        is_marked = self._write(refund, lambda: self._mark_refunded([refund], held, closed))
        return is_marked or self._report_rejected(refund)

    def _write(self, refund: RefundRecord, write: Callable[[], bool]) -> bool:
        """Write to a refund's purchases, and return whether MongoDB accepted it.

        Any other error counts as a rejection after ten minutes, so that the ledger shows Stripe's status.
        """
        try:
            accepted = write()
        except DatabaseUnavailable:
            if not self._ledger.mark_unwritten(refund):
                raise
            return False
        self._ledger.mark_written(refund)
        return accepted

    def _may_be_in_progress(self, refunds: Sequence[RefundRecord]) -> bool:
        """Return whether a call may be working on one of the refunds.

        Not on one that waits for a person, once its lease is over: the call that continues it afterwards
        compares the purchases again.
        """
        unknown = [each for each in refunds if each.status is RefundStatus.PROCESSING]
        return any(each.review is None or not self._ledger.is_idle(each) for each in unknown)

    def _forget_undone_marks(self, refunds: Sequence[RefundRecord]) -> None:
        """Leave purchases that were marked as completed again to the app.

        :param refunds: that the purchases match.
        """
        is_open = is_refunded(refunds) or self._may_be_in_progress(refunds)
        undone = [] if is_open else find_unjustified_marks(refunds)
        if undone:
            self._ledger.remove_marks(refunds, [each.purchase_id for each in undone])

    def _close_replaced(self, refund: RefundRecord, refunds: Sequence[RefundRecord], *, actor: str) -> None:
        """Close the reviews of failed refunds that this later one replaces, once Stripe has accepted it."""
        is_accepted = refund.stripe_refund_id is not None and not refund.status.is_failed_or_canceled
        for each in refunds if refund.created_here and is_accepted else ():
            if not each.status.is_failed_or_canceled or each.review is None:
                continue
            if each.review.code not in _REPLACED or each.review.since > refund.created_at:
                continue
            if refund.part is not None and not _is_same_part(refund, each):
                continue
            if self._ledger.dismiss(each, actor=actor, comment=f"Refunded again as {refund.id}."):
                log_event(LogEvent.REFUND_RESOLVED, refund_id=each.id, status=each.status.value, actor=actor)

    def _mark_refunded(
        self, refunds: Sequence[RefundRecord], held: Sequence[str], marks: Sequence[Mark]
    ) -> bool:
        """Mark purchases, and forget the marks of those that MongoDB rejects or that the app has changed.

        If a refund has changed, another call may have undone these marks, and a third one be about to mark
        the purchases again. Then the marks stay stored, so that they can be undone again.

        :param refunds: for which they are marked, as they were when this was decided.
        :param held: everything that a purchase of their payment may hold.
        :return: whether MongoDB accepted all. If not, the ledger must show the refund's status all the same.
        """
        unmarked, rejected = self._purchases.mark_refunded(held, marks)
        if unmarked:
            current = self._ledger.list_for_payment(refunds[0].payment_intent)
            if _are_unchanged(refunds, current):
                self._ledger.remove_marks(current, unmarked)
        return not rejected

    def _mark_read(self, refund: RefundRecord) -> RefundRecord:
        """Store that Stripe returned a refund, and close the review of one that it hadn't returned."""
        if refund.review is not None and refund.review.code is ReviewCode.UNREADABLE_AT_STRIPE:
            comment = "Stripe returns the refund again."
            return self._ledger.dismiss(refund, actor="reconcile", comment=comment) or refund
        self._ledger.mark_read(refund)
        return refund

    def _report_rejected(self, refund: RefundRecord) -> bool:
        self._request_review_once(refund, ReviewCode.PURCHASE_NOT_UPDATED)
        return False

    def _request_review_once(self, refund: RefundRecord, code: ReviewCode) -> None:
        if refund.review is None:
            self.request_review(refund, code, actor="reconcile")


def _marks_alone(refund: RefundRecord, stripe_refund: StripeRefund) -> Sequence[Mark]:
    """Return what a refund marks without regard to the payment's other refunds."""
    if not refund.created_here or stripe_refund.status is not RefundStatus.SUCCEEDED:
        return ()
    if refund.part is not None:
        return [each for each in refund.marks if each.purchase_id in refund.closed_purchase_ids]
    is_whole = 0 < stripe_refund.amount_captured <= stripe_refund.amount
    return refund.marks if is_whole else ()


def _is_same_part(refund: RefundRecord, earlier: RefundRecord) -> bool:
    """Return whether a part repeats an earlier refund that failed."""
    return (refund.amount, refund.purchase_ids) == (earlier.amount, earlier.purchase_ids)


def _review_of(refund: RefundRecord, stripe_refund: StripeRefund) -> ReviewCode | None:
    """Return why a person must review a refund that Stripe shows like this."""
    return _review_of_transition(refund, stripe_refund) or _review_of_state(refund, stripe_refund)


def _review_of_transition(refund: RefundRecord, stripe_refund: StripeRefund) -> ReviewCode | None:
    before, after = refund.status, stripe_refund.status
    failure = stripe_refund.failure
    if after.is_failed_or_canceled and failure is not None and failure.code == _FAILED_BY_DISPUTE:
        return None if before.is_failed_or_canceled else ReviewCode.DISPUTED
    # People were told of the success, perhaps several statuses ago. Only they cancel what waits for them.
    is_canceled = before is RefundStatus.REQUIRES_ACTION and after is RefundStatus.CANCELED
    is_gone = after.is_failed_or_canceled and not before.is_failed_or_canceled
    if is_gone and refund.has_succeeded and not is_canceled:
        return ReviewCode.FAILED_AFTER_SUCCESS
    if before.is_failed_or_canceled and not after.is_failed_or_canceled:
        return ReviewCode.FOUND_AFTER_FAILURE
    if before in (RefundStatus.SUCCEEDED, RefundStatus.PENDING) and after is RefundStatus.REQUIRES_ACTION:
        return ReviewCode.ACTION_REQUIRED_AGAIN
    return None


def _review_of_state(refund: RefundRecord, stripe_refund: StripeRefund) -> ReviewCode | None:
    if _amount_differs(refund, stripe_refund):
        return ReviewCode.AMOUNT_DIFFERS
    if stripe_refund.status is RefundStatus.PENDING and stripe_refund.details.pending_reason == _LOW_BALANCE:
        return ReviewCode.BALANCE_TOO_LOW
    moved = refund.status is not stripe_refund.status
    if moved and stripe_refund.status is RefundStatus.SUCCEEDED and stripe_refund.is_transfer_kept:
        return ReviewCode.TRANSFER_NOT_REVERSED
    return None


def _amount_differs(refund: RefundRecord, stripe_refund: StripeRefund) -> bool:
    """Return whether Stripe shows a different amount or currency than before, or did so earlier."""
    if refund.review is not None and refund.review.code is ReviewCode.AMOUNT_DIFFERS:
        return True
    shown = (stripe_refund.amount, stripe_refund.currency)
    return refund.amount is not None and (refund.amount, refund.currency) != shown


def _log_status(event: LogEvent, refund: RefundRecord, stripe_refund: StripeRefund, *, actor: str) -> None:
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


def _log_review(refund: RefundRecord) -> None:
    if refund.review is not None:
        log_event(
            LogEvent.REFUND_NEEDS_REVIEW,
            refund_id=refund.id,
            status=refund.status.value,
            code=refund.review.code.value,
        )


def _was_closed(refund: RefundRecord, code: ReviewCode) -> bool:
    """Return whether a person closed this review, and the refund's status hasn't changed since."""
    is_closed = False
    for entry in reversed(refund.history):
        if entry["status"] != refund.status.value:
            break
        if entry.get("review") == code.value:
            return is_closed
        if "comment" in entry and "decision" not in entry:  # the next one after the request closed it
            is_closed = entry["actor"] != "reconcile"
    return False


def _was_rejected(refund: RefundRecord) -> bool:
    """Return whether the status of one of its purchases couldn't be written."""
    return refund.review is not None and refund.review.code is ReviewCode.PURCHASE_NOT_UPDATED


def _are_unchanged(refunds: Sequence[RefundRecord], current: Sequence[RefundRecord]) -> bool:
    """Return whether records are as they were: every change adds to the history."""
    lengths = {each.id: len(each.history) for each in current}
    return all(lengths.get(each.id) == len(each.history) for each in refunds)


def _statuses(refunds: Sequence[RefundRecord]) -> list[RefundStatus]:
    return [refund.status for refund in refunds]

"""The refund protocol: make a refund, or finish one that another call left unfinished.

The order of writes makes it safe: record, Stripe, purchases, record. After a crash between two of these steps
the record shows what is next, and calling :meth:`RefundService.refund` again continues there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..clock import CALL_SECONDS, Deadline
from ..errors import (
    AmountTooLarge,
    DatabaseUnavailable,
    KeyRejected,
    OutcomeUnknown,
    PermissionMissing,
    PurchaseNotFound,
    PurchaseNotRefundable,
    RateLimited,
    RefundableChanged,
    RefundInProgress,
    RequestRejected,
    StripeCallError,
)
from ..log import LogEvent, log_event
from ..models import Failure, RefundRecord, RefundRequest, RefundStatus, ReviewCode, StripeRefund
from ..payment_refunds import find_active, is_reserved, next_number
from ..purchase_fields import COMPLETED, REFUNDED
from ..storage.ledger import Ledger, NumberTaken
from ..storage.purchases import Purchase, Purchases
from .partial import PartialRefunds, require_none_processing
from .payments import PaymentResolver
from .results import ALREADY_REFUNDED, RefundResult, error_of
from .stripe_options import StripeOptions
from .stripe_sync import StripeSync
from .transitions import RefundTransitions

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

RESEND_WITHIN = timedelta(hours=23)
"""How long a record's idempotency key may be used. Stripe may forget it after 24 h
(https://docs.stripe.com/api/idempotent_requests)."""

MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)
"""How much MongoDB's clock may differ from Stripe's, for its ages to be used."""

_UNREADABLE_AFTER = timedelta(hours=23)
"""How long Stripe may not return an open refund, before it needs review."""

UNREADABLE_REFUND = "unreadable_refund"
"""The code of an error: Stripe shows the refund, in a form that this library doesn't know."""

_AFTER_STRIPE_SECONDS = 4.0
"""The part of a call's time that is reserved for the two writes after Stripe's answer."""

_CLAIM_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class CallContext:
    """One call: who makes it, for the history, and until when it may take."""

    actor: str
    deadline: Deadline

    @classmethod
    def start(cls, actor: str) -> CallContext:
        """Return the context of a call that starts now."""
        return cls(actor, Deadline.after(CALL_SECONDS))

    def for_stripe(self) -> CallContext:
        """Return the same call with time reserved for the writes after Stripe's answer."""
        return CallContext(self.actor, self.deadline.earlier(_AFTER_STRIPE_SECONDS))


class RefundService:
    """Makes refunds, and finishes what other calls left unfinished.

    :param gateway: returns the gateway, which is created when first needed.
    :param clock: returns the aware UTC time.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        purchases: Purchases,
        payments: PaymentResolver,
        options: StripeOptions,
        gateway: Callable[[], Gateway],
        transitions: RefundTransitions,
        stripe_sync: StripeSync,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._payments = payments
        self._options = options
        self._gateway = gateway
        self._transitions = transitions
        self._stripe_sync = stripe_sync
        self._clock = clock
        self.partial = PartialRefunds(gateway)

    def refund(self, purchase_id: Any, request: RefundRequest) -> RefundResult:
        """Refund all that is left of a completed purchase's payment, or a part of it, or continue an
        unfinished refund.

        :param purchase_id: a value, or an :class:`IdText`.
        :return: a refund that succeeded, is pending at Stripe, or whose outcome is still unknown.
        :raises PurchaseIdAmbiguous: 400; several purchases have an ID with this text.
        :raises PurchaseNotFound: 404.
        :raises PurchaseNotRefundable: 400; the purchase isn't completed, or is already refunded.
        :raises PaymentIntentMissing: 400; it holds no payment.
        :raises PaymentUnknown: 400; Stripe doesn't know the charge or session that it holds.
        :raises StripeUnavailable: 503; Stripe didn't tell which payment that is.
        :raises RefundInProgress: 409; another call is working on it.
        :raises AmountTooLarge: 400; a part is larger than what its caller saw.
        :raises RefundableChanged: 409; the caller of a part saw something else than what is left now.
        :raises RefundAmbiguous: 409; a part without a number may be a repetition.
        :raises RefundFailed: 400; nothing was refunded.
        :raises StripeRateLimited: 503; nothing was refunded.
        :raises StripeKeyRejected: 500; nothing was refunded.
        :raises RecordUnreadable: 500; a newer release may have refunded the payment.
        :raises DatabaseUnavailable: 500; this call sent nothing to Stripe.
        """
        if request.part is not None and request.part.amount > request.part.refundable:
            raise AmountTooLarge
        call = CallContext.start(request.actor)
        purchase = self._purchases.find(purchase_id)
        if purchase is None:
            raise PurchaseNotFound
        if purchase.status is None:
            raise PurchaseNotRefundable
        if purchase.payment_intent is None:
            purchase = self._payments.complete(purchase, call.for_stripe().deadline)
        claim = self._claim if request.part is None else self._claim_part
        claimed = claim(purchase, purchase.payment_intent or "", request, call)
        refund, unknown_code = self._finish(claimed, call)
        is_new = claimed.status is RefundStatus.PROCESSING and claimed.attempts == 1
        if request.part is None and claimed.status is refund.status is RefundStatus.SUCCEEDED:
            raise PurchaseNotRefundable(refund=refund)  # another call made it meanwhile
        is_replayed = request.part is not None and not is_new
        return replace(self._result(refund, purchase), replayed=is_replayed, unknown_code=unknown_code)

    def resume(self, refund: RefundRecord, *, actor: str) -> RefundRecord:
        """Continue an unfinished refund, unless another call holds its lease.

        :param actor: who resumes it, for the history.
        :return: the refund as it is now.
        :raises RefundInProgress: 409; another call is working on it.
        :raises DatabaseUnavailable: 500.
        """
        call = CallContext.start(actor)
        return self._finish(self._acquire_lease(refund, actor=actor), call)[0]

    def look_up(self, refund: RefundRecord, *, actor: str) -> RefundRecord:
        """Store what Stripe shows of a refund with an unknown outcome, without sending its request again.

        :return: the refund as it is now; still ``processing`` if Stripe doesn't list it.
        :raises OutcomeUnknown: Stripe didn't return the list, or shows the refund in an unknown form.
        :raises DatabaseUnavailable: 500.
        """
        call = CallContext.start(actor).for_stripe()
        found = self._find_at_stripe(refund, call)
        if found is not None:
            with _unknown_without_answer():
                return self._stripe_sync.upsert_from_stripe(found, call.deadline, actor=actor)
        if refund.review is None or refund.review.code is not ReviewCode.UNREADABLE_AT_STRIPE:
            return refund
        return self._transitions.request_review(refund, ReviewCode.UNKNOWN_TOO_LONG, actor=actor)

    def _result(self, refund: RefundRecord, purchase: Purchase) -> RefundResult:
        """Return what the record means for the caller, or raise it."""
        if refund.status.is_failed_or_canceled:
            raise error_of(refund)
        purchase_id = purchase.document["_id"]
        if refund.status is not RefundStatus.SUCCEEDED or purchase.status != COMPLETED:
            return RefundResult(refund, purchase.document, purchase.status == REFUNDED)
        is_written = refund.is_full and refund.unwritten_since is None
        if is_written and purchase_id in refund.marked_purchase_ids:
            return RefundResult(refund, self._purchases.fields.as_refunded(purchase.document), True)
        current = None
        with suppress(DatabaseUnavailable):  # money has moved, so the answer isn't an error
            current = self._purchases.find(purchase_id)
        current = current or purchase
        return RefundResult(refund, current.document, current.status == REFUNDED)

    # Claim: the record that this call works on.

    def _claim(
        self, purchase: Purchase, payment_intent: str, request: RefundRequest, call: CallContext
    ) -> RefundRecord:
        """Return the record that this call works on: a new one, or the active one of another call."""
        refunds = purchase.refunds
        verified: str | None = None
        for _ in range(_CLAIM_ATTEMPTS):
            active = find_active(refunds, request.bulk_run)
            if active is not None and active.status is not RefundStatus.SUCCEEDED and active.part is None:
                return self._acquire_lease(active, actor=request.actor)
            if active is not None:
                require_none_processing(refunds)
            if purchase.status != COMPLETED:
                raise PurchaseNotRefundable(refund=active)
            if active is not None and active.id != verified:
                refunds, verified = self._require_remaining(purchase, active, call), active.id
                if request.bulk_run is not None and active.bulk_run == request.bulk_run:
                    raise PurchaseNotRefundable(refund=active)
                continue
            created = self._create(purchase, refunds, request, call)
            if created is not None:
                return created
            refunds = self._ledger.list_for_payment(payment_intent)
        raise RefundInProgress

    def _claim_part(
        self, purchase: Purchase, payment_intent: str, request: RefundRequest, call: CallContext
    ) -> RefundRecord:
        """Return the record of a part: a new one, or that of an earlier, equal call."""
        refunds = purchase.refunds
        deadline = call.for_stripe().deadline
        for _ in range(_CLAIM_ATTEMPTS):
            changed: RefundableChanged | None = None
            try:
                earlier = self.partial.find_earlier(purchase, refunds, request, deadline)
                if earlier is not None:
                    return self._acquire_lease(earlier, actor=request.actor)
                created = self._create(purchase, refunds, request, call)
                if created is not None:
                    return created
            except RefundableChanged as error:
                changed = error
            before, refunds = refunds, self._ledger.list_for_payment(payment_intent)
            if changed is not None and next_number(before) == next_number(refunds):
                raise changed  # and not by a refund that was made between the two readings
        raise RefundInProgress

    def _create(
        self, purchase: Purchase, refunds: Sequence[RefundRecord], request: RefundRequest, call: CallContext
    ) -> RefundRecord | None:
        """Return a new record, or ``None`` if another call took its number since the refunds were read."""
        own = purchase.document["_id"]
        purchase_ids = [own, *(each for each in purchase.ids if each != own)]
        to_mark = purchase.completed
        if request.part is not None:
            purchase_ids = [own]
            closed = [own] if request.part.mark_refunded else []
            to_mark = [each for each in purchase.completed if each.purchase_id in closed]
        try:
            created = self._ledger.create(
                purchase.payment_intent or "",
                next_number(refunds),
                purchase_ids=purchase_ids,
                to_mark=to_mark,
                request=request,
                references=purchase.references,
                stripe_account=purchase.stripe_account,
                options=self._options.evaluate(purchase, call.deadline),
            )
        except NumberTaken:
            return None
        log_event(LogEvent.REFUND_CREATED, refund_id=created.id, actor=request.actor, reason=request.reason)
        return created

    def _require_remaining(
        self, purchase: Purchase, active: RefundRecord, call: CallContext
    ) -> list[RefundRecord]:
        """Refuse to refund a payment again, unless a fresh view shows that a part of it remains.

        :return: the payment's refunds as they are now.
        :raises PurchaseNotRefundable: 400; nothing of the payment remains, or Stripe doesn't show what does.
        """
        if self._is_marked(purchase):
            raise PurchaseNotRefundable(refund=active)
        deadline = call.for_stripe().deadline
        try:
            self._stripe_sync.refresh(active, deadline, actor=call.actor)
            unreadable = self._stripe_sync.upsert_all(
                active.payment_intent, deadline, actor=call.actor, account=active.stripe_account
            )
        except StripeCallError as error:
            log_event(LogEvent.STRIPE_REQUEST_FAILED, refund_id=active.id, code=error.code)
            raise PurchaseNotRefundable(refund=active) from error
        self._transitions.sync_purchases(active.payment_intent)
        refunds = self._ledger.list_for_payment(active.payment_intent)
        if unreadable or is_reserved(refunds) or self._is_marked(purchase):
            raise PurchaseNotRefundable(refund=self._ledger.get(active.id))
        return refunds

    def _is_marked(self, purchase: Purchase) -> bool:
        """Return whether the purchase is no longer completed. It may have been marked since it was read."""
        if purchase.status != COMPLETED:
            return True
        current = self._purchases.find(purchase.document["_id"])
        return current is None or current.status != COMPLETED

    def _acquire_lease(self, refund: RefundRecord, *, actor: str) -> RefundRecord:
        if refund.status is not RefundStatus.PROCESSING:
            return refund
        leased = self._ledger.acquire_lease(refund)
        if leased is not None:
            log_event(LogEvent.REFUND_RESUMED, refund_id=refund.id, actor=actor, attempts=leased.attempts)
            return leased
        current = self._ledger.get(refund.id)
        if current.status is RefundStatus.PROCESSING:
            raise RefundInProgress(refund=current)
        return current

    # Finish: what to request from Stripe, by the record's status.

    def _finish(self, refund: RefundRecord, call: CallContext) -> tuple[RefundRecord, str | None]:
        """Bring a refund as far as possible. Never raises once Stripe may have been called.

        :return: the refund, and the error code if its outcome is unknown.
        """
        try:
            if refund.status is not RefundStatus.PROCESSING:
                return self._refresh(refund, call), None
            return self._drive(refund, call.for_stripe()), None
        except OutcomeUnknown as unknown:
            log_event(
                LogEvent.OUTCOME_UNKNOWN,
                refund_id=refund.id,
                code=unknown.code,
                actor=call.actor,
                stripe_request_id=unknown.request_id,
            )
            return self._leave_unknown(refund, call), unknown.code
        except DatabaseUnavailable as error:
            # Stripe may have acted, and the ledger doesn't show it yet. The record will be resumed.
            log_event(LogEvent.LEDGER_UPDATE_FAILED, error, refund_id=refund.id, actor=call.actor)
            return refund, None

    def _drive(self, refund: RefundRecord, call: CallContext) -> RefundRecord:
        """Work on a refund with an unknown outcome, whose lease this call holds."""
        in_doubt = refund.attempts > 1
        if in_doubt:
            found = self._find_at_stripe(refund, call)
            if found is not None:
                with _unknown_without_answer():
                    return self._stripe_sync.upsert_from_stripe(found, call.deadline, actor=call.actor)
            if self._is_too_old(refund):
                return self._request_review(refund, ReviewCode.UNKNOWN_TOO_LONG, call)
            self._require_right_clock()
        if not self._ledger.holds_lease(refund):
            # This process was suspended so long that another call may be at work, or the key forgotten.
            raise OutcomeUnknown("lease_lost", "The lease expired before the request to Stripe.")
        return self._create_at_stripe(refund, call, in_doubt=in_doubt)

    def _require_right_clock(self) -> None:
        """Refuse to send a request again whose age isn't certain.

        :raises OutcomeUnknown: MongoDB's clock and Stripe's differ.
        """
        stripe_time = self._gateway().stripe_time()
        if stripe_time is not None and abs(self._clock() - stripe_time) > MAX_CLOCK_DIFFERENCE:
            raise OutcomeUnknown("clock_differs", "MongoDB's clock differs from Stripe's.")

    def _create_at_stripe(self, refund: RefundRecord, call: CallContext, *, in_doubt: bool) -> RefundRecord:
        try:
            created = (
                self._gateway()
                .on(refund.stripe_account)
                .create_refund(
                    refund.request, refund.idempotency_key or refund.id, call.deadline, in_doubt=in_doubt
                )
            )
        except RequestRejected as rejection:
            if rejection.code == ALREADY_REFUNDED:
                return self._sync_external(refund, rejection, call)
            return self._mark_rejected(refund, rejection, call)
        except RateLimited as limited:
            return self._mark_rejected(refund, limited, call)
        except PermissionMissing as missing:
            # It may concern the expanded charge only, so this key has to show that it made no refund.
            found = self._find_at_stripe(refund, call)
            if found is None:
                return self._mark_rejected(refund, missing, call)
            created = found
        except KeyRejected as rejected:
            return self._mark_rejected(refund, rejected, call)
        applied = self._transitions.apply(refund, created, actor=call.actor, first_answer=not in_doubt)
        if applied is not None:
            with suppress(StripeCallError, DatabaseUnavailable):  # reconcile repeats it
                self.add_other_parts(applied, call)
            return applied
        with _unknown_without_answer():  # an event was faster
            return self._stripe_sync.upsert_from_stripe(created, call.deadline, actor=call.actor)

    def add_other_parts(self, refund: RefundRecord, call: CallContext) -> None:
        """Record the payment's refunds made elsewhere, if this one succeeded and returned only a part.

        Until then the purchases stay completed: the sum of the known refunds doesn't cover the payment.

        :raises StripeCallError: the list isn't available.
        :raises DatabaseUnavailable: 500.
        """
        if (
            refund.created_here
            and refund.status is RefundStatus.SUCCEEDED
            and not refund.is_full
            and refund.takes_rest
        ):
            self._stripe_sync.upsert_all(
                refund.payment_intent, call.deadline, actor=call.actor, account=refund.stripe_account
            )

    def add_references(self, refund: RefundRecord) -> None:
        """Remember the Checkout session of a payment, so that a purchase that holds it is marked, too.

        :raises StripeCallError: Stripe doesn't tell.
        :raises DatabaseUnavailable: 500.
        """
        deadline = Deadline.after(CALL_SECONDS)
        self._payments.find_sessions(refund.payment_intent, deadline, refund.stripe_account)

    def _find_at_stripe(self, refund: RefundRecord, call: CallContext) -> StripeRefund | None:
        """Return the refund that an earlier attempt made, if Stripe lists it."""
        with _unknown_without_answer():
            listed, unreadable = self._stripe_sync.list_refunds(
                refund.payment_intent, call.deadline, account=refund.stripe_account
            )
        if any(each.refund_id == refund.idempotency_key for each in unreadable):
            raise OutcomeUnknown(UNREADABLE_REFUND, "Stripe shows this refund in an unknown form.")
        return next((each for each in listed if each.is_requested_by(refund)), None)

    def _refresh(self, refund: RefundRecord, call: CallContext) -> RefundRecord:
        """Update a refund that Stripe knows. Without an answer, nothing changes."""
        if refund.stripe_refund_id is None:
            return refund
        try:
            return self._stripe_sync.refresh(refund, call.for_stripe().deadline, actor=call.actor)
        except StripeCallError as error:
            log_event(LogEvent.STRIPE_REQUEST_FAILED, refund_id=refund.id, code=error.code)
            return refund if refund.status.is_settled else self._leave_unread(refund, call)

    def _leave_unread(self, refund: RefundRecord, call: CallContext) -> RefundRecord:
        """Store since when Stripe doesn't return an open refund. After 23 hours it needs review."""
        if refund.unread_since is None:
            self._ledger.mark_unread(refund)
        elif self._clock() - refund.unread_since >= _UNREADABLE_AFTER:
            code = ReviewCode.UNREADABLE_AT_STRIPE
            return self._transitions.request_review(refund, code, actor=call.actor)
        return refund

    def _leave_unknown(self, refund: RefundRecord, call: CallContext) -> RefundRecord:
        """Release a refund whose outcome stays unknown; to a person, if Stripe hasn't told it for long."""
        if self._is_too_old(refund):
            return self._request_review(refund, ReviewCode.UNREADABLE_AT_STRIPE, call)
        return self._release_lease(refund)

    def _request_review(self, refund: RefundRecord, code: ReviewCode, call: CallContext) -> RefundRecord:
        reviewed = self._transitions.request_review(refund, code, actor=call.actor)
        return self._release_lease(refund) if reviewed is refund else reviewed

    def _is_too_old(self, refund: RefundRecord) -> bool:
        """Return whether Stripe may have forgotten the refund's idempotency key."""
        return self._clock() - refund.created_at > RESEND_WITHIN

    def _release_lease(self, refund: RefundRecord) -> RefundRecord:
        """Release the lease, so that the next call needn't wait until it expires."""
        try:
            self._ledger.release_lease(refund)
        except DatabaseUnavailable:
            log_event(LogEvent.LEASE_RELEASE_FAILED, refund_id=refund.id)
        return refund

    def _mark_rejected(self, refund: RefundRecord, error: StripeCallError, call: CallContext) -> RefundRecord:
        failure = Failure(error.code, error.message, error.outcome)
        return self._transitions.mark_rejected(refund, failure, actor=call.actor, request_id=error.request_id)

    def _sync_external(
        self, refund: RefundRecord, rejection: RequestRejected, call: CallContext
    ) -> RefundRecord:
        """Record the refunds that left nothing to refund at Stripe, and mark the purchases after them."""
        with _unknown_without_answer():
            self._stripe_sync.upsert_all(
                refund.payment_intent, call.deadline, actor=call.actor, account=refund.stripe_account
            )
        # If this record requested one of them, it is settled by now, and the rejection doesn't change it.
        rejected = self._mark_rejected(refund, rejection, call)
        self._transitions.sync_purchases(refund.payment_intent)
        return rejected


@contextmanager
def _unknown_without_answer() -> Iterator[None]:
    """Turn any failed request to Stripe into an unknown outcome of the refund."""
    try:
        yield
    except StripeCallError as error:
        raise OutcomeUnknown(error.code, error.message, request_id=error.request_id) from error

"""The refund protocol: make a refund, or finish one that another call left unfinished.

The order of writes makes it safe: record, Stripe, purchases, record. After a crash between two of these steps
the record shows what is next, and calling :meth:`RefundService.refund` again continues there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from ..clock import CALL_SECONDS, Deadline
from ..errors import (
    DatabaseUnavailable,
    KeyRejected,
    OutcomeUnknown,
    PaymentIntentMissing,
    PurchaseNotFound,
    PurchaseNotRefundable,
    RateLimited,
    RefundFailed,
    RefundInProgress,
    RefundsError,
    RequestRejected,
    StripeCallError,
    StripeKeyRejected,
    StripeRateLimited,
)
from ..log import LogEvent, log_event
from ..models import (
    Failure,
    Refund,
    RefundRequest,
    RefundStatus,
    ReviewCode,
    StripeRefund,
    find_active,
    next_number,
)
from ..storage.ledger import Ledger, NumberTaken
from ..storage.purchases import COMPLETED, REFUNDED, Purchase, Purchases
from .stripe_sync import StripeSync
from .transitions import RefundTransitions

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

RESEND_WITHIN = timedelta(hours=23)
"""How long a record's idempotency key may be used. Stripe may forget it after 24 h
(https://docs.stripe.com/api/idempotent_requests)."""

_AFTER_STRIPE_SECONDS = 4.0
"""The part of a call's time that is reserved for the two writes after Stripe's answer."""

_CLAIM_ATTEMPTS = 3
_ALREADY_REFUNDED = "charge_already_refunded"
_RATE_LIMITED = "rate_limited"
_KEY_REJECTED = "key_rejected"


@dataclass(frozen=True, slots=True)
class RefundResult:
    """The refund, and the requested purchase as it is now."""

    refund: Refund
    purchase: Mapping[str, Any]


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
        return replace(self, deadline=self.deadline.earlier(_AFTER_STRIPE_SECONDS))


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
        gateway: Callable[[], Gateway],
        transitions: RefundTransitions,
        stripe_sync: StripeSync,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._gateway = gateway
        self._transitions = transitions
        self._stripe_sync = stripe_sync
        self._clock = clock

    def refund(self, purchase_id: ObjectId, request: RefundRequest) -> RefundResult:
        """Refund a completed purchase in full, or continue the refund that it already has.

        :return: a refund that succeeded, is pending at Stripe, or whose outcome is still unknown.
        :raises PurchaseNotFound: 404.
        :raises PurchaseNotRefundable: 400; the purchase isn't completed, or is already refunded.
        :raises RefundInProgress: 409; another call is working on it.
        :raises RefundFailed: 400; nothing was refunded.
        :raises StripeRateLimited: 503; nothing was refunded.
        :raises StripeKeyRejected: 500; nothing was refunded.
        :raises DatabaseUnavailable: 500; this call sent nothing to Stripe.
        """
        call = CallContext.start(request.actor)
        purchase = self._purchases.find(purchase_id)
        if purchase is None:
            raise PurchaseNotFound
        if purchase.status not in (COMPLETED, REFUNDED):
            raise PurchaseNotRefundable
        if purchase.payment_intent is None:
            raise PaymentIntentMissing if purchase.status == COMPLETED else PurchaseNotRefundable
        claimed = self._claim(purchase, purchase.payment_intent, request)
        refund = self._finish(claimed, call)
        if claimed.status is refund.status is RefundStatus.SUCCEEDED:
            raise PurchaseNotRefundable(refund=refund)
        return _result(refund, purchase)

    def resume(self, refund: Refund, *, actor: str) -> Refund:
        """Continue an unfinished refund, unless another call holds its lease.

        :param actor: who resumes it, for the history.
        :return: the refund as it is now.
        :raises RefundInProgress: 409; another call is working on it.
        :raises DatabaseUnavailable: 500.
        """
        call = CallContext.start(actor)
        if refund.status is RefundStatus.PROCESSING:
            refund = self._acquire_lease(refund, actor=actor)
        return self._finish(refund, call)

    # Claim: the record that this call works on.

    def _claim(self, purchase: Purchase, payment_intent: str, request: RefundRequest) -> Refund:
        """Return the record that this call works on: a new one, or the active one of another call."""
        # A completed purchase usually has no refunds, so the first number is tried before anything is read.
        refunds = [] if purchase.status == COMPLETED else self._ledger.list_for_payment(payment_intent)
        for _ in range(_CLAIM_ATTEMPTS):
            active = find_active(refunds)
            if active is not None:
                return self._join(active, purchase, actor=request.actor)
            if purchase.status != COMPLETED:
                raise PurchaseNotRefundable
            try:
                created = self._ledger.create(
                    payment_intent, next_number(refunds), purchase_ids=purchase.ids, request=request
                )
            except NumberTaken:
                refunds = self._ledger.list_for_payment(payment_intent)
                continue
            log_event(
                LogEvent.REFUND_CREATED, refund_id=created.id, actor=request.actor, reason=request.reason
            )
            self._dismiss_earlier(refunds, created, actor=request.actor)
            return created
        raise RefundInProgress

    def _dismiss_earlier(self, refunds: list[Refund], created: Refund, *, actor: str) -> None:
        """Close the reviews of refunds that failed after success: a new refund replaces them."""
        for refund in refunds:
            if refund.review is not None and refund.review.code is ReviewCode.FAILED_AFTER_SUCCESS:
                self._ledger.dismiss(refund, actor=actor, comment=f"Refunded again as {created.id}.")
                log_event(
                    LogEvent.REFUND_RESOLVED, refund_id=refund.id, status=refund.status.value, actor=actor
                )

    def _join(self, active: Refund, purchase: Purchase, *, actor: str) -> Refund:
        """Continue an existing refund."""
        if active.status is RefundStatus.PROCESSING:
            return self._acquire_lease(active, actor=actor)
        if active.status is RefundStatus.SUCCEEDED and self._is_marked(purchase):
            raise PurchaseNotRefundable(refund=active)
        return active

    def _is_marked(self, purchase: Purchase) -> bool:
        """Return whether the purchase is no longer completed. It may have been marked since it was read."""
        if purchase.status != COMPLETED:
            return True
        current = self._purchases.find(purchase.document["_id"])
        return current is None or current.status != COMPLETED

    def _acquire_lease(self, refund: Refund, *, actor: str) -> Refund:
        leased = self._ledger.acquire_lease(refund)
        if leased is not None:
            log_event(LogEvent.REFUND_RESUMED, refund_id=refund.id, actor=actor, attempts=leased.attempts)
            return leased
        current = self._ledger.get(refund.id)
        if current.status is RefundStatus.PROCESSING:
            raise RefundInProgress(refund=current)
        return current

    # Finish: what to request from Stripe, by the record's status.

    def _finish(self, refund: Refund, call: CallContext) -> Refund:
        """Bring a refund as far as possible. Never raises once Stripe may have been called."""
        try:
            if refund.status is not RefundStatus.PROCESSING:
                return self._refresh(refund, call)
            return self._drive(refund, call.for_stripe())
        except OutcomeUnknown as unknown:
            log_event(
                LogEvent.OUTCOME_UNKNOWN,
                refund_id=refund.id,
                code=unknown.code,
                actor=call.actor,
                stripe_request_id=unknown.request_id,
            )
            return self._release_lease(refund)
        except DatabaseUnavailable as error:
            # Stripe may have acted, and the ledger doesn't show it yet. The record will be resumed.
            log_event(LogEvent.LEDGER_UPDATE_FAILED, error, refund_id=refund.id, actor=call.actor)
            return refund

    def _drive(self, refund: Refund, call: CallContext) -> Refund:
        """Work on a refund with an unknown outcome, whose lease this call holds."""
        in_doubt = refund.attempts > 1
        if in_doubt:
            found = self._find_at_stripe(refund, call)
            if found is not None:
                return self._transitions.apply(refund, found, actor=call.actor)
            if self._clock() - refund.created_at > RESEND_WITHIN:
                return self._request_review(refund, call)
        if not self._ledger.holds_lease(refund):
            # This process was suspended so long that another call may be at work, or the key forgotten.
            raise OutcomeUnknown("lease_lost", "The lease expired before the request to Stripe.")
        return self._create_at_stripe(refund, call, in_doubt=in_doubt)

    def _create_at_stripe(self, refund: Refund, call: CallContext, *, in_doubt: bool) -> Refund:
        try:
            created = self._gateway().create_refund(
                refund.request, refund.id, call.deadline, in_doubt=in_doubt
            )
        except RequestRejected as rejection:
            if rejection.code == _ALREADY_REFUNDED:
                return self._sync_external(refund, rejection, call)
            return self._mark_rejected(refund, rejection, rejection.code, call)
        except RateLimited as limited:
            return self._mark_rejected(refund, limited, _RATE_LIMITED, call)
        except KeyRejected as rejected:
            return self._mark_rejected(refund, rejected, _KEY_REJECTED, call)
        return self._transitions.apply(refund, created, actor=call.actor)

    def _find_at_stripe(self, refund: Refund, call: CallContext) -> StripeRefund | None:
        """Return the refund that an earlier attempt made, if Stripe lists it."""
        with _unknown_without_answer():
            listed = self._stripe_sync.list_refunds(refund.payment_intent, call.deadline)
        return next((each for each in listed if each.refund_id == refund.id), None)

    def _refresh(self, refund: Refund, call: CallContext) -> Refund:
        """Update a refund that Stripe knows. Without an answer, nothing changes."""
        if refund.stripe_refund_id is None:
            return refund
        try:
            retrieved = self._gateway().retrieve_refund(refund.stripe_refund_id, call.for_stripe().deadline)
        except StripeCallError as error:
            log_event(LogEvent.STRIPE_REQUEST_FAILED, refund_id=refund.id, code=error.code)
            return refund
        refreshed = self._transitions.apply(refund, retrieved, actor=call.actor)
        if refreshed is refund and refund.status is RefundStatus.SUCCEEDED:
            # Nothing changed, but a crash may have prevented the purchases from being marked earlier.
            self._transitions.sync_purchases(refund.payment_intent)
        return refreshed

    def _request_review(self, refund: Refund, call: CallContext) -> Refund:
        """Leave a refund to a person: it is too old to be sent again, and Stripe doesn't list it."""
        reviewed = self._transitions.request_review(refund, ReviewCode.UNKNOWN_TOO_LONG, actor=call.actor)
        return self._release_lease(refund) if reviewed is refund else reviewed

    def _release_lease(self, refund: Refund) -> Refund:
        """Release the lease, so that the next call needn't wait until it expires."""
        try:
            self._ledger.release_lease(refund)
        except DatabaseUnavailable:
            log_event(LogEvent.LEASE_RELEASE_FAILED, refund_id=refund.id)
        return refund

    def _mark_rejected(self, refund: Refund, error: StripeCallError, code: str, call: CallContext) -> Refund:
        failure = Failure(code, error.message)
        return self._transitions.mark_rejected(refund, failure, actor=call.actor, request_id=error.request_id)

    def _sync_external(self, refund: Refund, rejection: RequestRejected, call: CallContext) -> Refund:
        """Record the refunds that left nothing to refund at Stripe, and mark the purchases after them."""
        with _unknown_without_answer():
            for listed in self._stripe_sync.list_refunds(refund.payment_intent, call.deadline):
                self._stripe_sync.upsert_from_stripe(listed, call.deadline, actor=call.actor)
        # If this record requested one of them, it is settled by now, and the rejection doesn't change it.
        rejected = self._mark_rejected(refund, rejection, rejection.code, call)
        self._transitions.sync_purchases(refund.payment_intent)
        return rejected


@contextmanager
def _unknown_without_answer() -> Iterator[None]:
    """Turn any failed request to Stripe into an unknown outcome of the refund."""
    try:
        yield
    except StripeCallError as error:
        raise OutcomeUnknown(error.code, error.message, request_id=error.request_id) from error


def _result(refund: Refund, purchase: Purchase) -> RefundResult:
    """Return what the record means for the caller, or raise it."""
    if refund.status.is_failed_or_canceled:
        raise _error(refund)
    if refund.status is RefundStatus.SUCCEEDED and purchase.status == COMPLETED:
        return RefundResult(refund, {**purchase.document, "status": REFUNDED})
    return RefundResult(refund, purchase.document)


def _error(refund: Refund) -> RefundsError:
    """Return the error for a refund that failed or was canceled."""
    code = refund.failure.code if refund.failure else None
    errors: Mapping[str | None, type[RefundsError]] = {
        _ALREADY_REFUNDED: PurchaseNotRefundable,
        _RATE_LIMITED: StripeRateLimited,
        _KEY_REJECTED: StripeKeyRejected,
    }
    return errors.get(code, RefundFailed)(refund=refund)

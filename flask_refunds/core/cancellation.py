"""Cancel refunds that wait for the customer, by a person's decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import (
    KeyRejected,
    NothingToResolve,
    OutcomeUnknown,
    RateLimited,
    RequestRejected,
    StripeCallError,
    StripeUnavailable,
)
from ..log import LogEvent, log_event
from ..models import Failure, RefundRecord, RefundStatus
from ..storage.ledger import Ledger
from .payments import rejection_error
from .resolution import Person
from .service import CallContext
from .stripe_sync import StripeSync

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

_ATTEMPTS = 2


class Cancellation:
    """Cancels refunds at Stripe.

    The decision is stored first. The refund's status then follows a fresh read, whatever Stripe answered, so
    a lost answer, the customer or another call leave nothing unknown.

    :param gateway: returns the gateway, which is created when first needed.
    """

    def __init__(self, ledger: Ledger, stripe_sync: StripeSync, gateway: Callable[[], Gateway]) -> None:
        self._ledger = ledger
        self._stripe_sync = stripe_sync
        self._gateway = gateway

    def cancel(self, refund_id: str, person: Person) -> RefundRecord:
        """Cancel a refund that waits for the customer. Its purchases stay completed.

        :raises NothingToResolve: 400; it has another status, here or at Stripe, or has just changed.
        :raises StripeRateLimited: 503; it still waits.
        :raises StripeUnavailable: 503; it may be canceled. Canceling again, or reconcile, finds it out.
        :raises StripeKeyRejected: 500; it still waits.
        :raises DatabaseUnavailable: 500.
        """
        refund = self._ledger.find(refund_id)
        if refund is None:
            raise NothingToResolve(f"There is no refund {refund_id}.")
        if refund.status is not RefundStatus.REQUIRES_ACTION:
            raise NothingToResolve(
                f"{refund_id} is {refund.status.value}. Only a refund that waits for the customer "
                "(requires_action) can be canceled."
            )
        decided = self._ledger.note_cancellation(refund, actor=person.actor, comment=person.comment)
        if decided is None:
            raise NothingToResolve(f"{refund_id} has just changed. Look at it again.")
        return self._cancel(decided, CallContext.start(person.actor).for_stripe())

    def _cancel(self, refund: RefundRecord, call: CallContext) -> RefundRecord:
        for _ in range(_ATTEMPTS):
            rejection = self._request(refund, call)
            try:
                refund = self._stripe_sync.refresh(refund, call.deadline, actor=call.actor)
            except StripeCallError as error:
                raise _unavailable(refund) from error
            if refund.status is RefundStatus.CANCELED and rejection is None:
                return refund
            if refund.status is not RefundStatus.REQUIRES_ACTION:
                raise NothingToResolve(
                    f"{refund.id} is {refund.status.value} at Stripe now. Look at it again."
                )
            if rejection is not None:
                raise NothingToResolve(f"Stripe doesn't cancel {refund.id}: {rejection}")
        raise _unavailable(refund)

    def _request(self, refund: RefundRecord, call: CallContext) -> str | None:
        """Send the request, and return why Stripe rejected it. It needs no idempotency key: Stripe cancels a
        refund once.

        :return: ``None`` if Stripe canceled the refund, or may have.
        """
        gateway = self._gateway().on(refund.stripe_account)
        try:
            gateway.cancel_refund(refund.stripe_refund_id or "", call.deadline)
        except RequestRejected as rejected:
            return rejected.message
        except (KeyRejected, RateLimited) as error:
            raise rejection_error(Failure(error.code, error.message, error.outcome)) from error
        except OutcomeUnknown as unknown:
            log_event(LogEvent.STRIPE_REQUEST_FAILED, refund_id=refund.id, code=unknown.code)
        return None


def _unavailable(refund: RefundRecord) -> StripeUnavailable:
    return StripeUnavailable(
        f"Stripe didn't tell whether it canceled {refund.id}. Try again in a few seconds: it is safe."
    )

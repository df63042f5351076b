"""What happens to a refund, from the asking to its end: the protocol, and nothing of HTTP.

The order of writes is the whole of it: the row, then Stripe, then the purchases, then the row. After a crash
between any two of them the row tells what to do next, and :meth:`RefundService.refund` called again does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    RefundFailed,
    RefundInProgress,
    RefundsError,
    Refused,
    StripeAnswer,
    StripeKeyRejected,
    StripeRateLimited,
    Throttled,
)
from ..log import Decision, decided
from ..models import (
    FAILED_AFTER_SUCCESS,
    UNKNOWN_TOO_LONG,
    Failure,
    Reason,
    Refund,
    RefundStatus,
    Source,
    StripeRefund,
    doer,
    find_live,
    next_number,
)
from ..storage.ledger import Ledger, NumberTaken
from ..storage.purchases import COMPLETED, REFUNDED, Purchase, Purchases
from .stripe_sync import Intake
from .transitions import Books

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

RESEND_WITHIN = timedelta(hours=23)
"""How long a row's idempotency key may still be used. Stripe may forget it after 24 h."""

_AFTER_STRIPE_SECONDS = 4.0
"""What is kept back of a call's time for the two writes that follow Stripe's answer."""

_CLAIM_TRIES = 3
_ALREADY_REFUNDED = "charge_already_refunded"
_RATE_LIMITED = "rate_limited"
_KEY_REJECTED = "key_rejected"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller asks for, beside which purchase.

    :param requested_by: the caller's own id.
    :param source: where he asked.
    :param reason: one of Stripe's three, or ``None``.
    :param note: his words, for the ledger only; at most 500 characters.
    :param bulk: the name of the bulk run that this is part of (:func:`~flask_refunds.models.is_bulk_name`);
        a refund that is there already keeps what it was opened with.
    """

    requested_by: str | None
    source: Source
    reason: Reason | None = None
    note: str | None = None
    bulk: str | None = None

    @property
    def by(self) -> str:
        """Who asks, and where, for the history."""
        return doer(self.source, self.requested_by)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far a refund got: the row, and the named purchase as it now is."""

    refund: Refund
    purchase: Mapping[str, Any]


class RefundService:
    """Makes refunds, and finishes what other calls left unfinished.

    :param gateway: gives the gateway when the first refund needs it; importing Stripe's library is slow.
    :param clock: the aware UTC time.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        purchases: Purchases,
        gateway: Callable[[], Gateway],
        books: Books,
        intake: Intake,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._gateway = gateway
        self._books = books
        self._intake = intake
        self._clock = clock

    def refund(self, purchase_id: ObjectId, ask: Ask) -> Outcome:
        """Refund a completed purchase in full, or go on with the refund that it already has.

        :return: the refund, which has succeeded, is pending with Stripe, or whose outcome is still unknown.
        :raises PurchaseNotFound: 404.
        :raises PurchaseNotRefundable: 400; not completed, or refunded already.
        :raises RefundInProgress: 409; another call works on it.
        :raises RefundFailed: 400; nothing was refunded.
        :raises StripeRateLimited: 503; nothing was refunded.
        :raises StripeKeyRejected: 500; nothing was refunded.
        :raises DatabaseUnavailable: 500; this call asked Stripe for nothing.
        """
        deadline = Deadline.after(CALL_SECONDS)
        purchase = self._purchases.find(purchase_id)
        if purchase is None:
            raise PurchaseNotFound
        if purchase.status not in (COMPLETED, REFUNDED):
            raise PurchaseNotRefundable
        if purchase.payment_intent is None:
            raise PaymentIntentMissing if purchase.status == COMPLETED else PurchaseNotRefundable
        claimed = self._claim(purchase, purchase.payment_intent, ask)
        refund = self._finish(claimed, deadline, by=ask.by)
        if claimed.status is refund.status is RefundStatus.SUCCEEDED:
            raise PurchaseNotRefundable(refund=refund)
        return _answer(refund, purchase)

    def resume(self, refund: Refund, *, by: str) -> Refund:
        """Bring an unfinished refund as far as it gets, if no other call owns it.

        :param by: who does it, for the history.
        :return: the row as it now is.
        :raises RefundInProgress: 409; another call owns it.
        :raises DatabaseUnavailable: 500.
        """
        if refund.status is RefundStatus.PROCESSING:
            refund = self._take(refund, by=by)
        return self._finish(refund, Deadline.after(CALL_SECONDS), by=by)

    # Claiming: which row this call works on.

    def _claim(self, purchase: Purchase, payment_intent: str, ask: Ask) -> Refund:
        """The row that this call owns: a new number, or the live one that another call left."""
        # A completed purchase usually has no log, so the first number is tried before anything is read.
        log = [] if purchase.status == COMPLETED else self._ledger.read_log(payment_intent)
        for _ in range(_CLAIM_TRIES):
            live = find_live(log)
            if live is not None:
                return self._join(live, purchase, by=ask.by)
            if purchase.status != COMPLETED:
                raise PurchaseNotRefundable
            try:
                opened = self._open(purchase, payment_intent, next_number(log), ask)
            except NumberTaken:
                log = self._ledger.read_log(payment_intent)
                continue
            self._dismiss_earlier(log, opened, by=ask.by)
            return opened
        raise RefundInProgress

    def _dismiss_earlier(self, log: list[Refund], opened: Refund, *, by: str) -> None:
        """A refund that failed after success asks to be made again, and now is."""
        for refund in log:
            if refund.attention is not None and refund.attention.why == FAILED_AFTER_SUCCESS:
                self._ledger.dismiss(refund, by=by, why=f"Refunded again as {opened.id}.")
                decided(Decision.RESOLVED, refund_id=refund.id, status=refund.status.value, by=by)

    def _open(self, purchase: Purchase, payment_intent: str, number: int, ask: Ask) -> Refund:
        opened = self._ledger.open(
            payment_intent,
            number,
            purchase_ids=purchase.ids,
            reason=ask.reason,
            note=ask.note,
            requested_by=ask.requested_by,
            source=ask.source,
            bulk=ask.bulk,
        )
        decided(Decision.OPENED, refund_id=opened.id, by=ask.by, reason=ask.reason)
        return opened

    def _join(self, live: Refund, purchase: Purchase, *, by: str) -> Refund:
        """Go on with a refund that there is already."""
        if live.status is RefundStatus.PROCESSING:
            return self._take(live, by=by)
        if live.status is RefundStatus.SUCCEEDED and self._is_marked(purchase):
            raise PurchaseNotRefundable(refund=live)
        return live

    def _is_marked(self, purchase: Purchase) -> bool:
        """Whether the purchase is no longer completed; it may have been marked since it was read."""
        if purchase.status != COMPLETED:
            return True
        current = self._purchases.find(purchase.document["_id"])
        return current is None or current.status != COMPLETED

    def _take(self, refund: Refund, *, by: str) -> Refund:
        taken = self._ledger.take(refund)
        if taken is not None:
            decided(Decision.RESUMED, refund_id=refund.id, by=by, calls=taken.calls)
            return taken
        current = self._ledger.get(refund.id)
        if current.status is RefundStatus.PROCESSING:
            raise RefundInProgress(refund=current)
        return current

    # Finishing: what Stripe is asked, by where the row stands.

    def _finish(self, refund: Refund, deadline: Deadline, *, by: str) -> Refund:
        """Bring a row as far as it gets within the deadline. Never raises once Stripe may have been asked."""
        try:
            if refund.status is not RefundStatus.PROCESSING:
                return self._refresh(refund, deadline, by=by)
            return self._drive(refund, deadline.earlier(_AFTER_STRIPE_SECONDS), by=by)
        except OutcomeUnknown as unknown:
            request_id = unknown.request_id
            decided(
                Decision.UNKNOWN, refund_id=refund.id, code=unknown.code, by=by, stripe_request_id=request_id
            )
            return self._leave(refund)
        except DatabaseUnavailable as error:
            # Stripe may have acted and our books do not say so yet. The row stands, and is resumed.
            decided(Decision.BEHIND, error, refund_id=refund.id, by=by)
            return refund

    def _drive(self, refund: Refund, deadline: Deadline, *, by: str) -> Refund:
        """Work on a row that this call owns and whose outcome is not known."""
        in_doubt = refund.calls > 1
        if in_doubt:
            found = self._find_at_stripe(refund, deadline)
            if found is not None:
                return self._books.apply(refund, found, by=by)
            if self._clock() - refund.created_at > RESEND_WITHIN:
                return self._give_to_a_person(refund, by=by)
        if not self._ledger.owns(refund):
            # This process was stopped for so long that another call may be at work, or the key forgotten.
            raise OutcomeUnknown("lease_lost", "The lease ended before Stripe was asked.")
        return self._ask_stripe(refund, deadline, in_doubt=in_doubt, by=by)

    def _ask_stripe(self, refund: Refund, deadline: Deadline, *, in_doubt: bool, by: str) -> Refund:
        try:
            fact = self._gateway().create(refund.request, refund.id, deadline, in_doubt=in_doubt)
        except Refused as refusal:
            if refusal.code == _ALREADY_REFUNDED:
                return self._refunded_elsewhere(refund, refusal, deadline, by=by)
            return self._refuse(refund, refusal, refusal.code, by=by)
        except Throttled as throttled:
            return self._refuse(refund, throttled, _RATE_LIMITED, by=by)
        except KeyRejected as rejected:
            return self._refuse(refund, rejected, _KEY_REJECTED, by=by)
        return self._books.apply(refund, fact, by=by)

    def _find_at_stripe(self, refund: Refund, deadline: Deadline) -> StripeRefund | None:
        """The refund that an earlier try of this row made, if Stripe shows one."""
        return _find_made_by(refund, _known(lambda: self._intake.list(refund.payment_intent, deadline)))

    def _refresh(self, refund: Refund, deadline: Deadline, *, by: str) -> Refund:
        """Ask how a refund that Stripe knows has come on. Where it does not say, nothing changes."""
        stripe_refund_id = refund.stripe_refund_id
        if stripe_refund_id is None:
            return refund
        try:
            fact = self._gateway().retrieve(stripe_refund_id, deadline.earlier(_AFTER_STRIPE_SECONDS))
        except StripeAnswer as answer:
            decided(Decision.UNANSWERED, refund_id=refund.id, code=answer.code)
            return refund
        refreshed = self._books.apply(refund, fact, by=by)
        if refreshed is refund and refund.status is RefundStatus.SUCCEEDED:
            # Nothing new, unless a crash kept the purchases from following when it was.
            self._books.align(refund.payment_intent)
        return refreshed

    def _give_to_a_person(self, refund: Refund, *, by: str) -> Refund:
        """Too old to be sent again, and not at Stripe: no machine may decide."""
        flagged = self._books.flag(refund, UNKNOWN_TOO_LONG, by=by)
        return self._leave(refund) if flagged is refund else flagged

    def _leave(self, refund: Refund) -> Refund:
        """Give up the lease, so that the next call need not wait for its end."""
        try:
            self._ledger.release(refund)
        except DatabaseUnavailable:
            decided(Decision.LEASE_KEPT, refund_id=refund.id)
        return refund

    def _refuse(self, refund: Refund, answer: StripeAnswer, code: str, *, by: str) -> Refund:
        failure = Failure(code, answer.message)
        return self._books.refuse(refund, failure, by=by, request_id=answer.request_id)

    def _refunded_elsewhere(self, refund: Refund, refusal: Refused, deadline: Deadline, *, by: str) -> Refund:
        """Stripe has nothing left to refund: learn who had it, and let the purchases follow."""
        made = _known(lambda: self._intake.list(refund.payment_intent, deadline))
        _known(lambda: [self._intake.take_in(fact, deadline, by=by) for fact in made])
        # Where this row itself asked for one of them, it is settled by now, and no refusal moves it.
        refused = self._refuse(refund, refusal, refusal.code, by=by)
        self._books.align(refund.payment_intent)
        return refused


def _find_made_by(refund: Refund, made: Sequence[StripeRefund]) -> StripeRefund | None:
    """The refund at Stripe that a row asked for."""
    return next((fact for fact in made if fact.refund_id == refund.id), None)


def _known(ask: Callable[[], Any]) -> Any:
    """Ask Stripe something without which nothing can be concluded of a refund."""
    try:
        return ask()
    except StripeAnswer as answer:
        raise OutcomeUnknown(answer.code, answer.message, request_id=answer.request_id) from answer


def _answer(refund: Refund, purchase: Purchase) -> Outcome:
    """What the row says to the caller."""
    if refund.status.ended_unpaid:
        raise _failure(refund)
    if refund.status is RefundStatus.SUCCEEDED and purchase.status == COMPLETED:
        return Outcome(refund, {**purchase.document, "status": REFUNDED})
    return Outcome(refund, purchase.document)


def _failure(refund: Refund) -> RefundsError:
    """The answer for a refund that ended unpaid."""
    code = refund.failure.code if refund.failure else None
    errors: Mapping[str | None, type[RefundsError]] = {
        _ALREADY_REFUNDED: PurchaseNotRefundable,
        _RATE_LIMITED: StripeRateLimited,
        _KEY_REJECTED: StripeKeyRejected,
    }
    return errors.get(code, RefundFailed)(refund=refund)

"""What becomes of a fact: first the purchases, then the ledger's row, then whoever listens.

A crash between any two of them leaves the row as it was, so the same fact is applied again. Facts may come
from an answer, an event or a reconciling pass, in any order and more than once: the ladder decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import DatabaseUnavailable
from ..instrumentation import Observers
from ..log import Decision, decided
from ..models import AMOUNT_DIFFERS, Failure, Refund, RefundStatus, StripeRefund, is_refunded
from ..signals import Announcer
from ..storage.ledger import Ledger
from ..storage.purchases import Purchases

_ALIGN_TRIES = 3


class Books:
    """Keeps the ledger, the purchases and the receivers in step.

    :param observers: who is told of each change of a status, beside the receivers.
    """

    def __init__(
        self,
        ledger: Ledger,
        purchases: Purchases,
        announcer: Announcer,
        observers: Observers | None = None,
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._announcer = announcer
        self._observers = observers or Observers()

    def apply(self, refund: Refund, fact: StripeRefund, *, by: str) -> Refund:
        """Bring a row up to what Stripe says of it.

        Whoever's update moved the row speaks; one that finds the row moved already makes sure that the
        purchases follow it.

        :param by: who brought the news, for the history.
        :return: the row as it now is.
        :raises DatabaseUnavailable: 500; the same news may be applied again.
        """
        attention = AMOUNT_DIFFERS if _differs(refund, fact) else None
        if fact.status.rung <= refund.status.rung and not _revives(refund, fact):
            return self.flag(refund, attention, by=by, fact=fact) if attention else refund
        if refund.is_ours:
            self._mark_purchases(refund.payment_intent, fact.status)
        climbed = self._ledger.climb(refund.id, fact, by=by, silent=self._is_silent(), attention=attention)
        if climbed is not None:
            self._observers.refund_changed(climbed)
        if climbed is None or not refund.is_ours or fact.status.ended_unpaid:
            # Somebody else moved the row, or may have written the purchases by what it was a moment ago.
            self.align(refund.payment_intent)
        if climbed is None:
            return self._ledger.get(refund.id)
        _tell_status(Decision.STATUS, climbed, fact, by=by)
        return self.announce(climbed)

    def record(self, fact: StripeRefund, number: int, *, captured: int, by: str) -> Refund:
        """Write down a refund that was made elsewhere.

        :param captured: what its payment had received, in minor units.
        :raises NumberTaken: another call wrote this number of the log first.
        :raises DatabaseUnavailable: 500.
        """
        ids = self._purchases.ids_of(fact.payment_intent)
        silent = self._is_silent()
        recorded = self._ledger.record(
            fact, number, captured=captured, purchase_ids=ids, by=by, silent=silent
        )
        self._observers.refund_changed(recorded)
        self.align(fact.payment_intent)
        _tell_status(Decision.RECORDED, recorded, fact, by=by)
        return self.announce(recorded)

    def refuse(self, refund: Refund, failure: Failure, *, by: str, request_id: str | None) -> Refund:
        """End a refund that Stripe would not make; only by the call that owns it.

        :return: the row as it now is.
        :raises DatabaseUnavailable: 500; it may have been done.
        """
        refused = self._ledger.refuse(refund, failure, by=by, silent=self._is_silent(), request_id=request_id)
        if refused is None:
            return self._ledger.get(refund.id)
        self._observers.refund_changed(refused)
        decided(Decision.REFUSED, refund_id=refund.id, code=failure.code, by=by, stripe_request_id=request_id)
        return self.announce(refused)

    def give_up(self, refund: Refund, *, by: str, why: str) -> Refund | None:
        """End, on a person's word, a refund of which nobody else could say how it ended.

        :return: the row as it now is, or ``None`` where it asks for nobody, or is being worked on.
        :raises DatabaseUnavailable: 500; it may have been done.
        """
        given_up = self._ledger.give_up(refund, by=by, why=why, silent=self._is_silent())
        if given_up is None:
            return None
        self._observers.refund_changed(given_up)
        return self.announce(given_up)

    def flag(self, refund: Refund, why: str, *, by: str, fact: StripeRefund | None = None) -> Refund:
        """Ask for a person, once.

        :param fact: what Stripe shows, where that is the reason.
        :return: the row as it now is.
        :raises DatabaseUnavailable: 500.
        """
        flagged = self._ledger.ask_for_attention(refund, why, by=by, silent=self._is_silent(), fact=fact)
        if flagged is None:
            return refund
        _tell_attention(flagged)
        return self.announce(flagged)

    def announce(self, refund: Refund) -> Refund:
        """Tell the receivers of a row's present state, unless they have heard of it.

        :return: the row as it now is.
        """
        if refund.announced or not self._announcer.announce(refund):
            return refund
        try:
            self._ledger.mark_announced(refund)
        except DatabaseUnavailable:
            decided(Decision.TOLD_AGAIN, refund_id=refund.id)
            return refund
        return replace(refund, announced=True)

    def check(self, refund: Refund) -> None:
        """Make sure that the purchases follow a row; see :attr:`Refund.checked`.

        Only when no call that read the row before its last change can still be under way: such a call may yet
        write the purchases, and die before it looks at the row again.

        :raises DatabaseUnavailable: 500; the row stays to be checked.
        """
        # Where Stripe never showed a refund, no purchase followed it: what the host marked is the host's.
        followed = refund.status is RefundStatus.SUCCEEDED or (
            refund.status.ended_unpaid and refund.stripe_refund_id is not None
        )
        if not followed or self.align(refund.payment_intent):
            self._ledger.mark_checked(refund)

    def align(self, payment_intent: str) -> bool:
        """Make the purchases follow the log; again, if the log changed meanwhile.

        :return: whether they do; not while a call may be about to change both.
        :raises DatabaseUnavailable: 500.
        """
        log = self._ledger.read_log(payment_intent)
        for _ in range(_ALIGN_TRIES):
            if is_refunded(log):
                self._purchases.mark_refunded(payment_intent)
            elif any(refund.status is RefundStatus.PROCESSING for refund in log):
                # Its owner writes the purchases before the row, and may just have.
                return False
            else:
                self._purchases.mark_completed(payment_intent)
            seen, log = log, self._ledger.read_log(payment_intent)
            if _statuses(seen) == _statuses(log):
                return True
        return False

    def _mark_purchases(self, payment_intent: str, status: RefundStatus) -> None:
        """Let the purchases follow a refund of ours, which is for all that its payment has left."""
        if status is RefundStatus.SUCCEEDED:
            self._purchases.mark_refunded(payment_intent)
        elif status.ended_unpaid:
            self._purchases.mark_completed(payment_intent)

    def _is_silent(self) -> bool:
        return not self._announcer.has_listeners()


def _revives(refund: Refund, fact: StripeRefund) -> bool:
    """Whether Stripe shows a refund that we had given up as failed without ever seeing it."""
    return refund.status.ended_unpaid and refund.stripe_refund_id is None and not fact.status.ended_unpaid


def _differs(refund: Refund, fact: StripeRefund) -> bool:
    """Whether Stripe shows another amount or currency than it did before, or has."""
    if refund.attention is not None and refund.attention.why == AMOUNT_DIFFERS:
        return True
    return refund.amount is not None and (refund.amount, refund.currency) != (fact.amount, fact.currency)


def _tell_status(decision: Decision, refund: Refund, fact: StripeRefund, *, by: str) -> None:
    decided(
        decision,
        refund_id=refund.id,
        status=refund.status.value,
        code=refund.failure.code if refund.failure else None,
        amount=refund.amount,
        currency=refund.currency,
        by=by,
        stripe_refund_id=fact.id,
        stripe_request_id=fact.request_id,
    )
    _tell_attention(refund)


def _tell_attention(refund: Refund) -> None:
    if refund.attention is not None:
        decided(Decision.ATTENTION, refund_id=refund.id, status=refund.status.value, why=refund.attention.why)


def _statuses(log: Sequence[Refund]) -> list[RefundStatus]:
    return [refund.status for refund in log]

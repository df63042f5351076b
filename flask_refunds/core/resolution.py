"""Resolve refunds that need manual review, by a person's decision."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..clock import CALL_SECONDS, Deadline
from ..errors import DatabaseUnavailable, NothingToResolve, RefundInProgress, StripeCallError
from ..log import LogEvent, log_event
from ..models import RefundRecord, RefundRequest, RefundStatus, Source, id_text
from ..storage.ledger import Ledger
from ..storage.purchases import Purchases
from .results import RefundResult
from .service import UNREADABLE_REFUND, RefundService
from .transitions import RefundTransitions


@dataclass(frozen=True, slots=True)
class Person:
    """Who decides, where, and what they found; for the refund's history."""

    name: str
    source: Source
    comment: str

    @property
    def actor(self) -> str:
        """As stored in the history: ``cli:ann``, ``api:64b5f2c8…``."""
        return f"{self.source}:{self.name}"


class ManualReview:
    """Applies decisions, and stores in the ledger who made them and why."""

    def __init__(
        self,
        ledger: Ledger,
        purchases: Purchases,
        transitions: RefundTransitions,
        service: RefundService,
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._transitions = transitions
        self._service = service

    def fail(self, refund_id: str, person: Person, *, checked: bool = False) -> RefundRecord:
        """Close the review of a refund from which the customer received nothing, and mark it as failed.

        If its outcome is unknown, Stripe is asked whether it shows the refund.

        :param checked: whether the person saw in Stripe's Dashboard that it isn't there. This decides if
            Stripe can't be read.
        :raises NothingToResolve: 400; also if the refund succeeded, or Stripe shows it now.
        :raises DatabaseUnavailable: 500.
        """
        refund = self._find(refund_id)
        if refund.status is RefundStatus.PROCESSING:
            return self._give_up(refund, person, checked=checked)
        if not refund.status.is_failed_or_canceled:
            raise NothingToResolve(f"{refund_id} is {refund.status.value} at Stripe, not failed.")
        return self.dismiss(refund_id, person)

    def _give_up(
        self, refund: RefundRecord, person: Person, *, checked: bool, keep_review: bool = False
    ) -> RefundRecord:
        self._require_absent(refund, actor=person.actor, checked=checked)
        failed = self._transitions.mark_failed_manually(
            refund, actor=person.actor, comment=person.comment, keep_review=keep_review
        )
        return _closed(failed, refund.id, actor=person.actor)

    def _require_absent(self, refund: RefundRecord, *, actor: str, checked: bool) -> None:
        """Refuse to give up a refund that Stripe has made, or may still make.

        The order matters: no call has worked on it for a minute, then Stripe doesn't list it, and then it is
        marked, if no call has worked on it since.
        """
        if not self._ledger.is_idle(refund):
            raise NothingToResolve(f"A call worked on {refund.id} in the last minute. Try again in a minute.")
        try:
            shown = self._service.look_up(refund, actor=actor)
        except StripeCallError as error:
            if checked and error.code != UNREADABLE_REFUND:
                return
            raise NothingToResolve(
                f"Stripe doesn't tell whether it made {refund.id} ({error.code}). Nothing was changed. "
                'If its Dashboard doesn\'t show this refund, decide again, with --checked or "checked": true.'
            ) from error
        if shown.status is not RefundStatus.PROCESSING:
            raise NothingToResolve(
                f"Stripe shows {refund.id} as {shown.status.value}, and the record now does, too. "
                "It wasn't marked as failed."
            )

    def dismiss(self, refund_id: str, person: Person) -> RefundRecord:
        """Close the review of a refund that needs no change.

        :raises NothingToResolve: 400; also if the refund's outcome is unknown.
        :raises DatabaseUnavailable: 500.
        """
        refund = self._find(refund_id)
        if refund.status is RefundStatus.PROCESSING:
            raise NothingToResolve(f"The outcome of {refund_id} is unknown. Mark it as failed, or retry it.")
        dismissed = self._ledger.dismiss(refund, actor=person.actor, comment=person.comment)
        return _closed(dismissed, refund_id, actor=person.actor)

    def retry(self, refund_id: str, person: Person, *, checked: bool = False) -> RefundResult:
        """Refund again, under the next number, and close the review once Stripe has accepted that refund.

        :param checked: as in :meth:`fail`.
        :raises NothingToResolve: 400; also if the refund didn't fail, or its purchase has another
            payment now.
        :raises RefundInProgress: 409; another call's refund of this payment has an unknown outcome.
        :raises RefundsError: as :meth:`RefundService.refund` does.
        """
        refund = self._find(refund_id)
        purchase_id = self._purchase_to_retry(refund)
        request = RefundRequest(
            person.name,
            person.source,
            refund.reason,
            note=person.comment,
            bulk_run=refund.bulk_run,
            instructions_email=refund.request.get("instructions_email"),
        )
        if refund.status is RefundStatus.PROCESSING:
            self._give_up(refund, person, checked=checked, keep_review=True)
        if refund.part is not None:
            refunds = self._ledger.list_for_payment(refund.payment_intent)
            part = self._service.partial.repeat(refund, refunds, Deadline.after(CALL_SECONDS))
            request = replace(request, part=part)
        result = self._service.refund(purchase_id, request)
        is_unknown = result.refund.status is RefundStatus.PROCESSING
        # A refund that another call made doesn't keep this decision, unless giving up has stored it.
        is_other = result.refund.note != person.comment and refund.status is not RefundStatus.PROCESSING
        if is_unknown and is_other:
            raise RefundInProgress(refund=result.refund)
        with suppress(DatabaseUnavailable):  # money may have moved, so the answer isn't an error
            current = self._ledger.get(refund_id)
            if current.review is None and is_other:
                raise NothingToResolve(f"Another call refunded {refund_id} again, as {result.refund.id}.")
            if current.review is not None and not is_unknown:
                self._ledger.dismiss(current, actor=person.actor, comment=person.comment)
        return result

    def _purchase_to_retry(self, refund: RefundRecord) -> Any:
        """Return the purchase to refund again, which must be completed and still have this payment."""
        if not refund.purchase_ids:
            raise NothingToResolve(f"{refund.id} has no purchase.")
        if not (refund.status is RefundStatus.PROCESSING or refund.status.is_failed_or_canceled):
            raise NothingToResolve(f"{refund.id} is {refund.status.value} at Stripe, not failed.")
        purchase_id = refund.purchase_ids[0]
        purchase = self._purchases.find(purchase_id)
        name = f"Purchase {id_text(purchase_id)}"
        if purchase is None:
            raise NothingToResolve(f"{name} no longer exists. Nothing was refunded.")
        if purchase.payment_intent != refund.payment_intent:
            raise NothingToResolve(f"{name} has another payment now. Nothing was refunded.")
        return purchase_id

    def _find(self, refund_id: str) -> RefundRecord:
        refund = self._ledger.find(refund_id)
        if refund is None:
            raise NothingToResolve(f"There is no refund {refund_id}.")
        if refund.review is None:
            raise NothingToResolve(f"{refund_id} is {refund.status.value} and doesn't need review.")
        return refund


def _closed(refund: RefundRecord | None, refund_id: str, *, actor: str) -> RefundRecord:
    if refund is None:
        raise NothingToResolve(f"{refund_id} is in progress or has just changed. Look at it again.")
    log_event(LogEvent.REFUND_RESOLVED, refund_id=refund_id, status=refund.status.value, actor=actor)
    return refund

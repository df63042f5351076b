"""The ledger: one collection with the refund records of each payment intent.

The number is the lock: ``_id`` is ``<payment_intent>:<number>``, so two calls that insert the same number
meet MongoDB's unique index on ``_id``, on any number of machines. A caller inserts number n+1 only after
reading that no refund up to n has an unknown outcome, and, if one of them didn't fail, then at Stripe that
something is left of the payment. Any refund that another call creates meanwhile takes that number. An
external refund has Stripe's ID in place of the number, so any number of calls can record it.

Records are never deleted. They change only by conditional updates, each of which names the state it requires.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from bson import Timestamp
from pymongo.errors import AutoReconnect, DuplicateKeyError

from ..errors import RecordUnreadable
from ..models import (
    Failure,
    Mark,
    RefundRecord,
    RefundRequest,
    RefundStatus,
    ReviewCode,
    Source,
    StripeRefund,
    payment_parameter,
)
from ..refund_details import details_document
from .connection import OPERATION_SECONDS, REPORT_SECONDS, Collection, database_timeout
from .ledger_notes import LedgerNotes, read_again, same_version
from .refund_documents import (
    failure_document,
    mark_documents,
    part_document,
    payment_range,
    read_payment,
    read_record,
    read_records,
)

_IN_FLIGHT = timedelta(minutes=1)
"""How long after a lease a request of its call may still arrive at Stripe, or be missing in a list."""


class NumberTaken(Exception):
    """Another call inserted this number of the payment first."""


class Ledger(LedgerNotes):
    """The refund records of one app.

    :param collection: with majority read and write concern, journaled.
    :param clock: returns the aware UTC time in whole milliseconds, as MongoDB stores it.
    :param lease: how long a call holds a record before another call may work on it.
    :param has_listeners: returns whether signals must be sent after a change.
    """

    def __init__(
        self,
        collection: Collection,
        clock: Callable[[], datetime],
        lease: timedelta,
        has_listeners: Callable[[], bool],
    ) -> None:
        super().__init__(collection, clock)
        self._lease = lease
        self._has_listeners = has_listeners

    def list_for_payment(self, payment_intent: str) -> list[RefundRecord]:
        """Return every refund of a payment intent, oldest first, each refund at Stripe once.

        :raises RecordUnreadable: 500; one of its records can't be read, so nothing may be decided.
        :raises DatabaseUnavailable: 500.
        """
        return read_payment(self._find_for_payments([payment_intent])[payment_intent])[0]

    def list_for_payments(self, payment_intents: Iterable[str]) -> dict[str, list[RefundRecord] | None]:
        """Return the refunds of these payment intents, by payment intent, as :meth:`list_for_payment` does.

        :param payment_intents: some hundreds at most.
        :return: ``None`` for a payment with a record that can't be read.
        :raises DatabaseUnavailable: 500.
        """
        found: dict[str, list[RefundRecord] | None] = {}
        for payment_intent, documents in self._find_for_payments(payment_intents).items():
            try:
                found[payment_intent] = read_payment(documents)[0]
            except RecordUnreadable:
                found[payment_intent] = None
        return found

    def hide_duplicates(self, payment_intent: str) -> list[RefundRecord]:
        """List a payment's refunds, and leave what this list leaves out also out of searches and reports.

        :raises DatabaseUnavailable: 500.
        """
        documents = self._find_for_payments([payment_intent])[payment_intent]
        refunds, duplicates = read_payment(documents)
        for duplicate, original in duplicates.items():
            with database_timeout():
                self._records.update_one(
                    {"_id": duplicate, "duplicateOf": {"$ne": original}},
                    {"$set": {"duplicateOf": original}, **self._changed_now},
                )
        return refunds

    def _find_for_payments(self, payment_intents: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {each: [] for each in payment_intents}
        if not found:
            return found
        ranges = [{"_id": payment_range(each)} for each in found]
        query, seconds = (
            ({"$or": ranges}, REPORT_SECONDS) if len(found) > 1 else (ranges[0], OPERATION_SECONDS)
        )
        with database_timeout(seconds):
            for document in self._records.find(query):
                found[document["_id"].partition(":")[0]].append(document)
        return found

    def get(self, refund_id: str) -> RefundRecord:
        """Return one refund.

        :raises KeyError: it doesn't exist.
        :raises DatabaseUnavailable: 500.
        """
        refund = self.find(refund_id)
        if refund is None:
            raise KeyError(refund_id)
        return refund

    def find(self, refund_id: str) -> RefundRecord | None:
        """Return one refund, or ``None`` if it doesn't exist or can't be read.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            document = self._records.find_one({"_id": refund_id})
        return next(read_records([document] if document else []), None)

    def create(
        self,
        payment_intent: str,
        number: int,
        *,
        purchase_ids: Sequence[Any],
        to_mark: Sequence[Mark],
        request: RefundRequest,
        references: Sequence[str] = (),
        stripe_account: str | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> RefundRecord:
        """Store that a refund is about to be requested from Stripe, and acquire its lease.

        :param to_mark: those of its purchases that are to be marked as refunded when it succeeds.
        :param references: what else than the payment's ID its purchases hold.
        :param stripe_account: the connected account that has the payment.
        :param options: further parameters of the request.
        :raises NumberTaken: another call was first.
        :raises DatabaseUnavailable: 500; it may have been stored, and nothing was sent to Stripe.
        """
        refund_id = f"{payment_intent}:{number}"
        parameters: dict[str, Any] = {
            payment_parameter(payment_intent): payment_intent,
            "metadata": {"refund_id": f"{refund_id}:{secrets.token_hex(8)}"},
            "expand": ["charge"],
        }
        if request.reason is not None:
            parameters["reason"] = request.reason
        parameters.update(options)
        if request.instructions_email is not None:
            parameters["instructions_email"] = request.instructions_email
        entry = {"actor": request.actor}
        document = self._new_document(
            refund_id, payment_intent, request.source, RefundStatus.PROCESSING, entry
        ) | {
            "number": number,
            "purchaseIds": list(purchase_ids),
            "marks": mark_documents(to_mark),
            "reason": request.reason,
            "note": request.note,
            "requestedBy": request.requested_by,
            "request": parameters,
            "leaseToken": secrets.token_hex(16),
            "attempts": 1,
        }
        document["leaseExpiresAt"] = document["createdAt"] + self._lease
        if request.part is not None:
            parameters["amount"] = request.part.amount
            document["part"] = part_document(request.part)
        if references:
            document["references"] = list(references)
        if stripe_account is not None:
            document["stripeAccount"] = stripe_account
        if request.bulk_run is not None:
            document["bulkRun"] = request.bulk_run  # otherwise absent, for the partial index
        if not self._insert(document):
            raise NumberTaken(refund_id)
        return read_record(document)

    def record_external(
        self, stripe_refund: StripeRefund, *, purchase_ids: Sequence[Any], actor: str
    ) -> RefundRecord | None:
        """Store a refund that was made elsewhere.

        :param actor: what found it, for the history.
        :return: its record, or ``None`` if it was stored before.
        :raises DatabaseUnavailable: 500.
        """
        refund_id = f"{stripe_refund.payment_intent}:{stripe_refund.id}"
        entry = {"actor": actor, "stripeRequestId": stripe_refund.request_id}
        document = self._new_document(
            refund_id, stripe_refund.payment_intent, "external", stripe_refund.status, entry
        ) | {
            "purchaseIds": list(purchase_ids),
            "signalsSent": not self._has_listeners(),
            **self._changes_from_stripe(stripe_refund),
        }
        if stripe_refund.status.is_settled:
            document["settledAt"] = document["createdAt"]  # as in its history
        if stripe_refund.stripe_account is not None:
            document["stripeAccount"] = stripe_refund.stripe_account
        return read_record(document) if self._insert(document) else None

    def find_accounts(self) -> list[str]:
        """Return the connected accounts of all refunds.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout(REPORT_SECONDS):
            return list(self._records.distinct("stripeAccount", {"stripeAccount": {"$exists": True}}))

    def has_account(self, account: str) -> bool:
        """Return whether a refund is of this connected account.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            return self._records.find_one({"stripeAccount": account}, {"_id": 1}) is not None

    def _new_document(
        self,
        refund_id: str,
        payment_intent: str,
        source: Source,
        status: RefundStatus,
        entry: Mapping[str, Any],
    ) -> dict[str, Any]:
        now = self._clock()
        return {
            "_id": refund_id,
            "paymentIntent": payment_intent,
            "number": None,
            "source": source,
            "status": status.value,
            "createdAt": now,
            "updatedAt": now,
            "changedAt": Timestamp(0, 0),  # MongoDB stores its own time
            "lookedAt": now,
            "leaseExpiresAt": now,
            "signalsSent": True,
            "purchasesVerified": status is RefundStatus.PROCESSING,
            "history": [{"at": now, "status": status.value, **entry}],
        }

    def _insert(self, document: dict[str, Any]) -> bool:
        """Insert a record, unless its ID exists. If the answer to a first attempt was lost, recognize it."""
        with database_timeout():
            try:
                try:
                    self._records.insert_one(document)
                except AutoReconnect:
                    self._records.insert_one(document)
            except DuplicateKeyError:
                found = self._records.find_one({"_id": document["_id"]})
                token = document.get("leaseToken")
                return token is not None and found is not None and found.get("leaseToken") == token
        return True

    def acquire_lease(self, refund: RefundRecord) -> RefundRecord | None:
        """Acquire the lease of an unfinished refund, unless another call holds it.

        :return: the refund as it is now, or ``None``.
        :raises DatabaseUnavailable: 500.
        """
        now = self._clock()
        return self._update(
            {"_id": refund.id, "status": RefundStatus.PROCESSING.value, "leaseExpiresAt": {"$lte": now}},
            {
                "$set": {"leaseToken": secrets.token_hex(16), "leaseExpiresAt": now + self._lease},
                "$inc": {"attempts": 1},
            },
        )

    def release_lease(self, refund: RefundRecord) -> None:
        """Let other calls work on an unfinished refund immediately.

        :raises DatabaseUnavailable: 500; they must wait until the lease expires.
        """
        with database_timeout():
            self._records.update_one(
                {"_id": refund.id, "leaseToken": refund.lease_token, "status": RefundStatus.PROCESSING.value},
                {"$set": {"leaseExpiresAt": self._clock()}},
            )

    def holds_lease(self, refund: RefundRecord) -> bool:
        """Return whether the lease that this refund shows hasn't expired."""
        return self._clock() < refund.lease_expires_at

    def is_idle(self, refund: RefundRecord) -> bool:
        """Return whether the lease that this refund shows has been over for at least a minute."""
        return self._clock() - refund.lease_expires_at >= _IN_FLIGHT

    def advance(
        self,
        refund: RefundRecord,
        stripe_refund: StripeRefund,
        *,
        actor: str,
        review: ReviewCode | None,
        forget_marks: bool = False,
    ) -> RefundRecord | None:
        """Store what Stripe shows of a refund, if its record hasn't changed since it was read.

        :param stripe_refund: read at Stripe after the record was read.
        :param actor: what brought it, for the history.
        :param review: requests a review; without it, an open one is closed.
        :param forget_marks: whether it marked no purchase, so that any mark is the app's own.
        :return: the refund as it is now, or ``None`` if it has changed meanwhile.
        :raises DatabaseUnavailable: 500; it may be stored.
        """
        changes = (
            self._changes_from_stripe(stripe_refund) | {"review": self._review(review)} | read_again(refund)
        )
        if forget_marks:
            changes["marks"] = []
        entry = {
            "status": stripe_refund.status.value,
            "actor": actor,
            "stripeRequestId": stripe_refund.request_id,
            "review": review and review.value,
        }
        return self._change(refund.id, same_version(refund), changes, entry)

    def mark_rejected(
        self, refund: RefundRecord, failure: Failure, *, actor: str, request_id: str | None
    ) -> RefundRecord | None:
        """Mark a refund that Stripe rejected as failed, if this call still holds its lease.

        :return: the refund as it is now, or ``None`` if it didn't move.
        :raises DatabaseUnavailable: 500; it may have moved.
        """
        required = {"status": RefundStatus.PROCESSING.value, "leaseToken": refund.lease_token}
        entry = {"actor": actor, "stripeRequestId": request_id, "failureCode": failure.code}
        return self._fail(refund, required, failure, entry)

    def mark_failed_manually(
        self, refund: RefundRecord, *, actor: str, comment: str, keep_review: bool = False
    ) -> RefundRecord | None:
        """Mark a refund with an unknown outcome as failed, because a person found that it wasn't made.

        :param comment: the person's findings, for the history.
        :return: the refund as it is now, or ``None`` if it has changed, or a call worked on it since or less
            than a minute before.
        :raises DatabaseUnavailable: 500; it may have moved.
        """
        if not self.is_idle(refund):
            return None
        required = {
            "status": RefundStatus.PROCESSING.value,
            "review": {"$ne": None},
            "stripeRefundId": None,
            "leaseExpiresAt": refund.lease_expires_at,
            **same_version(refund),
        }
        failure = Failure("marked_failed", "A person found that Stripe didn't make this refund.")
        entry = {"actor": actor, "comment": comment}
        return self._fail(refund, required, failure, entry, keep_review=keep_review)

    def _fail(
        self,
        refund: RefundRecord,
        required: Mapping[str, Any],
        failure: Failure,
        entry: Mapping[str, Any],
        *,
        keep_review: bool = False,
    ) -> RefundRecord | None:
        status = RefundStatus.FAILED.value
        changes: dict[str, Any] = {"status": status, "failure": failure_document(failure)}
        changes["settledAt"] = self._clock()
        if not keep_review:
            changes["review"] = None
        return self._change(refund.id, required, changes, {"status": status, **entry})

    def request_review(
        self, refund: RefundRecord, code: ReviewCode, *, actor: str, stripe_refund: StripeRefund | None = None
    ) -> RefundRecord | None:
        """Request a review of a refund, unless one is open.

        Whether Stripe made a refund is the more exact question once Stripe can be read again.

        :param stripe_refund: what Stripe shows, if that is the reason. The record takes its amount, so that
            the same difference doesn't cause another review later.
        :return: the refund as it is now, or ``None`` if a review was open or the refund has moved.
        :raises DatabaseUnavailable: 500.
        """
        replaced = [None, ReviewCode.UNREADABLE_AT_STRIPE.value]
        is_more_exact = code is ReviewCode.UNKNOWN_TOO_LONG
        review = {"review.code": {"$in": replaced}} if is_more_exact else {"review": None}
        required = {"status": refund.status.value, **review}
        entry: dict[str, Any] = {"status": refund.status.value, "actor": actor, "review": code.value}
        changes: dict[str, Any] = {"review": self._review(code)}
        if stripe_refund is not None:
            changes |= {"amount": stripe_refund.amount, "currency": stripe_refund.currency}
            entry |= {"stripeRequestId": stripe_refund.request_id, "previousAmount": refund.amount}
        return self._change(refund.id, required, changes, entry)

    def dismiss(self, refund: RefundRecord, *, actor: str, comment: str) -> RefundRecord | None:
        """Close the review of a refund that has ended.

        :param comment: the person's findings, for the history.
        :return: the refund as it is now, or ``None`` if it hasn't ended, or has changed since it was read.
        :raises DatabaseUnavailable: 500; it may be closed.
        """
        required = {
            "status": {"$ne": RefundStatus.PROCESSING.value},
            "review": {"$ne": None},
            **same_version(refund),
        }
        entry = {"status": refund.status.value, "actor": actor, "comment": comment}
        changes = {"review": None, "signalsSent": refund.signals_sent} | read_again(refund)
        return self._change(refund.id, required, changes, entry)

    def _changes_from_stripe(self, stripe_refund: StripeRefund) -> dict[str, Any]:
        changes: dict[str, Any] = {
            "status": stripe_refund.status.value,
            "stripeRefundId": stripe_refund.id,
            "amount": stripe_refund.amount,
            "amountCaptured": stripe_refund.amount_captured,
            "currency": stripe_refund.currency,
            "charge": stripe_refund.charge,
            "livemode": stripe_refund.livemode,
            "settledAt": self._clock() if stripe_refund.status.is_settled else None,
            "failure": failure_document(stripe_refund.failure),
            "details": details_document(stripe_refund.details),
        }
        if stripe_refund.reason is not None:
            changes["reason"] = stripe_refund.reason
        return changes

    def _review(self, code: ReviewCode | None) -> dict[str, Any] | None:
        return {"code": code.value, "since": self._clock()} if code else None

    def _change(
        self,
        refund_id: str,
        required: Mapping[str, Any],
        changes: Mapping[str, Any],
        entry: Mapping[str, Any],
    ) -> RefundRecord | None:
        """Change a record that is in the required state, and add an entry to its history.

        If it is settled by this, its entry has the same time, so that every former ``settledAt`` is known.
        """
        now = self._clock()
        settled = {"settledAt": now} if changes.get("settledAt") else {}
        flags = {
            "updatedAt": now,
            "leaseExpiresAt": now,
            "signalsSent": not self._has_listeners(),
            "purchasesVerified": False,
        }
        return self._update(
            {"_id": refund_id, **required},
            {
                "$set": {**flags, **changes, **settled},
                "$push": {"history": {"at": now, **entry}},
                **self._changed_now,
            },
        )

"""What is stored about a refund record while its status stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pymongo.collection
from pymongo import ReturnDocument

from ..models import Mark, RefundRecord
from ..refund_details import RefundDetails, details_document
from .connection import Collection, database_timeout
from .refund_documents import mark_documents, read_record

_UNWRITTEN_FOR = timedelta(minutes=10)
"""How long writes to a refund's purchases may fail, before the refund needs review."""


_CHANGED_NOW: Mapping[str, Any] = {"$currentDate": {"changedAt": {"$type": "timestamp"}}}
"""The update that stores the server's time of a change, by which reports find it."""


class LedgerNotes:
    """Stores what calls and passes note for those that follow.

    :param collection: with majority read and write concern, journaled.
    :param clock: returns the aware UTC time in whole milliseconds, as MongoDB stores it.
    """

    def __init__(self, collection: Collection, clock: Callable[[], datetime]) -> None:
        self._records = collection
        self._clock = clock
        # mongomock has no such times.
        self._changed_now = _CHANGED_NOW if isinstance(collection, pymongo.collection.Collection) else {}

    def mark_unread(self, refund: RefundRecord) -> None:
        """Store that Stripe doesn't return an open refund from now on.

        :raises DatabaseUnavailable: 500.
        """
        query = {"_id": refund.id, "status": refund.status.value}
        with database_timeout():
            self._records.update_one(query, {"$set": {"unreadSince": self._clock()}})

    def mark_doubtful(self, refund: RefundRecord) -> None:
        """Store that a later pass must read a settled refund again at Stripe.

        :raises DatabaseUnavailable: 500.
        """
        now = self._clock()
        self._set(refund, {"unreadSince": now, "lookedAt": now, "purchasesVerified": False})

    def mark_unwritten(self, refund: RefundRecord) -> bool:
        """Store that the refund's purchases can't be written, and return whether that lasts too long.

        :raises DatabaseUnavailable: 500.
        """
        if refund.unwritten_since is not None:
            return self._clock() - refund.unwritten_since >= _UNWRITTEN_FOR
        self._set(refund, {"unwrittenSince": self._clock()})
        return False

    def mark_written(self, refund: RefundRecord) -> None:
        """Store that the refund's purchases can be written again.

        :raises DatabaseUnavailable: 500.
        """
        if refund.unwritten_since is not None:
            self._set(refund, {"unwrittenSince": None})

    def _set(self, refund: RefundRecord, changes: Mapping[str, Any]) -> None:
        with database_timeout():
            self._records.update_one({"_id": refund.id}, {"$set": changes})

    def mark_read(self, refund: RefundRecord) -> None:
        """Store that Stripe returned a refund.

        :raises DatabaseUnavailable: 500.
        """
        if changes := read_again(refund):
            self._set(refund, changes)

    def add_marks(self, refund: RefundRecord, marks: Sequence[Mark]) -> None:
        """Store that these purchases are about to be marked as refunded.

        :raises DatabaseUnavailable: 500; nothing may be marked.
        """
        with database_timeout():
            self._records.update_one(
                {"_id": refund.id},
                {"$addToSet": {"marks": {"$each": mark_documents(marks)}}, **self._changed_now},
            )

    def remove_marks(self, refunds: Iterable[RefundRecord], purchase_ids: Sequence[Any]) -> None:
        """Store that these refunds don't mark these purchases any more. Newer ones may, and changed ones.

        :raises DatabaseUnavailable: 500; they still count as marked.
        """
        removed = {"$in": list(purchase_ids)}
        unchanged = [{"_id": each.id, **same_version(each)} for each in refunds]
        with database_timeout():
            self._records.update_many(
                {"$or": unchanged, "marks.purchaseId": removed},
                {"$pull": {"marks": {"purchaseId": removed}}},
            )

    def mark_signals_sent(self, refund: RefundRecord) -> None:
        """Store that every receiver has handled the refund in this state.

        :raises DatabaseUnavailable: 500; they will be called again.
        """
        self._set_flag(refund, "signalsSent", {})

    def mark_purchases_verified(self, refund: RefundRecord) -> None:
        """Store that the purchases match the refund in this state, and when: they may have been written.

        :raises DatabaseUnavailable: 500; they will be verified again.
        """
        self._set_flag(refund, "purchasesVerified", self._changed_now)

    def _set_flag(self, refund: RefundRecord, flag: str, changes: Mapping[str, Any]) -> None:
        with database_timeout():
            self._records.update_one(
                {"_id": refund.id, **same_version(refund)}, {"$set": {flag: True}, **changes}
            )

    def update_details(self, refund: RefundRecord, details: RefundDetails, *, actor: str) -> RefundRecord:
        """Store what else Stripe tells of a refund, if its record hasn't changed since it was read.

        The status stays, so no signal is sent.

        :param details: read at Stripe after the record was read.
        :return: the refund as it is now.
        :raises DatabaseUnavailable: 500; it may be stored.
        """
        known, shown = details_document(refund.details), details_document(details)
        if known == shown:
            return refund
        now = self._clock()
        news = {name: value for name, value in shown.items() if known.get(name) != value}
        entry = {"at": now, "status": refund.status.value, "actor": actor, "details": news}
        changes = {"details": shown, "updatedAt": now}
        update = {"$set": changes, "$push": {"history": entry}}
        return self._update({"_id": refund.id, **same_version(refund)}, update) or refund

    def note_cancellation(self, refund: RefundRecord, *, actor: str, comment: str) -> RefundRecord | None:
        """Store that a person is about to cancel a refund.

        :return: the refund as it is now, or ``None`` if it has changed since it was read.
        :raises DatabaseUnavailable: 500; it may be stored.
        """
        now = self._clock()
        entry = {"at": now, "status": refund.status.value, "actor": actor}
        entry |= {"decision": "cancel", "comment": comment}
        update = {"$set": {"updatedAt": now}, "$push": {"history": entry}}
        return self._update({"_id": refund.id, **same_version(refund)}, update)

    def _update(self, required: Mapping[str, Any], update: Mapping[str, Any]) -> RefundRecord | None:
        with database_timeout():
            document = self._records.find_one_and_update(
                required, update, return_document=ReturnDocument.AFTER
            )
        return read_record(document) if document else None


def read_again(refund: RefundRecord) -> dict[str, Any]:
    """Return the change of a record that Stripe returned again. The field exists only after a failure."""
    return {} if refund.unread_since is None else {"unreadSince": None}


def same_version(refund: RefundRecord) -> dict[str, Any]:
    """Require a record to be unchanged since it was read: every change adds to the history."""
    return {"history": {"$size": len(refund.history)}}

"""Our own collection: per payment intent, a numbered log of its refunds.

The number is the lock: ``_id`` is ``<payment_intent>:<number>``, so two calls that race to write the same
number meet MongoDB's own unique index, on any number of machines. Number n+1 is written only by a caller who
has read that no refund of ours up to n is alive, and a refund that ended unpaid stays so, so the view that he
acts on cannot grow false.

No row is ever deleted. A row changes only by conditional updates, each of which says what it needs to find.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import AutoReconnect, DuplicateKeyError

from ..models import (
    _WHAT_TO_DO,
    FAILED_AFTER_SUCCESS,
    FOUND_AFTER_FAILURE,
    Failure,
    Reason,
    Refund,
    RefundStatus,
    Source,
    StripeRefund,
    doer,
)
from .connection import REPORT_SECONDS, Collection, operation
from .refund_documents import ASKS_FOR_A_PERSON, failure_document, log_span, read_row


class NumberTaken(Exception):
    """Another call wrote this number of the log first."""


class Ledger:
    """The log, for one app.

    :param collection: majority read and write concern, journaled.
    :param clock: the aware UTC time, in whole milliseconds, as MongoDB keeps it.
    :param lease: how long a call owns a row before another may work on it.
    """

    def __init__(self, collection: Collection, clock: Callable[[], datetime], lease: timedelta) -> None:
        self._rows = collection
        self._clock = clock
        self._lease = lease

    def read_log(self, payment_intent: str) -> list[Refund]:
        """Every refund of a payment intent, by number.

        :raises DatabaseUnavailable: 500.
        """
        with operation():
            rows = list(self._rows.find({"_id": log_span(payment_intent)}))
        return sorted((read_row(row) for row in rows), key=lambda refund: refund.number)

    def read_logs(self, payment_intents: Iterable[str]) -> dict[str, list[Refund]]:
        """Every refund of these payment intents, by payment intent and then by number.

        :param payment_intents: some hundreds at most.
        :raises DatabaseUnavailable: 500.
        """
        logs: dict[str, list[Refund]] = {each: [] for each in payment_intents}
        if not logs:
            return logs
        spans = [{"_id": log_span(each)} for each in logs]
        with operation(REPORT_SECONDS):
            for row in self._rows.find({"$or": spans}):
                logs[row["paymentIntent"]].append(read_row(row))
        for log in logs.values():
            log.sort(key=lambda refund: refund.number)
        return logs

    def get(self, refund_id: str) -> Refund:
        """One row.

        :raises KeyError: there is none.
        :raises DatabaseUnavailable: 500.
        """
        refund = self.find(refund_id)
        if refund is None:
            raise KeyError(refund_id)
        return refund

    def find(self, refund_id: str) -> Refund | None:
        """One row, or ``None``.

        :raises DatabaseUnavailable: 500.
        """
        with operation():
            row = self._rows.find_one({"_id": refund_id})
        return read_row(row) if row else None

    def open(
        self,
        payment_intent: str,
        number: int,
        *,
        purchase_ids: Sequence[Any],
        reason: Reason | None,
        note: str | None,
        requested_by: str | None,
        source: Source,
        bulk: str | None = None,
    ) -> Refund:
        """Write down that a refund is about to be asked for, and own it for a lease.

        :param bulk: the name of the bulk run that asks.
        :raises NumberTaken: another call was first.
        :raises DatabaseUnavailable: 500; it may have been written, and nobody has asked Stripe.
        """
        refund_id = f"{payment_intent}:{number}"
        request: dict[str, Any] = {"payment_intent": payment_intent, "metadata": {"refund_id": refund_id}}
        if reason is not None:
            request["reason"] = reason
        opened = {"by": doer(source, requested_by)}
        row = self._new_row(payment_intent, number, source, RefundStatus.PROCESSING, opened) | {
            "purchaseIds": list(purchase_ids),
            "reason": reason,
            "note": note,
            "requestedBy": requested_by,
            "request": request,
            "owner": secrets.token_hex(16),
            "calls": 1,
            "leasedUntil": self._clock() + self._lease,
        }
        if bulk is not None:
            row["bulk"] = bulk  # else absent, and so are the rows of its partial index
        self._insert(row)
        return read_row(row)

    def record(
        self,
        fact: StripeRefund,
        number: int,
        *,
        captured: int,
        purchase_ids: Sequence[Any],
        by: str,
        silent: bool,
    ) -> Refund:
        """Write down a refund that was made elsewhere.

        :param captured: what the payment intent had received, in minor units.
        :param by: who brought the news, for the history.
        :param silent: whether nobody needs to be told.
        :raises NumberTaken: another call was first.
        :raises DatabaseUnavailable: 500.
        """
        brought = {"by": by, "stripeRequestId": fact.request_id}
        row = self._new_row(fact.payment_intent, number, "dashboard", fact.status, brought) | {
            "purchaseIds": list(purchase_ids),
            "captured": captured,
            "announced": silent,
            **self._what_stripe_says(fact),
        }
        self._insert(row)
        return read_row(row)

    def _new_row(
        self,
        payment_intent: str,
        number: int,
        source: Source,
        status: RefundStatus,
        entry: Mapping[str, Any],
    ) -> dict[str, Any]:
        now = self._clock()
        return {
            "_id": f"{payment_intent}:{number}",
            "paymentIntent": payment_intent,
            "number": number,
            "source": source,
            "status": status.value,
            "createdAt": now,
            "updatedAt": now,
            "leasedUntil": now,
            "announced": True,
            "checked": status is RefundStatus.PROCESSING,
            "history": [{"at": now, "status": status.value, **entry}],
        }

    def _insert(self, row: dict[str, Any]) -> None:
        """Insert; know one's own row from a rival's where the first try was applied and its answer lost."""
        with operation():
            try:
                try:
                    self._rows.insert_one(row)
                except AutoReconnect:
                    self._rows.insert_one(row)
            except DuplicateKeyError:
                found = self._rows.find_one({"_id": row["_id"]})
                if not found or "owner" not in row or found.get("owner") != row["owner"]:
                    raise NumberTaken(row["_id"]) from None

    def take(self, refund: Refund) -> Refund | None:
        """Own an unfinished refund for a lease, if no other call owns it.

        :return: the row as it now is, or ``None``.
        :raises DatabaseUnavailable: 500.
        """
        now = self._clock()
        return self._update(
            {"_id": refund.id, "status": RefundStatus.PROCESSING.value, "leasedUntil": {"$lte": now}},
            {
                "$set": {"owner": secrets.token_hex(16), "leasedUntil": now + self._lease},
                "$inc": {"calls": 1},
            },
        )

    def release(self, refund: Refund) -> None:
        """Let others work on an unfinished refund at once.

        :raises DatabaseUnavailable: 500; they must wait for the lease to end.
        """
        with operation():
            self._rows.update_one(
                {"_id": refund.id, "owner": refund.owner, "status": RefundStatus.PROCESSING.value},
                {"$set": {"leasedUntil": self._clock()}},
            )

    def owns(self, refund: Refund) -> bool:
        """Whether the lease that this row shows still runs."""
        return self._clock() < refund.leased_until

    def climb(
        self, refund_id: str, fact: StripeRefund, *, by: str, silent: bool, attention: str | None = None
    ) -> Refund | None:
        """Move a row up to what Stripe says, if that is up.

        :param by: who brought the news, for the history.
        :param silent: whether nobody needs to be told.
        :param attention: why a person must look at it, whatever it comes from.
        :return: the row as it now is, or ``None`` where it did not move.
        :raises DatabaseUnavailable: 500; it may have moved.
        """
        changes = self._what_stripe_says(fact)
        entry = {"status": fact.status.value, "by": by, "stripeRequestId": fact.request_id}
        for needed, why in _ways_up(fact.status):
            changes["attention"] = self._attention(why or attention)
            entry["attention"] = why or attention
            climbed = self._move(refund_id, needed, changes, entry, silent=silent)
            if climbed is not None:
                return climbed
        return None

    def refuse(
        self, refund: Refund, failure: Failure, *, by: str, silent: bool, request_id: str | None
    ) -> Refund | None:
        """End a refund that Stripe would not make. Only its owner may: another call may have got further.

        :return: the row as it now is, or ``None`` where it did not move.
        :raises DatabaseUnavailable: 500; it may have moved.
        """
        needed = {"status": RefundStatus.PROCESSING.value, "owner": refund.owner}
        entry = {"by": by, "stripeRequestId": request_id}
        return self._fail(refund, needed, failure, entry, silent=silent)

    def give_up(self, refund: Refund, *, by: str, why: str, silent: bool) -> Refund | None:
        """End, on a person's word, a refund of which nobody else could say how it ended.

        :param why: his reason, for the history.
        :return: the row as it now is, or ``None`` where it did not ask for a person, or is being worked on.
        :raises DatabaseUnavailable: 500; it may have moved.
        """
        needed = {
            "status": RefundStatus.PROCESSING.value,
            "attention": {"$ne": None},
            "leasedUntil": {"$lte": self._clock()},
        }
        failure = Failure("given_up", "A person found that Stripe never made this refund.")
        return self._fail(refund, needed, failure, {"by": by, "why": why}, silent=silent)

    def _fail(
        self,
        refund: Refund,
        needed: Mapping[str, Any],
        failure: Failure,
        entry: Mapping[str, Any],
        *,
        silent: bool,
    ) -> Refund | None:
        changes = {
            "status": RefundStatus.FAILED.value,
            "failure": failure_document(failure),
            "attention": None,
            "settledAt": self._clock(),
        }
        entry = {"status": RefundStatus.FAILED.value, **entry}
        return self._move(refund.id, needed, changes, entry, silent=silent)

    def ask_for_attention(
        self, refund: Refund, why: str, *, by: str, silent: bool, fact: StripeRefund | None = None
    ) -> Refund | None:
        """Say that a person must look at a refund; once said, it keeps its first date.

        :param fact: what Stripe shows now, where that is the reason; the row takes its amount, so that it is
            not asked again once a person has looked.
        :return: the row as it now is, or ``None`` where it was said already, or the row has moved.
        :raises DatabaseUnavailable: 500.
        """
        needed = {"status": refund.status.value, "attention": None}
        entry: dict[str, Any] = {"status": refund.status.value, "by": by, "attention": why}
        changes: dict[str, Any] = {"attention": self._attention(why)}
        if fact is not None:
            changes |= {"amount": fact.amount, "currency": fact.currency}
            entry |= {"stripeRequestId": fact.request_id, "amountBefore": refund.amount}
        return self._move(refund.id, needed, changes, entry, silent=silent)

    def dismiss(self, refund: Refund, *, by: str, why: str) -> Refund | None:
        """Say that a person has looked at an ended refund and dealt with it.

        :param why: what he found, for the history.
        :return: the row as it now is, or ``None`` where it has not ended, or nobody was asked for.
        :raises DatabaseUnavailable: 500; it may have been said.
        """
        needed = {"status": {"$ne": RefundStatus.PROCESSING.value}, "attention": {"$ne": None}}
        entry = {"status": refund.status.value, "by": by, "why": why}
        return self._move(refund.id, needed, {"attention": None}, entry, silent=refund.announced)

    def mark_announced(self, refund: Refund) -> None:
        """Say that every receiver has heard of the row as it is here.

        :raises DatabaseUnavailable: 500; they will hear of it again.
        """
        self._mark(refund, "announced")

    def mark_checked(self, refund: Refund) -> None:
        """Say that the purchases follow the row as it is here.

        :raises DatabaseUnavailable: 500; they will be looked at again.
        """
        self._mark(refund, "checked")

    def _mark(self, refund: Refund, flag: str) -> None:
        with operation():
            # Every change adds to the history, so its length is the row's version.
            self._rows.update_one(
                {"_id": refund.id, "history": {"$size": len(refund.history)}}, {"$set": {flag: True}}
            )

    def find_unfinished(self, before: datetime) -> list[str]:
        """The ids of the rows about which something is still to be done, the longest untouched first.

        Those that have not ended come first: a receiver that ends the process, each time that it hears of a
        row, must not keep them waiting for ever.

        :param before: rows that changed later are left to the calls that changed them.
        :raises DatabaseUnavailable: 500.
        """
        unfinished = [status.value for status in RefundStatus if not status.is_settled]
        reasons: list[dict[str, Any]] = [
            {"status": {"$in": unfinished}},
            {"announced": False},
            {"checked": False},
        ]
        # The time stands in each branch, so that each has an index of its own (see indexes.py).
        to_do = [{**reason, "updatedAt": {"$lte": before}} for reason in reasons]
        with operation():
            rows = self._rows.find({"$or": to_do}, {"_id": 1})
            return [row["_id"] for row in rows.sort([("settledAt", 1), ("updatedAt", 1)])]

    def find_attention(self) -> list[Refund]:
        """The rows that ask for a person, the longest waiting first.

        :raises DatabaseUnavailable: 500.
        """
        with operation():
            rows = list(self._rows.find(ASKS_FOR_A_PERSON).sort("attention.since", 1))
        return [read_row(row) for row in rows]

    def _what_stripe_says(self, fact: StripeRefund) -> dict[str, Any]:
        changes: dict[str, Any] = {
            "status": fact.status.value,
            "stripeRefundId": fact.id,
            "amount": fact.amount,
            "currency": fact.currency,
            "failure": failure_document(fact.failure),
        }
        if fact.reason is not None:
            changes["reason"] = fact.reason
        if fact.status.is_settled:
            changes["settledAt"] = self._clock()
        return changes

    def _attention(self, why: str | None) -> dict[str, Any] | None:
        return {"why": why, "whatToDo": _WHAT_TO_DO[why], "since": self._clock()} if why else None

    def _move(
        self,
        refund_id: str,
        needed: Mapping[str, Any],
        changes: Mapping[str, Any],
        entry: Mapping[str, Any],
        *,
        silent: bool,
    ) -> Refund | None:
        """Change a row that is as needed, and write who did it into its history."""
        now = self._clock()
        flags = {"updatedAt": now, "leasedUntil": now, "announced": silent, "checked": False}
        return self._update(
            {"_id": refund_id, **needed},
            {"$set": {**changes, **flags}, "$push": {"history": {"at": now, **entry}}},
        )

    def _update(self, needed: Mapping[str, Any], update: Mapping[str, Any]) -> Refund | None:
        with operation():
            row = self._rows.find_one_and_update(needed, update, return_document=ReturnDocument.AFTER)
        return read_row(row) if row else None


def _ways_up(status: RefundStatus) -> list[tuple[dict[str, Any], str | None]]:
    """From where a row may climb to this status, and why a person must look when it comes from there."""
    if status.ended_unpaid:
        plain = [below.value for below in status.below() if below is not RefundStatus.SUCCEEDED]
        return [
            ({"status": {"$in": plain}}, None),
            ({"status": RefundStatus.SUCCEEDED.value}, FAILED_AFTER_SUCCESS),
        ]
    return [
        ({"status": {"$in": [below.value for below in status.below()]}}, None),
        # A failure concluded from a refusal, or from silence, gives way to what Stripe shows.
        ({"status": RefundStatus.FAILED.value, "stripeRefundId": None}, FOUND_AFTER_FAILURE),
    ]

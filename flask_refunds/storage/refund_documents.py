"""How a refund record is stored in MongoDB: the field names, in one place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, TypeVar

from ..errors import RecordUnreadable
from ..log import LogEvent, log_event
from ..models import Failure, Mark, Part, RefundRecord, RefundStatus, Review, ReviewCode
from ..refund_details import read_details

_T = TypeVar("_T")

UNSETTLED = [status.value for status in RefundStatus if not status.is_settled]

NEEDS_REVIEW: Mapping[str, Any] = {"review.since": {"$exists": True}}
"""Matches records with an open review, in a form that the sparse index supports."""

DUPLICATE: Mapping[str, Any] = {"duplicateOf": {"$exists": True}}
"""Matches records that :meth:`Ledger.hide_duplicates` has hidden; the sparse index supports this form."""

NOT_DUPLICATE: Mapping[str, Any] = {"duplicateOf": None}


def read_record(document: Mapping[str, Any]) -> RefundRecord:
    """Return the refund that a document of the ledger stores.

    :raises KeyError, TypeError, ValueError: it doesn't store one that this version can read.
    """
    failure, review = document.get("failure"), document.get("review")
    return RefundRecord(
        id=document["_id"],
        payment_intent=document["paymentIntent"],
        references=document.get("references", []),
        charge=document.get("charge"),
        livemode=document.get("livemode"),
        stripe_account=document.get("stripeAccount"),
        number=document.get("number"),
        purchase_ids=document.get("purchaseIds", []),
        marks=[Mark(each["purchaseId"], each["status"]) for each in document.get("marks", [])],
        status=RefundStatus(document["status"]),
        amount=document.get("amount"),
        currency=document.get("currency"),
        reason=document.get("reason"),
        note=document.get("note"),
        requested_by=document.get("requestedBy"),
        source=document["source"],
        bulk_run=document.get("bulkRun"),
        stripe_refund_id=document.get("stripeRefundId"),
        amount_captured=document.get("amountCaptured"),
        failure=Failure(failure["code"], failure["message"], failure.get("outcome")) if failure else None,
        review=Review(ReviewCode(review["code"]), review["since"]) if review else None,
        created_at=_expect(document["createdAt"], datetime),
        updated_at=_expect(document["updatedAt"], datetime),
        settled_at=document.get("settledAt"),
        part=_read_part(document.get("part")),
        details=read_details(document.get("details")),
        request=document.get("request", {}),
        lease_token=document.get("leaseToken"),
        attempts=document.get("attempts", 0),
        lease_expires_at=_expect(document["leaseExpiresAt"], datetime),
        unread_since=document.get("unreadSince"),
        unwritten_since=document.get("unwrittenSince"),
        signals_sent=document["signalsSent"],
        purchases_verified=document["purchasesVerified"],
        history=_expect(document["history"], list),
    )


def _read_part(part: Mapping[str, Any] | None) -> Part | None:
    if part is None:
        return None
    return Part(part["amount"], part["refundable"], part["number"], part["markRefunded"])


def part_document(part: Part) -> dict[str, Any]:
    """Return a part as a record stores it."""
    return {
        "amount": part.amount,
        "refundable": part.refundable,
        "number": part.number,
        "markRefunded": part.mark_refunded,
    }


def _expect(value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}")
    return value


def read_records(documents: Iterable[Mapping[str, Any]]) -> Iterator[RefundRecord]:
    """Yield the refunds that documents store, for lists. Documents that can't be read are logged and skipped.

    Such a document may come from a newer version of this library, or isn't a refund record.
    """
    for document in documents:
        try:
            yield read_record(document)
        except (KeyError, TypeError, ValueError) as error:
            log_event(LogEvent.RECORD_UNREADABLE, error, refund_id=str(document.get("_id"))[:100])


def read_payment(documents: Sequence[Mapping[str, Any]]) -> tuple[list[RefundRecord], dict[str, str]]:
    """Return the refunds of one payment, oldest first, each refund at Stripe once.

    Metadata can be edited at Stripe, so a refund that was requested here may have been recorded as external
    before. The external record is left out, and what it has marked counts as marked by the other.

    :return: the refunds; the ID of each external record that is left out, with that of the other.
    :raises RecordUnreadable: 500; a document can't be read, so nothing may be decided.
    """
    refunds = list(read_records(documents))
    if len(refunds) < len(documents):
        raise RecordUnreadable
    refunds.sort(key=lambda each: (each.created_at, each.number is None, each.number))
    requested = {each.stripe_refund_id: each for each in refunds if each.created_here}
    found: dict[str, RefundRecord] = {}
    duplicates: dict[str, str] = {}
    for each in refunds:
        original = requested.get(each.stripe_refund_id)
        if original is None or each.created_here:
            found.setdefault(each.id, each)
            continue
        duplicates[each.id] = original.id
        found[original.id] = replace(original, marks=[*original.marks, *each.marks])
    return list(found.values()), duplicates


def payment_range(payment_intent: str) -> dict[str, str]:
    """Return the range of ``_id`` that holds a payment's records, so that no other index is needed."""
    return {"$gte": f"{payment_intent}:", "$lt": f"{payment_intent};"}  # ";" is the byte after ":"


def mark_documents(marks: Iterable[Mark]) -> list[dict[str, Any]]:
    """Return marks as a record stores them."""
    return [{"purchaseId": each.purchase_id, "status": each.status} for each in marks]


def failure_document(failure: Failure | None) -> dict[str, Any] | None:
    """Return a failure as a record stores it."""
    if failure is None:
        return None
    return {name: value for name, value in asdict(failure).items() if value is not None}

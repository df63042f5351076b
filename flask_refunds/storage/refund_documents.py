"""How a refund record is stored in MongoDB: the field names, in one place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..log import LogEvent, log_event
from ..models import Failure, Refund, RefundStatus, ReviewCode, ReviewRequest

UNSETTLED = [status.value for status in RefundStatus if not status.is_settled]

NEEDS_REVIEW: Mapping[str, Any] = {"review.since": {"$exists": True}}
"""Matches records with an open review, in a form that the sparse index supports."""


def read_record(document: Mapping[str, Any]) -> Refund:
    """Return the refund that a document of the ledger stores."""
    failure, review = document.get("failure"), document.get("review")
    return Refund(
        id=document["_id"],
        payment_intent=document["paymentIntent"],
        number=document["number"],
        purchase_ids=document.get("purchaseIds", []),
        marked_purchase_ids=document.get("markedPurchaseIds", []),
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
        failure=Failure(failure["code"], failure["message"]) if failure else None,
        review=ReviewRequest(ReviewCode(review["code"]), review["since"]) if review else None,
        created_at=document["createdAt"],
        updated_at=document["updatedAt"],
        settled_at=document.get("settledAt"),
        request=document.get("request", {}),
        lease_token=document.get("leaseToken"),
        attempts=document.get("attempts", 0),
        lease_expires_at=document["leaseExpiresAt"],
        signals_sent=document["signalsSent"],
        purchases_verified=document["purchasesVerified"],
        history=list(document["history"]),
    )


def read_records(documents: Iterable[Mapping[str, Any]]) -> Iterator[Refund]:
    """Yield the refunds that documents store, for lists. Documents that can't be read are logged and skipped.

    Such a document may come from a newer version of this library, or isn't a refund record.
    """
    for document in documents:
        try:
            yield read_record(document)
        except (KeyError, TypeError, ValueError) as error:
            log_event(LogEvent.RECORD_UNREADABLE, error, refund_id=str(document.get("_id"))[:100])


def payment_range(payment_intent: str) -> dict[str, str]:
    """Return the range of ``_id`` that holds a payment's records, so that no other index is needed."""
    return {"$gte": f"{payment_intent}:", "$lt": f"{payment_intent};"}  # ";" is the byte after ":"


def failure_document(failure: Failure | None) -> dict[str, str] | None:
    """Return a failure as a record stores it and the API shows it."""
    return {"code": failure.code, "message": failure.message} if failure else None

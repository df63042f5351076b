"""How a refund stands in MongoDB: the one place that knows the names of a row's fields on the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..models import Attention, Failure, Refund, RefundStatus

ASKS_FOR_A_PERSON: Mapping[str, Any] = {"attention.since": {"$exists": True}}
"""The rows with an attention, in the words that its sparse index understands."""


def read_row(row: Mapping[str, Any]) -> Refund:
    """The refund that a row of the ledger keeps."""
    failure, attention = row.get("failure"), row.get("attention")
    return Refund(
        id=row["_id"],
        payment_intent=row["paymentIntent"],
        number=row["number"],
        purchase_ids=row.get("purchaseIds", []),
        status=RefundStatus(row["status"]),
        amount=row.get("amount"),
        currency=row.get("currency"),
        reason=row.get("reason"),
        note=row.get("note"),
        requested_by=row.get("requestedBy"),
        source=row["source"],
        bulk=row.get("bulk"),
        stripe_refund_id=row.get("stripeRefundId"),
        captured=row.get("captured"),
        failure=Failure(failure["code"], failure["message"]) if failure else None,
        attention=Attention(attention["why"], attention["whatToDo"], attention["since"])
        if attention
        else None,
        created_at=row["createdAt"],
        updated_at=row["updatedAt"],
        settled_at=row.get("settledAt"),
        request=row.get("request", {}),
        owner=row.get("owner"),
        calls=row.get("calls", 0),
        leased_until=row["leasedUntil"],
        announced=row["announced"],
        checked=row["checked"],
        history=row["history"],
    )


def log_span(payment_intent: str) -> dict[str, str]:
    """The ``_id``s of a payment intent's rows, so that no index but that one is needed."""
    return {"$gte": f"{payment_intent}:", "$lt": f"{payment_intent};"}  # ";" is the byte after ":"


def failure_document(failure: Failure | None) -> dict[str, str] | None:
    """A failure as a row keeps it."""
    return {"code": failure.code, "message": failure.message} if failure else None

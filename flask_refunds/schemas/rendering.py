"""Render documents and values as JSON.

This uses the standard library only: the app's JSON provider may change how values are rendered.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from ..advice import advise, customer_message, goes_to
from ..metrics.report import AGES, OLDER, CurrencyTotals, MetricsReport, Period
from ..models import (
    Failure,
    Part,
    Payment,
    Refund,
    Review,
    id_text,
    is_reference,
)
from ..money import stored_amount
from ..purchase_fields import COMPLETED, PurchaseFields, read_field, with_field
from ..refund_details import all_details
from ..storage.search import FoundPurchase

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def to_json(value: Any) -> str:
    """Return JSON text for :func:`render` values."""
    return _ENCODER.encode(value)


def render(value: Any) -> Any:
    """Return a stored value for JSON: every ``_id`` as text, times as ``2024-03-15T10:30:00.000Z``."""
    if value is None or isinstance(value, (str, int)):  # also booleans
        return value
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime, DatetimeMS)):
        return _render_time(value)
    if isinstance(value, Mapping):
        return {str(key): render_id(each) if key == "_id" else render(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [render(each) for each in value]
    # The remaining types have a readable text: binary data, Decimal128, and BSON's rarer types.
    return id_text(value)


def render_id(value: Any) -> Any:
    """Return an ID for JSON: as text, unless it is ``None`` or a document."""
    return id_text(value) if isinstance(value, (int, float)) else render(value)


def render_purchase(purchase: Mapping[str, Any], fields: PurchaseFields) -> dict[str, Any]:
    """Return a purchase as stored, for JSON, with what this library reads from it as ``_refunds``."""
    rendered = render(purchase)
    for path in (fields.user, fields.content):
        reference = read_field(purchase, path)
        if isinstance(reference, (int, float)):
            rendered = with_field(rendered, path, id_text(reference))
    user, content = (_render_reference(purchase, path) for path in (fields.user, fields.content))
    return {**rendered, "_refunds": _render_fields(purchase, fields, user, content)}


def render_found(found: FoundPurchase, fields: PurchaseFields) -> dict[str, Any]:
    """Return a purchase as stored, for JSON, with its user and content in place of their IDs."""
    user, content = (
        each and {"id" if name == "_id" else name: render_text(value) for name, value in each.items()}
        for each in (found.user, found.content)
    )
    rendered = _with_reference(render(found.document), fields.user, render(found.user))
    rendered = _with_reference(rendered, fields.content, render(found.content))
    return {**rendered, "_refunds": _render_fields(found.document, fields, user, content)}


def _render_fields(
    purchase: Mapping[str, Any],
    fields: PurchaseFields,
    user: Mapping[str, Any] | None,
    content: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what this library reads from a purchase, under names that don't depend on the app.

    :param user: ``id``, and ``name`` and ``email`` if it was looked up.
    :param content: ``id``, and ``title`` and ``type`` if it was looked up.
    """
    status = fields.status_of(purchase)
    payment = read_field(purchase, fields.payment)
    payment = payment if isinstance(payment, str) and is_reference(payment) else None
    return {
        "id": id_text(purchase["_id"]),
        "status": status or render_text(read_field(purchase, fields.status)),
        "refundable": status == COMPLETED and payment is not None,
        "paymentIntent": payment if payment and payment.startswith("pi_") else None,
        "payment": payment,
        "user": user,
        "content": content,
        "amountText": stored_amount(
            read_field(purchase, fields.amount),
            read_field(purchase, fields.currency),
            in_minor_units=fields.amount_in_minor_units,
        ),
        "createdAt": _render_created(purchase, fields.created),
    }


def _render_created(purchase: Mapping[str, Any], path: str | None) -> str | None:
    purchase_id = purchase["_id"]
    if path is not None:
        created = read_field(purchase, path)
    else:
        created = purchase_id.generation_time if isinstance(purchase_id, ObjectId) else None
    return _render_time(created) if isinstance(created, datetime) else None


def _render_reference(purchase: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    text = render_text(read_field(purchase, path))
    return None if text is None else {"id": text}


def _with_reference(rendered: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Replace a reference to another document. A path that the purchase doesn't have isn't created."""
    is_replaced = "." not in path or read_field(rendered, path) is not None
    return with_field(rendered, path, value) if is_replaced else rendered


def render_text(value: Any) -> str | None:
    """Return a scalar as text. Documents and lists have none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = render_id(value)
    return text if isinstance(text, str) else None


def _render_time(value: datetime | DatetimeMS) -> str:
    if isinstance(value, DatetimeMS):
        return f"{int(value)}"  # outside datetime's range
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return value.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def render_refund(refund: Refund, *, history: bool = False) -> dict[str, Any]:
    """Return a refund as the API shows it.

    :param history: whether to include every change of the record, oldest first.
    """
    rendered = {
        "id": refund.id,
        "paymentIntent": refund.payment_intent,
        "purchaseIds": [render_id(each) for each in refund.purchase_ids],
        "status": refund.status.value,
        "amount": refund.amount,
        "currency": refund.currency,
        "reason": refund.reason,
        "note": refund.note,
        "requestedBy": refund.requested_by,
        "source": refund.source,
        "bulkRun": refund.bulk_run,
        "part": _render_part(refund.part),
        "stripeRefundId": refund.stripe_refund_id,
        "charge": refund.charge,
        "stripeAccount": refund.stripe_account,
        "livemode": refund.livemode,
        "isFull": None if refund.amount is None else refund.is_full,
        "failure": _render_failure(refund.failure),
        "details": render(all_details(refund.details)),
        "advice": advise(refund)._asdict(),
        "customerMessage": customer_message(refund),
        "review": _render_review(refund.review),
        "createdAt": render(refund.created_at),
        "updatedAt": render(refund.updated_at),
        "settledAt": render(refund.settled_at),
    }
    return rendered | ({"history": render(refund.history)} if history else {})


def render_refunds(
    refunds: Sequence[Refund],
    purchases: Sequence[FoundPurchase | None],
    fields: PurchaseFields,
    *,
    history: bool = False,
) -> list[dict[str, Any]]:
    """Return refunds as lists show them, each with its purchase.

    :param purchases: the first purchase of each refund, if it exists.
    """
    return [
        {**render_refund(refund, history=history), "purchase": _summarize(purchase, fields)}
        for refund, purchase in zip(refunds, purchases, strict=True)
    ]


def _summarize(found: FoundPurchase | None, fields: PurchaseFields) -> dict[str, Any] | None:
    if found is None:
        return None
    shown = render_found(found, fields)["_refunds"]
    return {name: shown[name] for name in ("id", "user", "content", "amountText")}


def named_users(refunds: Sequence[Refund], *, history: bool = False) -> set[str]:
    """Return the IDs of the users who requested refunds, or are named in their histories."""
    named = [each.requested_by for each in refunds if each.source in ("api", "app")]
    entries = [entry for each in refunds for entry in each.history] if history else []
    actors = [str(entry.get("actor")) for entry in entries if isinstance(entry, Mapping)]
    named += [each.removeprefix("api:") for each in actors if each.startswith("api:")]
    return {each for each in named if isinstance(each, str)}


def render_result(
    refund: Refund,
    purchase: Mapping[str, Any],
    hint: str | None,
    fields: PurchaseFields,
    *,
    replayed: bool = False,
) -> dict[str, Any]:
    """Return a refund that was made, the purchase as it is now, and a hint if these don't match."""
    rendered = {"purchase": render_purchase(purchase, fields), "refund": render_refund(refund)}
    return rendered | ({"hint": hint} if hint else {}) | ({"replayed": True} if replayed else {})


def render_payment(payment: Payment, address: str | None = None) -> dict[str, Any]:
    """Return a payment as the API shows it.

    :param address: the customer's e-mail address in the app, if the payment has none.
    """
    card = payment.card
    return {
        "id": payment.id,
        "amount": payment.amount_received,
        "refunded": payment.refunded,
        "refundable": payment.refundable,
        "currency": payment.currency,
        "card": {"brand": card.brand, "last4": card.last4} if card else None,
        "livemode": payment.livemode,
        "disputed": payment.disputed,
        "dispute": payment.dispute,
        "method": payment.method,
        "needsEmail": payment.needs_email,
        "customerEmail": payment.email or address,
        "goesTo": goes_to(payment),
    }


def _render_part(part: Part | None) -> dict[str, Any] | None:
    if part is None:
        return None
    return {
        "amount": part.amount,
        "refundable": part.refundable,
        "number": part.number,
        "markRefunded": part.mark_refunded,
    }


def _render_failure(failure: Failure | None) -> dict[str, Any] | None:
    return {"code": failure.code, "message": failure.message} if failure else None


def _render_review(review: Review | None) -> dict[str, Any] | None:
    if review is None:
        return None
    return {
        "code": review.code.value,
        "message": review.message,
        "recommendedAction": review.recommended_action,
        "since": render(review.since),
    }


def render_report(report: MetricsReport) -> dict[str, Any]:
    """Return a refund report as the API shows it."""
    months = [{"month": name, **_render_period(period)} for name, period in report.months.items()]
    return {
        "from": render(report.start),
        "to": render(report.end),
        "total": _render_period(report.total),
        "months": months,
        "open": _render_counts(report.backlog.open, "byStatus"),
        "reviews": _render_counts(report.backlog.reviews, "byCode"),
    }


def _render_period(period: Period) -> dict[str, Any]:
    durations = period.durations
    return {
        "refunds": period.refunds,
        "failed": period.failed,
        "canceled": period.canceled,
        "reasons": dict(sorted(period.reasons.items())),
        "currencies": {code: _render_totals(totals) for code, totals in sorted(period.currencies.items())},
        "processingSeconds": {"mean": durations.mean, "median": durations.median, "p95": durations.p95},
        "purchases": {"paid": period.paid_purchases, "refunded": period.refunded_purchases},
        "refundRate": period.refund_rate,
    }


def _render_totals(totals: CurrencyTotals) -> dict[str, Any]:
    return {
        "refunds": totals.refunds,
        "amount": totals.amount,
        "averageAmount": totals.average_amount,
        "reasons": dict(sorted(totals.reasons.items())),
    }


def _render_counts(counts: Counter[tuple[str, str]], group: str) -> dict[str, Any]:
    keys, ages = Counter[str](), Counter[str]()
    for (key, age), count in counts.items():
        keys[key] += count
        ages[age] += count
    by_age = {age: ages[age] for age in (*AGES, OLDER)}
    return {"refunds": counts.total(), "byAge": by_age, group: dict(sorted(keys.items()))}

"""Strict on the way in, safe on the way out: what callers send, and how documents become JSON.

Both use the standard library alone: the host's JSON provider is the host's, and may turn ``{"$oid": …}`` into
objects.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from bson import Binary
from bson.datetime_ms import DatetimeMS

from ..metrics.report import AGES, OLDER, Money, Period, Report
from ..models import Attention, Failure, Payment, Refund


def to_json(value: Any) -> str:
    """JSON text of an answer made of :func:`render` values."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def render(value: Any) -> Any:
    """A stored value as JSON can carry it: ids as 24 hex digits, times as ``2024-03-15T10:30:00.000Z``."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): render(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [render(each) for each in value]
    if isinstance(value, (datetime, DatetimeMS)):
        return _render_time(value)
    if isinstance(value, (bytes, Binary)):
        return b64encode(value).decode("ascii")
    # What is left prints as what it is: ObjectId, Decimal128, UUID, and BSON's rarer types.
    return str(value)


def _render_time(value: datetime | DatetimeMS) -> str:
    if isinstance(value, DatetimeMS):
        return f"{int(value)}"  # beyond the years that datetime knows
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return value.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def render_refund(refund: Refund) -> dict[str, Any]:
    """A ledger row as the contract shows it."""
    return {
        "id": refund.id,
        "paymentIntent": refund.payment_intent,
        "purchaseIds": render(refund.purchase_ids),
        "status": refund.status.value,
        "amount": refund.amount,
        "currency": refund.currency,
        "reason": refund.reason,
        "note": refund.note,
        "requestedBy": refund.requested_by,
        "source": refund.source,
        "bulk": refund.bulk,
        "stripeRefundId": refund.stripe_refund_id,
        "failure": _render_failure(refund.failure),
        "attention": _render_attention(refund.attention),
        "createdAt": render(refund.created_at),
        "updatedAt": render(refund.updated_at),
        "settledAt": render(refund.settled_at),
    }


def render_with_history(refund: Refund) -> dict[str, Any]:
    """The same, with every change that the row went through, oldest first."""
    return render_refund(refund) | {"history": render(refund.history)}


def render_payment(payment: Payment) -> dict[str, Any]:
    """A payment at Stripe as the contract shows it."""
    card = payment.card
    return {
        "id": payment.id,
        "amount": payment.received,
        "refunded": payment.refunded,
        "refundable": payment.refundable,
        "currency": payment.currency,
        "card": {"brand": card.brand, "last4": card.last4} if card else None,
        "livemode": payment.livemode,
    }


def _render_failure(failure: Failure | None) -> dict[str, Any] | None:
    return {"code": failure.code, "message": failure.message} if failure else None


def _render_attention(attention: Attention | None) -> dict[str, Any] | None:
    if attention is None:
        return None
    return {"why": attention.why, "whatToDo": attention.what_to_do, "since": render(attention.since)}


def render_report(report: Report) -> dict[str, Any]:
    """The figures of a range as the contract shows them."""
    months = [{"month": name, **_render_period(period)} for name, period in report.months.items()]
    return {
        "from": render(report.start),
        "to": render(report.end),
        "total": _render_period(report.total),
        "months": months,
        "open": _render_counts(report.standing.open, "byStatus"),
        "attention": _render_counts(report.standing.attention, "byWhy"),
    }


def _render_period(period: Period) -> dict[str, Any]:
    durations = period.durations
    return {
        "refunds": period.refunds,
        "failed": period.failed,
        "canceled": period.canceled,
        "reasons": dict(sorted(period.reasons.items())),
        "currencies": {code: _render_money(money) for code, money in sorted(period.currencies.items())},
        "processingSeconds": {"mean": durations.mean, "median": durations.median, "p95": durations.p95},
        "purchases": {"paid": period.paid_purchases, "refunded": period.refunded_purchases},
        "refundRate": period.refund_rate,
    }


def _render_money(money: Money) -> dict[str, Any]:
    return {
        "refunds": money.refunds,
        "amount": money.amount,
        "averageAmount": money.average_amount,
        "reasons": dict(sorted(money.reasons.items())),
    }


def _render_counts(counts: Counter[tuple[str, str]], by_word: str) -> dict[str, Any]:
    words, ages = Counter[str](), Counter[str]()
    for (word, age), count in counts.items():
        words[word] += count
        ages[age] += count
    by_age = {age: ages[age] for age in (*AGES, OLDER)}
    return {"refunds": counts.total(), "byAge": by_age, by_word: dict(sorted(words.items()))}

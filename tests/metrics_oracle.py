"""Ledgers and purchases of any kind, and their figures counted again, one document after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from statistics import median
from typing import Any

from bson import ObjectId
from hypothesis import strategies as st

NOW = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)
SETTLED = ("succeeded", "failed", "canceled")
OPEN = ("processing", "requires_action", "pending")
REASONS = ("requested_by_customer", "duplicate", "fraudulent")
WHYS = ("unknown_too_long", "failed_after_success", "amount_differs")

_BORDERS = [datetime(*month, 1, tzinfo=timezone.utc) for month in ((2024, 1), (2024, 2), (2024, 3))]
_NEAR = [timedelta(milliseconds=n) for n in (-86_400_000, -1000, -999, -1, 0, 1, 999, 1000, 3_600_000)]
_AGES = [timedelta(hours=hours) for hours in (0, 1, 24, 168, 1000)]
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)


@dataclass
class RefundTransitions:
    """What is in the database, and which range is asked for."""

    rows: list[dict[str, Any]]
    purchases: list[dict[str, Any]]
    start: datetime | None
    end: datetime | None


def moments() -> st.SearchStrategy[datetime]:
    """Times around the turns of months, and anywhere in between."""
    near = st.builds(lambda border, off: border + off, st.sampled_from(_BORDERS), st.sampled_from(_NEAR))
    anywhere = st.integers(0, 120 * 86_400_000).map(lambda n: _BORDERS[0] - 30 * _DAY + n * _MILLISECOND)
    return near | anywhere


def _since() -> st.SearchStrategy[datetime]:
    """Times around the borders of the ages, seen from now."""
    return st.builds(lambda age, off: NOW - age - off, st.sampled_from(_AGES), st.sampled_from(_NEAR))


def _durations() -> st.SearchStrategy[timedelta]:
    near = st.sampled_from([0, 1, 499, 500, 999, 1000, 1001, 1999, 2000])
    return (near | st.integers(0, 40 * 86_400_000)).map(lambda n: n * _MILLISECOND)


@st.composite
def _rows(draw: st.DrawFn) -> dict[str, Any]:
    status = draw(st.sampled_from((*SETTLED, *SETTLED, *OPEN, "succeeded", "succeeded")))
    row: dict[str, Any] = {
        "status": status,
        "source": draw(st.sampled_from(("endpoint", "command", "dashboard"))),
        "review": draw(st.none() | _attentions()),
    }
    row |= _times(draw, status)
    if status in ("succeeded", "pending") or draw(st.booleans()):
        row["amount"] = draw(st.integers(1, 12) | st.integers(1, 99_999_999))
        row["currency"] = draw(st.sampled_from(("usd", "eur", "jpy")))
    if row["source"] != "dashboard" or draw(st.booleans()):
        row["reason"] = draw(st.none() | st.sampled_from(REASONS))
    return row


def _times(draw: st.DrawFn, status: str) -> dict[str, Any]:
    if status in SETTLED:
        settled = draw(moments())
        return {"createdAt": settled - draw(_durations()), "settledAt": settled}
    times = {"createdAt": draw(_since())}
    if draw(st.booleans()):
        times["settledAt"] = draw(moments())  # it had failed, and Stripe then showed it alive
    return times


def _attentions() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"why": st.sampled_from(WHYS), "recommendedAction": st.just("Look."), "since": _since()}
    )


def _purchases() -> st.SearchStrategy[dict[str, Any]]:
    statuses = st.sampled_from(("pending", "completed", "completed", "failed", "refunded"))
    return st.builds(lambda status, made: {"status": status, "made": made}, statuses, moments())


@st.composite
def transitions(draw: st.DrawFn) -> RefundTransitions:
    """Any ledger, any purchases, and a range, open or not."""
    rows = draw(st.lists(_rows(), max_size=12))
    purchases = draw(st.lists(_purchases(), max_size=12))
    start, end = draw(st.none() | moments()), draw(st.none() | moments())
    if start is not None and end is not None and start >= end:
        start, end = end, start + _MILLISECOND
    return RefundTransitions(
        [{"_id": f"pi_{number}:1", **row} for number, row in enumerate(rows)],
        [{"_id": _id_at(each.pop("made"), number), **each} for number, each in enumerate(purchases)],
        start,
        end,
    )


def _id_at(moment: datetime, number: int) -> ObjectId:
    return ObjectId(int(moment.timestamp()).to_bytes(4, "big") + number.to_bytes(8, "big"))


def recount(transitions: RefundTransitions) -> dict[str, Any]:
    """The figures as the endpoint shows them."""
    start, end = _range(transitions)
    settled = [
        row for row in transitions.rows if row["status"] in SETTLED and start <= row["settledAt"] < end
    ]
    paid = [each for each in transitions.purchases if each["status"] in ("completed", "refunded")]
    paid = [each for each in paid if start <= each["_id"].generation_time < end]
    months = []
    for month in _months(start, end):
        rows = [row for row in settled if _month(row["settledAt"]) == month]
        made = [each for each in paid if _month(each["_id"].generation_time) == month]
        months.append({"month": month, **_period(rows, made)})
    return {
        "from": _text(start),
        "to": _text(end),
        "total": _period(settled, paid),
        "months": months,
        "open": _standing(
            [(r["status"], r["createdAt"]) for r in transitions.rows if r["status"] in OPEN], "byStatus"
        ),
        "review": _standing(
            [(r["review"]["code"], r["review"]["since"]) for r in transitions.rows if r["review"]], "byCode"
        ),
    }


def _range(transitions: RefundTransitions) -> tuple[datetime, datetime]:
    end = transitions.end or datetime(2024, 4, 1, tzinfo=timezone.utc)
    last = end - _MILLISECOND
    year, month = (last.year - 1, last.month + 1) if last.month < 12 else (last.year, 1)
    return transitions.start or datetime(year, month, 1, tzinfo=timezone.utc), end


def _months(start: datetime, end: datetime) -> list[str]:
    months: list[str] = []
    day = start
    while day < end:
        if _month(day) not in months:
            months.append(_month(day))
        day += _DAY
    if _month(end - _MILLISECOND) not in months:
        months.append(_month(end - _MILLISECOND))
    return months


def _month(moment: datetime) -> str:
    return moment.strftime("%Y-%m")


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def _period(rows: Sequence[dict[str, Any]], paid: Sequence[dict[str, Any]]) -> dict[str, Any]:
    refunds = [row for row in rows if row["status"] == "succeeded"]
    currencies = sorted({row["currency"] for row in refunds})
    refunded = [each for each in paid if each["status"] == "refunded"]
    return {
        "refunds": len(refunds),
        "failed": len([row for row in rows if row["status"] == "failed"]),
        "canceled": len([row for row in rows if row["status"] == "canceled"]),
        "reasons": _reasons(refunds),
        "currencies": {code: _money([r for r in refunds if r["currency"] == code]) for code in currencies},
        "processingSeconds": _processing([row for row in refunds if row["source"] != "dashboard"]),
        "purchases": {"paid": len(paid), "refunded": len(refunded)},
        "refundRate": _rounded(Decimal(len(refunded)) / len(paid), "0.0001") if paid else None,
    }


def _money(refunds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    amount = 0
    for refund in refunds:
        amount += refund["amount"]
    average = (Decimal(amount) / len(refunds)).quantize(Decimal(1), ROUND_HALF_EVEN)
    return {
        "refunds": len(refunds),
        "amount": amount,
        "averageAmount": int(average),
        "reasons": _reasons(refunds),
    }


def _reasons(refunds: Sequence[dict[str, Any]]) -> dict[str, int]:
    named = [refund.get("reason") or "none" for refund in refunds]
    return {name: named.count(name) for name in sorted(set(named))}


def _processing(refunds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not refunds:
        return {"mean": None, "median": None, "p95": None}
    took = sorted((row["settledAt"] - row["createdAt"]) // _MILLISECOND for row in refunds)
    seconds = [each // 1000 for each in took]
    enough = next(
        each for each in seconds if 100 * len([s for s in seconds if s <= each]) >= 95 * len(seconds)
    )
    return {
        "mean": _rounded(Decimal(sum(took)) / len(took) / 1000, "0.001"),
        "median": median(seconds),
        "p95": enough,
    }


def _rounded(value: Decimal, to: str) -> float:
    return float(value.quantize(Decimal(to), ROUND_HALF_EVEN))


def _standing(found: Sequence[tuple[str, datetime]], by_word: str) -> dict[str, Any]:
    ages = {"under_1h": 0, "under_1d": 0, "under_7d": 0, "older": 0}
    words: dict[str, int] = {}
    for word, since in found:
        words[word] = words.get(word, 0) + 1
        ages[_age(NOW - since)] += 1
    return {"refunds": len(found), "byAge": ages, by_word: words}


def _age(age: timedelta) -> str:
    if age < timedelta(hours=1):
        return "under_1h"
    if age < timedelta(days=1):
        return "under_1d"
    return "under_7d" if age < timedelta(days=7) else "older"

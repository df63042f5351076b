"""Generate refund records and purchases, and compute their report independently of MongoDB."""

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
REVIEW_CODES = ("unknown_too_long", "failed_after_success", "amount_differs")

_BORDERS = [datetime(*month, 1, tzinfo=timezone.utc) for month in ((2024, 1), (2024, 2), (2024, 3))]
_NEAR = [timedelta(milliseconds=n) for n in (-86_400_000, -1000, -999, -1, 0, 1, 999, 1000, 3_600_000)]
_AGES = [timedelta(hours=hours) for hours in (0, 1, 24, 168, 1000)]
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)


@dataclass
class Documents:
    """The content of a database, and the range to report."""

    records: list[dict[str, Any]]
    purchases: list[dict[str, Any]]
    start: datetime | None
    end: datetime | None

    def insert_into(self, database: Any) -> None:
        """Replace the database's refund records and purchases."""
        for name, content in (("flask_refunds", self.records), ("purchases", self.purchases)):
            database[name].delete_many({})
            if content:
                database[name].insert_many(content)


def moments() -> st.SearchStrategy[datetime]:
    """Times near the start of a month, and anywhere in between."""
    near = st.builds(lambda border, off: border + off, st.sampled_from(_BORDERS), st.sampled_from(_NEAR))
    anywhere = st.integers(0, 120 * 86_400_000).map(lambda n: _BORDERS[0] - 30 * _DAY + n * _MILLISECOND)
    return near | anywhere


def _since() -> st.SearchStrategy[datetime]:
    """Times near the limits of the age groups."""
    return st.builds(lambda age, off: NOW - age - off, st.sampled_from(_AGES), st.sampled_from(_NEAR))


def _durations() -> st.SearchStrategy[timedelta]:
    near = st.sampled_from([0, 1, 499, 500, 999, 1000, 1001, 1999, 2000])
    return (near | st.integers(0, 40 * 86_400_000)).map(lambda n: n * _MILLISECOND)


@st.composite
def _records(draw: st.DrawFn) -> dict[str, Any]:
    status = draw(st.sampled_from((*SETTLED, *SETTLED, *OPEN, "succeeded", "succeeded")))
    record: dict[str, Any] = {
        "status": status,
        "source": draw(st.sampled_from(("api", "cli", "external"))),
        "review": draw(st.none() | _reviews()),
    }
    record |= _times(draw, status)
    if status in ("succeeded", "pending") or draw(st.booleans()):
        record["amount"] = draw(st.integers(1, 12) | st.integers(1, 99_999_999))
        record["currency"] = draw(st.sampled_from(("usd", "eur", "jpy")))
    if record["source"] != "external" or draw(st.booleans()):
        record["reason"] = draw(st.none() | st.sampled_from(REASONS))
    if record["source"] != "external" and draw(st.booleans()):
        record["part"] = draw(_parts())
    elif record["source"] == "external" and draw(st.integers(0, 3)) == 0:
        record["duplicateOf"] = "pi_0:1"
    return record


def _parts() -> st.SearchStrategy[dict[str, Any]]:
    """What was requested, which isn't what Stripe reported if the part failed, or was changed there."""
    amounts, number = st.integers(1, 99_999_999), st.none() | st.integers(1, 3)
    return st.fixed_dictionaries(
        {"amount": amounts, "refundable": amounts, "number": number, "markRefunded": st.booleans()}
    )


def _times(draw: st.DrawFn, status: str) -> dict[str, Any]:
    if status in SETTLED:
        settled = draw(moments())
        return {"createdAt": settled - draw(_durations()), "settledAt": settled}
    times = {"createdAt": draw(_since())}
    if draw(st.booleans()):
        times["settledAt"] = draw(moments())  # it had failed, and then Stripe showed another status
    return times


def _reviews() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"code": st.sampled_from(REVIEW_CODES), "since": _since()})


def _purchases() -> st.SearchStrategy[dict[str, Any]]:
    statuses = st.sampled_from(("pending", "completed", "completed", "failed", "refunded"))
    return st.builds(lambda status, created: {"status": status, "created": created}, statuses, moments())


@st.composite
def documents(draw: st.DrawFn) -> Documents:
    """Any records, any purchases, and a range with or without a start and an end."""
    records = draw(st.lists(_records(), max_size=12))
    purchases = draw(st.lists(_purchases(), max_size=12))
    start, end = draw(st.none() | moments()), draw(st.none() | moments())
    if start is not None and end is not None and start >= end:
        start, end = end, start + _MILLISECOND
    return Documents(
        [{"_id": f"pi_{number // 3}:{number % 3 + 1}", **record} for number, record in enumerate(records)],
        [{"_id": id_at(each.pop("created"), number), **each} for number, each in enumerate(purchases)],
        start,
        end,
    )


def id_at(moment: datetime, number: int) -> ObjectId:
    """The ID of a purchase that was made at this moment."""
    return ObjectId(int(moment.timestamp()).to_bytes(4, "big") + number.to_bytes(8, "big"))


def compute_report(documents: Documents, now: datetime = NOW) -> dict[str, Any]:
    """The report as the endpoint shows it."""
    start, end = _range(documents)
    records = [each for each in documents.records if not each.get("duplicateOf")]
    settled = [each for each in records if each["status"] in SETTLED and start <= each["settledAt"] < end]
    open_ = [(each["status"], each["createdAt"]) for each in records if each["status"] in OPEN]
    found = [each["review"] for each in documents.records if each["review"]]
    reviews = [(each["code"], each["since"]) for each in found]
    paid = [each for each in documents.purchases if each["status"] in ("completed", "refunded")]
    paid = [each for each in paid if start <= each["_id"].generation_time < end]
    months = []
    for month in _months(start, end):
        refunds = [each for each in settled if _month(each["settledAt"]) == month]
        purchases = [each for each in paid if _month(each["_id"].generation_time) == month]
        months.append({"month": month, **_period(refunds, purchases)})
    return {
        "from": _text(start),
        "to": _text(end),
        "total": _period(settled, paid),
        "months": months,
        "open": _backlog(open_, "byStatus", now),
        "reviews": _backlog(reviews, "byCode", now),
    }


def _range(documents: Documents) -> tuple[datetime, datetime]:
    end = documents.end or datetime(2024, 4, 1, tzinfo=timezone.utc)
    last = end - _MILLISECOND
    year, month = (last.year - 1, last.month + 1) if last.month < 12 else (last.year, 1)
    return documents.start or datetime(year, month, 1, tzinfo=timezone.utc), end


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


def _period(records: Sequence[dict[str, Any]], paid: Sequence[dict[str, Any]]) -> dict[str, Any]:
    refunds = [each for each in records if each["status"] == "succeeded"]
    currencies = sorted({each["currency"] for each in refunds})
    refunded = [each for each in paid if each["status"] == "refunded"]
    return {
        "refunds": len(refunds),
        "failed": len([each for each in records if each["status"] == "failed"]),
        "canceled": len([each for each in records if each["status"] == "canceled"]),
        "reasons": _reasons(refunds),
        "currencies": {code: _totals([r for r in refunds if r["currency"] == code]) for code in currencies},
        "processingSeconds": _processing([each for each in refunds if each["source"] != "external"]),
        "purchases": {"paid": len(paid), "refunded": len(refunded), "asOf": None},
        "refundRate": _rounded(Decimal(len(refunded)) / len(paid), "0.0001") if paid else None,
    }


def _totals(refunds: Sequence[dict[str, Any]]) -> dict[str, Any]:
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
    durations = sorted((each["settledAt"] - each["createdAt"]) // _MILLISECOND for each in refunds)
    seconds = [each // 1000 for each in durations]
    p95 = next(each for each in seconds if 100 * len([s for s in seconds if s <= each]) >= 95 * len(seconds))
    return {
        "mean": _rounded(Decimal(sum(durations)) / len(durations) / 1000, "0.001"),
        "median": median(seconds),
        "p95": p95,
    }


def _rounded(value: Decimal, to: str) -> float:
    return float(value.quantize(Decimal(to), ROUND_HALF_EVEN))


def _backlog(found: Sequence[tuple[str, datetime]], group: str, now: datetime) -> dict[str, Any]:
    ages = {"under_1h": 0, "under_1d": 0, "under_7d": 0, "older": 0}
    counts: dict[str, int] = {}
    for value, since in found:
        counts[value] = counts.get(value, 0) + 1
        ages[_age(now - since)] += 1
    return {"refunds": len(found), "byAge": ages, group: counts}


def _age(age: timedelta) -> str:
    if age < timedelta(hours=1):
        return "under_1h"
    if age < timedelta(days=1):
        return "under_1d"
    return "under_7d" if age < timedelta(days=7) else "older"

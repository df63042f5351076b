"""Refund reports as values: the counts, and what is derived from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from fractions import Fraction

from ..errors import InvalidRequest

MONTHS = 12
"""How many months a report without a start covers."""

MAX_RANGE = timedelta(days=3653)
"""The longest range of a report."""
_DAY = timedelta(days=1)

AGES: Mapping[str, timedelta] = {
    "under_1h": timedelta(hours=1),
    "under_1d": _DAY,
    "under_7d": timedelta(days=7),
}
"""The upper bound of each age group, which isn't part of it. Everything older is :data:`OLDER`."""

OLDER = "older"


@dataclass
class CurrencyTotals:
    """The succeeded refunds in one currency."""

    refunds: int = 0
    amount: int = 0
    """In minor units, as reported by Stripe."""
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def average_amount(self) -> int:
        """The average in minor units, rounded half to even."""
        return round(Fraction(self.amount, self.refunds))


@dataclass
class Durations:
    """How long refunds took from the request until Stripe reported that they succeeded."""

    by_second: Counter[int] = field(default_factory=Counter)
    """The number of refunds by duration in whole seconds."""
    milliseconds: int = 0
    """The sum of all durations."""

    @property
    def mean(self) -> float | None:
        """The mean in seconds, to the millisecond."""
        count = self.by_second.total()
        return float(round(Fraction(self.milliseconds, 1000 * count), 3)) if count else None

    @property
    def median(self) -> float | None:
        """The median in seconds: the middle duration, or the mean of the two middle ones."""
        count = self.by_second.total()
        return (self._ranked((count - 1) // 2) + self._ranked(count // 2)) / 2 if count else None

    @property
    def p95(self) -> int | None:
        """The 95th percentile in seconds: at least 95 of 100 refunds took this long or less."""
        count = self.by_second.total()
        return self._ranked(-(-95 * count // 100) - 1) if count else None

    def _ranked(self, rank: int) -> int:
        """Return the duration at this position, from 0, in ascending order."""
        for seconds in sorted(self.by_second):
            rank -= self.by_second[seconds]
            if rank < 0:
                return seconds
        raise IndexError(rank)


@dataclass
class Period:
    """The counts of a month, or of a whole range."""

    currencies: dict[str, CurrencyTotals] = field(default_factory=dict)
    failed: int = 0
    canceled: int = 0
    durations: Durations = field(default_factory=Durations)
    paid_purchases: int = 0
    """Purchases made in the period and paid, refunded since or not."""
    refunded_purchases: int = 0
    """How many of them are refunded now."""
    purchases_as_of: datetime | None = None
    """When the oldest part of the purchases was counted; ``None`` if all were counted now."""

    @property
    def refunds(self) -> int:
        """The number of succeeded refunds, in all currencies."""
        return sum(totals.refunds for totals in self.currencies.values())

    @property
    def reasons(self) -> Counter[str]:
        """The number of succeeded refunds by reason, in all currencies."""
        return sum((totals.reasons for totals in self.currencies.values()), Counter())

    @property
    def refund_rate(self) -> float | None:
        """The refunded share of the paid purchases, to four decimals."""
        if not self.paid_purchases:
            return None
        return float(round(Fraction(self.refunded_purchases, self.paid_purchases), 4))

    def add_refunds(self, currency: str, reason: str, count: int, amount: int) -> None:
        """Count succeeded refunds."""
        totals = self.currencies.setdefault(currency, CurrencyTotals())
        totals.refunds += count
        totals.amount += amount
        totals.reasons[reason] += count

    def add_durations(self, seconds: int, count: int, milliseconds: int) -> None:
        """Count refunds of one duration in whole seconds.

        :param milliseconds: the exact sum of their durations.
        """
        self.durations.by_second[seconds] += count
        self.durations.milliseconds += milliseconds

    def add_purchases(self, paid: int, refunded: int, as_of: datetime | None) -> None:
        """Count purchases.

        :param as_of: when the oldest part of them was counted.
        """
        self.paid_purchases += paid
        self.refunded_purchases += refunded
        known = [each for each in (self.purchases_as_of, as_of) if each is not None]
        self.purchases_as_of = min(known, default=None)


@dataclass(frozen=True)
class Backlog:
    """What is open at one moment."""

    open: Counter[tuple[str, str]]
    """The number of refunds by status and age."""
    reviews: Counter[tuple[str, str]]
    """The number of open reviews by code and age."""


class MetricsReport:
    """The report of a range.

    :param start: the start of the range.
    :param end: the end, which isn't part of the range.
    :param backlog: what is open now, whatever the range.
    """

    def __init__(self, start: datetime, end: datetime, backlog: Backlog) -> None:
        self.start = start
        self.end = end
        self.backlog = backlog
        self.total = Period()
        self.month_starts = _split_months(start, end)
        self.months = {month_name(start): Period() for start in self.month_starts}
        """The months of the range in order, by name."""

    def periods_of(self, month: str) -> tuple[Period, Period]:
        """Return the periods in which the counts of a month are added up."""
        return self.months[month], self.total


def resolve_range(start: datetime | None, end: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Return the range of a report; by default, the twelve months up to the end of the current month.

    :raises InvalidRequest: 400; the range ends before it starts, or is longer than ten years.
    """
    end = end or _next_month(now)
    start = start or _months_before(end, MONTHS)
    check_range(start, end)
    if end - start > MAX_RANGE:
        raise InvalidRequest("from and to may be at most ten years apart.")
    return start, end


def check_range(start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    """Return the bounds of a range, if it doesn't end before it starts.

    :raises InvalidRequest: 400.
    """
    if start is not None and end is not None and start >= end:
        raise InvalidRequest("from must be before to.")
    return start, end


def _split_months(start: datetime, end: datetime) -> Sequence[datetime]:
    """Return the range's start, and each start of a month inside it."""
    month_starts = [start]
    while (start := _next_month(month_starts[-1])) < end:
        month_starts.append(start)
    return month_starts


def month_name(moment: datetime) -> str:
    """Return the month of a moment in UTC, such as ``2024-03``."""
    return f"{moment.astimezone(timezone.utc):%Y-%m}"


def _next_month(moment: datetime) -> datetime:
    first = _first_of_month(moment)
    return _first_of_month(first + 31 * _DAY)


def _months_before(end: datetime, count: int) -> datetime:
    """Return the start of so many months, the last of which contains the moment before the end."""
    first = _first_of_month(end - timedelta(milliseconds=1))
    for _ in range(count - 1):
        first = _first_of_month(first - _DAY)
    return first


def _first_of_month(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)

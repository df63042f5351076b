"""The figures of a shop's refunds as values: what was counted, and what follows from the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from fractions import Fraction

from ..errors import InvalidRequest

MONTHS = 12
"""How many months a report covers that names no beginning."""

_LONGEST = timedelta(days=3653)
_DAY = timedelta(days=1)

AGES: Mapping[str, timedelta] = {
    "under_1h": timedelta(hours=1),
    "under_1d": _DAY,
    "under_7d": timedelta(days=7),
}
"""The age buckets that have an upper end, which is outside them; what is older is :data:`OLDER`."""

OLDER = "older"


@dataclass
class CurrencyTotals:
    """The refunds in one currency."""

    refunds: int = 0
    amount: int = 0
    """In minor units, as Stripe said."""
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def average_amount(self) -> int:
        """In minor units, rounded half to even."""
        return round(Fraction(self.amount, self.refunds))


@dataclass
class Durations:
    """How long refunds took from the asking to Stripe's word that they succeeded."""

    by_second: Counter[int] = field(default_factory=Counter)
    """How many took so many whole seconds; no longer than there are distinct durations."""
    milliseconds: int = 0
    """The sum of all."""

    @property
    def mean(self) -> float | None:
        """In seconds, to the millisecond."""
        count = self.by_second.total()
        return float(round(Fraction(self.milliseconds, 1000 * count), 3)) if count else None

    @property
    def median(self) -> float | None:
        """In seconds: the middle one, or halfway between the two middle ones."""
        count = self.by_second.total()
        return (self._ranked((count - 1) // 2) + self._ranked(count // 2)) / 2 if count else None

    @property
    def p95(self) -> int | None:
        """In seconds: the shortest duration that at least 95 of 100 refunds did not exceed."""
        count = self.by_second.total()
        return self._ranked(-(-95 * count // 100) - 1) if count else None

    def _ranked(self, rank: int) -> int:
        """The duration that so many are before, when they stand in order."""
        for seconds in sorted(self.by_second):
            rank -= self.by_second[seconds]
            if rank < 0:
                return seconds
        raise IndexError(rank)


@dataclass
class Period:
    """What happened in a month, or in a whole range."""

    currencies: dict[str, CurrencyTotals] = field(default_factory=dict)
    failed: int = 0
    canceled: int = 0
    durations: Durations = field(default_factory=Durations)
    paid_purchases: int = 0
    """Purchases made in the period that were paid, whether or not they were refunded since."""
    refunded_purchases: int = 0
    """Those of them that are refunded now."""

    @property
    def refunds(self) -> int:
        """How many succeeded, in all currencies."""
        return sum(totals.refunds for totals in self.currencies.values())

    @property
    def reasons(self) -> Counter[str]:
        """How many succeeded for each reason, in all currencies."""
        return sum((totals.reasons for totals in self.currencies.values()), Counter())

    @property
    def refund_rate(self) -> float | None:
        """The share of the paid purchases that is refunded, to four decimals."""
        if not self.paid_purchases:
            return None
        return float(round(Fraction(self.refunded_purchases, self.paid_purchases), 4))

    def add_refunds(self, currency: str, reason: str, count: int, amount: int) -> None:
        """Count refunds that succeeded."""
        totals = self.currencies.setdefault(currency, CurrencyTotals())
        totals.refunds += count
        totals.amount += amount
        totals.reasons[reason] += count

    def add_durations(self, seconds: int, count: int, milliseconds: int) -> None:
        """Count refunds that took so many whole seconds, and so many milliseconds together."""
        self.durations.by_second[seconds] += count
        self.durations.milliseconds += milliseconds

    def add_purchases(self, paid: int, refunded: int) -> None:
        """Count purchases."""
        self.paid_purchases += paid
        self.refunded_purchases += refunded


@dataclass(frozen=True)
class Backlog:
    """What is not done at one moment: counts by word and age."""

    open: Counter[tuple[str, str]]
    """By status and age since the asking."""
    reviews: Counter[tuple[str, str]]
    """By why a person is asked for, and the age of that."""


class MetricsReport:
    """Every figure of a range.

    :param start: its first moment.
    :param end: the moment after its last.
    :param backlog: as it is now, whatever the range.
    """

    def __init__(self, start: datetime, end: datetime, backlog: Backlog) -> None:
        self.start = start
        self.end = end
        self.backlog = backlog
        self.total = Period()
        self.month_starts = _split_months(start, end)
        self.months = {name_month(start): Period() for start in self.month_starts}
        """By month in UTC, as in ``2024-03``: every month that the range touches, in order."""

    def periods_of(self, month: str) -> tuple[Period, Period]:
        """Where something that happened in a month counts."""
        return self.months[month], self.total


def parse_bounds(start: datetime | None, end: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """The range of a report: as given, else up to the present month's end, and twelve months long.

    :raises InvalidRequest: 400; it ends before it begins, or is longer than ten years.
    """
    end = end or _next_month(now)
    start = start or _months_before(end, MONTHS)
    if start >= end:
        raise InvalidRequest("from must be before to.")
    if end - start > _LONGEST:
        raise InvalidRequest("from and to may be at most ten years apart.")
    return start, end


def _split_months(start: datetime, end: datetime) -> Sequence[datetime]:
    """The range's start, and each start of a month inside it."""
    month_starts = [start]
    while (start := _next_month(month_starts[-1])) < end:
        month_starts.append(start)
    return month_starts


def name_month(moment: datetime) -> str:
    """The month of a moment, in UTC, as in ``2024-03``."""
    return f"{moment.astimezone(timezone.utc):%Y-%m}"


def _next_month(moment: datetime) -> datetime:
    first = _first_of_month(moment)
    return _first_of_month(first + 31 * _DAY)


def _months_before(end: datetime, count: int) -> datetime:
    """The first moment of the first of so many months, of which the last has the moment before the end."""
    first = _first_of_month(end - timedelta(milliseconds=1))
    for _ in range(count - 1):
        first = _first_of_month(first - _DAY)
    return first


def _first_of_month(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)

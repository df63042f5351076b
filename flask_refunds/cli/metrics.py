"""``flask refunds metrics``: the figures that an owner wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import click
from flask.cli import with_appcontext

from ..extension import current_refunds
from ..metrics.report import AGES, OLDER, Durations, MetricsReport, Period
from ..money import decimal_amount
from ..schemas.rendering import render_report
from .errors import reporting_errors
from .options import as_json_option, range_options
from .output import moment, print_fields, print_json, print_table

_AMOUNTS = ("Month", "Currency", "Refunds", "Amount", "Average")
_ENDS = ("Month", "Refund rate", "Failed", "Canceled", "Mean time", "Median", "95th percentile")


@click.command("metrics")
@range_options
@as_json_option
@with_appcontext
@reporting_errors
def metrics(since: datetime | None, until: datetime | None, as_json: bool) -> None:
    """Print the figures of a range: twelve months up to the present one's end, where none is given.

    A refund counts in the month (UTC) in which it ended, a purchase in the one in which it was made. Tables
    show amounts in the currency's major unit, JSON in its minor one.
    """
    report = current_refunds().metrics_query.report(since, until)
    if as_json:
        print_json(render_report(report))
    else:
        _print(report)


def _print(report: MetricsReport) -> None:
    click.echo(f"From {moment(report.start)} up to {moment(report.end)}\n")
    print_table(_AMOUNTS, [*_amounts(report), *_rows("total", report.total)])
    click.echo()
    ends = [_ends(name, period) for name, period in report.months.items()]
    print_table(_ENDS, [*ends, _ends("total", report.total)])
    click.echo()
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(report.total.reasons.items()))
    print_fields(
        [
            ("Reasons", reasons or "none"),
            ("Open now", _standing(report.backlog.open)),
            ("Need a person", _standing(report.backlog.reviews)),
        ]
    )


def _amounts(report: MetricsReport) -> Iterator[list[str]]:
    for name, period in report.months.items():
        yield from _rows(name, period)


def _rows(name: str, period: Period) -> Iterator[list[str]]:
    if not period.currencies:
        yield [name, "", "0", "", ""]
    for code, paid in sorted(period.currencies.items()):
        amounts = (decimal_amount(paid.amount, code), decimal_amount(paid.average_amount, code))
        yield [name, code.upper(), str(paid.refunds), *amounts]


def _ends(name: str, period: Period) -> list[str]:
    rate = "" if period.refund_rate is None else f"{period.refund_rate:.2%}"
    return [name, rate, str(period.failed), str(period.canceled), *_times(period.durations)]


def _times(durations: Durations) -> list[str]:
    return [
        "" if each is None else f"{each:g} s" for each in (durations.mean, durations.median, durations.p95)
    ]


def _standing(counts: Counter[tuple[str, str]]) -> str:
    if not counts:
        return "none"
    ages = (*AGES, OLDER)
    by_word = sorted(counts.items(), key=lambda each: (each[0][0], ages.index(each[0][1])))
    told = ", ".join(f"{count} {word} {age.replace('_', ' ')}" for (word, age), count in by_word)
    return f"{counts.total()}: {told}"

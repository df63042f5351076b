"""``flask refunds metrics``: the refund report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import click

from ..extension import current_refunds
from ..metrics.report import AGES, OLDER, Durations, MetricsReport, Period
from ..money import decimal_amount
from ..schemas.rendering import render_report
from .errors import refunds_command
from .options import as_json_option, range_options
from .output import format_time, print_fields, print_json, print_table

_AMOUNTS = ("Month", "Currency", "Refunds", "Amount", "Average")
_OUTCOMES = ("Month", "Refund rate", "Failed", "Canceled", "Mean time", "Median", "95th percentile")


@refunds_command("metrics")
@range_options
@click.option("--fresh", is_flag=True, help="Count the purchases of all days now.")
@as_json_option
def metrics(since: datetime | None, until: datetime | None, fresh: bool, as_json: bool) -> None:
    """Print a refund report: by default for twelve months, until the end of the current one.

    A refund counts in the month (UTC) in which it ended, a purchase in the month in which it was created.
    Tables show amounts in the currency's major unit, JSON in its minor unit.
    """
    report = current_refunds().metrics_query.report(since, until, fresh=fresh)
    if as_json:
        print_json(render_report(report))
    else:
        _print(report)


def _print(report: MetricsReport) -> None:
    periods = {**report.months, "total": report.total}
    click.echo(f"From {format_time(report.start)} to {format_time(report.end)}\n")
    print_table(_AMOUNTS, [row for name, period in periods.items() for row in _amounts(name, period)])
    click.echo()
    print_table(_OUTCOMES, [_outcomes(name, period) for name, period in periods.items()])
    click.echo()
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(report.total.reasons.items()))
    print_fields(
        [
            ("Reasons", reasons or "none"),
            ("Open now", _format_counts(report.backlog.open)),
            ("Need review", _format_counts(report.backlog.reviews)),
        ]
    )
    if (as_of := report.total.purchases_as_of) is not None:
        when = format_time(as_of)
        click.echo(f"Purchases of earlier days were counted at {when} or later. --fresh counts them now.")


def _amounts(name: str, period: Period) -> Iterator[list[str]]:
    if not period.currencies:
        yield [name, "", "0", "", ""]
    for code, totals in sorted(period.currencies.items()):
        amounts = (decimal_amount(totals.amount, code), decimal_amount(totals.average_amount, code))
        yield [name, code.upper(), str(totals.refunds), *amounts]


def _outcomes(name: str, period: Period) -> list[str]:
    rate = "" if period.refund_rate is None else f"{period.refund_rate:.2%}"
    return [name, rate, str(period.failed), str(period.canceled), *_times(period.durations)]


def _times(durations: Durations) -> list[str]:
    return [
        "" if each is None else f"{each:.12g} s" for each in (durations.mean, durations.median, durations.p95)
    ]


def _format_counts(counts: Counter[tuple[str, str]]) -> str:
    if not counts:
        return "none"
    ages = (*AGES, OLDER)
    ordered = sorted(counts.items(), key=lambda each: (each[0][0], ages.index(each[0][1])))
    details = ", ".join(f"{count} {key} {age.replace('_', ' ')}" for (key, age), count in ordered)
    return f"{counts.total()}: {details}"

"""``flask refunds check``: whether refunds can be made here, before the first customer asks."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
from flask.cli import with_appcontext

from ..clock import now
from ..errors import ConfigurationError, DatabaseUnavailable
from ..extension import current_refunds
from .diagnostics import CheckResult, Status, run_checks
from .errors import EXIT_NEEDS_REVIEW, reporting_errors
from .options import as_json_option
from .output import print_json, printable


@click.command("check")
@as_json_option
@with_appcontext
@reporting_errors
def check(as_json: bool) -> None:
    """Examine the config, Stripe's key and events, the clock, MongoDB and its indexes.

    Each line says ok, or a note, or what to do. Asks Stripe for a refund of a payment that cannot exist, and
    moves no money. Exits with 1 where there is something to do, else with 0.
    """
    found = []
    for finding in _examine():
        found.append(finding)
        if not as_json:
            words = printable(finding.words)
            click.echo(f"{finding.verdict.value:5}  {finding.subject:11}  {words}")
    in_order = all(each.verdict is not Status.FAIL for each in found)
    if as_json:
        print_json({"ok": in_order, "findings": list(map(_shown, found))})
    if not in_order:
        sys.exit(EXIT_NEEDS_REVIEW)


def _examine() -> Iterator[CheckResult]:
    try:
        refunds = current_refunds()
    except ConfigurationError as error:
        for key, problem in error.problems.items():
            yield CheckResult(key, Status.FAIL, problem)
        return
    except DatabaseUnavailable:
        yield CheckResult("MongoDB", Status.FAIL, "the name in MONGO_URI cannot be resolved. Check it")
        return
    yield CheckResult("config", Status.OK, "every setting can be used")
    yield from run_checks(refunds.settings, refunds.database, refunds.gateway, now)


def _shown(finding: CheckResult) -> dict[str, str]:
    return {"subject": finding.subject, "verdict": finding.verdict.value, "words": finding.words}

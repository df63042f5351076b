"""``flask refunds check``: check the setup before the first refund."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
from flask import Flask, current_app

from ..clock import now
from ..errors import ConfigurationError, DatabaseUnavailable
from ..extension import check_config, current_refunds
from .app_checks import check_app
from .check_result import CheckResult, Status, fail, ok
from .diagnostics import run_checks
from .errors import EXIT_NEEDS_REVIEW, refunds_command
from .options import as_json_option
from .output import print_json, printable


@refunds_command("check")
@as_json_option
def check(as_json: bool) -> None:
    """Check the config, your app's own webhook, Stripe's key and events, the clock, MongoDB and its indexes.

    Each line is OK, a NOTE, or a FAIL with what to do. No money moves: the key is checked with a payment that
    can't exist. Exits with 1 if a check failed, else with 0.
    """
    results = []
    for result in _run():
        results.append(result)
        if not as_json:
            click.echo(f"{result.status.value.upper():4}  {result.name:11}  {printable(result.message)}")
    passed = all(each.status is not Status.FAIL for each in results)
    if as_json:
        checks = [
            {"name": each.name, "status": each.status.value, "message": each.message} for each in results
        ]
        print_json({"ok": passed, "checks": checks})
    if not passed:
        sys.exit(EXIT_NEEDS_REVIEW)


def _run() -> Iterator[CheckResult]:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    try:
        check_config(app)
        yield ok("config", "Every setting is valid.")
    except ConfigurationError as error:
        for key, problem in error.problems.items():
            yield fail(key, problem)
    except DatabaseUnavailable as error:
        raised = error.__cause__  # by the app's function; PyMongo's own lookup of a host name leaves none
        yield fail(
            "MongoDB",
            f"REFUNDS_MONGO raised {type(raised).__name__}: its database doesn't answer."
            if raised
            else "The host name in MONGO_URI can't be resolved.",
        )
        return
    try:
        refunds = current_refunds()
    except ConfigurationError:
        return  # otherwise only settings for tokens are invalid, on which nothing below depends
    yield from check_app(app, refunds.settings)
    yield from run_checks(refunds.settings, refunds.database, refunds.gateway, now)

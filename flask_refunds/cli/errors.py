"""How every command speaks: its exit status, its errors, and what it says of a refund that needs a person."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NoReturn

import click
from flask import current_app

from ..errors import RefundsError
from ..models import Refund
from .output import moment

EXIT_NEEDS_REVIEW = 1
"""Something needs a person."""
EXIT_FAILED = 2
"""The command could not do its work."""


def reporting_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Tell errors in words, without a trace; with one in Flask's debug mode, where it is a bug."""

    @wraps(command)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RefundsError as error:
            fail(str(error))
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if current_app.debug:
                raise
            fail(
                f"{RefundsError.default_message} ({type(error).__name__}; --debug before refunds shows where)"
            )

    return told


def fail(words: str) -> NoReturn:
    """End with words on stderr."""
    click.echo(f"Error: {words}", err=True)
    sys.exit(EXIT_FAILED)


def print_reviews(refunds: Sequence[Refund]) -> None:
    """Say of each refund why it needs a person, since when, and what to do."""
    for refund in refunds:
        review = refund.review
        if review is None:
            continue
        click.echo(f"{refund.id}  {refund.status.value}  {review.code} since {moment(review.since)}")
        click.echo(f"    {review.recommended_action}")

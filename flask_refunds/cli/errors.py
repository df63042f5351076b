"""How every command runs, reports errors and exits."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import click
from flask import current_app
from flask.cli import with_appcontext
from pymongo.errors import OperationFailure

from ..errors import DatabaseUnavailable, RefundsError

EXIT_NEEDS_REVIEW = 1
"""The command worked, and a person must act on what it reported."""
EXIT_FAILED = 2
"""The command couldn't do its work."""


def refunds_command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command that runs in an app context and reports errors as text."""
    return lambda function: click.command(name)(with_appcontext(_report_errors(function)))


def _report_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Print an error without its traceback, which Flask's debug mode shows for unexpected ones."""

    @wraps(function)
    def reported(*args: Any, **kwargs: Any) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # As on stderr, a character that the terminal's encoding lacks must not end the command.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return function(*args, **kwargs)
        except RefundsError as error:
            answer = mongodb_reason(error) if isinstance(error, DatabaseUnavailable) else None
            fail(" ".join(filter(None, [str(error), answer, error.hint])))
        except click.Abort:  # Ctrl-C, or the end of the input, at a question
            fail("Not confirmed. Nothing was refunded or changed.")
        except KeyboardInterrupt:
            fail("Interrupted. A refund that was started isn't lost and can't be made twice.")
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception:
            if current_app.debug:
                raise
            fail(f"{RefundsError.default_message} For the cause, run the command with flask --debug refunds.")

    return reported


def mongodb_reason(error: Exception) -> str:
    """Return what MongoDB answered, or that it didn't."""
    cause = error.__cause__ or error
    return mongodb_answer(error) or (
        f"MongoDB doesn't answer ({type(cause).__name__}). Check MONGO_URI, and that there is a primary."
    )


def mongodb_answer(error: Exception) -> str | None:
    """Return what MongoDB answered, such as the privilege that its user lacks; ``None`` without an answer."""
    cause = error.__cause__ or error
    details = cause.details if isinstance(cause, OperationFailure) else None
    return (
        f"MongoDB answered: {details['errmsg'][:200].rstrip('.')}."
        if details and "errmsg" in details
        else None
    )


def fail(message: str) -> NoReturn:
    """Print an error on stderr and exit."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(EXIT_FAILED)

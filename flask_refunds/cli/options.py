"""Options that several commands share."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar, get_args

import click

from ..models import Reason, RefundStatus
from ..schemas.inputs import parse_bulk_name, parse_end, parse_moment
from ..storage.search import RefundFilter

_T = TypeVar("_T")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def reading(parse: Callable[[str], _T]) -> Callable[..., _T | None]:
    """An option's callback.

    :param parse: reads it, and refuses it with a ``ValueError`` that says what it must be.
    """

    def read(context: click.Context, option: click.Parameter, text: str | None) -> _T | None:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(f"must be {error}", context, option) from None

    return read


def _moment_option(name: str, to: str, parse: Callable[[str], datetime], words: str) -> Decorator:
    """An option that takes a day (UTC) or a time with its offset."""

    return click.option(name, to, metavar="DAY|TIME", callback=reading(parse), help=words)


def range_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--from`` and ``--to``, passed on as ``since`` and ``until``."""

    @_moment_option(
        "--from",
        "since",
        parse_moment,
        "Then or later: a day (UTC), or a time like 2024-03-15T10:30:00Z.",
    )
    @_moment_option("--to", "until", parse_end, "Before then; a day's own 24 hours belong to the range.")
    @wraps(command)
    def ranged(*args: Any, since: datetime | None, until: datetime | None, **kwargs: Any) -> Any:
        if since is not None and until is not None and since >= until:
            raise click.UsageError("--from must be before --to.")
        return command(*args, since=since, until=until, **kwargs)

    return ranged


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which refunds are wanted, passed on as one ``wanted``."""

    @click.option("--status", type=click.Choice([each.value for each in RefundStatus]))
    @click.option(
        "--needs-review/--no-needs-review", default=None, help="Only those that (do not) ask for a person."
    )
    @click.option("--reason", type=click.Choice(get_args(Reason)))
    @click.option("--requested-by", metavar="WHO", help="A user's id, or command:NAME.")
    @click.option("--bulk-run", metavar="NAME", callback=reading(parse_bulk_name), help="Of this bulk run.")
    @range_options
    @wraps(command)
    def filtered(
        *args: Any,
        status: str | None,
        needs_review: bool | None,
        reason: Reason | None,
        requested_by: str | None,
        bulk_run: str | None,
        since: datetime | None,
        until: datetime | None,
        **kwargs: Any,
    ) -> Any:
        wanted = RefundFilter(
            status=RefundStatus(status) if status else None,
            needs_review=needs_review,
            reason=reason,
            requested_by=requested_by,
            bulk_run=bulk_run,
            since=since,
            until=until,
        )
        return command(*args, wanted=wanted, **kwargs)

    return filtered


def actor_option(words: str) -> Decorator:
    """``--actor``: who is at the keyboard.

    :param words: what he does, for the help.
    """
    return click.option("--actor", metavar="NAME", default=_user_name, help=f"{words} [your user name here]")


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user need not have a name

"""Options that several commands share."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar, get_args

import click

from ..metrics.report import check_range
from ..models import Reason, RefundStatus
from ..schemas.inputs import parse_bulk_name, parse_end, parse_moment
from ..storage.search import RefundFilter

_FILTERS = ("needs_review", "reason", "requested_by", "user", "bulk_run", "payment_intent", "since", "until")
_T = TypeVar("_T")


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user may have no name


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
actor_option = click.option(
    "--actor", metavar="NAME", default=_user_name, help="Your name, for the ledger. [your user name]"
)
rate_option = click.option(
    "--rate",
    type=click.FloatRange(min=0.1),
    help="Requests to Stripe per second, of all processes together. [80 with a live key, 20 with a test key]",
)
reason_option = click.option(
    "--reason",
    type=click.Choice(get_args(Reason)),
    help="The reason sent to Stripe. With fraudulent, Stripe blocks the card and the e-mail address.",
)
note_option = click.option(
    "--note", help="Internal note, at most 500 characters. It is stored in the ledger only."
)


def parsed_by(parse: Callable[[str], _T]) -> Callable[..., _T | None]:
    """Return an option's callback.

    :param parse: raises a ``ValueError`` that says what the value must be.
    """

    def callback(context: click.Context, option: click.Parameter, text: str | None) -> _T | None:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(f"must be {error}", context, option) from None

    return callback


def range_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--from`` and ``--to``, passed on as ``since`` and ``until``."""

    @click.option(
        "--from",
        "since",
        metavar="DAY|TIME",
        callback=parsed_by(parse_moment),
        help="The start of the range: a day (UTC), or a time like 2024-03-15T10:30:00Z.",
    )
    @click.option(
        "--to",
        "until",
        metavar="DAY|TIME",
        callback=parsed_by(parse_end),
        help="The end of the range. A day is included, a time is excluded.",
    )
    @wraps(command)
    def ranged(*args: Any, since: datetime | None, until: datetime | None, **kwargs: Any) -> Any:
        since, until = check_range(since, until)
        return command(*args, since=since, until=until, **kwargs)

    return ranged


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select refunds, passed on as ``filters``."""

    @click.option("--status", type=click.Choice([each.value for each in RefundStatus]))
    @click.option("--needs-review/--no-needs-review", default=None, help="With, or without, an open review.")
    @click.option("--reason", type=click.Choice(get_args(Reason)))
    @click.option("--requested-by", metavar="ID|NAME", help="Requested by this user ID or name.")
    @click.option("--user", metavar="ID|EMAIL", help="Of the purchases of this user.")
    @click.option("--bulk-run", metavar="NAME", callback=parsed_by(parse_bulk_name), help="Of this bulk run.")
    @click.option(
        "--payment-intent", metavar="ID", help="Of this payment: pi_…, or a purchase's ch_… or cs_…."
    )
    @range_options
    @wraps(command)
    def filtered(*args: Any, status: str | None, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in _FILTERS}
        filters = RefundFilter(status=RefundStatus(status) if status else None, **given)
        return command(*args, filters=filters, **kwargs)

    return filtered

"""How every command speaks: its exit status, its errors, and what it says of a refund that needs a person."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from ..errors import RefundsError
from ..models import Refund

EXIT_ATTENTION = 1
"""Something needs a person."""
EXIT_FAILED = 2
"""The command could not do its work."""


def reporting_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Tell the library's errors in words, without a trace."""

    @wraps(command)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RefundsError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(EXIT_FAILED)

    return told


def tell_attention(refunds: Sequence[Refund]) -> None:
    """Say of each refund why it needs a person, since when, and what to do."""
    for refund in refunds:
        attention = refund.attention
        if attention is None:
            continue
        click.echo(
            f"{refund.id}  {refund.status.value}  {attention.why} since {attention.since:%Y-%m-%d %H:%M}Z"
        )
        click.echo(f"    {attention.what_to_do}")

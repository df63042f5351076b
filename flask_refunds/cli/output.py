"""How commands print: tables for people, JSON for programs. Only this module knows whether rich is there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import click

from ..models import Refund
from ..money import decimal_amount
from ..schemas.rendering import to_json


def print_json(value: Any) -> None:
    """Print one JSON value on one line."""
    click.echo(to_json(value))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns.

    By rich, where it is installed and a person is looking; else as aligned text, whole lines and nothing cut,
    for ``grep`` and for files.
    """
    safe = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty() or not _print_rich(headers, safe):
        _print_plain(headers, safe)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print what is known of one thing, a line each; what is not known is left out."""
    width = max((len(name) for name, _ in fields), default=0)
    for name, value in fields:
        if value:
            click.echo(f"{name.ljust(width)}  {printable(value)}")


def printable(text: str) -> str:
    """Text without what would move the cursor, colour the screen or break the line: others wrote it."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def money(refund: Refund) -> str:
    """A refund's amount and currency; nothing until Stripe has told them."""
    if refund.amount is None or refund.currency is None:
        return ""
    return f"{decimal_amount(refund.amount, refund.currency)} {refund.currency.upper()}"


def moment(time: datetime | None) -> str:
    """A time in UTC, to the second."""
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}Z" if time else ""


def _print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text, so that [red] in a note stays what it is
    Console().print(table)
    return True


def _print_plain(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())

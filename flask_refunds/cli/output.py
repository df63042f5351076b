"""Print tables for people and JSON for programs. Only this module uses rich, which is optional."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any
from unicodedata import category

import click

from ..models import Refund
from ..schemas.rendering import to_json


def print_json(value: Any) -> None:
    """Print a JSON value on one line, in UTF-8 in any locale (RFC 8259, section 8.1)."""
    click.echo(to_json(value).encode("utf-8"))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns.

    Uses rich on a terminal, if it is installed. Otherwise each row is one complete line, for ``grep``.
    """
    safe = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty() or not _print_rich(headers, safe):
        _print_plain(headers, safe)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one per line, without the empty ones."""
    width = max((len(name) for name, _ in fields), default=0)
    for name, value in fields:
        if value:
            click.echo(f"{name.ljust(width)}  {printable(value)}")


def print_reviews(refunds: Sequence[Refund]) -> None:
    """Print the open review of each refund, and what to do about it."""
    for refund in refunds:
        if review := refund.review:
            click.echo(
                f"{refund.id}  {refund.status.value}  {review.code.value} since {format_time(review.since)}\n"
                f"    {review.message} {review.recommended_action}"
            )


def printable(text: str) -> str:
    """Replace what would move the cursor, color the screen or break the line: the text is from outside."""
    return "".join(each if each.isprintable() or category(each) == "Zs" else "\ufffd" for each in text)


def format_amount(refund: Refund) -> str:
    """Return a refund's amount; until Stripe has reported it and its currency, that of the requested part."""
    requested = f"{refund.part.amount} minor units" if refund.part else ""
    return refund.amount_text or requested


def format_time(time: datetime) -> str:
    """Return a time in UTC, to the second."""
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}Z"


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
        table.add_row(*(Text(cell) for cell in row))  # Text, because a note may contain rich's markup
    Console().print(table)
    return True


def _print_plain(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())

"""CSV (RFC 4180) that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any, TextIO

from ..money import decimal_amount

# What a spreadsheet takes as the start of a formula (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_row(stream: TextIO, cells: Iterable[Any]) -> None:
    """Write a row. Text that a spreadsheet would take as a formula gets a ``'`` in front."""
    csv.writer(stream).writerow(
        [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells]
    )


def decimal_cell(amount: int | None, currency: str | None) -> str | None:
    """Return an amount in the currency's major unit, or ``None`` if it is unknown."""
    return None if amount is None or currency is None else decimal_amount(amount, currency)

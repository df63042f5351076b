"""CSV (RFC 4180) that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import Any, TextIO

from ..money import decimal_amount

# Where a spreadsheet would begin a formula (https://owasp.org/www-community/attacks/CSV_Injection). In many
# countries, Excel splits at semicolons instead of commas. It then ignores the quotes around a cell, and a new
# line is a new row.
_FORMULA = re.compile(r'^(?=[\t\r\n])|(^|[;\t\r\n]"*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])')


def write_row(stream: TextIO, cells: Iterable[Any]) -> None:
    """Write a row. What a spreadsheet would take as a formula gets a ``'`` in front."""
    csv.writer(stream).writerow(
        [_FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell for cell in cells]
    )


def decimal_cell(amount: int | None, currency: str | None) -> str | None:
    """Return an amount in the currency's major unit, or ``None`` if it is unknown."""
    return None if amount is None or currency is None else decimal_amount(amount, currency)

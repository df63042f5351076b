"""CSV that a spreadsheet reads as it is meant (RFC 4180, in UTF-8)."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# What makes a spreadsheet take a cell for a formula (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_cell(value: Any) -> Any:
    """A cell's value; text that would be taken for a formula gets a ``'`` in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Standard output for a CSV writer: its encoding is the terminal's, and CSV ends its lines by itself."""
    target = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    try:
        yield target
    finally:
        target.detach()

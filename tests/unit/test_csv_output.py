"""CSV output: what spreadsheets would take as a formula, however they split it."""

from __future__ import annotations

import csv
import io

import pytest

from flask_refunds.cli.csv_output import write_row

FORMULA = ("=", "+", "-", "@", "\uff1d")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "-1",
        "a;=1+1",
        'a;"=1+1"',
        ';""@x',
        "a\t+1",
        "a\n-1",
        "a\r\n=1",
        "\n=1",
        "\t\t=1",
        "a;\uff1d1",
        "=1;=2",
    ],
)
def test_no_cell_begins_with_a_formula(text: str, delimiter: str) -> None:
    stream = io.StringIO()
    write_row(stream, ["pi_1:1", text, text, "9.00"])
    rows = csv.reader(io.StringIO(stream.getvalue(), newline=""), delimiter=delimiter)
    assert not [cell for row in rows for cell in row if cell.startswith(FORMULA)]


@pytest.mark.parametrize("text", ["two\n\nlines", "late; -5 days", "a - b", "1;2", "a@b.example"])
def test_other_text_stays_as_it_is(text: str) -> None:
    stream = io.StringIO()
    write_row(stream, [text])
    assert list(csv.reader(io.StringIO(stream.getvalue(), newline=""))) == [[text]]

"""The project's text follows the rules of CONTRIBUTING.md that a program can check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

HABITS = {
    "gendered pronoun": r"he|him|his|himself|she|her|hers|herself",
    "asks for a person": r"(ask(s|ed|ing)? for|needs?) (nobody|somebody|you|a person)",
    "nobody or whoever": r"nobody|whoever|whomever|whosoever",
    "is no, instead of isn't a": r"(?<!there )(is|are|was|were) no (?!longer|more)\w+",
    "stands, instead of is": r"stands? (at|below|for good|here|in(?! for)|there|twice)",
    "in words": r"in words",
    "anew or for good": r"anew|hither|for good",
    "private vocabulary": (
        r"books|climb(s|ed|ing)?|crews?|doers?|intake|outages?|rungs?|triaged?|triages"
        r"|(take[ns]?|taking|took) in|rows? of the ledger|ledger('s)? rows?"
    ),
}
"""By habit: a pattern in lowercase. A space also matches a line break, a hyphen and an underscore."""

ALLOWED: set[tuple[str, str]] = set()
"""Exceptions, as (file, exact phrase in lowercase). An exception that matches nothing fails a test."""

FOLDERS = (".github", "docs", "examples", "flask_refunds", "tests")
SUFFIXES = {".css", ".html", ".js", ".json", ".md", ".py", ".svg", ".toml", ".txt", ".yaml", ".yml"}


def find(habit: str, text: str) -> Iterator[tuple[int, str]]:
    """Find a habit. Return the number of line breaks before each phrase, and the phrase."""
    pattern = HABITS[habit].replace(" ", r"[\s_-]")
    lines = re.sub(r"\n[ \t#*/]+", "\n", text.lower())  # without indentation and comment signs
    for match in re.finditer(rf"(?<![a-z0-9])({pattern})(?![a-z0-9])", lines):
        yield lines.count("\n", 0, match.start()), match[0].replace("\n", " ")


@cache
def texts() -> dict[str, str]:
    """Return each file's text by its name, without vendored files and this one."""
    files = {*ROOT.glob("*.*"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*"))}
    return {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
        for file in sorted(files - {Path(__file__)})
        if file.suffix in SUFFIXES and not {"_build", "vendor"} & set(file.parts)
    }


def find_in_project(habit: str) -> Iterator[tuple[str, int, str]]:
    """Find a habit in every file. Return file, line and phrase; line 0 is the file's name."""
    for name, text in texts().items():
        for line, phrase in find(habit, f"{name}\n{text}"):
            yield name, line, phrase


@pytest.mark.parametrize("habit", HABITS)
def test_text_follows_the_writing_rules(habit: str) -> None:
    found = [each for each in find_in_project(habit) if (each[0], each[2]) not in ALLOWED]
    report = "\n".join(f"{name}:{line}: {phrase}" for name, line, phrase in found)
    assert not found, f"{len(found)} times {habit!r}:\n{report}"


def test_every_exception_is_needed() -> None:
    found = {(name, phrase) for habit in HABITS for name, _, phrase in find_in_project(habit)}
    assert found >= ALLOWED


@pytest.mark.parametrize(
    ("habit", "text"),
    [
        ("gendered pronoun", "what he found"),
        ("gendered pronoun", "def test_his_token()"),
        ("asks for a person", "it asks\n    # for nobody"),
        ("asks for a person", "that needs a person"),
        ("nobody or whoever", "a key that nobody published"),
        ("is no, instead of isn't a", "that is no id"),
        ("stands, instead of is", "what is done stands in the ledger"),
        ("in words", "told in words"),
        ("anew or for good", "make the refund anew"),
        ("private vocabulary", "takes in an event"),
        ("private vocabulary", "a status only climbs"),
        ("private vocabulary", "from .books import"),
    ],
)
def test_habit_is_detected(habit: str, text: str) -> None:
    assert list(find(habit, text))


@pytest.mark.parametrize(
    "text",
    ["this", "the header", "there is no refund", "it is no longer open", "a booking", "stands in for"],
)
def test_plain_english_is_accepted(text: str) -> None:
    assert not any(list(find(habit, text)) for habit in HABITS)

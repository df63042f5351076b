"""What ``setup.cfg`` promises of the package, and what is checked of it elsewhere."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOR_DEVELOPERS = {"demo", "dev", "docs", "oldest", "test"}
"""Extras that no host installs."""
PIN = re.compile(r"(?P<name>[\w-]+)(\[\w+\])?[>=]=(?P<version>[\d.]+)")


def _pins(lines: str) -> dict[str, tuple[int, ...]]:
    """The versions named, by package; versions that differ in trailing zeros are one."""
    found = {}
    for line in lines.splitlines():
        pin = PIN.match(line)
        if pin:
            version = [int(part) for part in pin["version"].split(".")]
            while version[-1] == 0:
                version.pop()
            found[pin["name"].lower()] = tuple(version)
    return found


def test_the_oldest_versions_that_are_allowed_are_those_that_are_tested() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    allowed = _pins(setup["options"]["install_requires"])
    for extra, requirements in setup["options.extras_require"].items():
        if extra not in FOR_DEVELOPERS:
            allowed |= _pins(requirements)
    assert len(allowed) > 8
    tested = _pins((ROOT / "tests" / "oldest.txt").read_text())
    brought_along = {"werkzeug", "click"}
    assert {name: tested.get(name) for name in allowed} == allowed
    assert tested.keys() - allowed.keys() == brought_along

"""The package's metadata in ``setup.cfg``."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOR_DEVELOPERS = {"demo", "dev", "docs", "oldest", "test"}
"""Extras that apps don't install."""
PIN = re.compile(r"(?P<name>[\w-]+)(\[\w+\])?[>=]=(?P<version>[\d.]+)")


def _pins(lines: str) -> dict[str, tuple[int, ...]]:
    """Return the version of each package, without trailing zeros."""
    found = {}
    for line in lines.splitlines():
        pin = PIN.match(line)
        if pin:
            version = [int(part) for part in pin["version"].split(".")]
            while version[-1] == 0:
                version.pop()
            found[pin["name"].lower()] = tuple(version)
    return found


def test_oldest_allowed_versions_are_the_tested_ones() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    allowed = _pins(setup["options"]["install_requires"])
    for extra, requirements in setup["options.extras_require"].items():
        if extra not in FOR_DEVELOPERS:
            allowed |= _pins(requirements)
    assert len(allowed) > 8
    tested = _pins((ROOT / "tests" / "oldest.txt").read_text())
    indirect = {"werkzeug", "click"}
    assert {name: tested.get(name) for name in allowed} == allowed
    assert tested.keys() - allowed.keys() == indirect

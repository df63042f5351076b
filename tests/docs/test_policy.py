"""The supported versions of docs/policy.md are those of the package and of the test workflow."""

from __future__ import annotations

import re
from configparser import ConfigParser

import pytest
import yaml

from tests.docs.pages import ROOT, read

SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")
PYTHONS = re.findall(r":: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)


def supported(name: str) -> str:
    return read("docs/policy.md").partition(f"\n| {name} | ")[2].partition(" |")[0]


def test_python_versions_match_classifiers_and_minimum() -> None:
    assert supported("Python") == f"{PYTHONS[0]} to {PYTHONS[-1]}"
    assert SETUP["options"]["python_requires"] == f">={PYTHONS[0]}"


def test_every_supported_python_is_tested() -> None:
    if not (ROOT / ".github").exists():
        pytest.skip("NO WORKFLOWS: run this test in a clone of the repository")
    jobs = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]
    [own] = [step["with"]["python-version"] for step in jobs["ci"]["steps"] if "setup-python" in str(step)]
    assert sorted([own, *jobs["python"]["strategy"]["matrix"]["python"]]) == sorted(PYTHONS)


@pytest.mark.parametrize(
    ("name", "package"), [("Flask", "Flask"), ("PyMongo", "PyMongo"), ("stripe-python", "stripe")]
)
def test_minimum_version_matches_requirement(name: str, package: str) -> None:
    [minimum] = re.findall(rf"^{package}>=(.+)$", SETUP["options"]["install_requires"], re.MULTILINE)
    assert supported(name) == f"{minimum} or later"

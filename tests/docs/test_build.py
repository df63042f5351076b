"""The HTML documentation builds without warnings, and documents exactly the public names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import flask_refunds
import flask_refunds.testing
from tests.docs.pages import PAGES, ROOT, read


def build(source: Path, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-b", "html", "-d", f"{to}-doctrees"]
    return subprocess.run(
        [*command, str(source), str(to)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("site") / "html"
    done = build(ROOT / "docs", to)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return to


class Links(HTMLParser):
    """The link targets and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named: dict[str, Any] = dict(attrs)
        self.anchors.add(named.get("id"))
        if tag in ("a", "img") and (to := named.get("href") or named.get("src")):
            self.targets.add(to)


def test_build_has_no_warnings_and_no_broken_links(site: Path) -> None:
    pages = {page.name: Links(page.read_text(encoding="utf-8")) for page in site.glob("*.html")}
    assert {f"{Path(page).stem}.html" for page in PAGES if page.startswith("docs/")} <= pages.keys()
    for name, page in pages.items():
        for target in page.targets:
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            assert not path or (site / path).exists(), f"{name}: {target}"
            if anchor and (path or name) in pages:
                assert anchor in pages[path or name].anchors, f"{name}: {target}"


def test_warning_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_text(read("docs/conf.py"))
    (source / "index.md").write_text("# A page\n\n[A broken link](missing.md).\n")
    assert build(source, tmp_path / "html").returncode != 0


def test_reference_has_exactly_the_public_names() -> None:
    named: dict[str, set[str]] = {}
    for page in ("docs/api.md", "docs/test-kit.md"):
        modules = re.split(r"\.\. py:module:: (\S+)", read(page))[1:]
        for module, text in zip(modules[::2], modules[1::2], strict=True):
            named[module] = set(re.findall(r"^\.\. (?:auto|py:)\w+:: ([\w.]+)$", text, re.MULTILINE))
    models = (
        "Card",
        "Failure",
        "Mark",
        "Part",
        "Payment",
        "Refund",
        "RefundStatus",
        "ReviewCode",
        "Review",
    )
    values = {f"flask_refunds.models.{name}" for name in models}
    values |= {"flask_refunds.core.results.RefundResult", "flask_refunds.core.preview.Preview"}
    values |= {"flask_refunds.core.reconcile.ReconcileReport", "flask_refunds.core.sweep.SweepReport"}
    values |= {"flask_refunds.bulk.BulkPlan", "flask_refunds.bulk.BulkSummary"}
    values |= {"flask_refunds.bulk.BulkResult", "flask_refunds.bulk.Result"}
    assert named.pop("flask_refunds") == {*flask_refunds.__all__} - {*models} | values
    assert named.pop("flask_refunds.prometheus") == {"instrument"}
    assert named.pop("flask_refunds.testing") == {*flask_refunds.testing.__all__}
    assert not named

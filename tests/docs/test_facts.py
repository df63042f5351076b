"""What the documentation says in tables is so: metrics, tests, faults, files and statuses are there."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from typing import Any

from flask_refunds.models import RefundStatus
from flask_refunds.testing import Fault
from tests.docs.checks import check_query, metrics
from tests.docs.pages import ROOT, read


def test_the_metrics_of_the_page_are_those_of_a_scrape() -> None:
    named = set(re.findall(r"^\| `(flask_refunds_\w+)`", read("docs/metrics.md"), re.MULTILINE))
    assert named == {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics()}


def _queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads(read("docs/grafana.json"))
    queries = _queries(dashboard)
    for query in queries:
        check_query(query)
    shown = " ".join(queries)
    for metric in re.findall(r"^\| `(flask_refunds_\w+)`", read("docs/metrics.md"), re.MULTILINE):
        assert metric in shown, f"{metric} is on no panel"


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(read("docs/grafana.json"))
    assert {"uid", "title", "schemaVersion", "panels", "templating"} <= dashboard.keys()
    assert [each["type"] for each in dashboard["templating"]["list"]] == ["datasource"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


def test_every_test_that_the_threat_model_names_is_there() -> None:
    rows = [line for line in read("docs/security.md").splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert named, f"nothing shows this: {row}"
        for path, test in named:
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"


def test_every_file_and_module_that_the_inside_names_is_there() -> None:
    page = read("docs/protocol.md")
    files = re.findall(r"`(tests/[\w/]+\.py)`", page)
    table = page.partition("| Layer |")[2].partition("\n\n")[0]
    modules = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[2])]
    assert len(files) > 5
    assert len(modules) > 20
    for path in files:
        assert (ROOT / path).exists(), path
    for module in modules:
        assert find_spec(f"flask_refunds.{module}"), module


def test_every_fault_of_the_sandbox_is_told() -> None:
    page = read("docs/testing.md").partition("## Faults")[2].partition("\n## ")[0]
    told = [
        name
        for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(told) == sorted(fault.value for fault in Fault)


def test_every_status_of_a_refund_is_told_in_the_order_of_the_ladder() -> None:
    table = read("docs/life.md").partition("| Status |")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [status.value for status in RefundStatus]


def test_the_picture_names_every_status_and_says_itself_in_words() -> None:
    picture = read("docs/images/life.svg")
    assert '<svg xmlns="http://www.w3.org/2000/svg" viewBox=' in picture
    assert 'role="img" aria-labelledby="title desc"' in picture
    assert "prefers-color-scheme: dark" in picture
    for status in RefundStatus:
        assert f">{status.value}</text>" in picture


def test_every_public_issue_is_linked_by_its_number() -> None:
    """A link whose words and address disagree sends the reader to somebody else's trouble."""
    for page in ("README.md", "docs/comparison.md"):
        links = re.findall(r"\[([\w./-]*#\d+)\]\((https://github\.com/[^)]+)\)", read(page))
        assert len(links) > 5
        for words, address in links:
            name, _, number = words.partition("#")
            assert re.fullmatch(rf"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/{number}", address), (
                words
            )
            assert name in address, words

"""What the documentation lists in tables exists: metrics, tests, faults, modules, codes and messages."""

from __future__ import annotations

import ast
import json
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click
import pytest

import flask_refunds
from flask_refunds import RefundsError
from flask_refunds.models import RefundStatus, ReviewCode
from flask_refunds.testing import Cards, Fault
from flask_refunds.testing.cards import PAYMENT_METHODS
from tests.docs.checks import check_query, metrics
from tests.docs.pages import ROOT, read
from tests.docs.shell import APP


def first_cells(page: str, after: str = "") -> list[str]:
    """Return the names in the first cell of each table row: of the page, or from one heading to the next."""
    text = read(page).partition(after)[2].partition("\n## ")[0] if after else read(page)
    rows = re.findall(r"^\| (\[?`.*?) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w.-]+)`", row)]


def test_monitoring_page_lists_the_metrics_of_a_scrape() -> None:
    exposed = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics()}
    assert set(first_cells("docs/monitoring.md", "## Metrics")) == exposed


def queries_of(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_dashboard_queries_every_metric_and_no_other() -> None:
    queries = queries_of(json.loads(read("docs/grafana.json")))
    for query in queries:
        check_query(query)
    for metric in first_cells("docs/monitoring.md", "## Metrics"):
        assert metric in " ".join(queries), f"no panel shows {metric}"


def test_monitoring_page_lists_the_panels_of_the_dashboard() -> None:
    rows = re.findall(r"^\| (\w.*?) \|", read("docs/monitoring.md").partition("## Grafana")[2], re.MULTILINE)
    assert rows[1:] == [panel["title"] for panel in json.loads(read("docs/grafana.json"))["panels"]]


def test_dashboard_can_be_imported() -> None:
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
        assert not cells & taken, f"{panel['title']} overlaps another panel"
        taken |= cells


def test_every_threat_names_existing_tests() -> None:
    rows = [line for line in read("docs/security.md").splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert named, f"no test covers this: {row}"
        for path, test in named:
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"


def modules() -> Iterator[str]:
    """Yield every module of the package, by its name below ``flask_refunds``; the test kit counts as one."""
    for module in pkgutil.walk_packages(flask_refunds.__path__, "flask_refunds."):
        name = module.name.removeprefix("flask_refunds.")
        if name == "testing" or not (module.ispkg or name.startswith("testing.")):
            yield name


def test_protocol_page_names_every_module_exactly_once() -> None:
    table = read("docs/protocol.md").partition("| Layer |")[2].partition("\n\n")[0]
    cells = [row.split("|")[2] for row in table.splitlines()[2:]]
    named = Counter(name for cell in cells for name in re.findall(r"`([\w.]+)`", cell))
    assert named == Counter(modules())


def test_protocol_page_names_existing_test_files() -> None:
    files = re.findall(r"`(tests/[\w/]+\.py)`", read("docs/protocol.md"))
    assert len(files) > 5
    for path in files:
        assert (ROOT / path).exists(), path


def test_test_kit_page_lists_every_fault() -> None:
    assert sorted(first_cells("docs/test-kit.md", "## Faults")) == sorted(fault.value for fault in Fault)


def test_test_kit_page_names_the_test_cards() -> None:
    named = re.findall(r"^\| `Cards\.(\w+)` \| `(\d+)` \| `(\w+)`", read("docs/test-kit.md"), re.MULTILINE)
    assert {name: number for name, number, _ in named} == {card.name: card.value for card in Cards}
    assert all(PAYMENT_METHODS[method] == number for _, number, method in named)


def test_statuses_page_lists_every_status_in_order() -> None:
    assert first_cells("docs/statuses.md", "## Refund statuses") == [status.value for status in RefundStatus]


def test_status_picture_names_every_status_and_has_a_text_alternative() -> None:
    picture = read("docs/images/statuses.svg")
    assert '<svg xmlns="http://www.w3.org/2000/svg" viewBox=' in picture
    assert 'role="img" aria-labelledby="title desc"' in picture
    assert "prefers-color-scheme: dark" in picture
    for status in RefundStatus:
        assert f">{status.value}</text>" in picture


def test_reviews_page_explains_every_review_code() -> None:
    explained = re.findall(r"^### (\w+)$", read("docs/reviews.md"), re.MULTILINE)
    assert sorted(explained) == sorted(code.value for code in ReviewCode)


def error_classes(base: type[RefundsError] = RefundsError) -> Iterator[type[RefundsError]]:
    yield base
    for each in base.__subclasses__():
        yield from error_classes(each)


def test_http_page_lists_every_error_code_with_its_status() -> None:
    listed = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", read("docs/http.md"), re.MULTILINE)
    codes = {(each.status, each.code) for each in error_classes()}
    assert {(int(status), code) for status, code in listed} == codes
    assert len(listed) == len(set(listed))


def test_commands_page_describes_every_command_and_option() -> None:
    group = APP.cli.commands["refunds"]
    assert isinstance(group, click.Group)
    assert first_cells("docs/commands.md", "# Commands") == list(group.commands)
    common = section_of("docs/commands.md", "Output, exit statuses and common options")
    for name, deferred in group.commands.items():
        command = deferred.make_context(name, ["--help"], resilient_parsing=True).command
        described = common + section_of("docs/commands.md", name)
        if name == "export":
            described += section_of("docs/commands.md", "list")  # for its filters
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert not option.startswith("--") or f"`{option}" in described, f"{name} {option}"


def section_of(page: str, heading: str) -> str:
    return read(page).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def messages_in_the_code() -> str:
    """Return every string literal of the package, one per line."""
    found = []
    for path in sorted((ROOT / "flask_refunds").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


OTHER_LIBRARIES = ("No such command", "The setup method")
"""Messages on the troubleshooting page that come from click and Flask."""


def test_troubleshooting_page_quotes_existing_messages() -> None:
    known = messages_in_the_code() + read("docs/logging.md")
    symptoms = re.findall(r"^\| (.+?) \|", read("docs/troubleshooting.md"), re.MULTILINE)
    quoted = [text for symptom in symptoms for text in re.findall(r"`([^`]+)`", symptom)]
    assert len(quoted) > 20
    for text in quoted:
        parts = re.split(r"…|\d+", text)
        assert all(part in known for part in parts) or text.startswith(OTHER_LIBRARIES), text


@pytest.mark.parametrize("page", ["README.md", "docs/limitations.md"])
def test_every_public_issue_is_linked_by_its_number(page: str) -> None:
    links = re.findall(r"\[([\w./-]*#\d+)\]\((https://github\.com/[^)]+)\)", read(page))
    assert len(links) > 5
    for label, address in links:
        name, _, number = label.partition("#")
        assert re.fullmatch(rf"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/{number}", address), label
        assert name in address, label

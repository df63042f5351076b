"""How each kind of block is checked that is not simply run: one table, :data:`CHECKS`."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from configparser import ConfigParser
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from flask_refunds import prometheus
from flask_refunds.errors import KeyRejected, OutcomeUnknown, Refused, Throttled
from flask_refunds.log import Decision
from flask_refunds.models import RefundStatus
from flask_refunds.prometheus import instrument
from tests.docs.pages import Block
from tests.docs.shell import APP, check_commands, check_console, check_shell

_CRON_FIELD = re.compile(r"(\*|\d+)(/\d+)?|\d+(-\d+|(,\d+)+)")
_LOG_LINE = re.compile(r"([A-Z]+) flask_refunds: ([^:]+): ")
_METRIC = re.compile(r"\b(flask_refunds_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"')
VALUES = {
    ("flask_refunds_refunds", "status"): {status.value for status in RefundStatus},
    ("flask_refunds_open", "status"): {status for status, _ in prometheus._OPEN},
    ("flask_refunds_open", "age"): {age for _, age in prometheus._OPEN},
    ("flask_refunds_attention", "why"): set(prometheus._WHYS),
    ("flask_refunds_stripe_seconds", "outcome"): {
        each.outcome for each in (Refused, Throttled, KeyRejected, OutcomeUnknown)
    }
    | {"answered"},
}
"""What a label can be, by metric."""

_BY = re.compile(r"\bby \(([^)]*)\)")


def check_ini(block: Block) -> None:
    """A unit of systemd's."""
    unit = ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read_string(block.text)
    assert set(unit) - {"DEFAULT"} == {"Unit", "Service", "Install"}
    assert unit["Service"]["Restart"] in ("always", "on-failure")
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    check_commands(unit["Service"]["ExecStart"], block)


def check_text(block: Block) -> None:
    """A crontab, or lines of our log."""
    lines = [line for line in block.text.splitlines() if line.strip()]
    if _LOG_LINE.match(lines[0]):
        _check_log(lines)
    else:
        _check_crontab(lines, block)


def _check_log(lines: Iterable[str]) -> None:
    levels = {decision.words: decision.level for decision in Decision}
    for line in lines:
        match = _LOG_LINE.match(line)
        assert match, line
        assert levels[match[2]] == logging.getLevelName(match[1]), line


def _check_crontab(lines: Iterable[str], block: Block) -> None:
    entries = 0
    for line in lines:
        if re.match(r"#|[A-Z]+=", line):
            continue
        *when, user, command = line.split(None, 6)
        assert len(when) == 5, line
        assert all(map(_CRON_FIELD.fullmatch, when)), line
        assert user.isidentifier(), line
        assert "%" not in command, "a % ends a command of cron's"
        check_commands(command, block)
        entries += 1
    assert entries, "neither a crontab nor a log"


def check_yaml(block: Block) -> None:
    """A manifest of Kubernetes', or rules of Prometheus'."""
    for document in yaml.safe_load_all(block.text):
        if "groups" in document:
            _check_rules(document["groups"])
        else:
            assert document["kind"] == "CronJob", document["kind"]
            _check_cron_job(document, block)


def _check_cron_job(job: dict[str, Any], block: Block) -> None:
    assert job["apiVersion"] == "batch/v1"
    assert re.fullmatch(r"[a-z0-9-]{1,52}", job["metadata"]["name"])
    spec = job["spec"]
    assert all(map(_CRON_FIELD.fullmatch, spec["schedule"].split()))
    assert len(spec["schedule"].split()) == 5
    assert spec["concurrencyPolicy"] in ("Allow", "Forbid", "Replace")
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] in ("Never", "OnFailure")
    for container in pod["containers"]:
        assert container.keys() <= {"name", "image", "command", "envFrom"}
        check_commands(" ".join(container["command"]), block)


def _check_rules(groups: list[dict[str, Any]]) -> None:
    for group in groups:
        for rule in group["rules"]:
            assert rule.keys() <= {"alert", "expr", "for", "annotations", "labels"}, rule
            check_query(rule["expr"])


def check_query(query: str) -> None:
    """Whether a query of Prometheus' names metrics, labels and values that there are."""
    labels = metrics()
    named = _METRIC.findall(query)
    assert named, f"no metric of ours: {query}"
    for metric, matchers in named:
        assert metric in labels, f"there is no {metric}"
        for label, value in _MATCHER.findall(matchers):
            assert label in {*labels[metric], "le"}, f"{metric} has no label {label}"
            assert value in (labels[metric].get(label) or {value}), f"{label} is never {value}"
    for grouping in _BY.findall(query):
        known = {"le"}.union(*(labels[metric] for metric, _ in named))
        assert set(re.findall(r"\w+", grouping)) <= known, f"by ({grouping})"
    assert query.count("(") == query.count(")"), query


def metrics() -> dict[str, dict[str, set[str]]]:
    """The metrics that a scrape shows, with their labels; where all values of one are known, those too."""
    registry = CollectorRegistry()
    instrument(APP, registry)
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
    found: dict[str, dict[str, set[str]]] = {}
    for collector in registry._collector_to_names:
        for family in collector.describe():
            labels = getattr(collector, "_labelnames", None) or family._labelnames
            for suffix in suffixes.get(family.type, [""]):
                name = family.name + suffix
                found[name] = {label: VALUES.get((family.name, label), set()) for label in labels}
    return found


JAVASCRIPT_WORLD = """
const told = [];
const stored = new Map();
globalThis.sessionStorage = { setItem: (name, value) => stored.set(name, value) };
globalThis.location = {
  origin: "https://shop.example",
  search: process.argv[2],
  assign: (where) => told.push(where),
};
globalThis.fetch = async (path, options) => {
  told.push([path, options]);
  return { status: 202, json: async () => ({ message: "Refund pending" }) };
};
const token = "a-token";
"""


def check_js(block: Block) -> None:
    """A script of a host's page: it is run, in a browser's place."""
    if "sessionStorage" in block.text:
        back = "?next=" + "/api/payments/admin/%23/purchases"
        assert _run_js(block.text, back) == [["/api/payments/admin/#/purchases"], ["a-token"]]
        assert _run_js(block.text, "?next=//elsewhere.example/trap") == [["/"], ["a-token"]]
        assert _run_js(block.text, "") == [["/"], ["a-token"]]
    else:
        asked = _run_js(block.text + 'told.push(await refund("64b5", token));')[0]
        path, options = asked[0]
        assert (path, options["method"]) == ("/api/payments/admin/refund/64b5", "POST")
        assert options["headers"] == {"Authorization": "Bearer a-token"}
        assert asked[1] == "Refund pending: look again in a minute."


def _run_js(script: str, *arguments: str) -> Any:
    report = "\nconsole.log(JSON.stringify([told, [...stored.values()]]));"
    node = shutil.which("node") or _playwrights_node()
    if subprocess.run([node, "--version"], capture_output=True).returncode != 0:
        pytest.skip(f"NO NODE: put one on PATH, or what {node} lacks (Debian: apt-get install libatomic1)")
    program = f"(async () => {{{JAVASCRIPT_WORLD}\n{script}\n{report}}})();"
    done = subprocess.run([node, "-", *arguments], input=program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _playwrights_node() -> str:
    from playwright._impl._driver import compute_driver_executable

    return str(compute_driver_executable()[0])


def check_by_sphinx(block: Block) -> None:
    """Directives are read by the build, which knows no warning."""
    assert block.page in ("docs/api.md", "docs/changelog.md", "docs/index.md")


def check_run(block: Block) -> None:
    """What ``test_python.py`` and ``test_quickstart.py`` run, and ``test_answers.py`` compares."""
    if block.kind == "python":
        compile(block.text, str(block), "exec")
    else:
        json.loads(block.text)


CHECKS: dict[str, Callable[[Block], None]] = {
    "python": check_run,
    "json": check_run,
    "sh": check_shell,
    "console": check_console,
    "yaml": check_yaml,
    "ini": check_ini,
    "text": check_text,
    "": check_text,
    "js": check_js,
    "{eval-rst}": check_by_sphinx,
    "{include}": check_by_sphinx,
    "{toctree}": check_by_sphinx,
}
"""By the word behind the fence. What is not here has no place in the documentation."""


def check(block: Block) -> None:
    """Check a block by its kind."""
    if block.kind not in CHECKS:
        pytest.fail(f"{block}: nobody checks {block.kind!r}")
    CHECKS[block.kind](block)

"""Check each fenced block by its language. :data:`CHECKS` has one function for each."""

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
from flask_refunds.errors import KeyRejected, OutcomeUnknown, RateLimited, RequestRejected
from flask_refunds.log import LogEvent
from flask_refunds.models import RefundStatus, ReviewCode
from flask_refunds.prometheus import instrument
from tests.docs.pages import Block
from tests.docs.shell import APP, check_commands, check_shell, check_terminal

_CRON_FIELD = re.compile(r"(\*|\d+)(/\d+)?|\d+(-\d+|(,\d+)+)")
_LOG_LINE = re.compile(r"([A-Z]+) flask_refunds: ([^:]+): ")
_METRIC = re.compile(r"\b(flask_refunds_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"')
VALUES = {
    ("flask_refunds_refunds", "status"): {status.value for status in RefundStatus},
    ("flask_refunds_open", "status"): {status for status, _ in prometheus._OPEN},
    ("flask_refunds_open", "age"): {age for _, age in prometheus._OPEN},
    ("flask_refunds_needs_review", "code"): {code.value for code in ReviewCode},
    ("flask_refunds_stripe_seconds", "outcome"): {
        each.outcome for each in (RequestRejected, RateLimited, KeyRejected, OutcomeUnknown)
    }
    | {"ok"},
}
"""The values of a label, by metric and label."""

_BY = re.compile(r"\bby \(([^)]*)\)")


def check_ini(block: Block) -> None:
    """Check a systemd unit."""
    unit = ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read_string(block.text)
    assert set(unit) - {"DEFAULT"} == {"Unit", "Service", "Install"}
    assert unit["Service"]["Restart"] in ("always", "on-failure")
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    check_commands(unit["Service"]["ExecStart"], block)


def check_text(block: Block) -> None:
    """Check a crontab or log lines."""
    lines = [line for line in block.text.splitlines() if line.strip()]
    if _LOG_LINE.match(lines[0]):
        _check_log(lines)
    else:
        _check_crontab(lines, block)


def _check_log(lines: Iterable[str]) -> None:
    levels = {event.message: event.level for event in LogEvent}
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
        assert "%" not in command, "cron ends a command at %"
        check_commands(command, block)
        entries += 1
    assert entries, "not a crontab and not a log"


def check_yaml(block: Block) -> None:
    """Check a Kubernetes CronJob or Prometheus rules."""
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
    """Check that a Prometheus query uses metrics, labels and values that exist."""
    labels = metrics()
    named = _METRIC.findall(query)
    assert named, f"no metric of this library: {query}"
    for metric, matchers in named:
        assert metric in labels, f"unknown metric {metric}"
        for label, value in _MATCHER.findall(matchers):
            assert label in {*labels[metric], "le"}, f"{metric} has no label {label}"
            assert value in (labels[metric].get(label) or {value}), f"{label} can't be {value}"
    for grouping in _BY.findall(query):
        known = {"le"}.union(*(labels[metric] for metric, _ in named))
        assert set(re.findall(r"\w+", grouping)) <= known, f"by ({grouping})"
    assert query.count("(") == query.count(")"), query


def metrics() -> dict[str, dict[str, set[str]]]:
    """Return the metrics of a scrape with their labels, and the values of each label that has a fixed set."""
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


BROWSER_STUBS = """
const calls = [];
const stored = new Map();
globalThis.sessionStorage = { setItem: (name, value) => stored.set(name, value) };
globalThis.location = {
  origin: "https://shop.example",
  search: process.argv[2],
  assign: (address) => calls.push(address),
};
globalThis.fetch = async (path, options) => {
  calls.push([path, options]);
  return { status: 202, json: async () => ({ message: "Refund pending" }) };
};
const token = "a-token";
"""


def check_js(block: Block) -> None:
    """Run a script of an app's page in Node.js, with stubs for the browser's objects."""
    if "sessionStorage" in block.text:
        back = "?next=" + "/api/payments/admin/%23/purchases"
        assert _run_js(block.text, back) == [["/api/payments/admin/#/purchases"], ["a-token"]]
        assert _run_js(block.text, "?next=//elsewhere.example/trap") == [["/"], ["a-token"]]
        assert _run_js(block.text, "") == [["/"], ["a-token"]]
    else:
        calls = _run_js(block.text + 'calls.push(await refund("64b5", token));')[0]
        path, options = calls[0]
        assert (path, options["method"]) == ("/api/payments/admin/refund/64b5", "POST")
        assert options["headers"] == {"Authorization": "Bearer a-token"}
        assert calls[1] == "Refund pending: check again in a minute."


def _run_js(script: str, *arguments: str) -> Any:
    report = "\nconsole.log(JSON.stringify([calls, [...stored.values()]]));"
    node = shutil.which("node") or _playwright_node()
    if subprocess.run([node, "--version"], capture_output=True).returncode != 0:
        pytest.skip(
            f"NO NODE: put it on PATH, or install what {node} needs (Debian: apt-get install libatomic1)"
        )
    program = f"(async () => {{{BROWSER_STUBS}\n{script}\n{report}}})();"
    done = subprocess.run([node, "-", *arguments], input=program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _playwright_node() -> str:
    from playwright._impl._driver import compute_driver_executable

    return str(compute_driver_executable()[0])


def check_by_sphinx(block: Block) -> None:
    """Accept a directive: the Sphinx build fails on any warning."""
    assert block.page in ("docs/api.md", "docs/changelog.md", "docs/index.md", "docs/test-kit.md")


def check_run(block: Block) -> None:
    """Parse a block. ``test_python.py``, ``test_quickstart.py`` and ``test_answers.py`` run or compare it."""
    if block.kind == "python":
        compile(block.text, str(block), "exec")
    else:
        json.loads(block.text)


CHECKS: dict[str, Callable[[Block], None]] = {
    "python": check_run,
    "json": check_run,
    "sh": check_shell,
    "console": check_terminal,
    "yaml": check_yaml,
    "ini": check_ini,
    "text": check_text,
    "": check_text,
    "js": check_js,
    "{eval-rst}": check_by_sphinx,
    "{include}": check_by_sphinx,
    "{toctree}": check_by_sphinx,
}
"""The check for each language. A block in another language fails."""


def check(block: Block) -> None:
    """Check a block by its language."""
    if block.kind not in CHECKS:
        pytest.fail(f"{block}: no check for {block.kind!r}")
    CHECKS[block.kind](block)

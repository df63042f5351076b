"""Run the quickstart in a shell, exactly as printed.

Its Python blocks become the files that they name, its shell blocks run in one shell, and its responses are
compared. Only addresses are changed, and nothing is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.answers import differences
from tests.docs.pages import ROOT, blocks_of
from tests.mongod import free_port

SERVER = re.compile(r"^((?:python -m flask_refunds\.testing|flask .* run) .*--port (\d+)) &$", re.MULTILINE)
CALL = re.compile(r"^curl -s -X .*$", re.MULTILINE)


def make_script(addresses: dict[str, str]) -> tuple[str, list[Any]]:
    """Return the page as one script, which prints each response on a line, and the responses on the page."""
    script, responses = ["set -eu -o pipefail", "trap 'kill $(jobs -p)' EXIT"], []
    for block in blocks_of("docs/quickstart.md"):
        text = block.text
        if block.kind == "json":
            responses.append(json.loads(text))
            continue
        for printed, actual in addresses.items():
            text = text.replace(printed, actual)
        if block.kind == "python":
            script.append(f"cat >> {block.file} <<'END'\n{text}END")
        elif not text.startswith("pip "):
            script.append(CALL.sub(_print_response, SERVER.sub(_start_and_wait, text)))
    return "\n".join(script), responses


def _start_and_wait(server: re.Match[str]) -> str:
    connect = f"(exec 3<>/dev/tcp/127.0.0.1/{server[2]}) 2>/dev/null"
    return f"{server[1]} >>server.log 2>&1 &\nfor _ in $(seq 300); do {connect} && break; sleep 0.1; done"


def _print_response(call: re.Match[str]) -> str:
    return f"printf 'RESPONSE %s\\n' \"$({call[0]} | tr -d '\\n')\""


@pytest.fixture
def run(mongo_uri: str, tmp_path: Path) -> tuple[str, list[Any]]:
    """Run the page, and return its output and the responses on the page."""
    if shutil.which("curl") is None:
        pytest.skip("NO CURL: put curl on PATH (Debian: apt-get install curl)")
    addresses = {
        "mongodb://localhost/shop": mongo_uri,
        "12111": str(free_port()),
        "5000": str(free_port()),
    }
    script, responses = make_script(addresses)
    binaries = Path(sys.executable).parent
    environment = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    log = tmp_path / "server.log"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log.read_text() if log.exists() else ''}"
    return done.stdout, responses


def test_quickstart_refunds_purchase_as_printed(run: tuple[str, list[Any]], database: Any) -> None:
    output, printed = run
    actual = [json.loads(line) for line in re.findall(r"^RESPONSE (.*)$", output, re.MULTILINE)]
    assert len(actual) == len(printed) == 2
    for shown, real in zip(printed, actual, strict=True):
        assert differences(shown, real) == []
    assert actual[0]["message"] == printed[0]["message"] == "Refund successful"
    assert (actual[1]["error"], actual[1]["code"]) == (printed[1]["error"], printed[1]["code"])
    assert database.purchases.find_one()["status"] == "refunded"
    assert database.flask_refunds.count_documents({}) == 1

    checks = {name: status for status, name in re.findall(r"^(OK|NOTE|FAIL) +(\S+) ", output, re.MULTILINE)}
    assert "FAIL" not in checks.values(), output
    assert checks["config"] == checks["indexes"] == "OK"

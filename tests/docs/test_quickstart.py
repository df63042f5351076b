"""The quickstart is followed to the letter, by a host that knows nothing else: in a shell.

Its Python becomes the files that it names, its shell is one shell from the first block to the last, and its
answers are compared. Only addresses are changed, as many tests run on one machine, and nothing is installed.
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


def written(addresses: dict[str, str]) -> tuple[str, list[Any]]:
    """The whole page as one script that prints a line for each answer shown; and those answers."""
    script, answers = ["set -eu -o pipefail", "trap 'kill $(jobs -p)' EXIT"], []
    for block in blocks_of("docs/quickstart.md"):
        text = block.text
        if block.kind == "json":
            answers.append(json.loads(text))
            continue
        for here, there in addresses.items():
            text = text.replace(here, there)
        if block.kind == "python":
            script.append(f"cat >> {block.file} <<'END'\n{text}END")
        elif not text.startswith("pip "):
            script.append(CALL.sub(_answer_in_a_line, SERVER.sub(_start_and_wait, text)))
    return "\n".join(script), answers


def _start_and_wait(server: re.Match[str]) -> str:
    connect = f"(exec 3<>/dev/tcp/127.0.0.1/{server[2]}) 2>/dev/null"
    return f"{server[1]} >>server.log 2>&1 &\nfor _ in $(seq 300); do {connect} && break; sleep 0.1; done"


def _answer_in_a_line(call: re.Match[str]) -> str:
    return f"printf 'ANSWER %s\\n' \"$({call[0]} | tr -d '\\n')\""


@pytest.fixture
def followed(mongo_uri: str, tmp_path: Path) -> tuple[str, list[Any]]:
    """What came of following it, and the answers that it promises."""
    if shutil.which("curl") is None:
        pytest.skip(
            "NO CURL: put one on PATH (Debian: apt-get install curl); the page is followed to the letter"
        )
    addresses = {
        "mongodb://localhost/shop": mongo_uri,
        "12111": str(free_port()),
        "5000": str(free_port()),
    }
    script, answers = written(addresses)
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
    return done.stdout, answers


def test_it_ends_with_a_refund(followed: tuple[str, list[Any]], database: Any) -> None:
    output, answers = followed
    given = [
        json.loads(line.removeprefix("ANSWER ")) for line in output.splitlines() if line.startswith("ANSWER ")
    ]
    assert len(given) == len(answers) == 2
    for shown, real in zip(answers, given, strict=True):
        assert differences(shown, real) == []
    assert given[0]["message"] == answers[0]["message"] == "Refund successful"
    assert (given[1]["error"], given[1]["code"]) == (answers[1]["error"], answers[1]["code"])
    assert database.purchases.find_one()["status"] == "refunded"
    assert database.refunds.count_documents({}) == 1

    findings = dict(re.findall(r"^(?:ok|note|to do) +(\S+) +(.*)$", output, re.MULTILINE))
    assert "to do" not in output, output
    assert findings["config"] == "every setting can be used"
    assert findings["indexes"] == "they are there"

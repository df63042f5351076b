"""The terminal output in the documentation is what the commands print, except for IDs, names and numbers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from flask_refunds.testing import StripeSandbox
from tests.docs.pages import BLOCKS, blocks_of
from tests.docs.shell import commands_in
from tests.shop import Shop, make_app

WEBHOOK_SECRET = "whsec_of_the_documentation"
WEBHOOK_URL = "https://shop.example/api/payments/webhook/refunds"
READ_ONLY = {"check", "export", "init-db", "list", "metrics", "reconcile", "show", "token"}
"""Commands that make no refund."""
COMPARED = {"bulk", "check", "export", "init-db", "list", "metrics", "reconcile", "refund", "show"}
PURCHASES = {
    "6b0635cf3cab3f672ac1a80a": (4900, "eur", "4242424242424242"),
    "6b0635d03cab3f672ac1a80d": (1200, "jpy", "4000000000007726"),
    "6b0635d03cab3f672ac1a810": (900, "usd", "4000000000000259"),
    "6b0635d03cab3f672ac1a813": (700, "usd", "4242424242424242"),
}
"""The purchases in ``docs/commands.md``: refunded, pending, disputed, and one with a lost response."""


def printed_commands() -> Iterator[tuple[str, str]]:
    """Yield each compared command in ``docs/commands.md`` with its output."""
    for block in blocks_of("docs/commands.md"):
        if block.kind == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                parts = command.partition(";")[0].split()
                if parts[:2] == ["flask", "refunds"] and parts[2] in COMPARED:
                    yield command.partition(";")[0], output


def normalize(output: str) -> list[str]:
    """Return the lines of an output, without what differs from run to run."""
    text = re.sub(r"^Database \S+:", "Database:", output, flags=re.MULTILINE)
    # An index can be present or missing, and can have another name.
    text = re.sub(r"\} +(?:present|missing)  +(.*?)(?:  +as \S+)?$", r"} \1", text, flags=re.MULTILINE)
    text = re.sub(r"replica set  \S+, ", "replica set  rs, ", text)
    text = re.sub(r"\b(pi|re|req|ch|txn)_[0-9a-f]+", r"\1_1", text)
    text = re.sub(r"\b(ann|bob)\b", "name", text)
    text = re.sub(r"\d[\d.:TZ+-]*", "1", text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("LOGNAME", "bob")  # the default of --actor
    config = {"STRIPE_API_BASE": sandbox.url, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET}
    app = make_app(REFUNDS_MONGO=database, **config)
    shop = Shop(app, database)
    for purchase, (amount, currency, card) in PURCHASES.items():
        shop.add_purchase(sandbox.create_payment(amount, currency, card), _id=ObjectId(purchase))
    sandbox.add_webhook(WEBHOOK_URL, WEBHOOK_SECRET, ["refund.created", "charge.refunded"])
    return shop


def test_commands_print_the_documented_output(
    shop: Shop, sandbox: StripeSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recall.txt").write_text("\n".join(PURCHASES))
    compared = set()
    for command, output in printed_commands():
        if "1a813" in command:
            sandbox.inject("response_lost", times=2)
        parts = shlex.split(command)[2:]
        result = shop.flask(*parts)
        assert result.exception is None or isinstance(result.exception, SystemExit), command
        printed = [*normalize(result.output), "1"]  # the last is the exit status, printed by echo
        assert [line for line in normalize(output) if line not in printed] == [], command
        compared.add(parts[0])
    assert compared == COMPARED


def test_commands_in_shell_blocks_run(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the commands that make no refund and end by themselves."""
    monkeypatch.chdir(tmp_path)
    ran = set()
    for block in BLOCKS:
        for parts in commands_in(block.text) if block.kind == "sh" else ():
            command = parts[parts.index("refunds") + 1 :] if "refunds" in parts else [""]
            if command[0] in READ_ONLY and "--interval" not in command:
                result = shop.flask(*command)
                assert result.exit_code in (0, 1), f"{block}: {result.output}"
                ran.add(command[0])
    assert {"check", "export", "init-db", "list", "reconcile", "token"} <= ran


def test_different_output_is_detected() -> None:
    assert normalize("Refunded 49.00 EUR: pi_1f:1 succeeded.") == normalize(
        "Refunded 5.00 EUR: pi_2e:1 succeeded."
    )
    assert normalize("Refunded 49.00 EUR") != normalize("Refunded 49.00 USD")
    assert normalize("Status        succeeded") != normalize("State         succeeded")

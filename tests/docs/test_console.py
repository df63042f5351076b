"""What the documentation shows of a terminal is what the commands print, but for ids, names and numbers."""

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
HARMLESS = {"check", "export", "init-db", "list", "metrics", "reconcile", "show", "token"}
COMPARED = {"refund", "bulk", "show", "list", "metrics", "export", "init-db", "check", "token"}
SOLD = {
    "6b0635cf3cab3f672ac1a80a": (4900, "eur", "4242424242424242"),
    "6b0635d03cab3f672ac1a80d": (1200, "jpy", "4000000000007726"),
    "6b0635d03cab3f672ac1a810": (900, "usd", "4000000000000259"),
    "6b0635d03cab3f672ac1a813": (700, "usd", "4242424242424242"),
}
"""The purchases of ``docs/cli.md``: refunded, pending, disputed, and one whose answer is lost."""


def shown() -> Iterator[tuple[str, str]]:
    """Each command of ``docs/cli.md`` that we compare, with the output that is shown."""
    for block in blocks_of("docs/cli.md"):
        if block.kind == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                words = command.partition(";")[0].split()
                if words[:2] == ["flask", "refunds"] and words[2] in COMPARED:
                    yield command.partition(";")[0], output


def plain(output: str) -> list[str]:
    """Lines of output without what differs from run to run."""
    text = re.sub(r"^Database \S+:", "Database:", output, flags=re.MULTILINE)
    # An index may be there or not, and under another's name.
    text = re.sub(r"\}  +(?:there|to build)  +(.*?)(?:  +as \S+)?$", r"} \1", text, flags=re.MULTILINE)
    text = re.sub(r"replica set  \S+, \d+ members? ", "replica set  rs, 1 member ", text)
    text = re.sub(r"\b(pi|re|req|ch)_[0-9a-f]+", r"\1_1", text)
    text = re.sub(r"\bcommand:\w+", "command:somebody", text)
    text = re.sub(r"\d[\d.:TZ+-]*", "1", text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    config = {"STRIPE_API_BASE": sandbox.url, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET}
    app = make_app(REFUNDS_MONGO=database, **config)
    shop = Shop(app, database)
    for purchase, (amount, currency, card) in SOLD.items():
        shop.add_purchase(sandbox.create_payment(amount, currency, card), _id=ObjectId(purchase))
    sandbox.add_webhook(WEBHOOK_URL, WEBHOOK_SECRET, ["refund.created", "charge.refunded"])
    return shop


def test_the_commands_print_what_is_shown(
    shop: Shop, sandbox: StripeSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recall.txt").write_text("\n".join(SOLD))
    compared = 0
    for command, output in shown():
        if "1a813" in command:
            sandbox.inject("drop_after", times=2)
        result = shop.flask(*shlex.split(command)[2:])
        assert result.exception is None or isinstance(result.exception, SystemExit), command
        printed = [*plain(result.output), "1"]  # the last is the exit status, by echo
        assert [line for line in plain(output) if line not in printed] == [], command
        compared += 1
    assert compared >= 8


def test_what_does_no_harm_is_run(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in blocks of the shell, and neither refunds nor stays."""
    monkeypatch.chdir(tmp_path)
    ran = set()
    for block in BLOCKS:
        for words in commands_in(block.text) if block.kind == "sh" else ():
            command = words[words.index("refunds") + 1 :] if "refunds" in words else [""]
            if command[0] in HARMLESS and "--every" not in command:
                result = shop.flask(*command)
                assert result.exit_code in (0, 1), f"{block}: {result.output}"
                ran.add(command[0])
    assert {"check", "export", "init-db", "reconcile", "token"} <= ran


def test_another_output_is_noticed() -> None:
    assert plain("Refunded 49.00 EUR: pi_1f:1 has succeeded.") == plain(
        "Refunded 5.00 EUR: pi_2e:1 has succeeded."
    )
    assert plain("Refunded 49.00 EUR") != plain("Refunded 49.00 USD")
    assert plain("Status        succeeded") != plain("State         succeeded")

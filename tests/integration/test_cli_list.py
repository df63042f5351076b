"""``flask refunds list`` and ``export``, on a real MongoDB: read by a person, a program or a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import WITHOUT_RICH, Commands
from tests.mongod import failing
from tests.shop import Shop

MARCH = datetime(2024, 3, 1, tzinfo=timezone.utc)


def add_rows(shop: Shop, count: int, **fields: Any) -> None:
    """Rows of the ledger an hour apart from the first of March on, ``pi_0:1`` the oldest."""
    rows = []
    for number in range(count):
        made = MARCH + timedelta(hours=number)
        rows.append(
            {
                "_id": f"pi_{number}:1",
                "paymentIntent": f"pi_{number}",
                "number": 1,
                "source": "api",
                "status": "succeeded",
                "purchaseIds": [],
                "amount": 1999,
                "currency": "usd",
                "requestedBy": "ann",
                "stripeRefundId": f"re_{number}",
                "createdAt": made,
                "updatedAt": made,
                "settledAt": made,
                "leaseExpiresAt": made,
                "signals_sent": True,
                "purchasesVerified": True,
                "history": [{"at": made, "status": "succeeded", "actor": "api:ann"}],
            }
            | fields
        )
    shop.db.flask_refunds.insert_many(rows)


def test_newest_first_in_columns(shop: Shop) -> None:
    add_rows(shop, 3, reason="duplicate")
    result = shop.flask("list", "--limit", "2")
    assert result.exit_code == 0
    assert result.stdout == (
        "Refund  Status     Amount     Reason     Requested by  Asked for             ReviewRequest\n"
        "pi_2:1  succeeded  19.99 USD  duplicate  ann           2024-03-01 02:00:00Z\n"
        "pi_1:1  succeeded  19.99 USD  duplicate  ann           2024-03-01 01:00:00Z\n"
    )
    assert result.stderr == "2 of 3.\n"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--status", "failed"), ["pi_2:1"]),
        (("--needs-review",), ["pi_2:1"]),
        (("--no-needs-review",), ["pi_4:1", "pi_3:1", "pi_1:1", "pi_0:1"]),
        (("--reason", "fraudulent"), ["pi_1:1"]),
        (("--requested-by", "cli:bob"), ["pi_1:1"]),
        (("--bulk", "recall-2024"), ["pi_1:1"]),
        (("--bulk", "recall"), []),
        (("--from", "2024-03-01T03:00Z"), ["pi_4:1", "pi_3:1"]),
        (("--to", "2024-03-01T03:00Z", "--from", "2024-03-01T01:00Z"), ["pi_2:1", "pi_1:1"]),
        (("--from", "2024-03-01", "--to", "2024-03-01", "--limit", "1"), ["pi_4:1"]),
        (("--from", "2024-03-02"), []),
    ],
)
def test_filters(shop: Shop, options: tuple[str, ...], found: list[str]) -> None:
    add_rows(shop, 5)
    asks = {
        "status": "failed",
        "review": {"why": "failed_after_success", "recommendedAction": "x", "since": MARCH},
    }
    shop.db.flask_refunds.update_one({"_id": "pi_2:1"}, {"$set": asks})
    asked = {"reason": "fraudulent", "requestedBy": "cli:bob", "bulk": "recall-2024"}
    shop.db.flask_refunds.update_one({"_id": "pi_1:1"}, {"$set": asked})

    said = json.loads(shop.flask("list", *options, "--json").stdout)
    exported = shop.flask(
        "export", "--format", "jsonl", *(each for each in options if each not in ("--limit", "1"))
    )

    assert [refund["id"] for refund in said["refunds"]] == found
    all_of_them = [json.loads(line)["id"] for line in exported.stdout.splitlines()]
    assert all_of_them[: len(found)] == found
    assert len(all_of_them) == said["totalRefunds"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--status", "lost"), "'lost' is not one of"),
        (("--bulk", "-"), "must be 1 to 64 of A-Z"),
        (("--from", "yesterday"), "must be a day like 2024-03-15, or a time"),
        (("--from", "2024-03-02", "--to", "2024-03-01"), "--from must be before --to"),
        (("--limit", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_asked_for(shop: Shop, options: tuple[str, ...], words: str) -> None:
    result = shop.flask("list", *options)
    assert (result.exit_code, words in result.stderr) == (2, True)


def test_a_person_on_a_terminal(shop: Shop, commands: Commands) -> None:
    add_rows(shop, 2, requestedBy="[red]ann[/red]\x1b[2J")
    drawn = commands.on_terminal("list")
    assert "─────" in drawn
    assert "[red]ann[/red]\ufffd[2J" in drawn  # neither rich nor the terminal obeys it
    plain = commands.on_terminal("list", command=WITHOUT_RICH)
    assert "─" not in plain
    assert plain.splitlines()[0].startswith("Refund  Status     Amount")


def test_a_spreadsheet(shop: Shop) -> None:
    add_rows(shop, 5, note="plain, with a comma")
    for number, changes in enumerate(
        [
            {"amount": 2000, "currency": "jpy", "note": '=HYPERLINK("http://x","y")'},
            {"amount": 5120, "currency": "kwd", "requestedBy": "@SUM(A1)"},
            {"amount": None, "currency": None, "status": "processing", "note": "-1"},
            {"amount": 5, "currency": "isk", "failure": {"code": "x", "message": "\t=1"}},
        ]
    ):
        shop.db.flask_refunds.update_one({"_id": f"pi_{number}:1"}, {"$set": changes})

    result = shop.flask("export")

    assert result.stdout_bytes.count(b"\r\n") == 6
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(result.stdout, newline=""))}
    amounts = [tuple(rows[f"pi_{n}:1"][name] for name in ("amount", "amountDecimal")) for n in range(5)]
    assert amounts == [("2000", "2000"), ("5120", "5.120"), ("", ""), ("5", "0.05"), ("1999", "19.99")]
    assert rows["pi_0:1"]["note"] == '\'=HYPERLINK("http://x","y")'
    assert rows["pi_1:1"]["requestedBy"] == "'@SUM(A1)"
    assert rows["pi_2:1"]["note"] == "'-1"
    assert rows["pi_3:1"]["failureMessage"] == "'\t=1"
    assert rows["pi_4:1"]["note"] == "plain, with a comma"
    assert rows["pi_4:1"]["createdAt"] == "2024-03-01T04:00:00.000Z"


def test_a_file_appears_once_it_is_whole(shop: Shop, tmp_path: Path, database: Any) -> None:
    add_rows(shop, 3)
    file = tmp_path / "refunds.jsonl"
    with failing(database, "find"):
        result = shop.flask("export", "--format", "jsonl", "--output", str(file))
    assert (result.exit_code, "The database is unavailable" in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []
    assert shop.flask("export", "--format", "jsonl", "--output", str(file)).exit_code == 0
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == [
        "pi_2:1",
        "pi_1:1",
        "pi_0:1",
    ]
    result = shop.flask("export", "--output", str(tmp_path / "no" / "such" / "folder.csv"))
    assert (result.exit_code, "cannot be written: No such file" in result.stderr) == (2, True)


def test_the_first_line_comes_before_the_last_is_read(shop: Shop, commands: Commands) -> None:
    add_rows(shop, 5000)
    process = commands.start("export", "--format", "jsonl")
    assert process.stdout is not None
    with process:
        first = process.stdout.readline()
        # Nobody reads on, so it waits with the pipe full, and most of the ledger still to be asked for.
        shop.db.flask_refunds.update_one(
            {"_id": "pi_0:1"}, {"$set": {"note": "written after the first line"}}
        )
        *_, last = process.stdout
    assert process.returncode == 0
    assert json.loads(first)["id"] == "pi_4999:1"
    assert json.loads(last)["note"] == "written after the first line"


@pytest.mark.parametrize(
    "command", [("export",), ("export", "--format", "jsonl"), ("list", "--limit", "1000")]
)
def test_a_reader_that_leaves(shop: Shop, commands: Commands, command: tuple[str, ...]) -> None:
    add_rows(shop, 3000)
    process = commands.start(*command)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read().decode().replace("1000 of 3000.\n", "") == ""
    process.stderr.close()
    process.wait(60)

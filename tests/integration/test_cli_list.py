"""``flask refunds list`` and ``export``: filters, and output for people, programs and spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import WITHOUT_RICH, Commands
from tests.mongod import failing
from tests.shop import Shop

MARCH = datetime(2024, 3, 1, tzinfo=timezone.utc)


def add_records(shop: Shop, count: int, **fields: Any) -> None:
    """Store refund records one hour apart, ``pi_0:1`` first, from March 1 on."""
    records = []
    for number in range(count):
        time = MARCH + timedelta(hours=number)
        records.append(
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
                "createdAt": time,
                "updatedAt": time,
                "settledAt": time,
                "leaseExpiresAt": time,
                "signalsSent": True,
                "purchasesVerified": True,
                "history": [{"at": time, "status": "succeeded", "actor": "api:ann"}],
            }
            | fields
        )
    shop.db.flask_refunds.insert_many(records)


def test_list_prints_newest_refunds_first_in_columns(shop: Shop) -> None:
    add_records(shop, 3, reason="duplicate")
    result = shop.flask("list", "--limit", "2")
    assert result.exit_code == 0
    assert result.stdout == (
        "Refund  Status     Amount     Reason     Requested by  Created               Review\n"
        "pi_2:1  succeeded  19.99 USD  duplicate  ann           2024-03-01 02:00:00Z\n"
        "pi_1:1  succeeded  19.99 USD  duplicate  ann           2024-03-01 01:00:00Z\n"
    )
    assert result.stderr.startswith("2 of 3.\nNext page: --after ")
    rest = shop.flask("list", "--after", result.stderr.split()[-1])
    assert [line.split()[0] for line in rest.stdout.splitlines()] == ["Refund", "pi_0:1"]
    assert rest.stderr == "1.\n"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--status", "failed"), ["pi_2:1"]),
        (("--needs-review",), ["pi_2:1"]),
        (("--no-needs-review",), ["pi_4:1", "pi_3:1", "pi_1:1", "pi_0:1"]),
        (("--reason", "fraudulent"), ["pi_1:1"]),
        (("--requested-by", "bob"), ["pi_1:1"]),
        (("--bulk-run", "recall-2024"), ["pi_1:1"]),
        (("--bulk-run", "recall"), []),
        (("--payment-intent", "pi_3"), ["pi_3:1"]),
        (("--payment-intent", ""), []),
        (("--from", "2024-03-01T03:00Z"), ["pi_4:1", "pi_3:1"]),
        (("--to", "2024-03-01T03:00Z", "--from", "2024-03-01T01:00Z"), ["pi_2:1", "pi_1:1"]),
        (("--from", "2024-03-01", "--to", "2024-03-01", "--limit", "1"), ["pi_4:1"]),
        (("--from", "2024-03-02"), []),
    ],
)
def test_list_and_export_apply_the_same_filters(
    shop: Shop, options: tuple[str, ...], found: list[str]
) -> None:
    add_records(shop, 5)
    failed = {"status": "failed", "review": {"code": "failed_after_success", "since": MARCH}}
    shop.db.flask_refunds.update_one({"_id": "pi_2:1"}, {"$set": failed})
    requested = {"reason": "fraudulent", "requestedBy": "bob", "bulkRun": "recall-2024"}
    shop.db.flask_refunds.update_one({"_id": "pi_1:1"}, {"$set": requested})

    listed = json.loads(shop.flask("list", *options, "--json").stdout)
    exported = shop.flask(
        "export", "--format", "jsonl", *(each for each in options if each not in ("--limit", "1"))
    )

    assert [refund["id"] for refund in listed["refunds"]] == found
    exported_ids = [json.loads(line)["id"] for line in exported.stdout.splitlines()]
    assert exported_ids[: len(found)] == found
    assert len(exported_ids) == listed["totalRefunds"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--status", "lost"), "'lost' is not one of"),
        (("--bulk-run", "-"), "must be 1 to 64 of A-Z"),
        (("--from", "yesterday"), "or a time like 2024-03-15T10:30:00Z\n"),
        (("--from", "2024-03-02", "--to", "2024-03-01"), "from must be before to"),
        (("--limit", "0"), "0 is not in the range"),
        (("--after", "pi_1:1"), "must be the nextCursor of another page"),
    ],
)
def test_invalid_filter_is_rejected(shop: Shop, options: tuple[str, ...], message: str) -> None:
    result = shop.flask("list", *options)
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_terminal_shows_a_table_without_obeying_markup_or_escapes(shop: Shop, commands: Commands) -> None:
    add_records(shop, 2, requestedBy="[red]ann[/red]\x1b[2J")
    drawn = commands.on_terminal("list")
    assert "─────" in drawn
    assert "[red]ann[/red]\ufffd[2J" in drawn
    plain = commands.on_terminal("list", command=WITHOUT_RICH)
    assert "─" not in plain
    assert plain.splitlines()[0].startswith("Refund  Status     Amount")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "koi8-r"])
def test_output_fits_the_encoding_of_the_terminal(shop: Shop, commands: Commands, encoding: str) -> None:
    note = "\u00fc \u20ac \u0416 \u5c71\u3000\u7530 a\u00a0b\x1b"
    add_records(shop, 1)
    shop.db.flask_refunds.update_one({}, {"$set": {"note": note}})
    environment = {"PYTHONIOENCODING": encoding}
    process = commands.start("list", "--json", environment=environment)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out.decode("utf-8"))["refunds"][0]["note"] == note
    process = commands.start("show", "pi_0:1", environment=environment)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    shown = note.replace("\x1b", "\ufffd").encode(encoding, "backslashreplace")
    assert b" " + shown + b"\n" in out.replace(b"\r", b"")


def test_csv_export_has_decimal_amounts_and_no_formulas(shop: Shop) -> None:
    add_records(shop, 5, note="plain, with a comma")
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
    assert rows["pi_3:1"]["failureMessage"] == "'\t'=1"
    assert rows["pi_4:1"]["note"] == "plain, with a comma"
    assert rows["pi_4:1"]["createdAt"] == "2024-03-01T04:00:00.000Z"


def test_exported_file_appears_only_when_complete(shop: Shop, tmp_path: Path, database: Any) -> None:
    add_records(shop, 3)
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
    assert (result.exit_code, "Can't write to" in result.stderr) == (2, True)


def test_replaced_file_keeps_its_mode_and_its_link(shop: Shop, tmp_path: Path) -> None:
    add_records(shop, 2)
    file, link = tmp_path / "october.csv", tmp_path / "latest.csv"
    file.write_text("the export of last night")
    file.chmod(0o640)
    link.symlink_to(file)
    assert shop.flask("export", "--output", str(link)).exit_code == 0
    assert link.is_symlink()
    assert file.read_text().count("pi_") == 4
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [link, file]


def test_pipe_or_device_is_written_and_not_replaced(shop: Shop, tmp_path: Path) -> None:
    add_records(shop, 2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # A reader that doesn't wait for a writer. The export fits into the pipe.
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)) as reader:
        assert shop.flask("export", "--output", str(pipe)).exit_code == 0
        assert reader.read().count("pi_") == 4
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_export_streams_the_ledger(shop: Shop, commands: Commands) -> None:
    add_records(shop, 5000)
    process = commands.start("export", "--format", "jsonl")
    assert process.stdout is not None
    with process:
        first = process.stdout.readline()
        # The pipe is full, so the process waits with most of the ledger still unread.
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
def test_reader_that_closes_the_pipe_causes_no_error(
    shop: Shop, commands: Commands, command: tuple[str, ...]
) -> None:
    add_records(shop, 3000)
    process = commands.start(*command)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read().decode().replace("1000 of 3000.\n", "") == ""
    process.stderr.close()
    process.wait(60)

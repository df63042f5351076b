"""``flask refunds bulk``: its options, prompts, output and files."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from click.testing import Result

from flask_refunds.bulk import database_retry
from flask_refunds.testing import StripeSandbox
from tests.mongod import failing
from tests.shop import Shop

RATE = ("--rate", "1000")


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stdin a terminal."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)


def buy(shop: Shop, sandbox: StripeSandbox, count: int, **fields: Any) -> list[str]:
    return [str(shop.add_purchase(sandbox.create_payment(1999, "eur"), **fields)) for _ in range(count)]


def write(ids: list[str], name: str = "recall.txt") -> str:
    Path(name).write_text("\n".join(ids) + "\n")
    return name


def bulk(shop: Shop, *arguments: str, **options: Any) -> Result:
    return shop.flask("bulk", *RATE, *arguments, **options)


def rows(name: str = "recall.csv") -> list[dict[str, str]]:
    with open(name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_run_prints_plan_and_summary_and_writes_each_result(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 3)
    yen = str(shop.add_purchase(sandbox.create_payment(1200, "jpy")))
    disputed = str(shop.add_purchase(sandbox.create_payment(500, card="pm_card_createDispute")))
    missing = str(ObjectId())

    options = ("--reason", "duplicate", "--note", "=SUM(A1)", "--actor", "ann", "--yes")
    result = bulk(shop, write([*ids, yen, disputed, missing]), *options)

    assert result.exit_code == 1  # one failed
    assert result.stdout == (
        "Bulk run recall: 6 purchases.\n"
        "       4  to refund, from 4 payments: 59.97 EUR, 1200 JPY\n"
        "       1  charged back: don't refund them, answer the disputes in Stripe\n"
        "       1  not found\n"
        "Bulk run recall: 6 purchases: 59.97 EUR, 1200 JPY.\n"
        "       4  refunded\n"
        "       1  not found\n"
        "       1  failed: nothing was refunded\n"
        "Results: recall.csv\n"
    )
    found = {row["purchaseId"]: row for row in rows()}
    assert set(found) == {*ids, yen, disputed, missing}
    payment = shop.db.purchases.find_one({"_id": ObjectId(ids[0])})["stripePaymentIntentId"]
    assert found[ids[0]] == {
        "purchaseId": ids[0],
        "result": "refunded",
        "refundId": f"{payment}:1",
        "status": "succeeded",
        "amount": "1999",
        "currency": "eur",
        "amountDecimal": "19.99",
        "code": "",
        "message": "",
    }
    assert (found[yen]["amount"], found[yen]["amountDecimal"]) == ("1200", "1200")
    assert (found[disputed]["result"], found[disputed]["code"]) == ("failed", "charge_disputed")
    assert "charged back" in found[disputed]["message"]
    assert (found[missing]["result"], found[missing]["refundId"]) == ("not_found", "")
    fields = ("bulkRun", "source", "requestedBy", "reason", "note")
    stored = {tuple(record[field] for field in fields) for record in shop.records()}
    assert stored == {("recall", "cli", "ann", "duplicate", "=SUM(A1)")}
    listed = json.loads(shop.flask("list", "--bulk-run", "recall", "--json").stdout)
    assert listed["totalRefunds"] == 5
    assert list(Path().glob("*.part")) == []


def test_same_command_again_refunds_only_the_rest(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 4)
    assert bulk(shop, write(ids[:2]), "--yes").exit_code == 0
    result = bulk(shop, write(ids), "--yes")
    assert result.exit_code == 0
    assert "       2  already refunded by this run\n" in result.stdout
    assert "       2  to refund, from 2 payments: 39.98 EUR\n" in result.stdout
    assert [row["result"] for row in rows()] == ["refunded"] * 4
    assert len(sandbox.refunds()) == 4


def test_dry_run_prints_the_plan_and_refunds_nothing(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 2)
    result = bulk(shop, write(ids), "--dry-run")
    assert (result.exit_code, result.stdout) == (
        0,
        "Bulk run recall: 2 purchases.\n"
        "       2  to refund, from 2 payments: 39.98 EUR\n"
        "Dry run: nothing was refunded.\n",
    )
    printed = bulk(shop, "recall.txt", "--dry-run", "--json", "--skip-amounts", "--name", "r.1")
    assert json.loads(printed.stdout) == {
        "name": "r.1",
        "purchases": 2,
        "refundable": 2,
        "payments": 2,
        "amounts": None,
        "others": {},
        "partlyRefunded": None,
        "refundedBefore": None,
        "disputed": None,
    }
    assert (shop.records(), sandbox.refunds(), Path("recall.csv").exists()) == ([], [], False)


def test_run_without_terminal_and_yes_is_rejected(shop: Shop, sandbox: StripeSandbox) -> None:
    result = bulk(shop, write(buy(shop, sandbox, 1)))
    assert result.exit_code == 2
    assert result.stderr == "Error: Can't prompt: stdin is not a terminal. Use --yes or --dry-run.\n"
    assert sandbox.requests == []


def test_finished_run_without_terminal_and_yes_is_rejected(shop: Shop, sandbox: StripeSandbox) -> None:
    assert bulk(shop, write(buy(shop, sandbox, 1)), "--yes").exit_code == 0
    assert bulk(shop, "recall.txt").exit_code == 2


@pytest.mark.usefixtures("on_terminal")
def test_run_starts_only_if_its_name_is_typed(shop: Shop, sandbox: StripeSandbox) -> None:
    write(buy(shop, sandbox, 2))
    for typed in ("yes\n", "\n", ""):
        result = bulk(shop, "recall.txt", input=typed)
        assert (result.exit_code, sandbox.refunds()) == (2, [])
        assert "Type the run's name to refund 2 purchases: " in result.stderr
        assert result.stderr.endswith("Error: The text isn't recall. Nothing was refunded.\n")
    assert bulk(shop, "recall.txt", input="recall\n").exit_code == 0
    assert len(sandbox.refunds()) == 2


@pytest.mark.usefixtures("on_terminal")
def test_run_asks_even_if_its_plan_refunds_nothing(shop: Shop, sandbox: StripeSandbox) -> None:
    write([str(shop.add_purchase(sandbox.create_payment(700), status="pending"))])
    result = bulk(shop, "recall.txt", input="no\n")
    assert (result.exit_code, "Type the run's name to refund 0 purchases" in result.stderr) == (2, True)


def test_content_option_refunds_every_purchase_of_the_content(shop: Shop, sandbox: StripeSandbox) -> None:
    course = ObjectId()
    ids = [*buy(shop, sandbox, 2, content=course), *buy(shop, sandbox, 1, content=str(course))]
    unpaid = str(shop.add_purchase(None, status="pending", content=course))
    buy(shop, sandbox, 2)
    result = bulk(shop, "--content", str(course), "--yes")
    assert result.exit_code == 0
    found = {row["purchaseId"]: row["result"] for row in rows(f"content-{course}.csv")}
    assert found == {**dict.fromkeys(ids, "refunded"), unpaid: "not_completed"}
    assert {record["bulkRun"] for record in shop.records()} == {f"content-{course}"}


def test_range_options_refund_purchases_created_in_the_range(shop: Shop, sandbox: StripeSandbox) -> None:
    def at(day: int, hour: int = 0) -> ObjectId:
        return ObjectId.from_datetime(datetime(2024, 3, day, hour, tzinfo=timezone.utc))

    for purchase in (at(1), at(2), at(3, 23), at(4)):
        shop.add_purchase(sandbox.create_payment(500), _id=purchase, content="course")
    options = ("--from", "2024-03-02", "--to", "2024-03-03", "--name", "march", "--yes")
    assert bulk(shop, *options, "--content", "other").exit_code == 2
    assert bulk(shop, *options, "--content", "course").exit_code == 0
    assert sorted(row["purchaseId"] for row in rows("march.csv")) == [str(at(2)), str(at(3, 23))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Use either FILE, or --content, --from and --to."),
        (("recall.txt", "--content", "x"), "Use either FILE, or"),
        (("recall.txt", "--from", "2024-03-01", "--to", "2024-03-02"), "Use either FILE, or"),
        (("missing.txt",), "Can't read missing.txt: No such file or directory."),
        (("bad.txt",), "The file contains no IDs of existing purchases"),
        (("bytes.txt",), "bytes.txt isn't UTF-8 text."),
        (("-",), "Name the run with --name."),
        (("--from", "2024-03-01", "--to", "2024-03-02"), "Name the run with --name."),
        (("--from", "2024-03-01", "--name", "x"), "Use --from and --to together."),
        (("--content", "x", "--to", "2024-03-01", "--name", "x"), "Use --from and --to together."),
        (("--from", "2024-03-02", "--to", "2024-03-01", "--name", "x"), "from must be before to"),
        (("--from", "then", "--to", "now", "--name", "x"), "must be a day like 2024-03-15"),
        (("--content", "no-such"), "No purchases match."),
        (("recall.txt", "--name", "a b"), "must be 1 to 64 of A-Z"),
        (("recall.txt", "--rate", "0"), "0.0 is not in the range"),
        (("recall.txt", "--note", "x" * 501), "note must be text of at most 500 characters"),
        (("recall.txt", "--json", "--output", "-"), "Use either --json or --output -"),
        (("recall.txt", "--output", "no/such/folder.csv"), "Can't write to no/such/folder.csv"),
    ],
)
def test_invalid_option_or_file_refunds_nothing(
    shop: Shop, sandbox: StripeSandbox, arguments: tuple[str, ...], message: str
) -> None:
    write(buy(shop, sandbox, 1))
    Path("bad.txt").write_text("purchaseId,amount\n" + "a" * 24 + ",19.99\n")
    Path("bytes.txt").write_bytes(b"\xff\xfe")
    result = bulk(shop, *arguments, "--yes")
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert sandbox.refunds() == []


def test_ids_can_come_from_stdin_and_results_go_to_stdout(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 2)
    result = bulk(shop, "-", "--name", "piped", "--yes", "--output", "-", input="\n".join(ids))
    assert result.exit_code == 0
    found = list(csv.DictReader(result.stdout.splitlines()))
    assert sorted(row["purchaseId"] for row in found) == sorted(ids)
    assert "Bulk run piped: 2 purchases: 39.98 EUR." in result.stderr


def test_json_summary_names_the_output(shop: Shop, sandbox: StripeSandbox) -> None:
    result = bulk(shop, write(buy(shop, sandbox, 2)), "--yes", "--json", "--output", "out.csv")
    assert json.loads(result.stdout) == {
        "name": "recall",
        "purchases": 2,
        "results": {"refunded": 2},
        "amounts": {"eur": 3998},
        "unprocessed": 0,
        "output": "out.csv",
    }
    assert len(rows("out.csv")) == 2


def test_json_summary_of_a_stopped_run_names_the_part(
    shop: Shop, sandbox: StripeSandbox, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(buy(shop, sandbox, 2))
    monkeypatch.setattr(database_retry, "MAX_SECONDS", 0.2)
    with failing(database, "insert"):
        result = bulk(shop, file, "--yes", "--json")
    assert result.exit_code == 2
    assert Path(json.loads(result.stdout)["output"]).read_text().startswith("purchaseId,")


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("march.csv", ()),
        ("march.csv", ("--name", "other", "--output", "./march.csv")),
        ("march.txt", ("--output", "link.csv")),
    ],
)
def test_results_never_replace_the_file_of_ids(
    shop: Shop, sandbox: StripeSandbox, file: str, options: tuple[str, ...]
) -> None:
    ids = buy(shop, sandbox, 2)
    write(ids, file)
    Path("link.csv").symlink_to(file)
    result = bulk(shop, file, *options, "--yes")
    assert (result.exit_code, f"The results would replace {file}." in result.stderr) == (2, True)
    assert Path(file).read_text().split() == ids
    assert sandbox.refunds() == []


def test_empty_file_name_is_reported(shop: Shop) -> None:
    result = bulk(shop, "", "--name", "unset", "--yes")
    assert (result.exit_code, "Can't read : No such file" in result.stderr) == (2, True)


def test_formula_in_a_purchase_status_is_part_of_the_message(shop: Shop) -> None:
    odd = str(shop.add_purchase(None, status="=1+1"))
    assert bulk(shop, write([odd]), "--yes").exit_code == 0
    [row] = rows()
    assert row["message"] == "Its status is =1+1."


def test_run_stopped_by_an_error_keeps_its_results_and_can_continue(
    shop: Shop, sandbox: StripeSandbox, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = buy(shop, sandbox, 3)
    assert bulk(shop, write(ids[:1]), "--yes").exit_code == 0
    write(ids)
    with monkeypatch.context() as impatient, failing(database, "insert"):
        impatient.setattr(database_retry, "MAX_SECONDS", 0.2)
        result = bulk(shop, "recall.txt", "--yes")
    assert result.exit_code == 2
    assert "       2  not processed: run the same command again\n" in result.stdout
    assert "Error: The database is unavailable. Results so far: " in result.stderr
    assert "Run the same command again to continue.\n" in result.stderr
    [part] = Path().glob("*.part")
    assert f"{part}. The ledger has" in result.stderr
    assert [row["purchaseId"] for row in rows(str(part))] == ids[:1]
    assert len(rows()) == 1  # the results of the complete run stay
    assert bulk(shop, "recall.txt", "--yes").exit_code == 0
    assert len(rows()) == len(sandbox.refunds()) == 3

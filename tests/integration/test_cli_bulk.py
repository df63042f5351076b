"""``flask refunds bulk``: what it says, asks and writes, on a real MongoDB."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from click.testing import Result

from flask_refunds.bulk import outage as outage_module
from flask_refunds.testing import StripeSandbox
from tests.mongod import failing
from tests.shop import Shop

RATE = ("--rate", "1000")


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody can be asked."""
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


def test_a_whole_run(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 3)
    yen = str(shop.add_purchase(sandbox.create_payment(1200, "jpy")))
    disputed = str(shop.add_purchase(sandbox.create_payment(500, card="pm_card_createDispute")))
    gone = str(ObjectId())

    options = ("--reason", "duplicate", "--note", "=SUM(A1)", "--actor", "ann", "--yes")
    result = bulk(shop, write([*ids, yen, disputed, gone]), *options)

    assert result.exit_code == 1  # one failed
    assert result.stdout == (
        "Bulk run recall: 6 purchases.\n"
        "       5  to refund, paid by 5 payments: 59.97 EUR, 1200 JPY, 5.00 USD\n"
        "       1  not there\n"
        "Bulk run recall: 6 purchases: 59.97 EUR, 1200 JPY.\n"
        "       4  refunded\n"
        "       1  not there\n"
        "       1  failed: nothing was refunded\n"
        "A row for each purchase: recall.csv\n"
    )
    found = {row["purchaseId"]: row for row in rows()}
    assert set(found) == {*ids, yen, disputed, gone}
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
    assert (found[gone]["result"], found[gone]["refundId"]) == ("not_found", "")
    asked = {
        (row["bulk"], row["source"], row["requestedBy"], row["reason"], row["note"]) for row in shop.records()
    }
    assert asked == {("recall", "command", "cli:ann", "duplicate", "=SUM(A1)")}
    listed = json.loads(shop.flask("list", "--bulk", "recall", "--json").stdout)
    assert listed["totalRefunds"] == 5
    assert [path.name for path in Path().iterdir() if path.name.endswith(".part")] == []


def test_again_it_goes_on(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 4)
    assert bulk(shop, write(ids[:2]), "--yes").exit_code == 0
    result = bulk(shop, write(ids), "--yes")
    assert result.exit_code == 0
    assert "       2  refunded by this run before\n" in result.stdout
    assert "       2  to refund, paid by 2 payments: 39.98 EUR\n" in result.stdout
    assert [row["result"] for row in rows()] == ["refunded"] * 4
    done = bulk(shop, "recall.txt")  # nothing to ask about; nobody is there
    assert done.exit_code == 2
    assert len(sandbox.refunds()) == 4


def test_a_dry_run(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 2)
    result = bulk(shop, write(ids), "--dry-run")
    assert (result.exit_code, result.stdout) == (
        0,
        "Bulk run recall: 2 purchases.\n"
        "       2  to refund, paid by 2 payments: 39.98 EUR\n"
        "Nothing was refunded (dry run).\n",
    )
    shown = bulk(shop, "recall.txt", "--dry-run", "--json", "--skip-amounts", "--name", "r.1")
    assert json.loads(shown.stdout) == {
        "name": "r.1",
        "purchases": 2,
        "refundable": 2,
        "payments": 2,
        "amounts": None,
        "others": {},
    }
    assert (shop.records(), sandbox.refunds(), Path("recall.csv").exists()) == ([], [], False)


def test_where_nobody_can_be_asked(shop: Shop, sandbox: StripeSandbox) -> None:
    result = bulk(shop, write(buy(shop, sandbox, 1)))
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: Nobody can be asked here: add --yes, or --dry-run. Nothing was refunded.\n"
    )
    assert sandbox.requests == []


@pytest.mark.usefixtures("on_terminal")
def test_the_name_must_be_typed(shop: Shop, sandbox: StripeSandbox) -> None:
    write(buy(shop, sandbox, 2))
    for typed in ("yes\n", "\n", ""):
        result = bulk(shop, "recall.txt", input=typed)
        assert (result.exit_code, sandbox.refunds()) == (2, [])
        assert "Type the run's name to refund 2 purchases: " in result.stderr
        assert result.stderr.endswith("Error: That is not recall. Nothing was refunded.\n")
    assert bulk(shop, "recall.txt", input="recall\n").exit_code == 0
    assert len(sandbox.refunds()) == 2


def test_everyone_who_bought_something(shop: Shop, sandbox: StripeSandbox) -> None:
    course = ObjectId()
    ids = [*buy(shop, sandbox, 2, content=course), *buy(shop, sandbox, 1, content=str(course))]
    unpaid = str(shop.add_purchase(None, status="pending", content=course))
    buy(shop, sandbox, 2)
    result = bulk(shop, "--content", str(course), "--yes")
    assert result.exit_code == 0
    found = {row["purchaseId"]: row["result"] for row in rows(f"content-{course}.csv")}
    assert found == {**dict.fromkeys(ids, "refunded"), unpaid: "not_completed"}
    assert {row["bulk"] for row in shop.records()} == {f"content-{course}"}


def test_all_that_was_paid_between(shop: Shop, sandbox: StripeSandbox) -> None:
    def at(day: int, hour: int = 0) -> ObjectId:
        return ObjectId.from_datetime(datetime(2024, 3, day, hour, tzinfo=timezone.utc))

    for purchase in (at(1), at(2), at(3, 23), at(4)):
        shop.add_purchase(sandbox.create_payment(500), _id=purchase, content="course")
    between = ("--paid-between", "2024-03-02", "2024-03-03")
    assert bulk(shop, *between, "--name", "march", "--yes", "--content", "other").exit_code == 2
    assert bulk(shop, *between, "--name", "march", "--yes", "--content", "course").exit_code == 0
    assert sorted(row["purchaseId"] for row in rows("march.csv")) == [str(at(2)), str(at(3, 23))]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Say a file, or --content and --paid-between or one of them."),
        (("recall.txt", "--content", "x"), "Say a file, or --content"),
        (("missing.txt",), "missing.txt cannot be read: No such file or directory."),
        (("bad.txt",), "Line 1 is no purchase's id (24 hex digits): purchaseId\n"),
        (("bytes.txt",), "bytes.txt is no text in UTF-8"),
        (("-",), "Name the run: --name."),
        (("--paid-between", "2024-03-01", "2024-03-02"), "Name the run: --name."),
        (("--paid-between", "2024-03-02", "2024-03-01", "--name", "x"), "ends before it begins"),
        (("--paid-between", "then", "now", "--name", "x"), "must be a day like 2024-03-15"),
        (("--content", "no-such"), "There is no such purchase."),
        (("recall.txt", "--name", "a b"), "must be 1 to 64 of A-Z"),
        (("recall.txt", "--rate", "0"), "0.0 is not in the range"),
        (("recall.txt", "--note", "x" * 501), "note must be text of at most 500 characters"),
        (("recall.txt", "--json", "--output", "-"), "not both"),
        (("recall.txt", "--output", "no/such/folder.csv"), "folder.csv cannot be written"),
    ],
)
def test_what_is_refused(shop: Shop, sandbox: StripeSandbox, arguments: tuple[str, ...], words: str) -> None:
    write(buy(shop, sandbox, 1))
    Path("bad.txt").write_text("purchaseId\n" + "a" * 24 + "\n")
    Path("bytes.txt").write_bytes(b"\xff\xfe")
    result = bulk(shop, *arguments, "--yes")
    assert (result.exit_code, words in result.stderr) == (2, True), result.stderr
    assert sandbox.refunds() == []


def test_rows_on_standard_output_and_ids_from_standard_input(shop: Shop, sandbox: StripeSandbox) -> None:
    ids = buy(shop, sandbox, 2)
    result = bulk(shop, "-", "--name", "piped", "--yes", "--output", "-", input="\n".join(ids))
    assert result.exit_code == 0
    found = list(csv.DictReader(result.stdout.splitlines()))
    assert sorted(row["purchaseId"] for row in found) == sorted(ids)
    assert "Bulk run piped: 2 purchases: 39.98 EUR." in result.stderr


def test_json(shop: Shop, sandbox: StripeSandbox) -> None:
    result = bulk(shop, write(buy(shop, sandbox, 2)), "--yes", "--json", "--output", "out.csv")
    assert json.loads(result.stdout) == {
        "name": "recall",
        "purchases": 2,
        "results": {"refunded": 2},
        "amounts": {"eur": 3998},
        "left": 0,
        "output": "out.csv",
    }
    assert len(rows("out.csv")) == 2


def test_what_a_spreadsheet_would_take_for_a_formula(shop: Shop, sandbox: StripeSandbox) -> None:
    odd = str(shop.add_purchase(None, status="=1+1"))
    assert bulk(shop, write([odd]), "--yes").exit_code == 0
    [row] = rows()
    assert row["message"] == "Its status is =1+1."


def test_a_run_that_cannot_go_on_says_so_and_keeps_its_rows(
    shop: Shop, sandbox: StripeSandbox, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = buy(shop, sandbox, 3)
    assert bulk(shop, write(ids[:1]), "--yes").exit_code == 0
    write(ids)
    with monkeypatch.context() as impatient, failing(database, "insert"):
        impatient.setattr(outage_module, "OUTAGE_SECONDS", 0.2)
        result = bulk(shop, "recall.txt", "--yes")
    assert result.exit_code == 2
    assert "       2  not reached: run the same again\n" in result.stdout
    assert "Error: The database is unavailable." in result.stderr
    assert "run the same command again, and it goes on.\n" in result.stderr
    [part] = [path for path in Path().iterdir() if path.name.endswith(".part")]
    assert str(part) in result.stderr
    assert [row["purchaseId"] for row in rows(str(part))] == ids[:1]
    assert len(rows()) == 1  # the last whole one stays
    assert bulk(shop, "recall.txt", "--yes").exit_code == 0
    assert len(rows()) == len(sandbox.refunds()) == 3

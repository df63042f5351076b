"""``flask refunds refund`` and ``show``."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient

from flask_refunds.testing import StripeSandbox
from tests.integration.commands import Commands
from tests.mongod import failing
from tests.shop import Shop, make_app

PENDING = "4000000000007726"
DISPUTED = "4000000000000259"


def buy(shop: Shop, sandbox: StripeSandbox, **payment: Any) -> tuple[str, str]:
    """Return a payment and its purchase."""
    payment_intent = sandbox.create_payment(1999, **payment)
    return payment_intent, str(shop.add_purchase(payment_intent))


def test_refund_succeeds_and_the_ledger_names_the_actor(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = buy(shop, sandbox)

    result = shop.flask("refund", purchase, "--reason", "duplicate", "--note", "by phone", "--actor", "ann")

    assert (result.exit_code, result.output) == (0, f"Refunded 19.99 USD: {payment}:1 succeeded.\n")
    assert sandbox.money_refunded(payment) == 1999
    [record] = shop.records()
    assert (record["source"], record["requestedBy"]) == ("cli", "ann")
    assert (record["reason"], record["note"]) == ("duplicate", "by phone")
    assert {entry["actor"] for entry in record["history"]} == {"cli:ann"}
    assert shop.status_of(ObjectId(purchase)) == "refunded"


def test_json_has_the_refund_and_the_purchase(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = buy(shop, sandbox)
    printed = json.loads(shop.flask("refund", purchase, "--json").output)
    assert (printed["refund"]["id"], printed["refund"]["status"]) == (f"{payment}:1", "succeeded")
    assert (printed["purchase"]["_id"], printed["purchase"]["status"]) == (purchase, "refunded")


def test_pending_refund_exits_with_0(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = buy(shop, sandbox, card=PENDING)
    result = shop.flask("refund", purchase)
    assert result.exit_code == 0
    assert result.output.startswith(f"Pending: Stripe accepted {payment}:1")


def test_unknown_outcome_is_resolved_by_the_same_command(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = buy(shop, sandbox)
    sandbox.inject("response_lost", times=2)
    result = shop.flask("refund", purchase)
    assert (result.exit_code, "Run the same command again" in result.output) == (0, True)
    assert "succeeded" in shop.flask("refund", purchase).output
    assert len(sandbox.refunds(payment)) == 1


def test_failed_command_says_whether_money_moved(shop: Shop, sandbox: StripeSandbox, database: Any) -> None:
    payment, done = buy(shop, sandbox)
    shop.refund(done)
    _, disputed = buy(shop, sandbox, card=DISPUTED)
    _, limited = buy(shop, sandbox)
    messages = {
        "nonsense": "Purchase not found. Nothing was refunded.",
        str(ObjectId()): "Purchase not found. Nothing was refunded.",
        str(shop.add_purchase("pi_1", status="pending")): "can be refunded. Nothing was refunded.",
        str(shop.add_purchase(None)): "Refund failed. Nothing was refunded.",
        done: f"and this one is refunded: see {payment}:1. This command refunded nothing.",
        disputed: "has been charged back; cannot issue a refund. Nothing was refunded. The customer disputed",
        str(shop.add_purchase("pi_other")): "'pi_other'. Nothing was refunded. It belongs to",
    }
    for purchase, message in messages.items():
        result = shop.flask("refund", purchase)
        assert (result.exit_code, result.stdout) == (2, ""), purchase
        assert result.stderr.startswith("Error: "), purchase
        assert message in result.stderr, purchase
    with failing(database, "aggregate"):
        assert "This call refunded nothing" in shop.flask("refund", limited).stderr
    sandbox.rate_limit = 0
    assert "Nothing was refunded. Try again" in shop.flask("refund", limited).stderr


@pytest.mark.parametrize(
    ("command", "failed"), [("refund", "insert"), ("list", "find"), ("reconcile", "find")]
)
def test_failed_command_shows_what_mongodb_answered(
    shop: Shop, sandbox: StripeSandbox, database: Any, command: str, failed: str
) -> None:
    _, purchase = buy(shop, sandbox)
    with failing(database, failed):
        result = shop.flask(command, *([purchase] if command == "refund" else []))
    assert result.exit_code == 2
    assert "MongoDB answered: Failing command via 'failCommand' failpoint." in result.output


@pytest.mark.parametrize("command", [["list"], ["show", "pi_1"], ["refund", "7"]], ids=str)
def test_failed_command_says_that_no_server_answers(sandbox: StripeSandbox, command: list[str]) -> None:
    with MongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", serverSelectionTimeoutMS=50) as client:
        app = make_app(REFUNDS_MONGO=client.shop, STRIPE_API_BASE=sandbox.url)
        result = app.test_cli_runner().invoke(args=["refunds", *command])
    assert result.exit_code == 2
    assert "MongoDB doesn't answer (ServerSelectionTimeoutError). Check MONGO_URI" in result.stderr


def test_too_long_note_is_rejected(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = buy(shop, sandbox)
    result = shop.flask("refund", purchase, "--note", "x" * 501)
    assert (result.exit_code, "at most 500 characters" in result.stderr) == (2, True)
    assert sandbox.money_refunded(payment) == 0


def test_refund_in_another_call_is_rejected_and_interrupted_call_explains(
    shop: Shop, sandbox: StripeSandbox, commands: Commands
) -> None:
    _, purchase = buy(shop, sandbox)
    sandbox.inject("timeout_before_refund")
    first = commands.start("refund", purchase)
    try:
        sandbox.wait_for_requests(1, 30)
        result = shop.flask("refund", purchase)
        assert (result.exit_code, "This command refunded nothing. Run it again" in result.stderr) == (2, True)
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=30)
    finally:
        first.kill()
        first.wait()
    assert (first.returncode, out) == (2, b"")
    assert b"Interrupted. The refund may have been made" in err
    assert b"Traceback" not in err


@pytest.fixture
def live_shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(
        REFUNDS_MONGO=database,
        STRIPE_API_BASE=sandbox.url,
        STRIPE_SECRET_KEY="sk_live_flaskRefundsTests00000",
    )
    return Shop(app, database)


def test_live_key_without_terminal_requires_yes(live_shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = buy(live_shop, sandbox, livemode=True)
    result = live_shop.flask("refund", purchase)
    assert (result.exit_code, "Use --yes to refund with a live key." in result.stderr) == (2, True)
    assert sandbox.money_refunded(payment) == 0
    assert live_shop.flask("refund", purchase, "--yes").exit_code == 0
    assert sandbox.money_refunded(payment) == 1999


@pytest.mark.parametrize("answer", ["", "n\n", "what\n"])
def test_live_refund_that_is_not_confirmed_exits_with_2(
    live_shop: Shop, sandbox: StripeSandbox, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    payment, purchase = buy(live_shop, sandbox, livemode=True)
    result = live_shop.flask("refund", purchase, input=answer)
    assert (result.exit_code, "Nothing was refunded" in result.stderr) == (2, True), result.output
    assert sandbox.money_refunded(payment) == 0


@pytest.mark.parametrize("command", [("show", "pi_1:1"), ("list", "--json"), ("check",)])
def test_interrupted_command_exits_with_2(
    shop: Shop, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    module = {"list": "list_refunds"}.get(command[0], command[0])
    monkeypatch.setattr(f"flask_refunds.cli.{module}.current_refunds", interrupt)
    result = shop.flask(*command)
    assert (result.exit_code, "Error: Interrupted." in result.stderr) == (2, True), result.output


def test_show_finds_refunds_by_each_kind_of_id(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = buy(shop, sandbox, card=DISPUTED)
    shop.flask("refund", purchase, "--actor", "ann", "--note", "first\x1b[31m try")
    shop.flask("refund", purchase, "--actor", "bob")

    one = shop.flask("show", f"{payment}:1")
    both = [shop.flask("show", each) for each in (payment, purchase)]

    assert one.exit_code == 0
    assert f"Refund         {payment}:1\nStatus         failed\n" in one.output
    assert "Requested by   ann\n" in one.output
    assert "first\ufffd[31m try" in one.output
    assert "processing  cli:ann" in one.output
    assert "Failure        " in one.output
    assert both[0].output == both[1].output
    assert both[0].output.startswith(one.output)
    assert f"{payment}:2" in both[0].output


def test_show_recommends_the_next_step(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = buy(shop, sandbox)
    sandbox.inject("request_lost", times=2)
    shop.flask("refund", purchase)
    assert "What to do     Wait, and don't pay another way" in shop.flask("show", purchase).output
    shop.flask("reconcile", "--older-than", "0", "--rate", "1000")
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    assert shop.flask("reconcile", "--full").exit_code == 1
    output = shop.flask("show", payment).output
    assert "(failed_after_success)" in output
    assert "What to do     Contact the customer" in output


def test_show_as_json_has_the_history(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = buy(shop, sandbox)
    assert json.loads(shop.flask("show", purchase, "--json").output) == {"refunds": []}
    assert shop.flask("show", purchase).output == "No refunds.\n"
    shop.flask("refund", purchase)
    [refund] = json.loads(shop.flask("show", purchase, "--json").output)["refunds"]
    assert refund["id"] == f"{payment}:1"
    assert [entry["status"] for entry in refund["history"]] == ["processing", "succeeded"]


@pytest.mark.parametrize(("id_", "message"), [("pi_1:1", "Refund not found"), ("x", "Purchase not found")])
def test_show_rejects_an_unknown_id(shop: Shop, id_: str, message: str) -> None:
    result = shop.flask("show", id_)
    assert (result.exit_code, message in result.stderr) == (2, True)

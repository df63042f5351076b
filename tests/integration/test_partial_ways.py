"""Partial refunds by the other ways in: the command line, Python, Celery's task, bulk runs and reviews."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from bson import ObjectId

import flask_refunds
from flask_refunds import (
    AmountTooLarge,
    InvalidRequest,
    RefundableChanged,
    RefundAmbiguous,
    RefundInProgress,
    bulk_refund,
    extension,
    plan_bulk_refund,
    refund_purchase,
)
from flask_refunds.bulk import BulkSummary
from flask_refunds.testing import Fault, StripeSandbox
from tests.integration.test_partial import AMOUNT, amounts, made, make_shop
from tests.integration.webhooks import PENDING_CARD, send
from tests.shop import Shop


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    return make_shop(database, sandbox)


# The command line


@pytest.mark.parametrize(
    ("currency", "paid", "amount", "refundable", "refunded"),
    [
        ("usd", 2999, "5.00", "29.99", 500),
        ("jpy", 2999, "1", "2999", 1),
        ("kwd", 5_120, "5.11", "5.120", 5_110),
        ("isk", 2_900, "1", "29", 100),
        ("ugx", 2_900, "28", "29.00", 2_800),
        ("huf", 2999, "0.01", "29.99", 1),
    ],
)
def test_command_refunds_a_part_in_the_decimals_of_the_currency(
    shop: Shop, sandbox: StripeSandbox, currency: str, paid: int, amount: str, refundable: str, refunded: int
) -> None:
    payment = sandbox.create_payment(paid, currency)
    purchase = shop.add_purchase(payment)
    arguments = ("refund", str(purchase), "--amount", amount, "--refundable", refundable, "--actor", "ann")
    result = shop.flask(*arguments)
    assert result.exit_code == 0, result.output
    assert f"{currency.upper()}: {payment}:1 succeeded" in result.output
    again = shop.flask(*arguments)
    assert (again.exit_code, "An earlier, equal command requested it." in again.output) == (0, True)
    assert amounts(sandbox, payment) == [refunded]
    assert shop.status_of(purchase) == "completed"


@pytest.mark.parametrize(
    ("currency", "amount", "message"),
    [
        ("usd", "5.001", "--amount must be an amount in USD, at most 2 decimals"),
        ("usd", "-5", "--amount must be an amount"),
        ("usd", "0.00", "amount must be a whole number from 1"),
        ("jpy", "5.0", "without decimals"),
        ("isk", "5.50", "a multiple of 1.00 ISK"),
        ("kwd", "5.124", "a multiple of 0.010 KWD"),
    ],
)
def test_command_rejects_an_amount_that_the_currency_does_not_have(
    shop: Shop, sandbox: StripeSandbox, currency: str, amount: str, message: str
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(99_000, currency))
    result = shop.flask("refund", str(purchase), f"--amount={amount}", "--refundable", "99")
    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert "Nothing was refunded." in result.output
    assert made(sandbox) == []


def test_command_without_refundable_shows_what_to_add(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = str(shop.add_purchase(payment))
    sandbox.dashboard_refund(payment, 999)
    result = shop.flask("refund", purchase, "--amount", "5.00")
    assert (result.exit_code, "Add --refundable 20.00 --number 1" in result.output) == (2, True)
    assert made(sandbox) == []
    result = shop.flask("refund", purchase, "--amount", "5.00", "--refundable", "20.00", "--number", "1")
    assert result.exit_code == 0


def test_command_explains_a_changed_payment(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = str(shop.add_purchase(sandbox.create_payment(AMOUNT)))
    result = shop.flask("refund", purchase, "--amount", "5", "--refundable", "30")
    assert (result.exit_code, "without --refundable to see what is left now" in result.output) == (2, True)
    assert made(sandbox) == []


def test_command_closes_a_purchase(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(AMOUNT))
    options = ("--amount", "5", "--refundable", "29.99", "--mark-refunded", "--json")
    printed = json.loads(shop.flask("refund", str(purchase), *options).output)
    assert printed["purchase"]["status"] == "refunded"
    printed = json.loads(shop.flask("refund", str(purchase), *options).output)
    assert printed["replayed"] is True


def test_requested_amount_is_visible_before_stripe_reports_it(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = str(shop.add_purchase(sandbox.create_payment(AMOUNT)))
    part = ("refund", purchase, "--amount", "5", "--refundable", "29.99")
    sandbox.inject(Fault.REQUEST_LOST, times=2)
    assert "Submitted" in shop.flask(*part).output
    for requested in ("500 minor units", "5.00 USD"):
        assert f"Amount         {requested}\n" in shop.flask("show", purchase).output
        assert f"  {requested}  " in shop.flask("list").output
        [row] = csv.DictReader(io.StringIO(shop.flask("export").stdout))
        reported = "500" if "USD" in requested else ""
        assert (row["requestedAmount"], row["amount"]) == ("500", reported)
        assert shop.flask(*part).exit_code == 0
    shop.flask("refund", purchase)
    whole, *_ = csv.DictReader(io.StringIO(shop.flask("export").stdout))
    assert (whole["requestedAmount"], whole["amount"]) == ("", "2499")


@pytest.mark.parametrize("options", [("--amount", "5"), ("--mark-refunded",), ("--number", "1")])
def test_command_refuses_a_part_unless_parts_are_allowed(
    database: Any, sandbox: StripeSandbox, options: Any
) -> None:
    shop = make_shop(database, sandbox, REFUNDS_ALLOW_PARTIAL=False)
    purchase = str(shop.add_purchase(sandbox.create_payment(AMOUNT)))
    result = shop.flask("refund", purchase, *options)
    assert (result.exit_code, "REFUNDS_ALLOW_PARTIAL" in result.output) == (2, True)
    assert sandbox.requests == []


# Python


def test_python_call_refunds_a_part(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    part = {"amount": 500, "refundable": AMOUNT, "requested_by": "till"}
    with shop.app.app_context():
        assert not refund_purchase(purchase, **part).replayed
        again = refund_purchase(purchase, **part)
        assert (again.replayed, again.refund.amount, again.refund.is_full) == (True, 500, False)
        with pytest.raises(RefundableChanged) as changed:
            refund_purchase(purchase, amount=600, refundable=AMOUNT)
        assert changed.value.details == {"refundable": AMOUNT - 500, "number": 2}
        with pytest.raises(AmountTooLarge):
            refund_purchase(purchase, amount=2, refundable=1)
        with pytest.raises(InvalidRequest):
            refund_purchase(purchase, amount=5.0, refundable=AMOUNT)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest):
            refund_purchase(purchase, refundable=AMOUNT)
        rest = refund_purchase(purchase, reason="duplicate", note="the rest").refund
    assert (rest.amount, rest.is_full, rest.requested_by, rest.source) == (AMOUNT - 500, False, None, "app")
    assert amounts(sandbox, payment) == [500, AMOUNT - 500]
    assert shop.status_of(purchase) == "refunded"


def test_python_call_matches_ids_by_type(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(AMOUNT))
    with shop.app.app_context(), pytest.raises(flask_refunds.PurchaseNotFound):
        refund_purchase(str(purchase))
    assert sandbox.requests == []


def test_errors_of_parts_are_exported() -> None:
    assert {each.status for each in (RefundableChanged, RefundAmbiguous, RefundInProgress)} == {409}


# Bulk runs


def run(shop: Shop, purchases: list[ObjectId]) -> BulkSummary:
    with shop.app.app_context():
        return bulk_refund("recall", purchases)


@pytest.mark.parametrize("card", ["4242424242424242", PENDING_CARD])
def test_bulk_run_plans_and_refunds_the_rest(shop: Shop, sandbox: StripeSandbox, card: str) -> None:
    payments = [sandbox.create_payment(AMOUNT, card=card) for _ in range(2)]
    purchases = [shop.add_purchase(payment) for payment in payments]
    with shop.app.app_context():
        refund_purchase(purchases[0], amount=500, refundable=AMOUNT)
        plan = plan_bulk_refund("recall", purchases).as_dict()
    assert (plan["refundable"], plan["amounts"]) == (2, {"usd": 2 * AMOUNT - 500})
    assert (plan["partlyRefunded"], plan["refundedBefore"]) == (1, {"usd": 500})

    summary = run(shop, purchases)
    assert summary.amounts == {"usd": 2 * AMOUNT - 500}
    assert [amounts(sandbox, each) for each in payments] == [[500, AMOUNT - 500], [AMOUNT]]
    assert run(shop, purchases).amounts == summary.amounts
    assert [amounts(sandbox, each) for each in payments] == [[500, AMOUNT - 500], [AMOUNT]]


def test_plan_says_what_went_back_before(shop: Shop, sandbox: StripeSandbox, tmp_path: Any) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    with shop.app.app_context():
        refund_purchase(purchase, amount=500, refundable=AMOUNT)
    ids = tmp_path / "recall.txt"
    ids.write_text(f"{purchase}\n")
    shown = shop.flask("bulk", str(ids), "--dry-run").output
    assert "of these payments are partly refunded: 5.00 USD before" in shown
    assert "to refund, from 1 payment: 24.99 USD" in shown


def test_bulk_run_refunds_each_payment_once_whatever_is_left(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    part = sandbox.dashboard_refund(payment, 500)
    run(shop, [purchase])
    sandbox.settle(part["id"], "failed")
    send(shop, sandbox.events[-1])
    assert shop.status_of(purchase) == "completed"
    assert run(shop, [purchase]).amounts == {"usd": AMOUNT - 500}
    assert amounts(sandbox, payment) == [AMOUNT - 500]


# Reviews


def test_retry_of_a_part_refunds_that_part_again(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    with shop.app.app_context():
        failed = refund_purchase(purchase, amount=500, refundable=AMOUNT, mark_refunded=True).refund
        sandbox.settle(failed.stripe_refund_id or "", "failed")
        send(shop, sandbox.events[-1])
        assert shop.status_of(purchase) == "completed"
        other = refund_purchase(purchase, amount=300, refundable=AMOUNT).refund
    refunds = extension.get_refunds(shop.app)
    assert refunds.ledger.get(failed.id).review is not None  # another part doesn't replace it

    result = shop.flask("resolve", failed.id, "--retry", "--comment", "by phone", "--actor", "ann")
    assert result.exit_code == 0, result.output
    assert amounts(sandbox, payment) == [300, 500]
    assert refunds.ledger.get(failed.id).review is None
    assert shop.status_of(purchase) == "refunded"
    assert refunds.ledger.get(other.id).amount == 300
    part = refunds.ledger.get(f"{payment}:3").part
    assert part is not None
    assert (part.amount, part.refundable, part.number, part.mark_refunded) == (500, AMOUNT - 300, 3, True)


def test_retry_of_a_part_that_no_longer_fits_is_refused(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    with shop.app.app_context():
        failed = refund_purchase(purchase, amount=2000, refundable=AMOUNT).refund
    sandbox.settle(failed.stripe_refund_id or "", "failed")
    send(shop, sandbox.events[-1])
    sandbox.dashboard_refund(payment, 1500)
    result = shop.flask("resolve", failed.id, "--retry", "--comment", "by phone")
    assert result.exit_code == 2, result.output
    assert amounts(sandbox, payment) == [1500]


# Figures


def test_figures_count_parts(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(AMOUNT))
    with shop.app.app_context():
        refund_purchase(purchase, amount=500, refundable=AMOUNT)
        refund_purchase(purchase, amount=700, refundable=AMOUNT - 500)
        sandbox.inject(Fault.CARD_ERROR)
        with pytest.raises(flask_refunds.RefundFailed):
            refund_purchase(purchase, amount=900, refundable=AMOUNT - 1200)
    shown = shop.client.get("/api/payments/admin/refunds/metrics", headers=shop.headers()).json["total"]
    assert (shown["refunds"], shown["failed"]) == (2, 1)
    totals = shown["currencies"]["usd"]
    assert (totals["amount"], totals["averageAmount"]) == (1200, 600)
    assert shown["purchases"]["refunded"] == 0
    exported = shop.flask("export", "--format", "jsonl").output.splitlines()
    assert sorted(json.loads(each)["part"]["amount"] for each in exported) == [500, 700, 900]

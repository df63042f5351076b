"""``flask refunds reconcile`` and ``resolve``, on a real MongoDB: every row comes to its end."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from click.testing import Result

from flask_refunds import refund_needs_review, refund_succeeded
from flask_refunds.testing import StripeSandbox
from tests.mongod import failing
from tests.shop import Shop

PENDING = "4000000000007726"


def reconcile(shop: Shop, *arguments: str) -> Result:
    return shop.flask("reconcile", "--older-than", "0", "--rate", "1000", *arguments)


def unknown(shop: Shop, sandbox: StripeSandbox, fault: str = "drop_after") -> tuple[str, Any]:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    injected = sandbox.inject(fault, times=2)
    assert shop.refund(purchase).json["message"] == "Refund submitted"
    assert injected.hits == 2
    return payment, purchase


def age(shop: Shop, **by: float) -> None:
    """Make every row older."""
    for row in shop.records():
        ages = {name: row[name] - timedelta(**by) for name in ("createdAt", "updatedAt", "leaseExpiresAt")}
        shop.db.flask_refunds.update_one({"_id": row["_id"]}, {"$set": ages})


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "error_500_after"])
def test_an_unknown_outcome_comes_to_its_end(shop: Shop, sandbox: StripeSandbox, fault: str) -> None:
    payment, purchase = unknown(shop, sandbox, fault)
    result = reconcile(shop)
    assert result.exit_code == 0, result.output
    assert result.output == (
        "1 looked at: 1 settled, 0 still open, 0 tidied, 0 busy, 0 errors, 0 need a person.\n"
    )
    assert shop.status_of(purchase) == "refunded"
    [row] = shop.records()
    assert (row["status"], row["signals_sent"]) == ("succeeded", True)
    assert row["history"][-1]["actor"] == "reconcile"
    assert sandbox.money_refunded(payment) == 1999
    age(shop, minutes=1)
    assert reconcile(shop).output.startswith("1 looked at: 0 settled, 0 still open, 1 tidied")
    assert reconcile(shop).output.startswith("0 looked at")


def test_a_pending_refund_is_asked_about(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, card=PENDING)
    purchase = shop.add_purchase(payment)
    shop.refund(purchase)
    assert "1 still open" in reconcile(shop).output
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    assert "1 settled" in reconcile(shop).output
    assert shop.status_of(purchase) == "refunded"


def test_what_changed_just_now_is_left_alone(shop: Shop, sandbox: StripeSandbox) -> None:
    unknown(shop, sandbox)
    assert shop.flask("reconcile").output.startswith("0 looked at")
    age(shop, seconds=61)
    assert shop.flask("reconcile").output.startswith("1 looked at")


def test_a_row_that_a_call_owns_is_left_to_it(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = unknown(shop, sandbox, "drop_before")
    in_a_minute = datetime.now(timezone.utc) + timedelta(minutes=1)
    shop.db.flask_refunds.update_one({}, {"$set": {"leaseExpiresAt": in_a_minute}})
    assert "1 busy" in reconcile(shop).output
    assert sandbox.money_refunded(payment) == 0


@pytest.mark.parametrize(("by_hand", "right"), [("completed", "refunded"), ("refunded", "completed")])
def test_purchases_that_disagree_are_repaired_once(
    shop: Shop, sandbox: StripeSandbox, by_hand: str, right: str
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    if right == "completed":
        sandbox.inject("failed")
    shop.refund(purchase)
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": by_hand}})
    age(shop, seconds=59)
    reconcile(shop)
    assert shop.status_of(purchase) == by_hand  # a call may still be at work
    age(shop, seconds=1)
    assert "1 tidied" in reconcile(shop).output
    assert shop.status_of(purchase) == right
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": by_hand}})
    assert reconcile(shop).output.startswith("0 looked at")
    assert shop.status_of(purchase) == by_hand


def test_a_purchase_that_the_host_marked_after_a_refusal_is_the_hosts(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1999, card="4000000000000259"))
    assert shop.refund(purchase).status_code == 400
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": "refunded"}})
    age(shop, minutes=1)
    assert "1 tidied" in reconcile(shop).output
    assert shop.status_of(purchase) == "refunded"


def test_what_a_crash_left_unsaid_is_announced(shop: Shop, sandbox: StripeSandbox) -> None:
    heard: list[str] = []
    broken = True

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        if broken:
            raise RuntimeError
        heard.append(refund.id)

    with refund_succeeded.connected_to(receiver, sender=shop.app):
        payment = sandbox.create_payment(1999)
        assert shop.refund(shop.add_purchase(payment)).status_code == 200
        reconcile(shop)
        assert heard == []
        broken = False
        reconcile(shop)
        reconcile(shop)
    assert heard == [f"{payment}:1"]


def test_a_receiver_that_ends_the_process_keeps_no_other_refund_waiting(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    poison = sandbox.create_payment(1999)

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        if refund.payment_intent == poison:
            sys.exit("out of memory")

    with refund_succeeded.connected_to(receiver, sender=shop.app):
        with pytest.raises(SystemExit):
            shop.refund(shop.add_purchase(poison))
        payment, _ = unknown(shop, sandbox, "drop_after")
        assert reconcile(shop).exit_code == 1
    assert shop.db.flask_refunds.find_one({"_id": f"{payment}:1"})["status"] == "succeeded"


def test_an_old_unknown_row_asks_for_a_person(shop: Shop, sandbox: StripeSandbox) -> None:
    heard: list[str] = []

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        heard.append(refund.id)

    payment, purchase = unknown(shop, sandbox, "drop_before")
    age(shop, hours=24)
    sandbox.advance(25 * 3600)
    with refund_needs_review.connected_to(receiver, sender=shop.app):
        for _ in range(2):
            result = reconcile(shop)
            assert result.exit_code == 1
            assert "unknown_too_long" in result.output
            assert "1 need a person" in result.output
    assert heard == [f"{payment}:1"]
    assert sandbox.money_refunded(payment) == 0
    assert shop.status_of(purchase) == "completed"


@pytest.mark.parametrize("verdict", ["--failed", "--retry"])
def test_a_person_decides(shop: Shop, sandbox: StripeSandbox, verdict: str) -> None:
    payment, purchase = unknown(shop, sandbox, "drop_before")
    shop.db.flask_refunds.update_one({}, {"$set": {"bulk": "recall-2024"}})
    age(shop, hours=24)
    sandbox.advance(25 * 3600)
    reconcile(shop)

    result = shop.flask("resolve", f"{payment}:1", verdict, "--comment", "not at Stripe", "--actor", "ann")

    assert result.exit_code == 0, result.output
    first = shop.records()[0]
    assert (first["status"], first["failure"]["code"], first["review"]) == ("failed", "given_up", None)
    assert (first["history"][-1]["actor"], first["history"][-1]["why"]) == ("cli:ann", "not at Stripe")
    assert reconcile(shop).exit_code == 0
    if verdict == "--failed":
        assert sandbox.money_refunded(payment) == 0
        assert shop.status_of(purchase) == "completed"
        return
    second = shop.records()[1]
    assert (second["status"], second["requestedBy"], second["source"], second["bulk"]) == (
        "succeeded",
        "cli:ann",
        "command",
        "recall-2024",
    )
    assert sandbox.money_refunded(payment) == 1999
    assert shop.status_of(purchase) == "refunded"


def test_a_person_was_wrong(shop: Shop, sandbox: StripeSandbox) -> None:
    """He closed a refund as failed that Stripe shows after all: the transitions follow the money, and say so."""
    payment, purchase = unknown(shop, sandbox, "drop_after")
    shop.db.flask_refunds.update_one(
        {},
        {
            "$set": {
                "review": {
                    "why": "unknown_too_long",
                    "recommendedAction": "",
                    "since": datetime.now(timezone.utc),
                }
            }
        },
    )
    shop.flask("resolve", f"{payment}:1", "--failed", "--comment", "I did not look")
    assert shop.refund(purchase).status_code == 400
    rows = {row["_id"]: row for row in shop.records()}
    assert rows[f"{payment}:1"]["status"] == "succeeded"
    assert rows[f"{payment}:1"]["review"]["code"] == "found_after_failure"
    assert rows[f"{payment}:2"]["failure"]["code"] == "charge_already_refunded"
    assert shop.status_of(purchase) == "refunded"
    result = shop.flask("resolve", f"{payment}:1", "--dismiss", "--comment", "paid once, seen at Stripe")
    assert result.exit_code == 0, result.output
    assert reconcile(shop).exit_code == 0


@pytest.mark.parametrize("verdict", ["--failed", "--dismiss"])
def test_a_failure_after_success_is_dealt_with(shop: Shop, sandbox: StripeSandbox, verdict: str) -> None:
    payment = failed_after_success(shop, sandbox)
    result = shop.flask("resolve", f"{payment}:1", verdict, "--comment", "paid in cash")
    assert result.exit_code == 0, result.output
    assert reconcile(shop).exit_code == 0


def test_a_failure_after_success_is_dealt_with_by_refunding_again(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = failed_after_success(shop, sandbox)
    [purchase] = shop.records()[0]["purchaseIds"]
    assert shop.refund(purchase).status_code == 200
    assert reconcile(shop).exit_code == 0
    assert shop.records()[0]["history"][-1]["why"] == f"Refunded again as {payment}:2."


def failed_after_success(shop: Shop, sandbox: StripeSandbox) -> str:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    shop.refund(purchase)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": "completed"}})
    assert shop.refund(purchase).status_code == 400  # asks Stripe, and learns of it
    assert reconcile(shop).exit_code == 1
    return payment


@pytest.mark.parametrize(
    ("refund_id", "verdict", "said"),
    [
        ("pi_none:1", "--failed", "no refund pi_none:1"),
        ("{payment}:1", "--failed", "asks for nobody"),
        ("{payment}:1", "--retry", "asks for nobody"),
    ],
)
def test_there_is_nothing_to_resolve(
    shop: Shop, sandbox: StripeSandbox, refund_id: str, verdict: str, said: str
) -> None:
    payment = sandbox.create_payment(1999)
    shop.refund(shop.add_purchase(payment))
    result = shop.flask("resolve", refund_id.format(payment=payment), verdict, "--comment", "x")
    assert (result.exit_code, said in result.output) == (2, True)
    assert sandbox.money_refunded(payment) == 1999


def test_a_verdict_is_needed(shop: Shop) -> None:
    assert "--retry, --failed and --done" in shop.flask("resolve", "pi_1:1", "--comment", "x").output


def test_a_dry_run_does_nothing(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = unknown(shop, sandbox)
    before, asked = shop.records(), len(sandbox.requests)
    result = reconcile(shop, "--dry-run")
    assert re.search(rf"^{payment}:1  processing  since ", result.output)
    assert "1 unfinished, 0 need a person; nothing was done (dry run)." in result.output
    assert (shop.records(), len(sandbox.requests)) == (before, asked)


def test_one_bad_refund_does_not_keep_the_others_waiting(shop: Shop, sandbox: StripeSandbox) -> None:
    for _ in range(3):
        unknown(shop, sandbox)
    sandbox.inject("drop_before", method="GET", path="/v1/refunds", times=1)
    assert "2 settled, 1 still open" in reconcile(shop).output
    assert "1 settled" in reconcile(shop).output


def test_the_database_is_down(shop: Shop, sandbox: StripeSandbox, database: Any) -> None:
    unknown(shop, sandbox)
    with failing(database, "find"):
        result = reconcile(shop)
    assert result.exit_code == 2
    assert "The database is unavailable" in result.output
    with failing(database, "findAndModify"):
        assert "1 errors" in reconcile(shop).output
    assert "1 settled" in reconcile(shop).output


def test_a_config_error_is_told_in_words(shop: Shop) -> None:
    shop.app.config["STRIPE_SECRET_KEY"] = "pk_test_1"
    result = reconcile(shop)
    assert result.exit_code == 2
    assert "STRIPE_SECRET_KEY" in result.output
    assert "Traceback" not in result.output

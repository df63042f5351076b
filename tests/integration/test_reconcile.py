"""``flask refunds reconcile`` and ``resolve``: each unfinished refund is finished, or needs review."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock

import pytest

from flask_refunds import refund_needs_review, refund_succeeded
from flask_refunds.errors import DatabaseUnavailable
from flask_refunds.extension import get_refunds
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.sweep_state import SweepState
from flask_refunds.stripe_client import gateway
from flask_refunds.testing import StripeSandbox
from tests.integration.unfinished import age, reconcile, unknown
from tests.mongod import failing
from tests.shop import Shop

PENDING = "4000000000007726"


@pytest.mark.parametrize("fault", ["request_lost", "response_lost", "server_error_after"])
def test_unknown_outcome_is_settled_and_then_verified(shop: Shop, sandbox: StripeSandbox, fault: str) -> None:
    payment, purchase = unknown(shop, sandbox, fault)
    result = reconcile(shop)
    assert result.exit_code == 0, result.output
    assert result.output == (
        "1 processed: 1 settled, 0 still open, 0 followed up, 0 busy, 0 errors, 0 need review.\n"
        "Stripe: 1 refunds listed (the last 60 days): "
        "0 stored, 1 unchanged, 0 foreign, 0 unreadable, 0 errors.\n"
    )
    assert shop.status_of(purchase) == "refunded"
    [record] = shop.records()
    assert (record["status"], record["signalsSent"]) == ("succeeded", True)
    assert record["history"][-1]["actor"] == "reconcile"
    assert sandbox.money_refunded(payment) == 1999
    age(shop, minutes=1)
    assert reconcile(shop).output.startswith("1 processed: 0 settled, 0 still open, 1 followed up")
    assert reconcile(shop).output.startswith("0 processed")


def test_pending_refund_is_open_until_stripe_settles_it(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, card=PENDING)
    purchase = shop.add_purchase(payment)
    shop.refund(purchase)
    assert "1 still open" in reconcile(shop).output
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    assert "1 settled" in reconcile(shop).output
    assert shop.status_of(purchase) == "refunded"


def test_refund_that_changed_in_the_last_60_seconds_is_skipped(shop: Shop, sandbox: StripeSandbox) -> None:
    unknown(shop, sandbox, "request_lost")
    for arguments in ((), ("--dry-run",)):
        output = shop.flask("reconcile", *arguments).output
        assert ", 0 need review, 1 skipped (changed in the last 60 s).\n" in output
    assert shop.records()[0]["status"] == "processing"
    age(shop, seconds=61)
    output = shop.flask("reconcile").output
    assert (output.startswith("1 processed: 1 settled"), "skipped" in output) == (True, False)


def test_refund_whose_lease_another_call_holds_is_busy(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = unknown(shop, sandbox, "request_lost")
    in_a_minute = datetime.now(timezone.utc) + timedelta(minutes=1)
    shop.db.flask_refunds.update_one({}, {"$set": {"leaseExpiresAt": in_a_minute}})
    assert "1 busy" in reconcile(shop).output
    assert sandbox.money_refunded(payment) == 0


@pytest.mark.parametrize(("changed", "correct"), [("completed", "refunded"), ("refunded", "completed")])
def test_purchase_that_disagrees_with_the_ledger_is_corrected_once(
    shop: Shop, sandbox: StripeSandbox, changed: str, correct: str
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    if correct == "completed":
        sandbox.inject("failed")
    shop.refund(purchase)
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": changed}})
    age(shop, seconds=59)
    reconcile(shop)
    assert shop.status_of(purchase) == changed  # a call may still be in progress
    age(shop, seconds=1)
    assert "1 followed up" in reconcile(shop).output
    assert shop.status_of(purchase) == correct
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": changed}})
    assert reconcile(shop).output.startswith("0 processed")
    assert shop.status_of(purchase) == changed


def test_purchase_that_the_app_marked_after_a_rejection_stays_marked(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1999, card="4000000000000259"))
    assert shop.refund(purchase).status_code == 400
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": "refunded"}})
    age(shop, minutes=1)
    assert "1 followed up" in reconcile(shop).output
    assert shop.status_of(purchase) == "refunded"


def test_other_parts_that_stripe_did_not_list_are_found_by_the_next_pass(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(7450, "eur")
    purchase = shop.add_purchase(payment)
    sandbox.dashboard_refund(payment, 2450)
    with sandbox_list_failing(sandbox):
        response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["amount"]) == (200, 5000)
    assert (response.json["purchase"]["status"], "hint" in response.json) == ("completed", True)
    age(shop, minutes=1)
    with shop.app.app_context():
        reconciler = get_refunds(shop.app).reconciler  # without the sweep, which reads only 60 days
        with sandbox_list_failing(sandbox):
            assert reconciler.run(reconciler.find(timedelta(0))).counts == {"errors": 1}
        assert shop.status_of(purchase) == "completed"
        assert reconciler.run(reconciler.find(timedelta(0))).counts == {"followed_up": 1}
    assert shop.status_of(purchase) == "refunded"


@contextmanager
def sandbox_list_failing(sandbox: StripeSandbox) -> Iterator[None]:
    """Let Stripe answer no request for a list of refunds."""
    sandbox.inject("service_unavailable", times=100, method="GET", path="/v1/refunds")
    yield
    sandbox.clear_faults()


def test_signal_whose_receiver_raised_is_sent_again_until_it_is_handled(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    received: list[str] = []
    broken = True

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        if broken:
            raise RuntimeError
        received.append(refund.id)

    with refund_succeeded.connected_to(receiver, sender=shop.app):
        payment = sandbox.create_payment(1999)
        assert shop.refund(shop.add_purchase(payment)).status_code == 200
        reconcile(shop)
        assert received == []
        broken = False
        reconcile(shop)
        reconcile(shop)
    assert received == [f"{payment}:1"]


def test_receiver_that_exits_does_not_block_other_refunds(shop: Shop, sandbox: StripeSandbox) -> None:
    fatal = sandbox.create_payment(1999)

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        if refund.payment_intent == fatal:
            sys.exit("out of memory")

    with refund_succeeded.connected_to(receiver, sender=shop.app):
        with pytest.raises(SystemExit):
            shop.refund(shop.add_purchase(fatal))
        payment, _ = unknown(shop, sandbox, "response_lost")
        assert reconcile(shop).exit_code == 1
    assert shop.db.flask_refunds.find_one({"_id": f"{payment}:1"})["status"] == "succeeded"


def test_refund_unknown_for_a_day_needs_review_and_is_not_sent_again(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    received: list[str] = []

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        received.append(refund.id)

    payment, purchase = unknown(shop, sandbox, "request_lost")
    age(shop, hours=24)
    sandbox.advance(25 * 3600)
    with refund_needs_review.connected_to(receiver, sender=shop.app):
        for _ in range(2):
            result = reconcile(shop)
            assert result.exit_code == 1
            assert "unknown_too_long" in result.output
            assert "1 need review" in result.output
    assert received == [f"{payment}:1"]
    assert sandbox.money_refunded(payment) == 0
    assert shop.status_of(purchase) == "completed"


@pytest.mark.parametrize("decision", ["--failed", "--retry"])
def test_unknown_refund_is_resolved_as_failed_or_retried(
    shop: Shop, sandbox: StripeSandbox, decision: str
) -> None:
    payment, purchase = unknown(shop, sandbox, "request_lost")
    shop.db.flask_refunds.update_one({}, {"$set": {"bulkRun": "recall-2024"}})
    age(shop, hours=24)
    sandbox.advance(25 * 3600)
    reconcile(shop)
    age(shop, minutes=1)
    reconcile(shop)  # as every minute; it doesn't keep the refund from being resolved

    result = shop.flask("resolve", f"{payment}:1", decision, "--comment", "not at Stripe", "--actor", "ann")

    assert result.exit_code == 0, result.output
    first = shop.records()[0]
    assert (first["status"], first["failure"]["code"], first["review"]) == ("failed", "marked_failed", None)
    resolved = [(each["actor"], each["comment"]) for each in first["history"] if "comment" in each]
    assert resolved[0] == ("cli:ann", "not at Stripe")
    assert reconcile(shop).exit_code == 0
    if decision == "--failed":
        assert sandbox.money_refunded(payment) == 0
        assert shop.status_of(purchase) == "completed"
        return
    second = shop.records()[1]
    fields = ("status", "requestedBy", "source", "bulkRun")
    assert tuple(second[field] for field in fields) == ("succeeded", "ann", "cli", "recall-2024")
    assert sandbox.money_refunded(payment) == 1999
    assert shop.status_of(purchase) == "refunded"


def test_refund_resolved_as_failed_that_stripe_shows_needs_review(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = unknown(shop, sandbox, "response_lost")
    review = {"code": "unknown_too_long", "since": datetime.now(timezone.utc)}
    shop.db.flask_refunds.update_one({}, {"$set": {"review": review}})
    age(shop, minutes=1)
    with sandbox_list_failing(sandbox):
        result = shop.flask("resolve", f"{payment}:1", "--failed", "--comment", "I did not look")
        assert (result.exit_code, "with --checked" in result.output) == (2, True)
        result = shop.flask("resolve", f"{payment}:1", "--failed", "--checked", "--comment", "I did not look")
        assert result.exit_code == 0, result.output
    assert shop.refund(purchase).status_code == 400
    records = {record["_id"]: record for record in shop.records()}
    assert records[f"{payment}:1"]["status"] == "succeeded"
    assert records[f"{payment}:1"]["review"]["code"] == "found_after_failure"
    assert records[f"{payment}:2"]["failure"]["code"] == "charge_already_refunded"
    assert shop.status_of(purchase) == "refunded"
    result = shop.flask("resolve", f"{payment}:1", "--dismiss", "--comment", "paid once, seen at Stripe")
    assert result.exit_code == 0, result.output
    assert reconcile(shop).exit_code == 0


@pytest.mark.parametrize("decision", ["--failed", "--retry"])
def test_unknown_refund_that_stripe_shows_is_not_resolved(
    shop: Shop, sandbox: StripeSandbox, decision: str
) -> None:
    payment, purchase = unknown(shop, sandbox, "response_lost")
    review = {"code": "unknown_too_long", "since": datetime.now(timezone.utc)}
    shop.db.flask_refunds.update_one({}, {"$set": {"review": review}})
    age(shop, minutes=1)
    result = shop.flask("resolve", f"{payment}:1", decision, "--checked", "--comment", "I did not look")
    assert result.exit_code == 2
    assert f"Stripe shows {payment}:1 as succeeded, and the record now does, too." in result.output
    [record] = shop.records()
    assert (record["status"], record["review"], shop.status_of(purchase)) == ("succeeded", None, "refunded")
    assert sandbox.money_refunded(payment) == 1999


def test_open_refund_that_stripe_does_not_return_needs_review_until_it_does(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(1999)
    sandbox.inject("requires_action")
    assert shop.refund(shop.add_purchase(payment)).status_code == 202
    refund_id = sandbox.refunds(payment)[0]["id"]
    sandbox.set_refund(refund_id, status="reversing")
    assert reconcile(shop).exit_code == 0
    a_day_ago = datetime.now(timezone.utc) - timedelta(hours=24)
    shop.db.flask_refunds.update_one({}, {"$set": {"unreadSince": a_day_ago}})
    result = reconcile(shop)
    assert (result.exit_code, "Reviews: 1 unreadable_at_stripe." in result.output) == (1, True)
    sandbox.set_refund(refund_id, status="requires_action")
    assert reconcile(shop).exit_code == 0
    assert shop.records()[0]["history"][-1]["comment"] == "Stripe returns the refund again."


@pytest.mark.parametrize("decision", ["--failed", "--dismiss"])
def test_failure_after_success_is_closed_by_a_decision(
    shop: Shop, sandbox: StripeSandbox, decision: str
) -> None:
    payment = failed_after_success(shop, sandbox)
    result = shop.flask("resolve", f"{payment}:1", decision, "--comment", "paid in cash")
    assert result.exit_code == 0, result.output
    assert reconcile(shop).exit_code == 0


def test_failure_after_success_is_closed_by_another_refund(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = failed_after_success(shop, sandbox)
    [purchase] = shop.records()[0]["purchaseIds"]
    assert shop.refund(purchase).status_code == 200
    assert reconcile(shop).exit_code == 0
    assert shop.records()[0]["history"][-1]["comment"] == f"Refunded again as {payment}:2."


def failed_after_success(shop: Shop, sandbox: StripeSandbox) -> str:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    shop.refund(purchase)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    result = reconcile(shop, "--full")
    assert (result.exit_code, "Reviews: 1 failed_after_success.\n" in result.output) == (1, True)
    assert shop.status_of(purchase) == "completed"
    return payment


@pytest.mark.parametrize(
    ("refund_id", "decision", "message"),
    [
        ("pi_none:1", "--failed", "no refund pi_none:1"),
        ("{payment}:1", "--failed", "doesn't need review"),
        ("{payment}:1", "--retry", "doesn't need review"),
    ],
)
def test_refund_without_open_review_cannot_be_resolved(
    shop: Shop, sandbox: StripeSandbox, refund_id: str, decision: str, message: str
) -> None:
    payment = sandbox.create_payment(1999)
    shop.refund(shop.add_purchase(payment))
    result = shop.flask("resolve", refund_id.format(payment=payment), decision, "--comment", "x")
    assert (result.exit_code, message in result.output) == (2, True)
    assert sandbox.money_refunded(payment) == 1999


@pytest.mark.parametrize("decisions", [[], ["--failed", "--retry"], ["--retry", "--dismiss"]], ids=str)
def test_resolve_requires_one_decision(shop: Shop, sandbox: StripeSandbox, decisions: list[str]) -> None:
    payment, _ = unknown(shop, sandbox)
    result = shop.flask("resolve", f"{payment}:1", *decisions, "--comment", "x")
    assert (result.exit_code, "--retry, --failed and --dismiss" in result.output) == (2, True)


def test_dry_run_lists_unfinished_refunds_and_changes_nothing(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = unknown(shop, sandbox)
    before, requests = shop.records(), len(sandbox.requests)
    result = reconcile(shop, "--dry-run")
    assert re.search(rf"^{payment}:1  processing  since ", result.output)
    assert "Dry run: 1 unfinished, 0 need review." in result.output
    assert (shop.records(), len(sandbox.requests)) == (before, requests)


def test_refund_that_cannot_be_finished_does_not_block_others(shop: Shop, sandbox: StripeSandbox) -> None:
    for _ in range(3):
        unknown(shop, sandbox)
    sandbox.inject("request_lost", method="GET", path="/v1/refunds", times=1)
    output = reconcile(shop).output
    assert "2 settled, 1 still open" in output
    assert "1 stored, 2 unchanged" in output  # the sweep settles the third
    assert {record["status"] for record in shop.records()} == {"succeeded"}


def test_database_error_exits_with_2_or_counts_as_an_error(
    shop: Shop, sandbox: StripeSandbox, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown(shop, sandbox, "request_lost")
    for command in ("find", "findAndModify"):
        with failing(database, command):
            result = reconcile(shop)
        assert result.exit_code == 2
        assert "The database is unavailable" in result.output
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "acquire_lease", Mock(side_effect=DatabaseUnavailable))
        result = reconcile(shop)
    assert (result.exit_code, "1 errors" in result.output) == (1, True)
    assert "1 settled" in reconcile(shop).output


def test_full_pass_finds_what_an_ordinary_one_does_not_read_again(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    assert "1 refunds listed (the last 60 days)" in reconcile(shop).output
    sandbox.advance(2 * 3600)
    sandbox.dashboard_refund(sandbox.create_payment(500))
    assert "2 refunds listed (new ones): 0 stored, 1 unchanged, 1 foreign" in reconcile(shop).output
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    line = "Stripe: 1 refunds listed (new ones): 0 stored, 0 unchanged, 1 foreign, 0 unreadable, 0 errors.\n"
    assert line in reconcile(shop).output
    result = reconcile(shop, "--full")
    assert (result.exit_code, "1 stored" in result.output) == (1, True)
    assert shop.status_of(purchase) == "completed"


def test_settled_refunds_are_checked_again_after_a_restore(shop: Shop, sandbox: StripeSandbox) -> None:
    purchases = [shop.add_purchase(sandbox.create_payment(1999)) for _ in range(4)]
    for purchase in purchases:
        shop.refund(purchase)
    age(shop, minutes=2)
    assert "4 followed up" in reconcile(shop).output
    for purchase, settled, looked in zip(purchases, (0, 5, 20, 20), (0, 20, 20, 9), strict=True):
        settled_at, looked_at = (
            datetime.now(timezone.utc) - timedelta(days=it, minutes=2) for it in (settled, looked)
        )
        times = {"settledAt": settled_at, "updatedAt": settled_at, "lookedAt": looked_at}
        shop.db.flask_refunds.update_one({"purchaseIds": purchase}, {"$set": times})
    shop.db.purchases.update_many({}, {"$set": {"status": "completed"}})
    assert reconcile(shop).output.startswith("0 processed")
    since = f"{datetime.now(timezone.utc) - timedelta(days=10):%Y-%m-%d}"
    result = reconcile(shop, "--all", "--since", since)
    line = f"Checking again: 3 that changed or were checked since {since} 00:00:00Z.\n"
    assert line in result.output
    assert "3 followed up" in result.stdout
    assert "(the last 60 days)" in result.stdout
    assert [shop.status_of(each) for each in purchases] == ["refunded", "refunded", "completed", "refunded"]


def test_missing_daily_sweep_is_reported_after_25_hours(
    shop: Shop, sandbox: StripeSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.inject("rate_limited", method="GET", path="/v1/refunds", times=50)
    assert reconcile(shop).exit_code == 1
    assert "completely" not in reconcile(shop, "--dry-run").output
    first = datetime.now(timezone.utc) - timedelta(hours=26)
    shop.db["flask_refunds.state"].update_one({"_id": "refunds"}, {"$set": {"startedAt": first}})
    caplog.clear()
    for arguments in ((), ("--dry-run",)):
        result = reconcile(shop, *arguments)
        assert result.exit_code == 1
        assert f"weren't listed completely since {first:%Y-%m-%d %H:%M:%S}Z" in result.output
        printed = json.loads(reconcile(shop, *arguments, "--json").stdout)
        assert printed["sweepOverdueSince"].startswith(f"{first:%Y-%m-%dT%H:%M:%S}")
    assert "full_sweep_overdue" in {record.refunds["event"] for record in caplog.records}  # type: ignore[attr-defined]
    sandbox.clear_faults()
    result = reconcile(shop)
    assert (result.exit_code, "completely" in result.output) == (0, False)


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_database_error_in_the_sweep_prints_what_was_done_before(
    shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch, as_json: tuple[str, ...]
) -> None:
    unknown(shop, sandbox)
    sandbox.dashboard_refund(sandbox.create_payment(700))
    monkeypatch.setattr(SweepState, "save", Mock(side_effect=DatabaseUnavailable))
    result = reconcile(shop, *as_json)
    assert result.exit_code == 2
    assert result.output.splitlines()[:2] == [
        "1 processed: 1 settled, 0 still open, 0 followed up, 0 busy, 0 errors.",
        "Stripe: 2 refunds listed (the last 60 days): "
        "0 stored, 1 unchanged, 1 foreign, 0 unreadable, 0 errors. The next pass continues.",
    ]
    assert "The database is unavailable" in result.output


def test_page_that_stripe_does_not_return_is_reported_after_the_counts(
    shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = sandbox.create_payment(2000)
    shop.add_purchase(payment)
    for _ in range(3):
        sandbox.dashboard_refund(payment, 100)
    monkeypatch.setattr(gateway, "_PAGE", 2)
    sandbox.inject("unreadable_response", method="GET", path="/v1/refunds", after=3)
    result = reconcile(shop)
    assert result.exit_code == 1
    assert "2 refunds listed (the last 60 days): 2 stored" in result.output
    assert "Stripe didn't list the rest (unreadable_answer). The next pass continues." in result.output
    assert "1 stored" in reconcile(shop).output


@pytest.mark.parametrize(
    "arguments", [("--all",), ("--since", "2024-03-01"), ("--dry-run", "--full"), ("--all", "--since", "x")]
)
def test_incomplete_or_contradictory_options_are_rejected(shop: Shop, arguments: tuple[str, ...]) -> None:
    assert reconcile(shop, *arguments).exit_code == 2


def test_list_that_stripe_does_not_return_exits_with_1(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.inject("request_lost", method="GET", path="/v1/refunds", times=4)
    result = reconcile(shop)
    assert result.exit_code == 1
    assert "the refunds couldn't be listed (connection_failed). The next pass tries again." in result.output
    sandbox.clear_faults()
    assert reconcile(shop).exit_code == 0


def test_pass_leaves_the_sweep_to_the_machine_that_makes_it(shop: Shop) -> None:
    in_a_minute = datetime.now(timezone.utc) + timedelta(minutes=1)
    shop.db["flask_refunds.state"].insert_one({"_id": "refunds", "leaseExpiresAt": in_a_minute})
    result = reconcile(shop)
    assert result.exit_code == 0
    assert result.output.endswith("Stripe: another machine is listing the refunds.\n")


def test_only_the_oldest_hundred_reviews_are_printed(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    shop.refund(shop.add_purchase(payment))
    [record] = shop.records()
    for number in range(2, 104):
        code = "disputed" if number % 2 else "unknown_too_long"
        since = datetime(2024, 3, 1, tzinfo=timezone.utc) + timedelta(hours=number)
        copy = record | {"_id": f"{payment}:{number}", "number": number, "purchasesVerified": True}
        shop.db.flask_refunds.insert_one(copy | {"review": {"code": code, "since": since}})
    for result in (reconcile(shop, "--dry-run"), reconcile(shop)):
        assert result.exit_code == 1
        assert "102 need review" in result.output
        assert re.search(r"^Reviews: 51 (disputed|unknown_too_long), 51 ", result.output, re.MULTILINE)
        assert len(re.findall(r"^pi_\w+:\d+  succeeded  \w+ since ", result.output, re.MULTILINE)) == 100
        assert f"{payment}:102" not in result.output
        assert result.output.endswith("Only the 100 oldest reviews are printed.\n")


def test_json_has_what_is_printed(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = failed_after_success(shop, sandbox)
    pending, _ = unknown(shop, sandbox, "request_lost")
    dry_run = json.loads(reconcile(shop, "--dry-run", "--json").output)
    assert {each["id"] for each in dry_run["unfinished"]} == {f"{payment}:1", f"{pending}:1"}
    result = reconcile(shop, "--json")
    printed = json.loads(result.output)
    assert result.exit_code == 1
    assert printed["counts"] == {"settled": 1, "open": 0, "followed_up": 1, "busy": 0, "errors": 0}
    assert printed["sweep"]["counts"]["read"] == 2
    assert (printed["sweepError"], printed["skipped"]) == (None, 0)
    for each in (dry_run, printed):
        assert each["needsReview"] == {"failed_after_success": 1}
        assert [(refund["id"], refund["review"]["code"]) for refund in each["reviews"]] == [
            (f"{payment}:1", "failed_after_success")
        ]


def test_invalid_config_is_reported_without_traceback(shop: Shop) -> None:
    shop.app.config["STRIPE_SECRET_KEY"] = "pk_test_1"
    result = reconcile(shop)
    assert result.exit_code == 2
    assert "STRIPE_SECRET_KEY" in result.output
    assert "Traceback" not in result.output

"""``flask refunds check``: what each check reports."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flask_refunds.cli.diagnostics import Status, _majority
from flask_refunds.testing import StripeSandbox
from tests.integration.commands import Commands
from tests.mongod import NO_MONGOD, Mongod, failing, find_mongod
from tests.shop import Shop, make_app

SECRET = "whsec_of_the_tests_0123456789"
EVENTS = ("refund.created", "refund.updated", "refund.failed", "charge.refunded")
URL = "https://shop.example/api/payments/webhook/refunds"
TEST_KEY, LIVE_KEY = "sk_test_flaskRefundsTests00000", "sk_live_flaskRefundsTests00000"


def make_shop(database: Any, sandbox: StripeSandbox, **config: Any) -> Shop:
    config = {"STRIPE_API_BASE": sandbox.url, "STRIPE_WEBHOOK_SECRET": SECRET, **config}
    return Shop(make_app(REFUNDS_MONGO=database, **config), database)


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """A shop that passes every check."""
    sandbox.add_webhook(URL, SECRET, EVENTS, livemode=False)
    shop = make_shop(database, sandbox)
    assert shop.flask("init-db").exit_code == 0
    return shop


def check(shop: Shop) -> tuple[int, dict[str, tuple[str, str]]]:
    """Return the exit status, and each check's status and message by name."""
    result = shop.flask("check", "--json")
    printed = json.loads(result.stdout)
    assert printed["ok"] is (result.exit_code == 0)
    checks = {each["name"]: (each["status"], each["message"]) for each in printed["checks"]}
    assert len(checks) == len(printed["checks"])
    assert shop.app.config["STRIPE_SECRET_KEY"] not in result.output
    assert SECRET not in result.output
    return result.exit_code, checks


def test_correct_setup_passes_every_check_and_moves_no_money(shop: Shop, sandbox: StripeSandbox) -> None:
    before = shop.records()
    result = shop.flask("check")
    assert result.exit_code == 0, result.output
    assert [line[:17].rstrip() for line in result.stdout.splitlines()] == [
        "OK    config",
        "OK    mode",
        "OK    key",
        "OK    clock",
        "OK    webhook",
        "OK    events",
        "OK    MongoDB",
        "OK    replica set",
        "OK    majority",
        "OK    indexes",
    ]
    assert shop.records() == before
    assert sandbox.refunds() == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("JWT_SECRET_KEY", "short", "too short for HS256"),
        ("STRIPE_SECRET_KEY", "pk_test_1", "must be a secret or restricted key"),
        ("REFUNDS_STRIPE_TIMEOUT", 60, "must be a number from 0.1 to 18"),
    ],
)
def test_every_invalid_setting_fails_by_name(shop: Shop, key: str, value: Any, message: str) -> None:
    shop.app.extensions.clear()
    shop.app.config.update({key: value, "REFUNDS_LEASE_SECONDS": -1})
    exit_status, checks = check(shop)
    assert exit_status == 1
    assert set(checks) == {key, "REFUNDS_LEASE_SECONDS"}
    assert checks[key][0] == "fail"
    assert message in checks[key][1]


def test_rejected_key_fails_and_mongodb_is_still_checked(database: Any) -> None:
    with StripeSandbox(secret_key="sk_test_theRightKey") as sandbox:
        exit_status, checks = check(make_shop(database, sandbox))
    assert (exit_status, checks["key"][0]) == (1, "fail")
    assert "Set STRIPE_SECRET_KEY" in checks["key"][1]
    assert "events" not in checks
    assert checks["MongoDB"][0] == "ok"


@pytest.mark.parametrize(
    ("method", "path", "missing"),
    [
        ("POST", "/v1/refunds", "make refunds."),
        ("GET", "/v1/refunds", "read refunds."),
        ("GET", "/v1/payment_intents", "read payments."),
    ],
)
def test_missing_permission_of_the_key_fails_by_name(
    shop: Shop, sandbox: StripeSandbox, method: str, path: str, missing: str
) -> None:
    sandbox.inject("key_forbidden", method=method, path=path)
    exit_status, checks = check(shop)
    assert (exit_status, checks["key"][0]) == (1, "fail")
    assert checks["key"][1].startswith(f"The key can't {missing} Give the restricted key")


def test_unreachable_stripe_fails_with_the_address(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.inject("drop_before")
    exit_status, checks = check(shop)
    assert (exit_status, checks["key"][0], sandbox.url in checks["key"][1]) == (1, "fail", True)


def test_unreadable_webhook_endpoints_are_a_note_with_the_required_events(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    sandbox.inject("key_forbidden", method="GET", path="/v1/webhook_endpoints")
    exit_status, checks = check(shop)
    assert (exit_status, checks["events"][0]) == (0, "note")
    assert "charge.refunded, refund.created, refund.failed, refund.updated" in checks["events"][1]


def test_missing_event_of_the_best_endpoint_fails(database: Any, sandbox: StripeSandbox) -> None:
    sandbox.add_webhook("https://other.example/", SECRET, ["charge.refunded"])
    sandbox.add_webhook(URL, SECRET, ["refund.created", "charge.refunded", "refund.failed"])
    exit_status, checks = check(make_shop(database, sandbox))
    assert exit_status == 1
    assert checks["events"] == ("fail", f"{URL} doesn't receive refund.updated. Add them in Stripe.")


def test_live_key_with_a_test_mode_endpoint_fails(database: Any, sandbox: StripeSandbox) -> None:
    sandbox.add_webhook(URL, SECRET, EVENTS, livemode=False)
    exit_status, checks = check(make_shop(database, sandbox, STRIPE_SECRET_KEY=LIVE_KEY))
    assert (exit_status, checks["mode"][0], checks["events"][0]) == (1, "note", "fail")
    assert "no live-mode webhook endpoint" in checks["events"][1]


def test_missing_webhook_secret_is_a_note(database: Any, sandbox: StripeSandbox) -> None:
    shop = make_shop(database, sandbox, STRIPE_WEBHOOK_SECRET=None)
    shop.flask("init-db")
    exit_status, checks = check(shop)
    assert (exit_status, checks["webhook"][0], "events" in checks) == (0, "note", False)


@pytest.mark.parametrize(("ahead", "status"), [(50, "ok"), (90, "fail")])
def test_clock_fails_from_60_seconds_difference(
    shop: Shop, sandbox: StripeSandbox, ahead: float, status: str
) -> None:
    sandbox.advance(ahead)
    exit_status, checks = check(shop)
    assert (exit_status, checks["clock"][0]) == (int(status == "fail"), status)
    assert ("s behind Stripe's. Synchronize it with NTP" in checks["clock"][1]) is (status == "fail")


def test_missing_index_fails_with_its_purpose(shop: Shop, database: Any) -> None:
    database.purchases.drop_index("flask_refunds_stripePaymentIntentId_1")
    exit_status, checks = check(shop)
    assert (exit_status, checks["indexes"][0]) == (1, "fail")
    assert "purchases {stripePaymentIntentId: 1} (every refund" in checks["indexes"][1]
    assert checks["indexes"][1].endswith("Run flask refunds init-db.")


def test_unavailable_database_fails_and_stripe_is_still_checked(shop: Shop, database: Any) -> None:
    with failing(database, "buildInfo"):
        exit_status, checks = check(shop)
    assert (exit_status, checks["MongoDB"][0]) == (1, "fail")
    assert "(OperationFailure)" in checks["MongoDB"][1]
    assert checks["key"][0] == "ok"


@pytest.fixture
def standalone() -> Iterator[Any]:
    binary = find_mongod()
    if binary is None:
        pytest.skip(NO_MONGOD)
    mongod = Mongod(binary)
    try:
        mongod.start()
        with mongod.client() as client:
            yield client.shop
    finally:
        mongod.stop()


@pytest.mark.parametrize(("key", "status"), [(TEST_KEY, "note"), (LIVE_KEY, "fail")])
def test_standalone_server_fails_with_a_live_key_only(
    standalone: Any, sandbox: StripeSandbox, key: str, status: str
) -> None:
    _, checks = check(make_shop(standalone, sandbox, STRIPE_SECRET_KEY=key))
    assert checks["replica set"][0] == status


def test_majority_fails_if_it_lags_by_more_than_10_seconds() -> None:
    now = datetime.now(timezone.utc)
    current, lagging = (
        _majority({"lastWriteDate": now, "majorityWriteDate": now - timedelta(seconds=lag)})
        for lag in (9, 120)
    )
    assert (current.status, lagging.status) == (Status.OK, Status.FAIL)
    assert "120 s behind the primary" in lagging.message


def test_mongomock_is_a_note(mock_shop: Shop) -> None:
    _, checks = check(mock_shop)
    assert checks["MongoDB"] == ("note", "mongomock.database replaces it, for demos and tests only.")


def test_process_exits_with_1_if_a_check_fails(commands: Commands) -> None:
    exit_status, out, err = commands.run("check")
    assert (exit_status, err) == (1, "")
    assert "FAIL  indexes" in out
    exit_status, out, err = commands.run("check", environment={"STRIPE_API_BASE": "http://shop.example"})
    assert (exit_status, out.count("\n")) == (1, 1)
    assert out.startswith("FAIL  STRIPE_API_BASE  must be an https:// URL")


def test_each_result_is_printed_before_the_next_check(commands: Commands, sandbox: StripeSandbox) -> None:
    sandbox.latency = 30
    process = commands.start("check", environment={"PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    try:
        watchdog = threading.Timer(25, process.kill)
        watchdog.start()
        began = time.monotonic()
        assert process.stdout.readline().startswith(b"OK    config")
        assert time.monotonic() - began < 25
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()

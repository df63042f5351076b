"""``flask refunds check``: it finds each thing that is wrong, and says what to do."""

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
WANTED = ("refund.created", "refund.updated", "refund.failed", "charge.refunded")
URL = "https://shop.example/api/payments/webhook/refunds"


def make_shop(database: Any, sandbox: StripeSandbox, **config: Any) -> Shop:
    config = {"STRIPE_API_BASE": sandbox.url, "STRIPE_WEBHOOK_SECRET": SECRET, **config}
    return Shop(make_app(REFUNDS_MONGO=database, **config), database)


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """One where everything is in order."""
    sandbox.add_webhook(URL, SECRET, WANTED, livemode=False)
    shop = make_shop(database, sandbox)
    assert shop.flask("init-db").exit_code == 0
    return shop


def check(shop: Shop) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit status, and what was found of each subject."""
    result = shop.flask("check", "--json")
    said = json.loads(result.stdout)
    assert said["ok"] is (result.exit_code == 0)
    found = {each["subject"]: (each["verdict"], each["words"]) for each in said["findings"]}
    assert len(found) == len(said["findings"])
    assert shop.app.config["STRIPE_SECRET_KEY"] not in result.output
    assert SECRET not in result.output
    return result.exit_code, found


def test_all_is_in_order(shop: Shop, sandbox: StripeSandbox) -> None:
    before = shop.records()
    result = shop.flask("check")
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["ok", "config"],
        ["ok", "mode"],
        ["ok", "key"],
        ["ok", "clock"],
        ["ok", "webhook"],
        ["ok", "events"],
        ["ok", "MongoDB"],
        ["ok", "replica"],
        ["ok", "majority"],
        ["ok", "indexes"],
    ]
    assert shop.records() == before
    assert sandbox.refunds() == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("JWT_SECRET_KEY", "short", "too short for HS256"),
        ("STRIPE_SECRET_KEY", "pk_test_1", "must be a secret or restricted key"),
        ("REFUNDS_STRIPE_TIMEOUT", 60, "must be a number from 0.1 to 18"),
    ],
)
def test_a_bad_setting(shop: Shop, key: str, value: Any, words: str) -> None:
    shop.app.extensions.clear()
    shop.app.config.update({key: value, "REFUNDS_LEASE_SECONDS": -1})
    status, found = check(shop)
    assert status == 1
    assert set(found) == {key, "REFUNDS_LEASE_SECONDS"}
    assert found[key][0] == "to do"
    assert words in found[key][1]


def test_a_wrong_key(database: Any) -> None:
    with StripeSandbox(secret_key="sk_test_theRightKey") as sandbox:
        status, found = check(make_shop(database, sandbox))
    assert (status, found["key"][0]) == (1, "to do")
    assert "Set STRIPE_SECRET_KEY" in found["key"][1]
    assert "events" not in found
    assert found["MongoDB"][0] == "ok"


@pytest.mark.parametrize(
    ("method", "path", "missing"),
    [
        ("POST", "/v1/refunds", "make refunds."),
        ("GET", "/v1/refunds", "read refunds."),
        ("GET", "/v1/payment_intents", "read payments."),
    ],
)
def test_a_missing_permission(
    shop: Shop, sandbox: StripeSandbox, method: str, path: str, missing: str
) -> None:
    sandbox.inject("key_forbidden", method=method, path=path)
    status, found = check(shop)
    assert (status, found["key"][0]) == (1, "to do")
    assert found["key"][1].startswith(f"it may not {missing} Give the restricted key")


def test_stripe_does_not_answer(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.inject("drop_before")
    status, found = check(shop)
    assert (status, "did not answer as Stripe does" in found["key"][1]) == (1, True)


def test_webhook_endpoints_that_a_key_may_not_read(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.inject("key_forbidden", method="GET", path="/v1/webhook_endpoints")
    status, found = check(shop)
    assert (status, found["events"][0]) == (0, "note")
    assert "charge.refunded, refund.created, refund.failed, refund.updated" in found["events"][1]


def test_events_that_nobody_gets(database: Any, sandbox: StripeSandbox) -> None:
    sandbox.add_webhook("https://other.example/", SECRET, ["charge.refunded"])
    sandbox.add_webhook(URL, SECRET, ["refund.created", "charge.refunded", "refund.failed"])
    status, found = check(make_shop(database, sandbox))
    assert (status, found["events"][0]) == (1, "to do")
    assert found["events"][1] == f"{URL} does not get refund.updated. Add them at Stripe"


def test_a_live_key_with_a_test_webhook(database: Any, sandbox: StripeSandbox) -> None:
    sandbox.add_webhook(URL, SECRET, WANTED, livemode=False)
    shop = make_shop(database, sandbox, STRIPE_SECRET_KEY="sk_live_flaskRefundsTests00000")
    status, found = check(shop)
    assert (status, found["mode"][0], found["events"][0]) == (1, "note", "to do")
    assert "no live-mode webhook endpoint, so STRIPE_WEBHOOK_SECRET is another mode's" in found["events"][1]


def test_no_webhook(database: Any, sandbox: StripeSandbox) -> None:
    shop = make_shop(database, sandbox, STRIPE_WEBHOOK_SECRET=None)
    shop.flask("init-db")
    status, found = check(shop)
    assert (status, found["webhook"][0], "events" in found) == (0, "note", False)


@pytest.mark.parametrize(("ahead", "verdict"), [(50, "ok"), (90, "to do")])
def test_the_clock(shop: Shop, sandbox: StripeSandbox, ahead: float, verdict: str) -> None:
    sandbox.advance(ahead)
    status, found = check(shop)
    assert found["clock"][0] == verdict
    if verdict == "to do":
        assert (status, "s behind Stripe's. Set it by NTP" in found["clock"][1]) == (1, True)


def test_a_missing_index(shop: Shop, database: Any) -> None:
    database.purchases.drop_index("flask_refunds_stripePaymentIntentId_1")
    status, found = check(shop)
    assert (status, found["indexes"][0]) == (1, "to do")
    assert "purchases {stripePaymentIntentId: 1} (every refund" in found["indexes"][1]
    assert found["indexes"][1].endswith("Run flask refunds init-db")


def test_the_database_is_down(shop: Shop, database: Any) -> None:
    with failing(database, "buildInfo"):
        status, found = check(shop)
    assert (status, "it does not answer (OperationFailure)" in found["MongoDB"][1]) == (1, True)
    assert found["key"][0] == "ok"


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


@pytest.mark.parametrize(
    ("key", "verdict"),
    [("sk_test_flaskRefundsTests00000", "note"), ("sk_live_flaskRefundsTests00000", "to do")],
)
def test_a_standalone_server(standalone: Any, sandbox: StripeSandbox, key: str, verdict: str) -> None:
    _, found = check(make_shop(standalone, sandbox, STRIPE_SECRET_KEY=key))
    assert found["replica set"][0] == verdict
    assert "on its disk and nowhere else" in found["replica set"][1]


def test_a_majority_that_lags() -> None:
    now = datetime.now(timezone.utc)
    fine, lagging = (
        _majority({"lastWriteDate": now, "majorityWriteDate": now - timedelta(seconds=lag)})
        for lag in (9, 120)
    )
    assert (fine.verdict, lagging.verdict) == (Status.OK, Status.FAIL)
    assert "120 s behind the primary" in lagging.words


def test_an_imitation(mock_shop: Shop) -> None:
    _, found = check(mock_shop)
    assert found["MongoDB"] == ("note", "it is played by mongomock.database: for demos and tests")


def test_the_exit_status(commands: Commands) -> None:
    status, out, err = commands.run("check")
    assert (status, err) == (1, "")
    assert "to do  indexes" in out
    status, out, err = commands.run("check", environment={"STRIPE_API_BASE": "http://shop.example"})
    assert (status, out) == (
        1,
        "to do  STRIPE_API_BASE  must be an https:// URL (http:// only on loopback)\n",
    )


def test_lines_come_as_they_are_found(commands: Commands, sandbox: StripeSandbox) -> None:
    sandbox.latency = 30
    process = commands.start("check", environment={"PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    try:
        watchdog = threading.Timer(25, process.kill)
        watchdog.start()
        began = time.monotonic()
        assert process.stdout.readline().startswith(b"ok     config")
        assert time.monotonic() - began < 25
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()

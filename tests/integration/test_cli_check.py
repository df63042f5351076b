"""``flask refunds check``: what each check reports."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
import pytest
from bson import DBRef, Decimal128
from pymongo.server_api import ServerApi

from flask_refunds.cli import check as check_command
from flask_refunds.cli import purchase_checks
from flask_refunds.cli.check_result import Status
from flask_refunds.cli.mongodb_checks import _majority
from flask_refunds.clock import now
from flask_refunds.testing import StripeSandbox
from tests.integration.commands import Commands
from tests.mongod import NO_MONGOD, Mongod, failing, find_mongod
from tests.shop import PAID_AT, Shop, make_app

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
    purchase = shop.add_purchase(sandbox.create_payment(1999), user=shop.admin_id)
    before = list(shop.db.purchases.find())
    result = shop.flask("check")
    assert result.exit_code == 0, result.output
    assert [line[:17].rstrip() for line in result.stdout.splitlines()] == [
        "OK    config",
        "OK    own webhook",
        "OK    mode",
        "OK    key",
        "OK    clock",
        "OK    webhook",
        "OK    events",
        "OK    MongoDB",
        "OK    replica set",
        "OK    majority",
        "OK    server time",
        "OK    privileges",
        "OK    collections",
        "OK    purchases",
        "OK    indexes",
        "OK    reconcile",
        "OK    counts",
        "OK    documents",
        "OK    amounts",
    ]
    assert (list(shop.db.purchases.find()), shop.records()) == (before, [])
    assert shop.status_of(purchase) == "completed"
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


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("key_expired", "Your Stripe key has expired. Set STRIPE_SECRET_KEY"),
        ("rate_limited", "Stripe had too many requests. Try again in a minute."),
        ("lock_timeout", "at the same time. Try again in a minute."),
    ],
)
def test_refusal_by_stripe_says_what_to_do(
    shop: Shop, sandbox: StripeSandbox, fault: str, words: str
) -> None:
    sandbox.inject(fault, times=9)
    result = shop.flask("check")
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())


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
    sandbox.inject("request_lost")
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


def test_many_missing_indexes_are_three_names_and_a_number(database: Any, sandbox: StripeSandbox) -> None:
    status, message = check(make_shop(database, sandbox))[1]["indexes"]
    assert (status, message.count("{"), message.count(" 15 more. ")) == ("fail", 3, 1)


def test_unavailable_database_fails_and_stripe_is_still_checked(shop: Shop, database: Any) -> None:
    with failing(database, "buildInfo"):
        exit_status, checks = check(shop)
    assert (exit_status, checks["MongoDB"][0]) == (1, "fail")
    assert checks["MongoDB"][1].startswith("MongoDB answered: Failing command")
    assert checks["key"][0] == "ok"


@pytest.fixture
def start_standalone() -> Iterator[Callable[..., Mongod]]:
    """Start standalone servers with the given options."""
    binary = find_mongod()
    if binary is None:
        pytest.skip(NO_MONGOD)
    started: list[Mongod] = []

    def start(*options: str) -> Mongod:
        started.append(Mongod(binary, *options))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def standalone(start_standalone: Callable[..., Mongod]) -> Iterator[Any]:
    with start_standalone().client() as client:
        yield client.shop


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


@pytest.mark.parametrize(("seconds", "status"), [(3, "ok"), (9, "fail"), (-9, "fail")])
def test_mongodb_clock_fails_from_5_seconds_difference(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, seconds: float, status: str
) -> None:
    monkeypatch.setattr(check_command, "now", lambda: now() + timedelta(seconds=seconds))
    exit_status, checks = check(shop)
    assert (exit_status, checks["server time"][0]) == (int(status == "fail"), status)
    direction = "behind" if seconds > 0 else "ahead of"
    assert (f" s {direction} this machine's. Synchronize" in checks["server time"][1]) is (status == "fail")


# The app's purchases, and the ledger


REQUIRE_INVOICE = {"$jsonSchema": {"required": ["invoice"]}}
KNOWN_STATUSES = {"status": {"$in": ["pending", "completed", "failed"]}}


def purchases_problem(shop: Shop) -> str:
    exit_status, checks = check(shop)
    status, message = checks["purchases"]
    assert exit_status == (status == "fail")
    return message if status == "fail" else ""


@pytest.mark.parametrize("on_standalone", [False, True])
@pytest.mark.parametrize("validator", [REQUIRE_INVOICE, KNOWN_STATUSES])
def test_validator_that_rejects_a_refund_fails_with_an_example(
    request: pytest.FixtureRequest, database: Any, sandbox: StripeSandbox, validator: Any, on_standalone: bool
) -> None:
    database = request.getfixturevalue("standalone") if on_standalone else database
    shop = make_shop(database, sandbox)
    assert shop.flask("init-db").exit_code == 0
    purchase = shop.add_purchase("pi_2")
    shop.add_purchase("pi_3", status="pending")
    database.command("collMod", "purchases", validator=validator)
    exit_status, checks = check(shop)
    assert (exit_status, checks["purchases"][0]) == (1, "fail")
    assert f"rejects the status refunded, for example of {purchase}" in checks["purchases"][1]
    assert shop.status_of(purchase) == "completed"


@pytest.mark.parametrize(
    ("validator", "options"),
    [
        (REQUIRE_INVOICE, {"validationLevel": "moderate"}),
        (REQUIRE_INVOICE, {"validationLevel": "off"}),
        (KNOWN_STATUSES, {"validationAction": "warn"}),
        ({"status": {"$type": "string"}}, {}),
    ],
)
def test_validator_that_allows_the_refund_passes(shop: Shop, validator: Any, options: Any) -> None:
    shop.add_purchase("pi_2")
    shop.db.command("collMod", "purchases", validator=validator, **options)
    assert purchases_problem(shop) == ""


@pytest.mark.parametrize(
    ("keys", "condition", "fails"),
    [
        (["user", "content"], {"status": "completed"}, False),
        (["user", "content"], {"status": {"$in": ["completed", "refunded"]}}, False),
        (["user", "content"], {"amount": {"$gt": 0}}, False),
        (["user", "content", "status"], {"status": {"$eq": "completed"}}, False),
        (["user", "content", "status"], None, True),
        (["user"], {"status": "refunded"}, True),
        (["user"], {"status": {"$in": ["failed", "refunded"]}}, True),
        (["stripePaymentIntentId", "status"], None, False),
    ],
)
def test_unique_index_fails_if_it_can_reject_a_refund(
    shop: Shop, keys: list[str], condition: Any, fails: bool
) -> None:
    options = {} if condition is None else {"partialFilterExpression": condition}
    shop.db.purchases.create_index(keys, unique=True, name="rule", **options)
    problem = purchases_problem(shop)
    assert ("The unique index rule of" in problem) is fails


def test_update_that_mongodb_rejects_for_another_reason_fails(shop: Shop) -> None:
    purchase = shop.add_purchase("pi_2")
    with failing(shop.db, "update"):
        assert purchases_problem(shop).startswith("MongoDB answered: Failing command")
    assert shop.status_of(purchase) == "completed"
    assert purchases_problem(shop) == ""


def test_daily_sweep_that_is_overdue_fails(shop: Shop) -> None:
    assert shop.flask("reconcile").exit_code == 0
    assert check(shop)[0] == 0
    last = datetime.now(timezone.utc) - timedelta(hours=25, minutes=1)
    shop.db["flask_refunds.state"].update_one({"_id": "refunds"}, {"$set": {"fullCompletedAt": last}})
    exit_status, checks = check(shop)
    assert (exit_status, checks["reconcile"][0]) == (1, "fail")
    assert f"since {last:%Y-%m-%d %H:%M} UTC" in checks["reconcile"][1]


def test_purchases_that_are_a_view_fail_by_name(shop: Shop, database: Any) -> None:
    database.create_collection("sold", viewOn="purchases", pipeline=[])
    shop.app.config["REFUNDS_PURCHASES_COLLECTION"] = "sold"
    shop.app.extensions.clear()
    exit_status, checks = check(shop)
    assert (exit_status, checks["collections"][0], checks["purchases"][0]) == (1, "fail", "fail")
    assert (
        ".sold is a view, so it can't be updated. Set REFUNDS_PURCHASES_COLLECTION"
        in checks["collections"][1]
    )


@pytest.mark.parametrize("document", [{"amount": 5}, {"_id": "pi_1"}, {"_id": 17, "paymentIntent": "pi_1"}])
def test_ledger_with_documents_of_the_app_fails(shop: Shop, sandbox: StripeSandbox, document: Any) -> None:
    assert shop.refund(shop.add_purchase(sandbox.create_payment(300, "eur"))).status_code == 200
    assert check(shop)[1]["collections"][0] == "ok"
    foreign = shop.db.flask_refunds.insert_one(document).inserted_id
    exit_status, checks = check(shop)
    assert (exit_status, checks["collections"][0]) == (1, "fail")
    assert f"has documents of your app, such as {foreign}. Set REFUNDS_COLLECTION" in checks["collections"][1]


@pytest.mark.parametrize(("lost", "counted"), [("ledger", (3, 1)), ("purchases", (2, 3))])
def test_restored_ledger_or_purchases_are_a_note(
    shop: Shop, sandbox: StripeSandbox, lost: str, counted: tuple[int, int]
) -> None:
    purchases = [shop.add_purchase(sandbox.create_payment(900, "eur")) for _ in range(3)]
    for purchase in purchases:
        assert shop.refund(purchase).status_code == 200
    assert check(shop)[1]["counts"][0] == "ok"
    if lost == "ledger":
        shop.db.flask_refunds.delete_many({"purchaseIds": {"$in": purchases[1:]}})
    else:
        shop.db.purchases.update_one({"_id": purchases[0]}, {"$set": {"status": "completed"}})
    exit_status, checks = check(shop)
    refunded, marked = counted
    assert (exit_status, checks["counts"][0]) == (0, "note")
    assert f"{refunded}. Marked by refunds of the ledger: {marked}. They differ" in checks["counts"][1]


# Restricted clients, and views


def test_strict_stable_api_is_noted_and_the_rest_is_checked(mongo_uri: str, sandbox: StripeSandbox) -> None:
    sandbox.add_webhook(URL, SECRET, EVENTS, livemode=False)
    strict = ServerApi("1", strict=True)
    with pymongo.MongoClient[Any](mongo_uri, server_api=strict, tz_aware=True) as client:
        shop = make_shop(client.get_default_database(), sandbox)
        assert shop.flask("init-db").exit_code == 0
        purchase = shop.add_purchase(sandbox.create_payment(700, "eur"), user=shop.admin_id)
        assert shop.refund(purchase).status_code == 200
        exit_status, checks = check(shop)
    assert exit_status == 0, checks
    assert checks["MongoDB"][1] == "The client's Stable API is strict, and doesn't tell the version."
    assert checks["privileges"] == (
        "note",
        "Can't be checked: the client's Stable API is strict and doesn't offer it.",
    )
    assert {name for name, (status, _) in checks.items() if status == "note"} == {"privileges"}


def test_old_server_fails(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_refunds.cli.mongodb_checks._OLDEST_WIRE_VERSION", 10_000)
    exit_status, checks = check(shop)
    assert (exit_status, checks["MongoDB"][0]) == (1, "fail")
    assert checks["MongoDB"][1].endswith("Upgrade to 6 or later.")


def test_users_and_contents_may_be_views(database: Any, sandbox: StripeSandbox) -> None:
    database.create_collection("accounts")
    database.create_collection("users", viewOn="accounts", pipeline=[])
    database.create_collection("contents", viewOn="courses", pipeline=[])
    sandbox.add_webhook(URL, SECRET, EVENTS, livemode=False)
    config = {"STRIPE_API_BASE": sandbox.url, "STRIPE_WEBHOOK_SECRET": SECRET}
    runner = make_app(REFUNDS_MONGO=database, **config).test_cli_runner()
    built = runner.invoke(args=["refunds", "init-db"])
    assert (built.exit_code, "index the collection below this view" in built.output) == (0, True)
    checked = runner.invoke(args=["refunds", "check"])
    assert checked.exit_code == 0, checked.output


def test_missing_right_to_list_indexes_is_named(with_access_control: Any) -> None:
    role = NEEDED | {"purchases": ["find", "update"]}
    exit_status, checks = with_access_control(role)
    assert exit_status == 1
    assert checks["privileges"][1].startswith("The MongoDB user lacks listIndexes on shop.purchases.")
    assert checks["indexes"][1].startswith("MongoDB answered: not authorized on shop to execute command")


# Privileges


NEEDED = {
    "": ["listCollections"],
    "purchases": ["find", "update", "listIndexes"],
    "flask_refunds": ["find", "insert", "update", "listIndexes"],
    "flask_refunds.state": ["find", "insert", "update"],
    "flask_refunds.rate": ["find", "insert", "update"],
    "flask_refunds.days": ["find", "insert", "update", "remove"],
    "flask_refunds.references": ["find", "insert", "listIndexes"],
    "users": ["find", "listIndexes"],
    "contents": ["find"],
}


@pytest.fixture
def with_access_control(start_standalone: Callable[..., Mongod], sandbox: StripeSandbox) -> Iterator[Any]:
    """Return a function that checks a shop whose MongoDB user has the given privileges or role."""
    mongod = start_standalone("--auth")
    root = {"username": "root", "password": "r00t"}
    with mongod.client() as client:
        client.admin.command("createUser", "root", pwd="r00t", roles=["root"])
    with pymongo.MongoClient(mongod.uri, **root) as client:
        shop = make_shop(client.shop, sandbox)
        assert shop.flask("init-db").exit_code == 0

        def check_as(role: Any, password: str = "app") -> tuple[int, dict[str, tuple[str, str]]]:
            if isinstance(role, dict) and "role" not in role:
                privileges = [
                    {"resource": {"db": "shop", "collection": name}, "actions": actions}
                    for name, actions in role.items()
                ]
                client.shop.command("createRole", "refunder", privileges=privileges, roles=[])
                role = "refunder"
            client.shop.command("createUser", "app", pwd="app", roles=[role])
            login = {"username": "app", "password": password, "authSource": "shop"}
            with pymongo.MongoClient(mongod.uri, **login) as restricted:
                shop.app.config["REFUNDS_MONGO"] = restricted.shop
                shop.app.extensions.clear()
                sandbox.add_webhook(URL, SECRET, EVENTS, livemode=False)
                return check(shop)

        yield check_as


@pytest.mark.parametrize("role", [NEEDED, "readWrite", {"db": "admin", "role": "readWriteAnyDatabase"}])
def test_sufficient_privileges_pass(with_access_control: Any, role: Any) -> None:
    exit_status, checks = with_access_control(role)
    assert (exit_status, checks["privileges"][0]) == (0, "ok"), checks


@pytest.mark.parametrize(
    ("collection", "actions", "message"),
    [
        ("purchases", ["find", "listIndexes"], "lacks update on shop.purchases."),
        ("flask_refunds", ["find", "listIndexes"], "lacks insert, update on shop.flask_refunds."),
        ("flask_refunds.rate", [], "lacks find, insert, update on shop.flask_refunds.rate."),
        ("", ["listIndexes"], "lacks listCollections on shop."),
    ],
)
def test_missing_privilege_fails_by_name(
    with_access_control: Any, collection: str, actions: list[str], message: str
) -> None:
    role = {name: granted for name, granted in (NEEDED | {collection: actions}).items() if granted}
    exit_status, checks = with_access_control(role)
    assert (exit_status, checks["privileges"][0]) == (1, "fail")
    assert checks["privileges"][1].startswith(f"The MongoDB user {message}")


def test_wrong_password_fails_with_the_answer_of_mongodb(with_access_control: Any) -> None:
    exit_status, checks = with_access_control("readWrite", password="wrong")
    assert (exit_status, checks["MongoDB"]) == (1, ("fail", "MongoDB answered: Authentication failed."))


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


def test_database_function_without_a_connection_is_named(sandbox: StripeSandbox) -> None:
    def connect() -> Any:
        raise pymongo.errors.AutoReconnect("db.internal: refused")

    runner = make_app(STRIPE_API_BASE=sandbox.url, REFUNDS_MONGO=connect).test_cli_runner()
    result = runner.invoke(args=["refunds", "check"])
    assert result.exit_code == 1
    assert (
        result.stdout
        == "FAIL  MongoDB      REFUNDS_MONGO raised AutoReconnect: its database doesn't answer.\n"
    )


# The app's documents


@pytest.mark.parametrize(
    ("unit", "amounts", "currency", "found"),
    [
        ("major", (15.5, "4.49"), "eur", ("ok", "add up")),
        ("minor", (1550, 449), "eur", ("ok", "add up")),
        ("major", (1550, 449), "eur", ("note", "Set REFUNDS_AMOUNT_UNIT=minor.")),
        ("minor", (15.5, 4.49), "eur", ("note", "Set REFUNDS_AMOUNT_UNIT=major.")),
        ("minor", (1000, 999), "jpy", ("ok", "add up")),
        ("major", (1550, 450), "eur", None),
        ("major", ({"value": 19.99}, None), "eur", None),
    ],
)
def test_wrong_unit_of_amounts_is_found(
    database: Any,
    sandbox: StripeSandbox,
    unit: str,
    amounts: Any,
    currency: str,
    found: tuple[str, str] | None,
) -> None:
    shop = make_shop(database, sandbox, REFUNDS_AMOUNT_UNIT=unit)
    payment = sandbox.create_payment(1999, currency)
    for amount in amounts:
        shop.add_purchase(payment, amount=amount)
    shop.add_purchase(sandbox.create_payment(5), "pending", amount=5)
    _, checks = check(shop)
    if found is None:
        assert "amounts" not in checks
    else:
        assert checks["amounts"][0] == found[0]
        assert found[1] in checks["amounts"][1]


def test_amounts_of_earlier_payments_are_compared(
    database: Any, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One payment can mislead: by its taxes, its currency, or the unit of another release of the app."""
    monkeypatch.setattr(purchase_checks, "SAMPLE", 3)
    shop = make_shop(database, sandbox)

    def sell(amount: Any, received: int = 700, currency: str = "usd") -> None:
        shop.add_purchase(sandbox.create_payment(received, currency), amount=amount)

    sell(700)
    for _ in range(8):
        shop.add_purchase(None, "pending")
    sell(650)  # without the tax
    sell(700, currency="jpy")  # the same in both units
    assert check(shop)[1]["amounts"] == (
        "note",
        "Purchases have amounts in minor units. Set REFUNDS_AMOUNT_UNIT=minor.",
    )

    sell(7)
    status, message = check(shop)[1]["amounts"]
    assert (status, "Of 3 payments, the purchases of 1 have amounts in minor units" in message) == (
        "note",
        True,
    ), message

    shop.db.purchases.update_many({"amount": 700}, {"$set": {"amount": 7}})
    sell(Decimal128("7.00"))
    sell("7.00")
    assert check(shop)[1]["amounts"][0] == "ok"


def test_old_payments_that_stripe_does_not_show_are_skipped(database: Any, sandbox: StripeSandbox) -> None:
    shop = make_shop(database, sandbox)
    shop.add_purchase("pi_of_an_earlier_account", amount=7)
    shop.add_purchase(sandbox.create_payment(700), amount=7)
    checks = check(shop)[1]
    assert checks["amounts"][0] == "ok"
    assert "payments" not in checks


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (DBRef("states", 7), "a DBRef to states (2)"),
        ({"code": "paid"}, "a document (2)"),
        (["paid"], "a list (2)"),
    ],
)
def test_status_without_a_text_is_described(shop: Shop, status: Any, found: str) -> None:
    for number in range(2):
        shop.add_purchase(f"pi_{number}", status)
    message = check(shop)[1]["documents"][1]
    assert f"Their field status has: {found}." in message


def test_role_of_an_old_user_counts(
    database: Any, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purchase_checks, "SAMPLE", 3)
    shop = make_shop(database, sandbox)
    shop.add_purchase("pi_9", user=shop.admin_id)
    database.users.insert_many([{"name": "Ann"} for _ in range(5)])
    assert "users" not in check(shop)[1]
    database.users.update_many({}, {"$unset": {"role": 1}})
    assert "No user has a role" in check(shop)[1]["users"][1]


def test_statuses_that_the_settings_do_not_name_are_found(database: Any, sandbox: StripeSandbox) -> None:
    shop = make_shop(database, sandbox, REFUNDS_PURCHASE_FIELDS={"payment": "pi"})
    for number, status in enumerate(["paid", "paid", True, True, "open", "paid"]):
        shop.add_purchase(None, status, pi=f"pi_{number}")  # type: ignore[arg-type]
    status, message = check(shop)[1]["documents"]
    assert (status, "status has: paid (3), true (2), open (1)." in message) == ("note", True), message
    shop.add_purchase(None, "refunded", pi="pi_9")
    assert check(shop)[1]["documents"][0] == "ok"
    shop.db.purchases.update_many({}, {"$rename": {"pi": "intent"}})
    status, message = check(shop)[1]["documents"]
    assert (status, "0 of 7 purchases have a payment intent" in message) == ("note", True), message


def test_empty_collection_of_purchases_is_noted_with_the_others(shop: Shop, sandbox: StripeSandbox) -> None:
    assert shop.refund(shop.add_purchase(sandbox.create_payment(300, "eur"))).status_code == 200
    assert "no documents" not in check(shop)[1]["documents"][1]
    shop.db.purchases.rename("tickets")
    status, message = check(shop)[1]["documents"]
    assert (status, "purchases has no documents. The database has tickets. If" in message) == ("note", True)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (
            {"pay": {"intent": "pi_9", "session": "cs_9", "mail": "a@b"}},
            "Found some in pay.intent (2), pay.session",
        ),
        (
            {"card": "4242", "key": "pi_9_secret_9"},
            'stripePaymentIntentId. Set REFUNDS_PURCHASE_FIELDS["payment"]',
        ),
    ],
)
def test_field_with_payments_is_named(shop: Shop, fields: Any, found: str) -> None:
    for _ in range(2):
        shop.add_purchase(None, **fields)
    status, message = check(shop)[1]["documents"]
    assert (status, found in message) == ("note", True), message


def test_fields_of_the_settings_that_no_purchase_has_are_noted(database: Any, sandbox: StripeSandbox) -> None:
    paths = {"created": "boughtAt", "amount": "pay.cents", "user": "buyer.$id", "content": "content"}
    shop = make_shop(database, sandbox, REFUNDS_PURCHASE_FIELDS=paths)
    shop.db.purchases.insert_one({"pay": {"cent": 5}, "buyer": DBRef("users", shop.admin_id), "boughtOn": 1})
    status, message = check(shop)[1]["fields"]
    assert (status, message.endswith(": amount (pay.cents), created (boughtAt).")) == ("note", True), message
    shop.db.purchases.insert_one({"pay": {"cents": 5}, "boughtAt": now()})
    assert "fields" not in check(shop)[1]


@pytest.mark.parametrize(
    ("created", "purchase", "found"),
    [
        (None, {"_id": 7}, "because their _id isn't an ObjectId"),
        (None, {"_id": "order-7", "at": PAID_AT}, "because their _id isn't an ObjectId"),
        (None, {}, None),
        ("at", {"_id": 7, "at": PAID_AT}, None),
        ("at", {"at": [PAID_AT]}, None),
        ("at", {}, None),
        ("at", {"at": PAID_AT.isoformat()}, "0 of 1 purchases have a date in at."),
        ("bought.at", {"bought": {"at": 1710498600}}, "0 of 1 purchases have a date in bought.at."),
    ],
)
def test_purchases_without_a_date_that_counts_are_noted(
    database: Any, sandbox: StripeSandbox, created: str | None, purchase: dict[str, Any], found: str | None
) -> None:
    shop = make_shop(database, sandbox, REFUNDS_PURCHASE_FIELDS={"created": created})
    shop.add_purchase("pi_9", **purchase)
    status, message = check(shop)[1].get("dates", ("ok", ""))
    assert (status, (found or "") in message) == ("note" if found else "ok", True), message
    if found:
        shop.add_purchase("pi_10", at=PAID_AT, bought={"at": PAID_AT})
        assert "dates" not in check(shop)[1]


@pytest.mark.parametrize(
    ("prepare", "config", "found"),
    [
        (lambda db: db.users.drop(), {}, "users has no documents. Set REFUNDS_USERS_COLLECTION"),
        (lambda db: db.users.drop(), {"REFUNDS_USER_LOADER": dict}, None),
        (lambda db: db.users.drop(), {"REFUNDS_CURRENT_USER": dict}, None),
        (lambda db: db.users.update_many({}, {"$unset": {"role": 1}}), {}, "No user has a role"),
        (lambda db: db.users.update_many({}, {"$unset": {"role": 1}}), {"REFUNDS_IS_ADMIN": bool}, None),
        (
            lambda db: db.purchases.update_many({}, {"$set": {"user": 7}}),
            {},
            "that aren't an _id in the collection",
        ),
        (lambda db: db.purchases.update_many({}, {"$unset": {"user": 1}}), {}, None),
        (lambda db: db.purchases.update_many({}, {"$set": {"user": DBRef("users", 7)}}), {}, "to user.$id"),
        (lambda db: db.purchases.update_many({}, [{"$set": {"user": {"$toString": "$user"}}}]), {}, None),
    ],
)
def test_users_that_the_settings_do_not_find_are_noted(
    database: Any, sandbox: StripeSandbox, prepare: Any, config: Any, found: str | None
) -> None:
    shop = make_shop(database, sandbox, **config)
    shop.add_purchase("pi_9", user=shop.admin_id)
    prepare(database)
    status, message = check(shop)[1].get("users", ("ok", ""))
    assert (status, (found or "") in message) == ("note" if found else "ok", True), message


@pytest.mark.parametrize(
    ("account", "field", "found"),
    [
        (None, None, None),
        ("acct_baker", "seller", None),
        ("acct_baker", None, 'set REFUNDS_PURCHASE_FIELDS["stripe_account"]'),
        (None, "seller", "seller must be empty"),
    ],
)
def test_payment_that_stripe_does_not_show_is_noted(
    database: Any, sandbox: StripeSandbox, account: str | None, field: str | None, found: str | None
) -> None:
    sandbox.connect_account("acct_baker")
    shop = make_shop(database, sandbox, REFUNDS_PURCHASE_FIELDS={"stripe_account": field or ""})
    shop.add_purchase(sandbox.create_payment(800, account=account), seller="acct_baker")
    status, message = check(shop)[1].get("payments", ("ok", ""))
    assert (status, (found or "") in message) == ("note" if found else "ok", True), message


@pytest.mark.parametrize(
    ("options", "name", "result"),
    [
        ({}, "transfers", ("note", "your account pays its refund alone")),
        ({"reverse_transfer": True}, "transfers", None),
        (lambda purchase: {"reverse_transfer": bool(purchase["seller"])}, "REFUNDS_STRIPE_OPTIONS", None),
        (
            lambda purchase: {"reverse": 1},
            "REFUNDS_STRIPE_OPTIONS",
            ("fail", "that isn't a dict with any of"),
        ),
        (lambda purchase: purchase["sender"], "REFUNDS_STRIPE_OPTIONS", ("fail", "raised KeyError")),
    ],
)
def test_options_that_do_not_fit_a_payment_are_found(
    database: Any, sandbox: StripeSandbox, options: Any, name: str, result: tuple[str, str] | None
) -> None:
    shop = make_shop(database, sandbox, REFUNDS_STRIPE_OPTIONS=options)
    shop.add_purchase(sandbox.create_payment(800, transfer_to="acct_baker"), seller="acct_baker")
    status, message = check(shop)[1].get(name, ("", ""))
    assert (status, (result or ("", ""))[1] in message) == ((result or ("", ""))[0], True), message
    assert sandbox.refunds() == []

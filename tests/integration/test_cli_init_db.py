"""``flask refunds init-db``, and the index that each query of the library uses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import monitoring

from flask_refunds.testing import StripeSandbox
from tests.mongod import failing
from tests.shop import PAID_AT, Shop, make_app

# The bounds in an explained plan can be dates outside of Python's range.
_ANY_DATE = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)


class QueryLog(monitoring.CommandListener):
    """Records the queries sent to MongoDB."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []
        self.unlimited: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in ("find", "aggregate", "update", "count", "findAndModify"):
            omitted = ("lsid", "$db", "$clusterTime", "txnNumber", "readConcern", "writeConcern", "maxTimeMS")
            omitted += ("autocommit", "startTransaction")
            self.commands.append({name: each for name, each in event.command.items() if name not in omitted})
            if "maxTimeMS" not in event.command:
                self.unlimited.append(self.commands[-1])

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture
def queries() -> QueryLog:
    return QueryLog()


@pytest.fixture
def logged_shop(mongo_uri: str, sandbox: StripeSandbox, queries: QueryLog) -> Iterator[Shop]:
    """A shop whose queries are recorded."""
    with pymongo.MongoClient(mongo_uri, tz_aware=True, event_listeners=[queries]) as client:
        database = client.get_default_database()
        yield Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


SHAPE = {
    "REFUNDS_PURCHASE_FIELDS": {
        "status": "order.state",
        "payment": "stripe.intent",
        "user": "customer.$id",
        "content": "item",
        "created": "order.placedAt",
    },
    "REFUNDS_USER_FIELDS": {"email": "contact.mail"},
    "REFUNDS_STATUS_COMPLETED": ["paid", 3],
    "REFUNDS_STATUS_REFUNDED": False,
}


@pytest.fixture
def shaped_shop(logged_shop: Shop, sandbox: StripeSandbox) -> Shop:
    """A shop with other fields, whose queries are recorded."""
    database = logged_shop.db
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, **SHAPE), database)


def run_every_query(shop: Shop, sandbox: StripeSandbox) -> None:
    """Run every query whose cost grows with the collections."""
    payment = sandbox.create_payment(1999)
    purchase = add_purchase(shop, payment)
    assert shop.refund(purchase).status_code == 200
    sandbox.dashboard_refund(other := sandbox.create_payment(500))
    assert shop.refund(add_purchase(shop, other)).status_code == 400
    ann = shop.add_user(email="ann@example.org")
    shop.client.get(f"/api/payments/status/{payment}", headers=shop.headers(ann))
    for query in ({}, {"status": "completed"}, {"user": "ann@example.org"}, {"paymentIntent": payment}):
        assert shop.client.get("/api/payments/admin/all", query_string=query, headers=shop.headers()).json
    march = "2024-03-01"
    for query in (
        {"status": "failed"},
        {"needsReview": "true"},
        {"bulkRun": "recall"},
        {"from": march},
        {"user": "ann@example.org"},
    ):
        assert shop.client.get("/api/payments/admin/refunds", query_string=query, headers=shop.headers()).json
    shop.client.get("/api/payments/admin/refunds/metrics", headers=shop.headers())
    assert shop.flask("show", str(purchase)).exit_code == 0
    for arguments in ((), ("--all", "--since", march)):
        result = shop.flask("reconcile", "--older-than", "0", "--rate", "1000", *arguments)
        assert (result.exit_code, "3 processed" in result.output) == (0, True), result.output


def add_purchase(shop: Shop, payment: str) -> ObjectId:
    """Add a purchase in both shapes, with the date of each."""
    order = {"state": "paid", "placedAt": PAID_AT}
    return shop.add_purchase(payment, order=order, stripe={"intent": payment})


def scans(database: Any, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the queries that MongoDB answers by reading a whole collection."""
    found = []
    for command in commands:
        if "updates" in command:
            command = {**command, "updates": command["updates"][:1]}  # of equal ones
        plan = str(database.command("explain", command, verbosity="queryPlanner", codec_options=_ANY_DATE))
        if any(word in plan for word in ("COLLSCAN", "NestedLoopJoin", "HashJoin")):
            found.append(command)
    return found


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stdin a terminal."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)


@pytest.mark.parametrize("name", ["logged_shop", "shaped_shop"])
def test_every_query_uses_an_index_after_init_db(
    request: pytest.FixtureRequest, sandbox: StripeSandbox, queries: QueryLog, database: Any, name: str
) -> None:
    shop: Shop = request.getfixturevalue(name)
    assert shop.flask("init-db").exit_code == 0
    queries.commands.clear()
    run_every_query(shop, sandbox)
    assert len(queries.commands) > 30
    assert scans(database, queries.commands) == []


def test_every_query_has_a_time_limit(logged_shop: Shop, sandbox: StripeSandbox, queries: QueryLog) -> None:
    run_every_query(logged_shop, sandbox)
    [marked] = queries.unlimited  # reconcile --all may change any number of records
    assert marked["updates"][0]["multi"]
    assert marked["updates"][0]["u"] == {"$set": {"purchasesVerified": False}}


def test_bulk_run_filter_uses_its_index(shop: Shop) -> None:
    assert shop.flask("init-db").exit_code == 0
    found = shop.db.flask_refunds.find({"bulkRun": "recall"}).sort([("createdAt", -1), ("_id", -1)])
    plan = str(found.explain()["queryPlanner"]["winningPlan"])
    assert "flask_refunds_bulkRun_1_createdAt_-1__id_-1" in plan
    assert "SORT" not in plan


def test_queries_scan_collections_without_init_db(
    logged_shop: Shop, sandbox: StripeSandbox, queries: QueryLog, database: Any
) -> None:
    run_every_query(logged_shop, sandbox)
    assert scans(database, queries.commands)


def test_init_db_prints_its_plan_and_builds_only_once(shop: Shop, database: Any) -> None:
    result = shop.flask("init-db", "--dry-run")
    assert result.exit_code == 0
    assert result.output.startswith(f"Database {database.name}:\n")
    assert "purchases {stripePaymentIntentId: 1}" in result.output
    assert "flask_refunds {review.since: 1}" in result.output
    assert result.output.count("  missing  ") == 18
    assert set(re.findall(r": (-?\d+)[,}]", result.output)) == {"1", "-1"}
    assert result.output.endswith(
        "purchases and users are collections of your app, flask_refunds is this library's.\n"
        "Dry run: 18 would be built.\n"
    )
    assert database.list_collection_names() == ["users"]

    result = shop.flask("init-db")
    assert result.output.count("Building ") == 18
    assert re.search(r"^18 indexes built in \d+\.\d s\.$", result.output, re.MULTILINE)
    again = shop.flask("init-db")
    assert (again.exit_code, again.output.count("  present  ")) == (0, 18)
    assert again.output.endswith("0 indexes built in 0.0 s.\n")


def test_collection_of_the_app_that_would_be_created_is_remarked(shop: Shop, database: Any) -> None:
    database.users.insert_one({})
    lines = shop.flask("init-db", "--dry-run").stdout.splitlines()
    remarked = {line.split()[0] for line in lines if line.endswith("creates the collection")}
    assert remarked == {"purchases"}
    database.create_collection("purchases")
    assert "creates" not in shop.flask("init-db", "--dry-run").stdout


@pytest.mark.usefixtures("on_terminal")
def test_init_db_asks_on_a_terminal_before_it_changes_the_apps_collections(shop: Shop, database: Any) -> None:
    declined = shop.flask("init-db", input="n\n")
    assert declined.exit_code == 2
    assert "Build 5 indexes on collections of your app (purchases, users)? [y/N]: " in declined.stderr
    assert database.list_collection_names() == ["users"]
    ended = shop.flask("init-db", input="")
    assert (ended.exit_code, "Error: Not confirmed." in ended.stderr) == (2, True)
    assert shop.flask("init-db", input="y\n").exit_code == 0
    database.flask_refunds.drop_index("flask_refunds_settledAt_1")
    assert "1 index built" in shop.flask("init-db").output  # on the ledger: no question
    database.purchases.drop_index("flask_refunds_stripePaymentIntentId_1")
    assert "1 index built" in shop.flask("init-db", "--yes").output
    database.purchases.drop_index("flask_refunds_stripePaymentIntentId_1")
    assert shop.flask("init-db", "--json").exit_code == 0
    assert "flask_refunds_stripePaymentIntentId_1" in database.purchases.index_information()


def test_existing_indexes_are_used_or_left_unchanged(shop: Shop, database: Any) -> None:
    database.purchases.create_index([("stripePaymentIntentId", 1), ("createdAt", 1)], name="payments")
    database.purchases.create_index([("user", 1), ("_id", -1)], name="some", sparse=True)
    database.users.create_index("email", name="mails", unique=True, collation={"locale": "de"})
    database.flask_refunds.create_index("x", name="flask_refunds_settledAt_1")
    names = ("purchases", "users", "flask_refunds")
    before = {name: list(database[name].list_indexes()) for name in names}

    result = shop.flask("init-db", "--json")

    assert result.exit_code == 1  # a name conflict
    found = {each["name"]: each for each in json.loads(result.output)["indexes"]}
    states = {name.removeprefix("flask_refunds_"): each["state"] for name, each in found.items()}
    assert states["stripePaymentIntentId_1"] == "present"
    assert found["flask_refunds_stripePaymentIntentId_1"]["servedBy"] == "payments"
    assert (states["user_1__id_-1"], found["flask_refunds_user_1__id_-1"]["similar"]) == ("missing", ["some"])
    by_email = found["flask_refunds_email_1_ignoring_case"]
    assert (by_email["state"], by_email["similar"]) == ("missing", ["mails"])
    assert states["settledAt_1"] == "name_conflict"
    for name, indexes in before.items():
        assert [each for each in database[name].list_indexes() if each in indexes] == indexes
    assert "drop or rename it" in shop.flask("init-db").output
    assert {each["state"] for each in json.loads(shop.flask("init-db", "--json").output)["indexes"]} == {
        "present",
        "name_conflict",
    }


def test_index_in_the_opposite_order_serves(shop: Shop, database: Any) -> None:
    database.purchases.create_index([("status", -1), ("_id", 1)], name="opposite")
    database.purchases.create_index([("content", 1), ("_id", 1)], name="mixed")
    database.purchases.create_index([("user", -1), ("_id", 1)], name="german", collation={"locale": "de"})
    found = json.loads(shop.flask("init-db", "--dry-run", "--json").output)["indexes"]
    served_by = {each["name"]: each["servedBy"] for each in found}
    assert served_by["flask_refunds_status_1__id_-1"] == "opposite"
    assert served_by["flask_refunds_content_1__id_-1"] is None
    assert served_by["flask_refunds_user_1__id_-1"] is None


def test_index_with_the_collation_of_its_collection_serves(shop: Shop, database: Any) -> None:
    database.drop_collection("purchases")
    database.create_collection("purchases", collation={"locale": "fr", "strength": 1})
    database.purchases.create_index([("user", 1), ("_id", -1)], name="inherits")
    database.purchases.create_index(
        [("content", 1), ("_id", -1)], name="simple", collation={"locale": "simple"}
    )
    found = json.loads(shop.flask("init-db", "--json").output)["indexes"]
    served_by = {each["name"]: each["servedBy"] for each in found}
    assert served_by["flask_refunds_user_1__id_-1"] == "inherits"
    assert served_by["flask_refunds_content_1__id_-1"] is None
    again = json.loads(shop.flask("init-db", "--json").output)["indexes"]
    assert {each["state"] for each in again} == {"present"}


def test_index_with_an_option_that_is_off_serves(shop: Shop, database: Any) -> None:
    database.purchases.create_index([("user", 1), ("_id", -1)], name="by_user", sparse=False, hidden=False)
    found = json.loads(shop.flask("init-db", "--json").output)["indexes"]
    served_by = {each["name"]: each["servedBy"] for each in found}
    assert served_by["flask_refunds_user_1__id_-1"] == "by_user"


def test_index_that_mongodb_rejects_does_not_stop_the_others(shop: Shop, database: Any) -> None:
    database.purchases.create_index("stripePaymentIntentId", name="on_trial", hidden=True)
    result = shop.flask("init-db", "--yes")
    assert result.exit_code == 2
    assert "Error: Can't build purchases {stripePaymentIntentId: 1}. MongoDB answered: " in result.stderr
    assert "different name: on_trial" in result.stderr
    found = json.loads(shop.flask("init-db", "--dry-run", "--json").output)["indexes"]
    assert [each["name"] for each in found if each["state"] != "present"] == [
        "flask_refunds_stripePaymentIntentId_1"
    ]


def test_indexes_of_few_records_omit_the_others(database: Any, sandbox: StripeSandbox) -> None:
    fields = {"stripe_account": "seller.account"}
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_PURCHASE_FIELDS=fields)
    output = Shop(app, database).flask("init-db").output
    assert output.count("  events and sweeps of connected accounts") == 2
    omitting = {}
    for each in database.flask_refunds.list_indexes():
        if "sparse" in each or "partialFilterExpression" in each:
            omitting[next(iter(each["key"]))] = each.get("partialFilterExpression", "sparse")
    assert omitting == {
        "reason": {"reason": {"$gt": ""}},
        "requestedBy": {"requestedBy": {"$gt": ""}},
        "status": {"status": {"$in": ["processing", "requires_action", "pending"]}},
        "signalsSent": {"signalsSent": False},
        "purchasesVerified": {"purchasesVerified": False},
        "review.since": "sparse",
        "duplicateOf": "sparse",
        "bulkRun": {"bulkRun": {"$exists": True}},
        "stripeAccount": "sparse",
    }


@pytest.mark.parametrize(
    ("options", "serves"),
    [
        ({"locale": "en", "strength": 2}, True),
        ({"locale": "en", "strength": 1}, False),
        ({"locale": "en", "strength": 2, "numericOrdering": True}, False),
        (None, False),
    ],
)
def test_index_on_addresses_must_ignore_case(
    shop: Shop, database: Any, options: dict[str, Any] | None, serves: bool
) -> None:
    database.users.create_index("email", name="mails", collation=options)
    found = json.loads(shop.flask("init-db", "--dry-run", "--json").output)["indexes"]
    [by_email] = [each for each in found if each["name"] == "flask_refunds_email_1_ignoring_case"]
    assert (by_email["state"], by_email["servedBy"]) == (
        ("present", "mails") if serves else ("missing", None)
    )


def test_configured_collections_and_fields_are_indexed(database: Any, sandbox: StripeSandbox) -> None:
    app = make_app(
        REFUNDS_MONGO=database,
        REFUNDS_PURCHASES_COLLECTION="orders",
        REFUNDS_PURCHASE_FIELDS={"payment": "payment.intent"},
        REFUNDS_USERS_COLLECTION="people",
        REFUNDS_USER_FIELDS={"id": "uid"},
    )
    output = Shop(app, database).flask("init-db").output
    for index in ("orders {payment.intent: 1}", "people {uid: 1}", "people {email: 1}"):
        assert f"Building {index} …" in output
    assert re.search(r"people \{uid: 1\} +missing +every request of a user\b", output)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("createIndexes", "Can't build flask_refunds {createdAt"),
        ("listIndexes", "The database is unavailable"),
    ],
)
def test_database_error_ends_init_db_without_traceback(
    shop: Shop, database: Any, command: str, message: str
) -> None:
    with failing(database, command):
        result = shop.flask("init-db")
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert "Traceback" not in result.output

"""``flask refunds init-db``, and that every query of the library finds an index on a real MongoDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import monitoring

from flask_refunds.extension import get_refunds
from flask_refunds.testing import StripeSandbox
from tests.mongod import failing
from tests.shop import Shop, make_app

# Explained bounds reach to dates that Python does not know.
_ANY_DATE = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)


class Asked(monitoring.CommandListener):
    """The queries that reach MongoDB, as they are sent."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in ("find", "aggregate", "update", "count", "findAndModify"):
            wanted = ("lsid", "$db", "$clusterTime", "txnNumber", "readConcern", "writeConcern", "maxTimeMS")
            command = {name: each for name, each in event.command.items() if name not in wanted}
            self.commands.append(command)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def watched(mongo_uri: str, sandbox: StripeSandbox, asked: Asked) -> Iterator[Shop]:
    """A shop whose queries are written down."""
    with pymongo.MongoClient(mongo_uri, tz_aware=True, event_listeners=[asked]) as client:
        database = client.get_default_database()
        yield Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


def use_everything(shop: Shop, sandbox: StripeSandbox) -> None:
    """Make every query that grows with the shop."""
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    sandbox.refund_in_dashboard(other := sandbox.create_payment(500))
    assert shop.refund(shop.add_purchase(other)).status_code == 400
    ann = shop.add_user(email="ann@example.org")
    shop.client.get(f"/api/payments/status/{payment}", headers=shop.headers(ann))
    for query in ({}, {"status": "completed"}, {"user": "ann@example.org"}, {"paymentIntent": payment}):
        assert shop.client.get("/api/payments/admin/all", query_string=query, headers=shop.headers()).json
    march = "2024-03-01"
    for query in ({"status": "failed"}, {"review": "true"}, {"bulk": "recall"}, {"from": march}):
        assert shop.client.get("/api/payments/admin/refunds", query_string=query, headers=shop.headers()).json
    shop.client.get("/api/payments/admin/refunds/metrics", headers=shop.headers())
    ledger = get_refunds(shop.app).ledger
    assert ledger.find_unfinished(datetime.now(timezone.utc) + timedelta(minutes=1))
    ledger.find_needing_review()
    assert shop.flask("show", str(purchase)).exit_code == 0
    assert shop.flask("reconcile", "--older-than", "0", "--rate", "1000").exit_code == 0


def scans(database: Any, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The queries that MongoDB answers by reading a whole collection."""
    found = []
    for command in commands:
        plan = str(database.command("explain", command, verbosity="queryPlanner", codec_options=_ANY_DATE))
        if any(word in plan for word in ("COLLSCAN", "NestedLoopJoin", "HashJoin")):
            found.append(command)
    return found


def test_every_query_finds_an_index(
    watched: Shop, sandbox: StripeSandbox, asked: Asked, database: Any
) -> None:
    assert watched.flask("init-db").exit_code == 0
    asked.commands.clear()
    use_everything(watched, sandbox)
    assert len(asked.commands) > 30
    assert scans(database, asked.commands) == []


def test_a_bulk_runs_refunds_are_found_among_many(shop: Shop) -> None:
    assert shop.flask("init-db").exit_code == 0
    found = shop.db.flask_refunds.find({"bulk": "recall"}).sort([("createdAt", -1), ("_id", -1)])
    plan = str(found.explain()["queryPlanner"]["winningPlan"])
    assert "flask_refunds_bulk_1_createdAt_-1__id_-1" in plan
    assert "SORT" not in plan


def test_without_them_they_scan(watched: Shop, sandbox: StripeSandbox, asked: Asked, database: Any) -> None:
    use_everything(watched, sandbox)
    assert scans(database, asked.commands)


def test_what_it_will_build_and_on_what(shop: Shop, database: Any) -> None:
    result = shop.flask("init-db", "--dry-run")
    assert result.exit_code == 0
    assert result.output.startswith(f"Database {database.name}:\n")
    assert "purchases {stripePaymentIntentId: 1}" in result.output
    assert "refunds {review.since: 1}" in result.output
    assert result.output.count("to build") == 13
    assert result.output.endswith("12 to build; nothing was done (dry run).\n")
    assert database.list_collection_names() == ["users"]

    assert shop.flask("init-db").output.count("Building ") == 12
    again = shop.flask("init-db")
    assert (again.exit_code, again.output.count("  there  "), "Building" in again.output) == (0, 12, False)


def test_the_hosts_own_indexes_serve_or_are_left_alone(shop: Shop, database: Any) -> None:
    database.purchases.create_index([("stripePaymentIntentId", 1), ("createdAt", 1)], name="hosts")
    database.purchases.create_index([("user", 1), ("_id", -1)], name="some", sparse=True)
    database.users.create_index("email", name="mails", unique=True, collation={"locale": "de"})
    database.refunds.create_index("x", name="flask_refunds_settledAt_1")
    before = {name: list(database[name].list_indexes()) for name in ("purchases", "users", "refunds")}

    result = shop.flask("init-db", "--json")

    assert result.exit_code == 1  # one name is taken
    found = {each["name"]: each for each in json.loads(result.output)["indexes"]}
    states = {name.removeprefix("flask_refunds_"): each["state"] for name, each in found.items()}
    assert states["stripePaymentIntentId_1"] == "there"
    assert found["flask_refunds_stripePaymentIntentId_1"]["servedBy"] == "hosts"
    assert (states["user_1__id_-1"], found["flask_refunds_user_1__id_-1"]["similar"]) == ("missing", ["some"])
    assert (states["email_1"], found["flask_refunds_email_1"]["similar"]) == ("missing", ["mails"])
    assert states["settledAt_1"] == "taken"
    for name, indexes in before.items():
        assert [each for each in database[name].list_indexes() if each in indexes] == indexes
    assert "drop or rename it" in shop.flask("init-db").output
    assert {each["state"] for each in json.loads(shop.flask("init-db", "--json").output)["indexes"]} == {
        "there",
        "taken",
    }


def test_the_hosts_own_names(database: Any, sandbox: StripeSandbox) -> None:
    app = make_app(
        REFUNDS_MONGO=database,
        REFUNDS_PURCHASES_COLLECTION="orders",
        REFUNDS_PURCHASE_FIELDS={"payment": "payment.intent"},
        REFUNDS_USERS_COLLECTION="people",
        REFUNDS_USER_FIELDS={"id": "uid"},
    )
    said = Shop(app, database).flask("init-db").output
    for index in ("orders {payment.intent: 1}", "people {uid: 1}", "people {email: 1}"):
        assert f"Building {index} …" in said


def test_the_database_is_down_or_refuses(shop: Shop, database: Any) -> None:
    with failing(database, "createIndexes"):
        result = shop.flask("init-db")
    assert (result.exit_code, "cannot be built: " in result.stderr) == (2, True)
    with failing(database, "listIndexes"):
        result = shop.flask("init-db")
    assert (result.exit_code, "The database is unavailable" in result.stderr) == (2, True)
    assert "Traceback" not in result.output

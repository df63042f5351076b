"""Refunds by customer: the filter ``user``, and what lists of refunds tell about purchases and users."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock
from uuid import uuid4

import pymongo
import pytest
from bson import Decimal128, ObjectId
from bson.dbref import DBRef
from pymongo import monitoring

from flask_refunds.storage import search
from flask_refunds.testing import StripeSandbox
from tests.integration.test_cli_init_db import QueryLog, scans
from tests.shop import Shop, make_app

BOTH_LISTS = pytest.mark.parametrize("path", ["all", "refunds"])


def get(shop: Shop, path: str, **query: Any) -> Any:
    response = shop.client.get(f"/api/payments/admin/{path}", query_string=query, headers=shop.headers())
    assert response.status_code == 200, response.json
    return response.json


def refund_ids(shop: Shop, **query: Any) -> list[str]:
    body = get(shop, "refunds", **query)
    assert body["totalRefunds"] == len(body["refunds"])
    return [each["id"] for each in body["refunds"]]


def count(shop: Shop, path: str, **query: Any) -> int:
    body = get(shop, path, **query)
    total: int = body["totalPurchases" if path == "all" else "totalRefunds"]
    return total


def refunded(shop: Shop, sandbox: StripeSandbox, **purchase: Any) -> str:
    """Refund a purchase of a new payment, and return the payment."""
    payment = sandbox.create_payment(1999)
    assert shop.refund(shop.add_purchase(payment, **purchase)).status_code == 200
    return payment


# The filter


def test_refunds_are_found_by_user_id_and_email(shop: Shop, sandbox: StripeSandbox) -> None:
    ada = shop.add_user(name="Ada", email="ada@example.org")
    first, second = (refunded(shop, sandbox, user=ada) for _ in range(2))
    refunded(shop, sandbox, user=shop.add_user(email="bob@example.org"))
    for named in (str(ada), "ada@example.org", "ADA@Example.ORG"):
        assert refund_ids(shop, user=named) == [f"{second}:1", f"{first}:1"]
    assert refund_ids(shop, user="dan@example.org") == refund_ids(shop, user=str(ObjectId())) == []


def test_user_filter_finds_refunds_made_elsewhere_and_of_references(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    ada = shop.add_user()
    payment = sandbox.create_payment(700)
    charge = sandbox.payment_intent(payment)["latest_charge"]
    assert shop.refund(shop.add_purchase(charge, user=ada)).status_code == 200
    other = sandbox.create_payment(500)
    shop.add_purchase(other, user=ada)
    external = sandbox.dashboard_refund(other)
    assert shop.flask("reconcile", "--full").exit_code == 0
    assert set(refund_ids(shop, user=str(ada))) == {f"{payment}:1", f"{other}:{external['id']}"}


def test_user_filter_combines_with_others_and_pages(shop: Shop, sandbox: StripeSandbox) -> None:
    ada = shop.add_user(email="ada@example.org")
    payments = [refunded(shop, sandbox, user=ada) for _ in range(3)]
    refunded(shop, sandbox)
    assert refund_ids(shop, user=str(ada), status="failed") == []
    assert refund_ids(shop, user=str(ada), paymentIntent=payments[1]) == [f"{payments[1]}:1"]
    first = get(shop, "refunds", user="ada@example.org", limit=2)
    rest = get(shop, "refunds", user="ada@example.org", limit=2, after=first["nextCursor"])
    assert [each["id"] for each in first["refunds"] + rest["refunds"]] == [f"{it}:1" for it in payments[::-1]]
    assert (first["totalRefunds"], rest["nextCursor"]) == (3, None)


def test_commands_filter_by_user(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = refunded(shop, sandbox, user=shop.add_user(email="Ada@example.org"))
    other = refunded(shop, sandbox)
    for command in ("list", "export"):
        output = shop.flask(command, "--user", "ada@example.org").output
        assert (f"{payment}:1" in output, f"{other}:1" in output) == (True, False)


def test_refunds_of_a_users_newest_purchases_are_found(shop: Shop, sandbox: StripeSandbox) -> None:
    ada = shop.add_user()
    payments = [refunded(shop, sandbox, user=ada) for _ in range(4)]
    with mock.patch.object(search, "MAX_USER_PURCHASES", 2):
        assert refund_ids(shop, user=str(ada)) == [f"{payments[3]}:1", f"{payments[2]}:1"]


def test_invalid_user_names_what_can_be_searched(shop: Shop) -> None:
    for path in ("all", "refunds"):
        response = shop.client.get(f"/api/payments/admin/{path}?user=%0A", headers=shop.headers())
        assert (response.status_code, response.json["code"]) == (400, "invalid_request")
        assert response.json["error"].startswith("user must be a user's ID or e-mail address")


@BOTH_LISTS
def test_odd_users_and_purchases_break_no_search(shop: Shop, sandbox: StripeSandbox, path: str) -> None:
    ids: list[Any] = [ObjectId(), 7, "ada", {"tenant": 1, "n": 2}, Decimal128("1.5"), uuid4().hex]
    for number, each in enumerate(ids):
        shop.db.users.insert_one({"_id": each, "email": ["ADA@example.org", "ada@example.org"][number % 2]})
        refunded(shop, sandbox, user=each)
    for value in (None, 5, ["ada@example.org.uk"], {"at": "ada@example.org"}, b"ada@example.org", ""):
        shop.add_user(email=value)
    for value in (None, 5, ["pi_1"], {}, "", "cash", "pi_1_secret_2", "pi_" + "x" * 500):
        shop.db.purchases.insert_one({"user": ids[0], "stripePaymentIntentId": value, "status": 3})
    expected = len(ids) + (8 if path == "all" else 0)
    assert count(shop, path, user="Ada@Example.Org") == expected
    for odd in (
        "ada@example.org.uk",
        "^.*@",
        "@",
        "a@$where",
        "ada@example.or",
        "da@example.org",
        "a.a@example.org",
    ):
        assert count(shop, path, user=odd) in (0, 1), odd


@BOTH_LISTS
def test_email_is_searched_in_a_view(database: Any, sandbox: StripeSandbox, path: str) -> None:
    database.command("create", "people", viewOn="users", pipeline=[])
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_USERS_COLLECTION="people")
    shop = Shop(app, database)
    for address in ("A.da@example.org", "axda@example.org", "x.a.da@example.org"):
        refunded(shop, sandbox, user=shop.add_user(email=address))
    assert count(shop, path, user="a.DA@example.org") == 1


@BOTH_LISTS
def test_lost_connection_while_an_email_is_searched_is_reported(
    shop: Shop, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is read before the connection is lost."""
    monkeypatch.setattr("flask_refunds.storage.customers.REPORT_SECONDS", 0.2)
    admin = shop.db.client.admin
    data = {"failCommands": ["find"], "closeConnection": True, "namespace": f"{shop.db.name}.users"}
    admin.command("configureFailPoint", "failCommand", mode={"skip": 1}, data=data)
    try:
        response = shop.client.get(f"/api/payments/admin/{path}?user=ada@example.org", headers=shop.headers())
    finally:
        admin.command("configureFailPoint", "failCommand", mode="off")
    assert (response.status_code, response.json["code"]) == (500, "database_unavailable")


@BOTH_LISTS
def test_email_is_searched_in_mongomock(path: str) -> None:
    with StripeSandbox() as sandbox:
        import mongomock

        database = mongomock.MongoClient(tz_aware=True).shop
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
        refunded(shop, sandbox, user=shop.add_user(email="Ada@example.org"))
        shop.add_user(email=5)
        assert count(shop, path, user="ada@EXAMPLE.org") == 1


def test_searches_by_user_read_no_whole_collection(mongo_uri: str, database: Any) -> None:
    queries = QueryLog()
    with pymongo.MongoClient(mongo_uri, tz_aware=True, event_listeners=[queries]) as client:
        app = make_app(REFUNDS_MONGO=client.get_default_database(), STRIPE_API_BASE="http://127.0.0.1:9")
        shop = Shop(app, database)
        assert shop.flask("init-db").exit_code == 0
        ada = shop.add_user(email="ada@example.org")
        add_records(shop, ada, 300)
        add_records(shop, shop.add_user(), 2000, year=2025)
        queries.commands.clear()
        for path in ("all", "refunds"):
            assert count(shop, path, user="ADA@example.org", limit=5) == 300
    assert scans(database, queries.commands) == []
    [by_address] = [each for each in queries.commands if "collation" in each][:1]
    assert "flask_refunds_email_1_ignoring_case" in str(database.command("explain", by_address))
    for command in queries.commands:
        if "flask_refunds" in command.values():
            plan = str(database.command("explain", command, verbosity="executionStats"))
            [examined] = re.findall(r"'totalDocsExamined': (\d+)", plan)
            assert int(examined) <= 300, command


def add_records(shop: Shop, user: ObjectId, number: int, year: int = 2024) -> None:
    """Add refunded purchases of one user, without Stripe."""
    moment = datetime(year, 3, 15, tzinfo=timezone.utc)
    purchases, records = [], []
    for index in range(number):
        purchase_id, payment = ObjectId(), f"pi_{user}{index}"
        purchases.append({"_id": purchase_id, "user": user, "stripePaymentIntentId": payment})
        records.append(
            {
                "_id": f"{payment}:1",
                "paymentIntent": payment,
                "number": 1,
                "purchaseIds": [purchase_id],
                "status": "succeeded",
                "source": "api",
                "history": [],
                "createdAt": moment + timedelta(minutes=index),
                **dict.fromkeys(("updatedAt", "leaseExpiresAt", "settledAt"), moment),
                **dict.fromkeys(("signalsSent", "purchasesVerified"), True),
            }
        )
    shop.db.purchases.insert_many(purchases)
    shop.db.flask_refunds.insert_many(records)


# What lists tell about purchases and users


def test_refunds_show_their_purchase_and_who_asked(shop: Shop, sandbox: StripeSandbox) -> None:
    shop.db.users.update_one({"_id": shop.admin_id}, {"$set": {"name": "Ada Okafor"}})
    customer = shop.add_user(name="Bob", email="bob@example.org")
    content = shop.db.contents.insert_one({"title": "Pruning", "type": "course"}).inserted_id
    payment = refunded(shop, sandbox, user=customer, content=content, currency="eur")
    shown = get(shop, f"refunds/{payment}:1")
    listed = get(shop, "refunds")
    purchase_id = shop.db.purchases.find_one({"user": customer})["_id"]
    expected = {
        "id": str(purchase_id),
        "user": {"id": str(customer), "name": "Bob", "email": "bob@example.org"},
        "content": {"id": str(content), "title": "Pruning", "type": "course"},
        "amountText": "19.99 EUR",
    }
    assert shown["refund"]["purchase"] == listed["refunds"][0]["purchase"] == expected
    assert shown["names"] == listed["names"] == {str(shop.admin_id): "Ada Okafor"}


def test_user_of_a_purchase_may_be_a_reference(database: Any, sandbox: StripeSandbox) -> None:
    fields = {"user": "buyer.$id", "content": "order.item", "amount": "order.paid"}
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_PURCHASE_FIELDS=fields)
    shop = Shop(app, database)
    customer = shop.add_user(name="Bob")
    payment = refunded(shop, sandbox, buyer=DBRef("users", customer))
    assert get(shop, "refunds")["refunds"][0]["purchase"]["user"]["name"] == "Bob"
    assert refund_ids(shop, user=str(customer)) == [f"{payment}:1"]


def test_first_purchase_is_shown_and_a_deleted_one_is_not(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    shop.add_purchase(payment)
    named = shop.add_purchase(payment)
    shop.refund(named)
    assert get(shop, "refunds")["refunds"][0]["purchase"]["id"] == str(named)
    shop.db.purchases.delete_one({"_id": named})
    assert get(shop, "refunds")["refunds"][0]["purchase"] is None
    assert get(shop, f"refunds/{payment}:1")["refund"]["purchase"] is None


def test_names_are_of_users_in_the_ledger_only(shop: Shop, sandbox: StripeSandbox) -> None:
    shop.db.users.insert_one({"_id": "ann", "name": "Not Ann of the shell"})
    colleague = shop.add_user(role="admin", name=" ", email="cy@example.org")
    payment = sandbox.create_payment(1999)
    shop.refund(shop.add_purchase(payment), headers=shop.headers(colleague))
    other = sandbox.create_payment(1999)
    assert shop.flask("refund", str(shop.add_purchase(other)), "--actor", "ann").exit_code == 0
    assert get(shop, "refunds")["names"] == {str(colleague): "cy@example.org"}
    entry = {"at": datetime.now(timezone.utc), "status": "succeeded", "actor": f"api:{shop.admin_id}"}
    shop.db.flask_refunds.update_one({"_id": f"{other}:1"}, {"$push": {"history": entry}})
    assert get(shop, "refunds", history="true")["names"] == {
        str(colleague): "cy@example.org",
        str(shop.admin_id): "Ann",
    }
    assert get(shop, f"refunds/{other}:1")["names"] == {str(shop.admin_id): "Ann"}


def test_names_are_found_by_the_field_that_tokens_name(database: Any, sandbox: StripeSandbox) -> None:
    fields = {"id": "email", "email": "email"}
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_USER_FIELDS=fields)
    shop = Shop(app, database)
    shop.add_user(name="Cy", role="admin", email="cy@example.org")
    purchase = shop.add_purchase(sandbox.create_payment(1999))
    assert shop.refund(purchase, headers=shop.headers("cy@example.org")).status_code == 200
    path, headers = "/api/payments/admin/refunds", shop.headers("cy@example.org")
    assert shop.client.get(path, headers=headers).json["names"] == {"cy@example.org": "Cy"}


@pytest.mark.parametrize(
    "fields",
    [
        {"user": {"a": [1]}, "content": [1, {"b": 2}], "amount": "much", "currency": 5},
        {"user": [ObjectId()], "content": None, "amount": float("nan"), "currency": "eur"},
        {"user": Decimal128("NaN"), "content": True, "amount": Decimal128("1E+6000"), "currency": "EUR" * 99},
        {"user": b"\x00", "content": "", "amount": -1, "currency": None},
        {"user": 2**62, "content": float("inf"), "amount": {}, "currency": {}},
    ],
)
def test_odd_document_empties_no_list(shop: Shop, sandbox: StripeSandbox, fields: dict[str, Any]) -> None:
    odd, usual = refunded(shop, sandbox), refunded(shop, sandbox)
    shop.db.purchases.update_one({"stripePaymentIntentId": odd}, {"$set": fields})
    history = [7, {"actor": 5}, {"actor": None}, {"actor": "api:"}, {"at": "soon"}]
    shop.db.flask_refunds.update_one(
        {"_id": f"{odd}:1"}, {"$set": {"requestedBy": ["x"], "history": history}}
    )
    shop.db.users.update_one({"_id": shop.admin_id}, {"$set": {"name": {"first": "Ada"}, "email": 3}})
    shop.client.app_answers = True  # such a history isn't described
    shown = {each["id"]: each for each in get(shop, "refunds", history="true")["refunds"]}
    assert shown[f"{usual}:1"]["purchase"]["amountText"] == "19.99"
    assert shown[f"{odd}:1"]["purchase"]["id"]
    assert get(shop, "refunds")["names"] == {}


class Counter(monitoring.CommandListener):
    """Counts commands by collection."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name != "endSessions":
            self.commands.append(f"{event.command_name} {event.command[event.command_name]}")

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


def test_list_of_refunds_takes_as_many_queries_for_any_number(mongo_uri: str, database: Any) -> None:
    counter = Counter()
    with pymongo.MongoClient(mongo_uri, tz_aware=True, event_listeners=[counter]) as client:
        shop = Shop(make_app(REFUNDS_MONGO=client.get_default_database()), database)
        for number in (1, 30):
            ada = shop.add_user(email=f"ada{number}@example.org")
            add_records(shop, ada, number)
            counter.commands.clear()
            assert count(shop, "refunds", user=f"ADA{number}@example.org", limit=30) == number
            # The caller, the address, the customers of the page; the purchases of the user and of the page.
            assert sorted(counter.commands) == [
                "aggregate flask_refunds",
                "aggregate flask_refunds",
                "find flask_refunds",
                "find flask_refunds",
                "find flask_refunds.references",
                "find purchases",
                "find purchases",
                "find users",
                "find users",
                "find users",
            ]
            counter.commands.clear()
            assert count(shop, "refunds", user=str(ada), limit=30) == number
            assert counter.commands.count("find users") == 2  # an ID isn't searched as an address

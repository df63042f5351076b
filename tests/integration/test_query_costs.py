"""No query reads a whole collection once ``init-db`` has run: every route, command and filter, as MongoDB's
profiler counts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import combinations
from typing import Any

import pytest
from bson import ObjectId

from flask_refunds import cli
from flask_refunds.storage import search
from flask_refunds.testing import StripeSandbox
from tests.contract import operations, resolve
from tests.integration.webhooks import SECRET, send
from tests.shop import PAID_AT, Shop, make_app

SIZE = 2000
"""How many purchases, refunds and users there are."""
MOST = SIZE // 4
"""How many documents and index keys a query may read. Pages and counts are smaller, and ranges too."""
NOW = datetime.now(timezone.utc).replace(microsecond=0)
RECENT = f"{NOW - timedelta(days=60):%Y-%m-%d}"
OLD = f"{NOW - timedelta(days=1700):%Y-%m-%d}"
SHAPE = {
    "REFUNDS_PURCHASE_FIELDS": {"status": "state", "user": "buyer", "content": "item", "created": "made"}
}

FILTERS: dict[str, tuple[str, ...]] = {
    "status": ("completed", "refunded", "shipped", "succeeded", "failed", "canceled"),
    "user": ("user7@example.org", "unknown@example.org", "unknown"),
    "paymentIntent": ("pi_7", "pi_none", "ch_none"),
    "from": (RECENT,),
    "to": (OLD,),
    "page": ("3",),
    "limit": ("5",),
    "history": ("true",),
    "fresh": ("true",),
    "needsReview": ("true", "false"),
    "reason": ("requested_by_customer", "duplicate", "fraudulent"),
    "requestedBy": ("ann", "bob", "unknown"),
    "bulkRun": ("recall", "none"),
}
"""Common, rare and missing values of each parameter in the queries of lists and reports."""
ALSO_RARE = {"status": "failed", "reason": "duplicate", "requestedBy": "bob", "from": RECENT, "to": OLD}
OPTIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "status": (("--status", "succeeded"), ("--status", "failed"), ("--status", "canceled")),
    "needs_review": (("--needs-review",), ("--no-needs-review",)),
    "reason": (("--reason", "requested_by_customer"), ("--reason", "fraudulent")),
    "requested_by": (("--requested-by", "ann"), ("--requested-by", "unknown")),
    "bulk_run": (("--bulk-run", "recall"), ("--bulk-run", "none")),
    "payment_intent": (("--payment-intent", "pi_7"), ("--payment-intent", "pi_none")),
    "since": (("--from", RECENT),),
    "until": (("--to", OLD),),
    "limit": (("--limit", "5"),),
    "user": (("--user", "user7@example.org"), ("--user", "unknown")),
    "after": (),  # the routes have the cursors
    "format_": (("--format", "jsonl"),),
    "output": (),
    "as_json": (("--json",),),
    "fresh": (("--fresh",),),
}
"""Arguments for each option of the commands that list and report."""
EXEMPT = {
    "init-db": "builds the indexes",
    "config": "sends no query",
    "token": "sends no query",
}
"""Commands that aren't tried, and why. With --all, reconcile reads every refund, as its name says."""
DAYS = "flask_refunds.days"
"""Stored days: at most 3653 small documents, of which reconcile reads the times."""
COMPARES_ALL = "$marks"
"""In the query of ``check`` that counts what all refunds have marked, to find a restore from a backup."""


@pytest.fixture(params=[{}, SHAPE], ids=["default", "shaped"])
def shop(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, database: Any, sandbox: StripeSandbox
) -> Shop:
    """A shop of five years."""
    monkeypatch.setattr(search, "MAX_COUNT", MOST // 10)
    monkeypatch.setattr(search, "STREAM_BATCH", MOST // 10)
    monkeypatch.setattr(search, "ID_BATCH", MOST // 10)
    settings = {"STRIPE_API_BASE": sandbox.url, "STRIPE_WEBHOOK_SECRET": SECRET, **request.param}
    shop = Shop(make_app(REFUNDS_MONGO=database, **settings), database)
    users = [{"_id": ObjectId(), "email": f"user{n}@example.org", "role": "user"} for n in range(SIZE)]
    database.users.insert_many(users)
    content = ObjectId()
    database.purchases.insert_many(_purchase(n, users[n // 20 * 20]["_id"], content) for n in range(SIZE))
    database.flask_refunds.insert_many(_record(n) for n in range(SIZE))
    assert shop.flask("init-db").exit_code == 0
    return shop


def _moment(number: int) -> datetime:
    """Return a time in the last five years; the higher, the later."""
    return NOW - timedelta(days=1800) * (1 - number / SIZE)


def _purchase(number: int, user: ObjectId, content: ObjectId) -> dict[str, Any]:
    made = _moment(number)
    content = content if number % 50 == 7 else ObjectId()
    word = "shipped" if number % 100 == 0 else "refunded" if number % 10 == 0 else "completed"
    return {
        "_id": ObjectId(int(made.timestamp()).to_bytes(4, "big") + number.to_bytes(8, "big")),
        "user": user,
        "buyer": user,
        "content": content,
        "item": content,
        "status": word,
        "state": word,
        "stripePaymentIntentId": f"pi_{number}",
        "made": made,
        "amount": 19.99,
    }


def _record(number: int) -> dict[str, Any]:
    """Return a refund record. One of 50 is rare in every way."""
    made, is_rare = _moment(number), number % 50 == 0
    status = "failed" if is_rare else "succeeded"
    record = {
        "_id": f"pi_{number}:1",
        "paymentIntent": f"pi_{number}",
        "number": 1,
        "source": "api",
        "status": status,
        "purchaseIds": [],
        "amount": 1999,
        "currency": "usd",
        "stripeRefundId": f"re_{number}",
        "reason": "duplicate" if is_rare else "requested_by_customer",
        "requestedBy": "bob" if is_rare else "ann",
        "request": {},
        "createdAt": made,
        "updatedAt": made,
        "settledAt": made,
        "leaseExpiresAt": made,
        "lookedAt": made,
        "signalsSent": True,
        "purchasesVerified": True,
        "review": None,
        "history": [{"at": made, "status": status, "actor": "api:ann"}],
    }
    if is_rare:
        record |= {"bulkRun": "recall", "review": {"code": "failed_after_success", "since": made}}
    return record


@contextmanager
def reading_little(shop: Shop, name: str) -> Iterator[None]:
    """Fail if a query inside reads too much."""
    shop.db["system.profile"].drop()
    shop.db.command("profile", 2)
    try:
        yield
    finally:
        shop.db.command("profile", 0)
    profile = list(shop.db["system.profile"].find({"ns": {"$ne": f"{shop.db.name}.system.profile"}}))
    assert profile, f"{name} sent no query"
    read = [
        (max(each.get("docsExamined", 0), each.get("keysExamined", 0)), each)
        for each in profile
        if not each["ns"].endswith(DAYS)
        if name != "check" or COMPARES_ALL not in str(each["command"])
    ]
    most, query = max(read, key=lambda each: each[0])
    assert most <= MOST, f"{name} read {most} of {SIZE}: {query['ns']} {query['command']}"


def values(operation: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the query parameters of an operation, with values to try. Every parameter must have some."""
    named = [resolve(each) for each in operation.get("parameters", ())]
    names = [each["name"] for each in named if each["in"] == "query" and each["name"] != "after"]
    statuses = FILTERS["status"][:3] if operation["operationId"] == "listPurchases" else FILTERS["status"][3:]
    return {name: statuses if name == "status" else FILTERS[name] for name in names}


def get(shop: Shop, path: str, **query: str) -> Any:
    response = shop.client.get(f"/api/payments{path}", query_string=query, headers=shop.headers())
    assert response.status_code == 200, response.text
    return response.json


def test_every_filter_reads_a_part_of_the_collections(shop: Shop) -> None:
    lists = [(path, values(each)) for path, method, each in operations() if method == "get"]
    for path, parameters in lists:
        for query in _queries(parameters):
            with reading_little(shop, f"{path} {query}"):
                page = get(shop, path, **query)
            if page.get("nextCursor") and "page" not in query:
                with reading_little(shop, f"the next page of {path} {query}"):
                    get(shop, path, **query, after=page["nextCursor"])


def _queries(parameters: dict[str, tuple[str, ...]]) -> list[dict[str, str]]:
    """Return no parameter, each with every value, and each pair."""
    if not parameters:
        return []
    single = {name: ALSO_RARE.get(name, several[0]) for name, several in parameters.items() if name != "page"}
    pairs = [dict(pair) for pair in combinations(single.items(), 2)]
    return [
        {},
        *({name: each} for name, several in parameters.items() for each in several),
        *(each for each in pairs if each.keys() != {"from", "to"}),  # the one is after the other
    ]


def purchase_of(shop: Shop, sandbox: StripeSandbox) -> tuple[str, ObjectId]:
    payment = sandbox.create_payment(1999)
    user = shop.db.users.find_one({"email": "user7@example.org"})["_id"]
    more = {"state": "completed", "buyer": user, "made": PAID_AT}
    return payment, shop.add_purchase(payment, user=user, **more)


def test_every_route_reads_a_part_of_the_collections(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = purchase_of(shop, sandbox)
    other, _ = purchase_of(shop, sandbox)
    user = shop.db.purchases.find_one({"_id": purchase})["user"]
    base, paths = "/api/payments", {"purchaseId": str(purchase), "refundId": f"{payment}:1"}
    bodies: dict[str, Any] = {
        "refundPurchase": {},
        "resolveRefund": {"decision": "dismiss", "comment": "Checked."},
        "cancelRefund": {"comment": "Checked."},
    }
    for path, method, operation in operations():
        name = operation["operationId"]
        if operation["tags"][0] in ("page", "openapi"):
            continue
        filled = path.replace("{paymentIntentId}", payment)
        for key, value in paths.items():
            filled = filled.replace(f"{{{key}}}", value)
        with reading_little(shop, f"{method} {path}"):
            if operation["tags"][0] == "stripe":
                sandbox.dashboard_refund(other)
                assert [send(shop, each).status_code for each in sandbox.events][-1] == 200
            else:
                caller = user if "paymentIntentId" in path else None
                body = {"json": bodies[name]} if method.upper() == "POST" else {}
                shop.client.open(base + filled, method=method.upper(), headers=shop.headers(caller), **body)


def test_every_command_reads_a_part_of_the_collections(shop: Shop, sandbox: StripeSandbox) -> None:
    _payment, purchase = purchase_of(shop, sandbox)
    content = str(shop.db.purchases.find_one({"stripePaymentIntentId": "pi_7"})["content"])
    bulk = ("--name", "a", "--dry-run", "--skip-amounts")
    calls: dict[str, list[tuple[str, ...]]] = {
        "refund": [(str(purchase),)],
        "bulk": [(*bulk, "--content", content), (*bulk, "--from", RECENT, "--to", RECENT)],
        "show": [("pi_7:1",), ("pi_7",), (str(purchase),), ("ch_none",)],
        "reconcile": [(), ("--older-than", "0"), ("--full",), ("--dry-run",)],
        "resolve": [("pi_50:1", "--dismiss", "--comment", "Checked.")],
        "cancel": [("pi_50:1", "--comment", "Checked.")],
        "check": [()],
    }
    for command in cli.COMMANDS:
        name = command.name or ""
        if name in EXEMPT:
            continue
        if name not in calls:  # it lists or reports, and every option must have arguments
            parameters = command.make_context(name, []).command.params
            options = [each.name or "" for each in parameters if each.name != "help"]
            calls[name] = [(), *(each for option in options for each in OPTIONS[option])]
        for arguments in calls[name]:
            with reading_little(shop, " ".join((name, *arguments))):
                result = shop.flask(name, *arguments)
            is_rejected = name == "cancel"  # no refund waits for the customer
            assert is_rejected or result.exit_code in (0, 1), (name, arguments, result.output)


def test_report_counts_open_refunds_without_reading_them(shop: Shop) -> None:
    shop.db.flask_refunds.update_many(
        {"number": 1}, {"$set": {"status": "pending"}, "$unset": {"settledAt": ""}}
    )
    shop.db.flask_refunds.update_one({"_id": "pi_7:1"}, {"$set": {"duplicateOf": "pi_8:1"}})
    shop.db.command("profile", 2)
    try:
        assert get(shop, "/admin/refunds/metrics")["open"]["byStatus"] == {"pending": SIZE - 1}
    finally:
        shop.db.command("profile", 0)
    pending = {"command.pipeline.0.$match.status.$in": "pending"}
    read = sorted(each["docsExamined"] for each in shop.db["system.profile"].find(pending))
    assert read == [0, 1]


def test_a_query_of_a_whole_collection_is_noticed(shop: Shop) -> None:
    with pytest.raises(AssertionError, match="read 2000 of 2000"), reading_little(shop, "a search by note"):
        assert shop.db.flask_refunds.find_one({"note": "none"}) is None
    shop.db.flask_refunds.drop_index("flask_refunds_reason_1_createdAt_-1__id_-1")
    with pytest.raises(AssertionError, match="read 2000 of 2000"), reading_little(shop, "reason"):
        get(shop, "/admin/refunds", reason="fraudulent")

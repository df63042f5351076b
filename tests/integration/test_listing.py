"""Purchases and refunds found over HTTP, on a real MongoDB."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from pymongo import monitoring
from werkzeug.test import TestResponse

from flask_refunds.testing import StripeSandbox
from tests.shop import Shop, make_app

MARCH = datetime(2024, 3, 1, tzinfo=timezone.utc)


def get(shop: Shop, path: str, caller: Any = None, **query: Any) -> TestResponse:
    path = f"/api/payments{path}"
    return shop.client.get(path, query_string=query or None, headers=shop.headers(caller))


def at(moment: datetime, number: int = 0) -> ObjectId:
    """An id as if it was made at that time."""
    made = ObjectId.from_datetime(moment).binary[:4]
    return ObjectId(made + number.to_bytes(8, "big"))


def add_purchases(shop: Shop, count: int, **fields: Any) -> list[str]:
    """Purchases a day apart from the first of March on, oldest first."""
    ids = [at(MARCH + timedelta(days=number), number) for number in range(count)]
    for number, each in enumerate(ids):
        shop.add_purchase(f"pi_{number}", _id=each, **fields)
    return [str(each) for each in ids]


def ids_in(response: TestResponse) -> list[str]:
    assert response.status_code == 200, response.text
    return [purchase["_id"] for purchase in response.json["purchases"]]


def by_cursor(shop: Shop, path: str, kind: str, **query: Any) -> list[list[dict[str, Any]]]:
    """Every page, one after the other."""
    pages, after = [], {}
    while True:
        response = get(shop, path, **query, **after)
        assert response.status_code == 200, response.text
        pages.append(response.json[kind])
        if response.json["nextCursor"] is None:
            return pages
        after = {"after": response.json["nextCursor"]}


def test_purchases_newest_first_with_their_users_and_contents(shop: Shop) -> None:
    ann = shop.add_user(name="Ann", email="ann@example.org", passwordHash="not to be shown")
    course = shop.db.contents.insert_one({"title": "Pruning", "type": "course", "body": "…"}).inserted_id
    gone = ObjectId()
    older = shop.add_purchase("pi_1", user=ann, content=course)
    newer = shop.add_purchase("pi_2", status="pending", user=str(ann), content=gone)

    response = get(shop, "/admin/all")

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    who = {"_id": str(ann), "name": "Ann", "email": "ann@example.org"}
    common = {"amount": 19.99, "createdAt": "2024-03-15T10:30:00.000Z", "user": who}
    assert response.json == {
        "purchases": [
            {
                "_id": str(newer),
                "stripePaymentIntentId": "pi_2",
                "status": "pending",
                "content": {"_id": str(gone), "title": None, "type": None},
                **common,
            },
            {
                "_id": str(older),
                "stripePaymentIntentId": "pi_1",
                "status": "completed",
                "content": {"_id": str(course), "title": "Pruning", "type": "course"},
                **common,
            },
        ],
        "totalPages": 1,
        "currentPage": 1,
        "totalPurchases": 2,
        "nextCursor": None,
    }


def test_no_purchases(shop: Shop) -> None:
    assert get(shop, "/admin/all").json == {
        "purchases": [],
        "totalPages": 0,
        "currentPage": 1,
        "totalPurchases": 0,
        "nextCursor": None,
    }


def test_pages_by_number(shop: Shop) -> None:
    ids = add_purchases(shop, 45)[::-1]

    assert ids_in(get(shop, "/admin/all")) == ids[:20]
    last = get(shop, "/admin/all", page=3)
    assert ids_in(last) == ids[40:]
    assert {key: last.json[key] for key in ("totalPages", "currentPage", "totalPurchases")} == {
        "totalPages": 3,
        "currentPage": 3,
        "totalPurchases": 45,
    }
    assert last.json["nextCursor"] is None
    assert ids_in(get(shop, "/admin/all", page=5, limit=10)) == ids[40:]
    assert ids_in(get(shop, "/admin/all", page=1_000_000, limit=100)) == []


def test_pages_by_cursor_hold_each_purchase_once_while_others_come(shop: Shop) -> None:
    ids = add_purchases(shop, 45)[::-1]
    first = get(shop, "/admin/all", limit=10)
    shop.add_purchase("pi_new")

    pages = by_cursor(shop, "/admin/all", "purchases", limit=10)

    assert ids_in(first) == ids[:10]
    assert [each["_id"] for page in pages for each in page][1:] == ids
    after = get(shop, "/admin/all", limit=10, after=first.json["nextCursor"])
    assert ids_in(after) == ids[10:20]
    assert after.json["currentPage"] is None
    assert after.json["totalPurchases"] == 46


def test_a_page_that_ends_with_the_last_purchase_is_the_last(shop: Shop) -> None:
    add_purchases(shop, 20)
    assert get(shop, "/admin/all").json["nextCursor"] is None


def test_purchases_are_found_by_each_filter_and_by_all_of_them(shop: Shop) -> None:
    ann = shop.add_user(email="ann@example.org")
    ids = add_purchases(shop, 6)
    hers = shop.add_purchase("pi_hers", status="failed", _id=at(MARCH + timedelta(days=2), 99), user=ann)

    def found(**query: Any) -> list[str]:
        return ids_in(get(shop, "/admin/all", **query))

    assert found(status="failed") == [str(hers)]
    assert found(user=str(ann)) == found(user="ann@example.org") == [str(hers)]
    assert found(user="bob@example.org") == []
    assert found(paymentIntent="pi_3") == [ids[3]]
    assert found(**{"from": "2024-03-05"}) == [ids[5], ids[4]]
    assert found(to="2024-03-02") == [ids[1], ids[0]]
    assert found(to="2024-03-02T00:00:00Z") == [ids[0]]
    assert found(**{"from": "2024-03-02T01:00:00+01:00", "to": "2024-03-02"}) == [ids[1]]
    everything = {"status": "failed", "user": "ann@example.org", "paymentIntent": "pi_hers"}
    assert found(**everything, **{"from": "2024-03-03", "to": "2024-03-03"}) == [str(hers)]
    assert found(**everything, to="2024-03-01") == []
    assert get(shop, "/admin/all", status="completed").json["totalPurchases"] == 6


def test_the_host_may_name_the_payment_intent_otherwise(database: Any, sandbox: StripeSandbox) -> None:
    app = make_app(
        REFUNDS_MONGO=database,
        STRIPE_API_BASE=sandbox.url,
        REFUNDS_PURCHASE_FIELDS={"payment": "stripe.intent"},
    )
    shop = Shop(app, database)
    user = shop.add_user()
    purchase = shop.add_purchase(None, stripe={"intent": "pi_1"}, user=user)
    assert ids_in(get(shop, "/admin/all", paymentIntent="pi_1")) == [str(purchase)]
    assert get(shop, "/status/pi_1", user).status_code == 200


@pytest.mark.parametrize("path", ["/admin/all", "/admin/refunds"])
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit must be a whole number from 1 to 100."),
        ("limit=101", "limit must be a whole number from 1 to 100."),
        ("limit=1e1", "limit must be a whole number from 1 to 100."),
        ("limit=+5", "limit must be a whole number from 1 to 100."),
        ("limit=%D9%A5", "limit must be a whole number from 1 to 100."),
        ("limit=", "limit must be a whole number from 1 to 100."),
        ("status=refundet", "status must be one of "),
        ("status=completed&status=failed", "status stands twice."),
        ("from=yesterday", "from must be a day like 2024-03-15, or a time like "),
        ("from=2024-02-30", "from must be a day or a time that there is."),
        ("from=2024-03-15T10:30:00", "from must be a day like 2024-03-15, or a time like "),
        ("from=0001-01-01T00:00:00%2B23:00", "from must be a day or a time that there is."),
        ("to=9999-12-31", "to must be between 1970-01-01 and 2100-01-01."),
        ("from=2024-03-02&to=2024-03-01", "from must be before to."),
        ("after=nonsense", "after must be the nextCursor of another page."),
        ("after=MTIzNDU2Nzg5MDEyMzQ1IHBpXzE6MQ", "after must be the nextCursor of another page."),
        ("after=%FF%FE", "after must be the nextCursor of another page."),
        ("paymentIntent=", "paymentIntent must be text of 1 to 320 printable characters."),
        ("paymentIntent=a%00b", "paymentIntent must be text of 1 to 320 printable characters."),
        ("satus=failed", "Unknown parameter: see the documentation for those that there are."),
        ("status[$ne]=failed", "Unknown parameter: see the documentation for those that there are."),
    ],
)
def test_bad_parameters_are_refused_in_words(shop: Shop, path: str, query: str, words: str) -> None:
    response = shop.client.get(f"/api/payments{path}?{query}", headers=shop.headers())
    assert response.status_code == 400
    assert response.json["code"] == "invalid_request"
    assert response.json["error"].startswith(words)


@pytest.mark.parametrize("name", ["", "-", ".hidden", "a b", "a/b", "a" * 65, "\u0661"])
def test_a_name_that_no_bulk_run_has(shop: Shop, name: str) -> None:
    response = get(shop, "/admin/refunds", bulk=name)
    assert response.status_code == 400
    assert response.json["error"].startswith("bulk must be 1 to 64 of A-Z, a-z, 0-9")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("page=0", "page must be a whole number from 1 to 1000000."),
        ("page=-1", "page must be a whole number from 1 to 1000000."),
        ("page=99999999999999999999", "page must be a whole number from 1 to 1000000."),
        (f"page=2&after={'a' * 24}", "Say page or after, not both."),
    ],
)
def test_bad_page_numbers_are_refused_in_words(shop: Shop, query: str, words: str) -> None:
    response = shop.client.get(f"/api/payments/admin/all?{query}", headers=shop.headers())
    assert (response.status_code, response.json["error"]) == (400, words)


@pytest.mark.parametrize("path", ["/admin/all?limit=0", "/admin/refunds?limit=0", "/admin/refunds/pi_1:1"])
def test_only_admins_list(shop: Shop, path: str) -> None:
    user = shop.add_user()
    assert get(shop, path, user).status_code == 403
    assert shop.client.get(f"/api/payments{path}").status_code == 401


# The caller's own


def test_a_user_sees_his_own_purchase(shop: Shop) -> None:
    ann, content = shop.add_user(), ObjectId()
    purchase = shop.add_purchase("pi_1", user=ann, content=content)
    shop.add_purchase("pi_1", user=ann)
    assert get(shop, "/status/pi_1", ann).json == {
        "purchase": {
            "_id": str(purchase),
            "user": str(ann),
            "content": str(content),
            "amount": 19.99,
            "stripePaymentIntentId": "pi_1",
            "status": "completed",
            "createdAt": "2024-03-15T10:30:00.000Z",
        }
    }


def test_a_purchase_may_hold_its_users_id_as_text(shop: Shop) -> None:
    ann = shop.add_user()
    shop.add_purchase("pi_1", user=str(ann))
    assert get(shop, "/status/pi_1", ann).status_code == 200


def test_anothers_purchase_is_like_none_to_the_byte(shop: Shop) -> None:
    ann = shop.add_user()
    shop.add_purchase("pi_1", user=ObjectId())
    others, none = get(shop, "/status/pi_1", ann), get(shop, "/status/pi_2", ann)
    admins = get(shop, "/status/pi_1")
    assert others.status_code == none.status_code == admins.status_code == 404
    assert others.data == none.data == admins.data
    assert others.headers == none.headers
    assert shop.client.get("/api/payments/status/pi_1").status_code == 401


def test_the_id_of_a_loaders_user_is_the_tokens(database: Any, sandbox: StripeSandbox) -> None:
    app = make_app(
        REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_USER_LOADER=lambda claims: object()
    )
    shop = Shop(app, database)
    shop.add_purchase("pi_1", user="ann")
    shop.add_purchase("pi_2", user="bob")
    assert get(shop, "/status/pi_1", "ann").status_code == 200
    assert get(shop, "/status/pi_2", "ann").status_code == 404


# The ledger


def refunded(shop: Shop, sandbox: StripeSandbox, **body: Any) -> dict[str, Any]:
    response = shop.refund(shop.add_purchase(sandbox.create_payment(1999)), json=body)
    refund: dict[str, Any] = response.json["refund"]
    return refund


def test_refunds_newest_first_and_by_each_filter(shop: Shop, sandbox: StripeSandbox) -> None:
    first = refunded(shop, sandbox, reason="duplicate")
    second = refunded(shop, sandbox, note="a note")
    shop.db.flask_refunds.update_one({"_id": first["id"]}, {"$set": {"createdAt": MARCH}})
    review = {"why": "amount_differs", "recommendedAction": "…", "since": MARCH}
    shop.db.flask_refunds.update_one(
        {"_id": second["id"]},
        {"$set": {"review": review, "status": "failed", "requestedBy": "bob", "bulk": "b-1"}},
    )

    def found(**query: Any) -> list[str]:
        response = get(shop, "/admin/refunds", **query)
        assert response.status_code == 200, response.text
        assert response.json["totalRefunds"] == len(response.json["refunds"])
        return [refund["id"] for refund in response.json["refunds"]]

    assert found() == [second["id"], first["id"]]
    assert found(status="succeeded") == [first["id"]]
    assert found(status="pending") == []
    assert found(review="true") == [second["id"]]
    assert found(review="false") == [first["id"]]
    assert found(reason="duplicate") == [first["id"]]
    assert found(requestedBy="bob") == [second["id"]]
    assert found(bulk="b-1") == [second["id"]]
    assert found(bulk="b") == []
    assert found(paymentIntent=first["paymentIntent"]) == [first["id"]]
    assert found(to="2024-03-01") == [first["id"]]
    assert found(**{"from": "2024-03-02"}) == [second["id"]]
    shown = get(shop, "/admin/refunds", status="succeeded").json["refunds"]
    assert shown == [first | {"createdAt": "2024-03-01T00:00:00.000Z"}]


def test_refunds_by_cursor_though_many_were_made_in_one_millisecond(shop: Shop) -> None:
    rows = [_row(f"pi_{number}", MARCH + timedelta(milliseconds=number // 10)) for number in range(45)]
    shop.db.flask_refunds.insert_many(rows)
    pages = by_cursor(shop, "/admin/refunds", "refunds", limit=7)
    expected = [row["_id"] for row in sorted(rows, key=lambda row: (row["createdAt"], row["_id"]))][::-1]
    assert [refund["id"] for page in pages for refund in page] == expected
    assert [len(page) for page in pages] == [7] * 6 + [3]


def _row(payment_intent: str, moment: datetime) -> dict[str, Any]:
    return {
        "_id": f"{payment_intent}:1",
        "paymentIntent": payment_intent,
        "number": 1,
        "source": "external",
        "status": "succeeded",
        "createdAt": moment,
        "updatedAt": moment,
        "leaseExpiresAt": moment,
        "signals_sent": True,
        "purchasesVerified": True,
        "history": [],
    }


def test_one_refund_with_its_history(shop: Shop, sandbox: StripeSandbox) -> None:
    refund = refunded(shop, sandbox, reason="duplicate")
    response = get(shop, f"/admin/refunds/{refund['id']}")
    assert response.status_code == 200
    shown = response.json["refund"]
    opened, settled = shown.pop("history")
    assert shown == refund
    assert (opened["status"], opened["at"]) == ("processing", refund["createdAt"])
    assert (settled["status"], settled["at"]) == ("succeeded", refund["updatedAt"])
    assert settled["stripeRequestId"].startswith("req_")


@pytest.mark.parametrize("refund_id", ["pi_1:1", "metric", "%00", "%FF", "$ne"])
def test_a_refund_that_there_is_not(shop: Shop, refund_id: str) -> None:
    response = get(shop, f"/admin/refunds/{refund_id}")
    assert (response.status_code, response.json["code"]) == (404, "refund_not_found")
    assert response.json["error"] == "Refund not found"


# What it costs


class Counter(monitoring.CommandListener):
    """Counts commands by collection."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name != "endSessions":
            self.commands.append(f"{event.command_name} {event.command[event.command_name]}")

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


def test_users_and_contents_cost_one_query_each(mongo_uri: str, database: Any) -> None:
    counter = Counter()
    with pymongo.MongoClient(mongo_uri, tz_aware=True, event_listeners=[counter]) as client:
        shop = Shop(make_app(REFUNDS_MONGO=client.get_default_database()), database)
        for number in range(30):
            shop.add_purchase(f"pi_{number}", user=shop.add_user(), content=ObjectId())
        get(shop, "/admin/all", limit=30)
    # The first query of the users is for the caller.
    assert sorted(counter.commands) == [
        "count purchases",
        "find contents",
        "find purchases",
        "find users",
        "find users",
    ]

"""Lists of purchases and refunds over HTTP, on a real MongoDB."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from pymongo import monitoring
from werkzeug.test import TestResponse

from flask_refunds.schemas.rendering import render
from flask_refunds.storage import search
from flask_refunds.testing import StripeSandbox
from tests.shop import Shop, make_app

MARCH = datetime(2024, 3, 1, tzinfo=timezone.utc)


def get(shop: Shop, path: str, caller: Any = None, **query: Any) -> TestResponse:
    path = f"/api/payments{path}"
    return shop.client.get(path, query_string=query or None, headers=shop.headers(caller))


def at(moment: datetime, number: int = 0) -> ObjectId:
    """Return an ObjectId of that time."""
    prefix = ObjectId.from_datetime(moment).binary[:4]
    return ObjectId(prefix + number.to_bytes(8, "big"))


def add_purchases(shop: Shop, count: int, **fields: Any) -> list[str]:
    """Add one purchase per day from March 1 on, and return the IDs, oldest first."""
    ids = [at(MARCH + timedelta(days=number), number) for number in range(count)]
    for number, each in enumerate(ids):
        shop.add_purchase(f"pi_{number}", _id=each, **fields)
    return [str(each) for each in ids]


def add_purchases_after(shop: Shop, count: int, **fields: Any) -> list[str]:
    """Add purchases whose IDs are newer, and return them, oldest first."""
    return [str(shop.add_purchase(f"pi_new_{number}", **fields)) for number in range(count)]


def ids_in(response: TestResponse) -> list[str]:
    assert response.status_code == 200, response.text
    return [purchase["_id"] for purchase in response.json["purchases"]]


def all_pages(shop: Shop, path: str, kind: str, **query: Any) -> list[list[dict[str, Any]]]:
    """Return every page in order."""
    pages, after = [], {}
    while True:
        response = get(shop, path, **query, **after)
        assert response.status_code == 200, response.text
        pages.append(response.json[kind])
        assert len(pages) < 1000, "the cursor leads back"
        if response.json["nextCursor"] is None:
            return pages
        after = {"after": response.json["nextCursor"]}


def test_purchases_are_listed_newest_first_with_user_and_content(shop: Shop) -> None:
    ann = shop.add_user(name="Ann", email="ann@example.org", passwordHash="secret")
    course = shop.db.contents.insert_one({"title": "Pruning", "type": "course", "body": "…"}).inserted_id
    deleted = ObjectId()
    older = shop.add_purchase("pi_1", user=ann, content=course)
    newer = shop.add_purchase("pi_2", status="pending", user=str(ann), content=deleted)

    response = get(shop, "/admin/all")

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    user = {"_id": str(ann), "name": "Ann", "email": "ann@example.org"}
    common = {"amount": 19.99, "createdAt": "2024-03-15T10:30:00.000Z", "user": user}
    shown = {
        "amountText": "19.99",
        "user": {"id": str(ann), "name": "Ann", "email": "ann@example.org"},
        "refundStatus": None,
    }
    assert response.json == {
        "purchases": [
            {
                "_id": str(newer),
                "stripePaymentIntentId": "pi_2",
                "status": "pending",
                "content": {"_id": str(deleted), "title": None, "type": None},
                "_refunds": {
                    "id": str(newer),
                    "status": "pending",
                    "refundable": False,
                    "paymentIntent": "pi_2",
                    "payment": "pi_2",
                    "content": {"id": str(deleted), "title": None, "type": None},
                    "createdAt": render(newer.generation_time),
                    **shown,
                },
                **common,
            },
            {
                "_id": str(older),
                "stripePaymentIntentId": "pi_1",
                "status": "completed",
                "content": {"_id": str(course), "title": "Pruning", "type": "course"},
                "_refunds": {
                    "id": str(older),
                    "status": "completed",
                    "refundable": True,
                    "paymentIntent": "pi_1",
                    "payment": "pi_1",
                    "content": {"id": str(course), "title": "Pruning", "type": "course"},
                    "createdAt": render(older.generation_time),
                    **shown,
                },
                **common,
            },
        ],
        "totalPages": 1,
        "currentPage": 1,
        "totalPurchases": 2,
        "totalIsLowerBound": False,
        "nextCursor": None,
    }


def test_purchase_shows_its_open_refund(shop: Shop, sandbox: StripeSandbox) -> None:
    statuses = {}
    for card in ("4000000000007726", "4242424242424242"):
        payment = sandbox.create_payment(700, card=card)
        both = [shop.add_purchase(payment) for _ in range(2)]
        shop.refund(both[0])
        statuses |= dict.fromkeys(map(str, both), "pending" if card.endswith("7726") else None)
    unknown = shop.add_purchase(sandbox.create_payment(700))
    with sandbox.fault("response_lost"):
        shop.refund(unknown)
    statuses[str(unknown)] = "processing"
    statuses[str(shop.add_purchase("ch_1"))] = None
    shown = [each["_refunds"] for each in get(shop, "/admin/all").json["purchases"]]
    assert {each["id"]: each["refundStatus"] for each in shown} == statuses


def test_empty_list_of_purchases(shop: Shop) -> None:
    assert get(shop, "/admin/all").json == {
        "purchases": [],
        "totalPages": 0,
        "currentPage": 1,
        "totalPurchases": 0,
        "totalIsLowerBound": False,
        "nextCursor": None,
    }


def test_pages_are_numbered(shop: Shop) -> None:
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


def test_cursor_pages_have_each_purchase_once_despite_new_ones(shop: Shop) -> None:
    ids = add_purchases(shop, 45)[::-1]
    first = get(shop, "/admin/all", limit=10)
    shop.add_purchase("pi_new")

    pages = all_pages(shop, "/admin/all", "purchases", limit=10)

    assert ids_in(first) == ids[:10]
    assert [each["_id"] for page in pages for each in page][1:] == ids
    after = get(shop, "/admin/all", limit=10, after=first.json["nextCursor"])
    assert ids_in(after) == ids[10:20]
    assert after.json["currentPage"] is None
    assert (after.json["totalPurchases"], after.json["totalPages"]) == (None, None)


@pytest.mark.parametrize("odd", [DatetimeMS(-62_167_219_200_000), [DatetimeMS(-(2**55)), "never"]])
def test_date_before_the_year_1_is_none_on_every_page(
    database: Any, sandbox: StripeSandbox, odd: Any
) -> None:
    app = make_app(
        REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_PURCHASE_FIELDS={"created": "at"}
    )
    shop = Shop(app, database)
    dated = add_purchases(shop, 2, at=MARCH)
    undated = add_purchases_after(shop, 5, at=odd)
    pages = all_pages(shop, "/admin/all", "purchases", limit=3)
    assert [each["_id"] for page in pages for each in page] == [*reversed(dated), *reversed(undated)]


@pytest.mark.parametrize("reference", [{"$oid": "65f41f7cb1e8d2a7c0d3e4f5"}, {"$uuid": 7, "b": 1}])
def test_reference_that_no_id_is_like_finds_nothing(shop: Shop, reference: dict[str, Any]) -> None:
    """As after an import that stored MongoDB's Extended JSON as it was."""
    shop.db.contents.insert_one({"_id": "none", "title": "Pruning"})
    shop.add_purchase("pi_odd", user=reference, content=reference)
    shop.add_purchase("pi_plain", content="none")
    page = get(shop, "/admin/all").json
    listed, odd = page["purchases"]
    assert listed["content"]["title"] == "Pruning"
    assert odd["user"] == {"_id": reference, "name": None, "email": None}


def test_page_that_ends_with_the_last_purchase_has_no_cursor(shop: Shop) -> None:
    add_purchases(shop, 20)
    assert get(shop, "/admin/all").json["nextCursor"] is None


def test_purchases_are_filtered_by_each_parameter_and_by_all(shop: Shop) -> None:
    ann = shop.add_user(email="ann@example.org")
    ids = add_purchases(shop, 6)
    failed = shop.add_purchase("pi_failed", status="failed", _id=at(MARCH + timedelta(days=2), 99), user=ann)

    def found(**query: Any) -> list[str]:
        return ids_in(get(shop, "/admin/all", **query))

    assert found(status="failed") == [str(failed)]
    assert found(user=str(ann)) == found(user="ann@example.org") == [str(failed)]
    assert found(user="bob@example.org") == []
    assert found(paymentIntent="pi_3") == [ids[3]]
    assert found(**{"from": "2024-03-05"}) == [ids[5], ids[4]]
    assert found(to="2024-03-02") == [ids[1], ids[0]]
    assert found(to="2024-03-02T00:00:00Z") == [ids[0]]
    assert found(**{"from": "2024-03-02T01:00:00+01:00", "to": "2024-03-02"}) == [ids[1]]
    all_filters = {"status": "failed", "user": "ann@example.org", "paymentIntent": "pi_failed"}
    assert found(**all_filters, **{"from": "2024-03-03", "to": "2024-03-03"}) == [str(failed)]
    assert found(**all_filters, to="2024-03-01") == []
    assert get(shop, "/admin/all", status="completed").json["totalPurchases"] == 6


def test_configured_payment_field_is_searched(database: Any, sandbox: StripeSandbox) -> None:
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


@pytest.mark.parametrize("path", ["/admin/all", "/admin/refunds", "/admin/refunds/metrics"])
@pytest.mark.parametrize("query", ["from=yesterday", "satus=failed"])
def test_invalid_parameter_is_rejected(shop: Shop, path: str, query: str) -> None:
    """``tests/unit/test_query_params.py`` has the other invalid parameters."""
    response = get(shop, f"{path}?{query}")
    assert (response.status_code, response.json["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["/admin/all?limit=0", "/admin/refunds?limit=0", "/admin/refunds/pi_1:1"])
def test_lists_require_an_admin(shop: Shop, path: str) -> None:
    user = shop.add_user()
    assert get(shop, path, user).status_code == 403
    assert shop.client.get(f"/api/payments{path}").status_code == 401


# The caller's own purchase


def test_user_sees_the_own_purchase(shop: Shop) -> None:
    ann, content = shop.add_user(), ObjectId()
    purchase = shop.add_purchase("pi_1", user=ann, content=content)
    shop.add_purchase("pi_1", user=ann)
    own = get(shop, "/status/pi_1", ann).json["purchase"]
    assert own.pop("_refunds")["user"] == {"id": str(ann)}
    assert {"purchase": own} == {
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


def test_user_id_of_a_purchase_can_be_text(shop: Shop) -> None:
    ann = shop.add_user()
    shop.add_purchase("pi_1", user=str(ann))
    assert get(shop, "/status/pi_1", ann).status_code == 200


def test_other_users_purchase_is_indistinguishable_from_missing(shop: Shop) -> None:
    ann = shop.add_user()
    shop.add_purchase("pi_1", user=ObjectId())
    others, none = get(shop, "/status/pi_1", ann), get(shop, "/status/pi_2", ann)
    admins = get(shop, "/status/pi_1")
    assert others.status_code == none.status_code == admins.status_code == 404
    assert others.data == none.data == admins.data
    assert others.headers == none.headers
    assert shop.client.get("/api/payments/status/pi_1").status_code == 401


@pytest.mark.parametrize("held", ["pi_1", "ch_1"])
def test_status_shows_the_first_of_the_users_purchases(shop: Shop, held: str) -> None:
    ann = shop.add_user()
    shop.db["flask_refunds.references"].insert_one({"_id": "ch_1", "payment": "pi_1"})
    for number in (5, 3, 4):
        shop.add_purchase(held, _id=number, user=ann)
    assert get(shop, "/status/pi_1", ann).json["purchase"]["_id"] == "3"


def test_user_object_without_id_owns_purchases_by_the_tokens_identity(
    database: Any, sandbox: StripeSandbox
) -> None:
    app = make_app(
        REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_USER_LOADER=lambda claims: object()
    )
    shop = Shop(app, database)
    shop.add_purchase("pi_1", user="ann")
    shop.add_purchase("pi_2", user="bob")
    assert get(shop, "/status/pi_1", "ann").status_code == 200
    assert get(shop, "/status/pi_2", "ann").status_code == 404


# Refunds


def refunded(shop: Shop, sandbox: StripeSandbox, **body: Any) -> dict[str, Any]:
    response = shop.refund(shop.add_purchase(sandbox.create_payment(1999)), json=body)
    refund: dict[str, Any] = response.json["refund"]
    return refund


def test_refunds_are_listed_newest_first_and_filtered(shop: Shop, sandbox: StripeSandbox) -> None:
    first = refunded(shop, sandbox, reason="duplicate")
    second = refunded(shop, sandbox, note="a note")
    shop.db.flask_refunds.update_one({"_id": first["id"]}, {"$set": {"createdAt": MARCH}})
    review = {"code": "amount_differs", "since": MARCH}
    shop.db.flask_refunds.update_one(
        {"_id": second["id"]},
        {"$set": {"review": review, "status": "failed", "requestedBy": "bob", "bulkRun": "b-1"}},
    )

    def found(**query: Any) -> list[str]:
        response = get(shop, "/admin/refunds", **query)
        assert response.status_code == 200, response.text
        assert response.json["totalRefunds"] == len(response.json["refunds"])
        return [refund["id"] for refund in response.json["refunds"]]

    assert found() == [second["id"], first["id"]]
    assert found(status="succeeded") == [first["id"]]
    assert found(status="pending") == []
    assert found(needsReview="true") == [second["id"]]
    assert found(needsReview="false") == [first["id"]]
    assert found(reason="duplicate") == [first["id"]]
    assert found(requestedBy="bob") == [second["id"]]
    assert found(bulkRun="b-1") == [second["id"]]
    assert found(bulkRun="b") == []
    assert found(paymentIntent=first["paymentIntent"]) == [first["id"]]
    assert found(to="2024-03-01") == [first["id"]]
    assert found(**{"from": "2024-03-02"}) == [second["id"]]
    shown = get(shop, "/admin/refunds", status="succeeded").json["refunds"]
    del shown[0]["purchase"]
    assert shown == [first | {"createdAt": "2024-03-01T00:00:00.000Z"}]


def test_cursor_pages_have_each_refund_once_within_one_millisecond(shop: Shop) -> None:
    records = [_record(f"pi_{number}", MARCH + timedelta(milliseconds=number // 10)) for number in range(45)]
    shop.db.flask_refunds.insert_many(records)
    pages = all_pages(shop, "/admin/refunds", "refunds", limit=7)
    expected = [each["_id"] for each in sorted(records, key=lambda each: (each["createdAt"], each["_id"]))][
        ::-1
    ]
    assert [refund["id"] for page in pages for refund in page] == expected
    assert [len(page) for page in pages] == [7] * 6 + [3]


def _record(payment_intent: str, moment: datetime) -> dict[str, Any]:
    return {
        "_id": f"{payment_intent}:1",
        "paymentIntent": payment_intent,
        "number": 1,
        "source": "external",
        "status": "succeeded",
        "createdAt": moment,
        "updatedAt": moment,
        "leaseExpiresAt": moment,
        "signalsSent": True,
        "purchasesVerified": True,
        "history": [],
    }


def test_refund_is_shown_with_its_history(shop: Shop, sandbox: StripeSandbox) -> None:
    refund = refunded(shop, sandbox, reason="duplicate")
    response = get(shop, f"/admin/refunds/{refund['id']}")
    assert response.status_code == 200
    shown = response.json["refund"]
    created, settled = shown.pop("history")
    del shown["purchase"]
    assert shown == refund
    assert (created["status"], created["at"]) == ("processing", refund["createdAt"])
    assert (settled["status"], settled["at"]) == ("succeeded", refund["updatedAt"])
    assert settled["stripeRequestId"].startswith("req_")


@pytest.mark.parametrize("refund_id", ["pi_1:1", "metric", "%00", "%FF", "$ne"])
def test_unknown_refund_is_not_found(shop: Shop, refund_id: str) -> None:
    response = get(shop, f"/admin/refunds/{refund_id}")
    assert (response.status_code, response.json["code"]) == (404, "refund_not_found")


def test_total_of_a_filter_is_counted_up_to_a_limit(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_COUNT", 5)
    add_purchases(shop, 7)
    records = [_record(f"pi_{number}", MARCH) for number in range(9)]
    records[0]["duplicateOf"] = records[1]["duplicateOf"] = "pi_2:1"
    records[8]["review"] = {"code": "amount_differs", "since": MARCH}
    shop.db.flask_refunds.insert_many(records)

    def totals(path: str, name: str, **query: Any) -> tuple[int, bool]:
        found = get(shop, path, limit=2, **query).json
        return found[name], found["totalIsLowerBound"]

    def purchases(**query: Any) -> tuple[int, bool]:
        return totals("/admin/all", "totalPurchases", **query)

    def refunds(**query: Any) -> tuple[int, bool]:
        return totals("/admin/refunds", "totalRefunds", **query)

    assert purchases() == (7, False)
    assert purchases(status="completed") == (5, True)
    assert purchases(to="2024-03-05") == (5, False)
    assert purchases(to="2024-03-04") == (4, False)
    assert get(shop, "/admin/all", status="completed", limit=2).json["totalPages"] == 3
    assert refunds() == (7, False)
    assert refunds(status="succeeded") == (5, True)
    assert refunds(needsReview="false") == (6, False)
    assert refunds(needsReview="false", status="succeeded") == (5, True)
    assert refunds(needsReview="true") == (1, False)
    shop.db.flask_refunds.update_one({"_id": "pi_2:1"}, {"$set": {"status": "failed"}})
    shop.db.flask_refunds.update_one({"_id": "pi_3:1"}, {"$set": {"status": "failed"}})
    assert refunds(status="succeeded") == (5, False)


# Cost


class Counter(monitoring.CommandListener):
    """Counts commands by collection."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name != "endSessions":
            self.commands.append(f"{event.command_name} {event.command[event.command_name]}")

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


def test_list_of_purchases_takes_one_query_per_collection(mongo_uri: str, database: Any) -> None:
    counter = Counter()
    with pymongo.MongoClient(mongo_uri, tz_aware=True, event_listeners=[counter]) as client:
        shop = Shop(make_app(REFUNDS_MONGO=client.get_default_database()), database)
        for number in range(30):
            shop.add_purchase(f"pi_{number}", user=shop.add_user(), content=ObjectId())
        get(shop, "/admin/all", limit=30)
    # One of the two queries of users finds the caller.
    assert sorted(counter.commands) == [
        "count purchases",
        "find contents",
        "find flask_refunds",
        "find purchases",
        "find users",
        "find users",
    ]

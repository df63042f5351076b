"""Apps with other field names, status words and IDs, on every path, on a real MongoDB and embedded."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import mongomock
import pytest
from bson import Decimal128, MaxKey, ObjectId, Regex, Timestamp, encode
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

from flask_refunds import bulk_refund, plan_bulk_refund
from flask_refunds.bulk import Result
from flask_refunds.extension import get_refunds
from flask_refunds.models import id_text
from flask_refunds.storage.search import PurchaseFilter
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.testing import StripeSandbox
from tests.integration.shapes import MARCH, SHAPES, Shape, ShapedShop
from tests.integration.test_listing import all_pages, get
from tests.integration.unfinished import age, reconcile
from tests.integration.webhooks import PENDING_CARD, send
from tests.shop import Shop, make_app

MISSING = object()


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["server", "embedded"])
def shop(request: pytest.FixtureRequest, sandbox: StripeSandbox, shape: str) -> ShapedShop:
    is_server = request.param == "server"
    database = request.getfixturevalue("database") if is_server else mongomock.MongoClient(tz_aware=True).shop
    return ShapedShop(database, sandbox, SHAPES[shape])


def typed(*statuses: Any) -> list[Any]:
    return [(type(each).__name__, each) for each in statuses]


def path_of(purchase_id: Any) -> str:
    return quote(id_text(purchase_id), safe="")


def sell_cart(shop: ShapedShop, sandbox: StripeSandbox, **payment: Any) -> tuple[str, list[Any]]:
    """Sell one purchase with each status, all with one payment; the first can be refunded."""
    intent = sandbox.create_payment(1950, "eur", **payment)
    statuses = (*shop.shape.completed, shop.shape.pending)
    return intent, [shop.sell(intent, word) for word in statuses]


def learn(shop: ShapedShop, sandbox: StripeSandbox, channel: str) -> None:
    if channel == "reconcile":
        age(shop, minutes=2)
        assert reconcile(shop, "--full").exit_code in (0, 1)
        return
    for event in sandbox.events:
        assert send(shop, event).status_code == 200


def test_refund_marks_completed_purchases_and_its_failure_restores_each_word(
    shop: ShapedShop, sandbox: StripeSandbox
) -> None:
    shape = shop.shape
    payment, (first, *_) = sell_cart(shop, sandbox)
    preview = get(shop, f"/admin/refund/{path_of(first)}").json
    assert len(preview["purchases"]) == len(shape.completed) + 1

    response = shop.refund(path_of(first))

    assert (response.status_code, response.json["message"]) == (200, "Refund successful")
    assert "hint" not in response.json
    shown = response.json["purchase"]["_refunds"]
    assert (shown["status"], shown["refundable"], shown["payment"]) == ("refunded", False, payment)
    assert shop.words() == typed(*(shape.refunded for _ in shape.completed), shape.pending)
    again = shop.refund(path_of(first))
    assert (again.status_code, again.json["code"]) == (400, "purchase_not_refundable")
    assert get(shop, f"/admin/refund/{path_of(first)}").json["code"] == "purchase_not_refundable"

    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    learn(shop, sandbox, "webhook")

    assert shop.words() == typed(*shape.completed, shape.pending)
    assert shop.refund(path_of(first)).status_code == 200
    assert sandbox.money_refunded(payment) == 1950


@pytest.mark.parametrize("shape", ["two words"], indirect=True)
def test_word_that_the_app_changes_during_the_refund_is_the_one_restored(
    shop: ShapedShop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = sandbox.create_payment(1950)
    purchase = shop.sell(payment, "PAID")
    create = Gateway.create_refund

    def ship(*args: Any, **options: Any) -> Any:
        shop.db.purchases.update_one({"_id": purchase}, {"$set": {"state": "SHIPPED"}})
        return create(*args, **options)

    monkeypatch.setattr(Gateway, "create_refund", ship)
    response = shop.refund(path_of(purchase))
    assert response.json["purchase"]["_refunds"]["status"] == "completed"
    assert "Reconcile looks again" in response.json["hint"]

    learn(shop, sandbox, "reconcile")

    assert shop.word_of(purchase) == "REFUNDED"
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    learn(shop, sandbox, "reconcile")
    assert shop.word_of(purchase) == "SHIPPED"


def test_pending_purchase_is_not_refunded(shop: ShapedShop, sandbox: StripeSandbox) -> None:
    purchase = shop.sell(sandbox.create_payment(1950), shop.shape.pending)
    response = shop.refund(path_of(purchase))
    assert (response.status_code, response.json["code"]) == (400, "purchase_not_refundable")
    assert sandbox.refunds() == []


@pytest.mark.parametrize("channel", ["webhook", "reconcile"])
def test_dashboard_refund_marks_purchases_and_its_failure_restores_them(
    shop: ShapedShop, sandbox: StripeSandbox, channel: str
) -> None:
    shape = shop.shape
    payment, _ = sell_cart(shop, sandbox)
    sandbox.dashboard_refund(payment)
    learn(shop, sandbox, channel)
    assert shop.words() == typed(*(shape.refunded for _ in shape.completed), shape.pending)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    learn(shop, sandbox, channel)
    assert shop.words() == typed(*shape.completed, shape.pending)


def test_pending_refund_marks_when_it_succeeds(shop: ShapedShop, sandbox: StripeSandbox) -> None:
    payment, (first, *_) = sell_cart(shop, sandbox, card=PENDING_CARD)
    response = shop.refund(path_of(first))
    assert (response.status_code, response.json["purchase"]["_refunds"]["status"]) == (202, "completed")
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    learn(shop, sandbox, "reconcile")
    assert shop.word_of(first) == shop.shape.refunded


def test_lists_are_sorted_filtered_and_paged(shop: ShapedShop) -> None:
    shape, paths = shop.shape, shop.shape.paths
    statuses = (*shape.completed, shape.refunded, shape.pending) * 2
    ids = [id_text(shop.sell(f"pi_{number}", word)) for number, word in enumerate(statuses)]

    def found(**query: Any) -> list[str]:
        pages = all_pages(shop, "/admin/all", "purchases", limit=2, **query)
        return [each["_refunds"]["id"] for page in pages for each in page]

    assert found() == ids[::-1]
    for word in statuses:
        text = id_text(word).lower() if isinstance(word, bool) else id_text(word)
        expected = [each for each, stored in zip(ids, statuses, strict=True) if typed(stored) == typed(word)]
        assert found(status=text) == expected[::-1]
    assert found(user="ann@example.org") == found(user=str(shop.user)) == ids[::-1]
    assert found(paymentIntent="pi_1") == [ids[1]]
    if paths.created:
        day = (MARCH + timedelta(days=2)).date().isoformat()
        assert found(**{"from": day}) == ids[1:][::-1]
        assert found(to=day) == ids[:2][::-1]
    page = get(shop, "/admin/all", limit=1, page=2).json
    assert ([each["_refunds"]["id"] for each in page["purchases"]], page["totalPurchases"]) == (
        [ids[-2]],
        len(ids),
    )


def test_listed_purchase_has_the_same_names_for_every_shape(shop: ShapedShop) -> None:
    purchase = shop.sell("pi_1", shop.shape.completed[0])
    [listed] = get(shop, "/admin/all").json["purchases"]
    created = listed["_refunds"].pop("createdAt")
    assert created == ("2024-03-02T00:00:00.000Z" if shop.shape.paths.created else None)
    assert listed["_refunds"] == {
        "id": id_text(purchase),
        "status": "completed",
        "refundable": True,
        "paymentIntent": "pi_1",
        "payment": "pi_1",
        "user": {"id": str(shop.user), "name": "Ann", "email": "ann@example.org"},
        "content": {"id": str(shop.content), "title": "Pruning", "type": "course"},
        "amountText": "19.50 EUR" if shop.shape.unit == "minor" else "1950.00 EUR",
        "refundStatus": None,
    }
    own = get(shop, "/status/pi_1", shop.user).json["purchase"]
    assert own["_refunds"]["user"] == {"id": str(shop.user)}
    assert get(shop, "/status/pi_1").status_code == 404


def test_bulk_run_finds_plans_and_refunds(shop: ShapedShop, sandbox: StripeSandbox) -> None:
    shape = shop.shape
    payments = [sandbox.create_payment(1950, "eur") for _ in shape.completed]
    ids = [shop.sell(each, word) for each, word in zip(payments, shape.completed, strict=True)]
    ids += [shop.sell(sandbox.create_payment(1950), shape.pending), shop.sell("pi_gone", shape.refunded)]
    messages: dict[Any, str | None] = {}
    with shop.app.app_context():
        plan = plan_bulk_refund("recall", ids)
        assert (plan.refundable, plan.amounts) == (len(payments), {"eur": 1950 * len(payments)})
        assert plan.others == {Result.NOT_COMPLETED: 1, Result.ALREADY_REFUNDED: 1}
        bulk_refund("recall", ids, on_result=lambda it: messages.update({it.purchase_id: it.message}))
    assert messages[ids[-2]] == f"Its status is {shape.pending}."
    assert [shop.word_of(each) for each in ids[: len(payments)]] == [shape.refunded] * len(payments)

    result = shop.flask("bulk", "--name", "recall", "--content", str(shop.content), "--dry-run", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["others"]["refunded"] == len(payments)


DATED = [name for name, shape in SHAPES.items() if shape.paths.created]


@pytest.mark.parametrize("shape", DATED, indirect=True)
def test_report_counts_purchases_by_their_words(shop: ShapedShop) -> None:
    for word in (*shop.shape.completed, shop.shape.refunded, shop.shape.pending):
        shop.sell("pi_1", word)
    completed = len(shop.shape.completed)
    report = get(shop, "/admin/refunds/metrics", **{"from": "2024-02-01", "to": "2024-04-30"}).json
    assert [each["purchases"] for each in report["months"]] == [
        {"paid": 0, "refunded": 0, "asOf": None},
        {"paid": completed + 1, "refunded": 1, "asOf": None},
        {"paid": 0, "refunded": 0, "asOf": None},
    ]


def test_command_line_refunds_and_shows(shop: ShapedShop, sandbox: StripeSandbox) -> None:
    purchase = shop.sell(sandbox.create_payment(1950), shop.shape.completed[-1])
    result = shop.flask("refund", id_text(purchase), "--json")
    assert json.loads(result.stdout)["purchase"]["_refunds"]["status"] == "refunded"
    assert "succeeded" in shop.flask("show", id_text(purchase)).output


@pytest.mark.parametrize("kind", ["server", "embedded"])
def test_payment_can_be_the_id_of_a_purchase(
    request: pytest.FixtureRequest, sandbox: StripeSandbox, kind: str
) -> None:
    shape = Shape({"payment": "_id", "created": "at"}, ("paid",), "returned", "open", int)
    database = request.getfixturevalue("database") if kind == "server" else mongomock.MongoClient().shop
    shop = ShapedShop(database, sandbox, shape)
    payment = sandbox.create_payment(1950)
    database.purchases.insert_one({"_id": payment, "status": "paid", "at": MARCH})
    database.purchases.insert_one({"_id": "pi_2", "status": "paid", "at": MARCH})
    query = {"paymentIntent": payment, "status": "paid", "from": "2024-03-01"}
    assert get(shop, "/admin/all", **query).json["totalPurchases"] == 1
    assert shop.refund(payment).json["purchase"]["status"] == "returned"
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    learn(shop, sandbox, "webhook")
    assert [each["status"] for each in database.purchases.find()] == ["paid", "paid"]


# Dates of any kind


DATES: list[Any] = [
    MARCH,
    MARCH + timedelta(days=1),
    MARCH,
    None,
    "2024-03-09",
    17,
    1e9,
    True,
    {"day": 9},
    [],
    [MARCH + timedelta(days=9), MARCH - timedelta(days=9)],
    ["2024-03-09"],
    Timestamp(2**31, 1),
    Regex("2024"),
    MaxKey(),
    ObjectId("65e900000000000000000000"),
    Decimal128("9"),
    DatetimeMS(-(2**40)),
    DatetimeMS(2**50),
    MISSING,
]
"""What a field for dates may contain; the last purchase has no such field."""


def test_purchases_without_a_date_come_last_and_none_is_left_out(
    database: Any, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = ShapedShop(database, sandbox, SHAPES["nested"])
    for number, date in enumerate(DATES * 2):
        placed = {} if date is MISSING else {"at": date}
        database.purchases.insert_one({"_id": number, "placed": placed})
    dated = [[18], [10], [1], [0, 2], [17]]
    undated = set(range(len(DATES))) - {each for group in dated for each in group}
    groups = [[*group, *(each + len(DATES) for each in group)] for group in [*dated, undated]]
    expected = [each for group in groups for each in sorted(group, reverse=True)]
    for limit in (1, 3, 50):
        pages = all_pages(shop, "/admin/all", "purchases", limit=limit)
        assert [int(each["_id"]) for page in pages for each in page] == expected
    numbered = [get(shop, "/admin/all", limit=7, page=page).json["purchases"] for page in range(1, 8)]
    assert [int(each["_id"]) for page in numbered for each in page] == expected
    with shop.app.app_context():
        search = get_refunds(shop.app).purchase_search
        for batch in (3, 5, 10, 5000):
            monkeypatch.setattr("flask_refunds.storage.search.ID_BATCH", batch)
            assert len(search.find_ids(PurchaseFilter(since=MARCH - timedelta(days=99)))) == 10


def test_text_of_an_old_import_in_another_encoding_hides_no_purchase(
    database: Any, sandbox: StripeSandbox
) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
    user, content = ObjectId(), ObjectId()
    for name, document in {
        "users": {"_id": user, "name": "Jos#"},
        "contents": {"_id": content, "title": "Caf#"},
        "purchases": {"_id": "order-1", "user": user, "content": content, "note": "pay# comptant"},
    }.items():
        database[name].insert_one(RawBSONDocument(encode(document).replace(b"#", "\u00e9".encode("latin-1"))))
    [found] = get(shop, "/admin/all").json["purchases"]
    assert (found["_id"], found["user"]["name"], found["content"]["title"]) == (
        "order-1",
        "Jos\ufffd",
        "Caf\ufffd",
    )


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_embedded_lists_are_as_complete(sandbox: StripeSandbox, limit: int) -> None:
    shop = ShapedShop(mongomock.MongoClient(tz_aware=True).shop, sandbox, SHAPES["numbers"])
    for number in range(1, 9):
        date = {"created_on": MARCH - timedelta(days=number // 2)} if number % 3 else {}
        shop.db.purchases.insert_one({"_id": number, **date})
    pages = all_pages(shop, "/admin/all", "purchases", limit=limit)
    assert [int(each["_id"]) for page in pages for each in page] == [1, 2, 5, 4, 7, 8, 6, 3]

"""Purchases, users and contents with IDs of every type, on a real MongoDB and embedded."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pymongo
import pytest
from bson import Binary, Decimal128, ObjectId, UuidRepresentation
from celery import Celery, current_app
from werkzeug.test import TestResponse

from flask_refunds import InvalidRequest, PurchaseIdAmbiguous, bulk_refund, plan_bulk_refund
from flask_refunds import celery as tasks
from flask_refunds.bulk import Result
from flask_refunds.extension import get_refunds
from flask_refunds.models import id_text
from flask_refunds.testing import StripeSandbox
from tests.integration.test_listing import all_pages, get
from tests.shop import Shop, make_app

HEX = "5f1e0000c0ffee0000c0ffee"
UUID_1 = UUID("0b9ad7c1-6d2e-4f57-9e3a-5d1c8f7a2b60")
LEGACY = {
    "pythonLegacy": UuidRepresentation.PYTHON_LEGACY,
    "javaLegacy": UuidRepresentation.JAVA_LEGACY,
    "csharpLegacy": UuidRepresentation.CSHARP_LEGACY,
}
IDS = {
    "order 17/ä": "order 17/ä",
    "a//b": "a//b",
    "inv/": "inv/",
    "two\nlines": "two\nlines",
    "..x?y=1#z%20": "..x?y=1#z%20",
    "007": "007",
    "-0": "-0",
    "18446744073709551616": "18446744073709551616",
    "9223372036854775808": "9223372036854775808",
    "-9223372036854775809": "-9223372036854775809",
    "7": 7,
    "-3": -3,
    str(2**40): 2**40,
    str(-(2**40)): -(2**40),
    str(-(2**63)): -(2**63),
    "12": 12.0,
    str(UUID_1): Binary.from_uuid(UUID_1),
    "5D1C8F7A2B60" * 2: "5D1C8F7A2B60" * 2,
    HEX: ObjectId(HEX),
}
"""IDs by the text that finds them."""


@pytest.fixture(params=["server", "embedded"])
def any_shop(request: pytest.FixtureRequest) -> Shop:
    shop: Shop = request.getfixturevalue("shop" if request.param == "server" else "mock_shop")
    return shop


@pytest.fixture(params=["standard", *LEGACY])
def uuid_shop(request: pytest.FixtureRequest, mongo_uri: str, sandbox: StripeSandbox) -> Iterator[Shop]:
    """A shop whose client stores UUIDs in one of PyMongo's representations."""
    options: Any = {"tz_aware": True, "uuidRepresentation": request.param}
    with pymongo.MongoClient(mongo_uri, **options) as client:
        database = client.get_default_database()
        yield Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


def buy(shop: Shop, sandbox: StripeSandbox, purchase_id: Any, **fields: Any) -> str:
    """Add a purchase with a payment, and return the payment."""
    payment = sandbox.create_payment(1999)
    shop.add_purchase(payment, _id=purchase_id, **fields)
    return payment


def preview(shop: Shop, text: str) -> TestResponse:
    return get(shop, f"/admin/refund/{quote(text, safe='')}")


def refund(shop: Shop, text: str) -> TestResponse:
    return shop.refund(quote(text, safe=""))


def refunded_ids(shop: Shop) -> list[Any]:
    return [each["_id"] for each in shop.db.purchases.find({"status": "refunded"})]


# One purchase


@pytest.mark.parametrize("text", IDS)
def test_text_finds_the_one_purchase_that_is_shown_with_it(
    any_shop: Shop, sandbox: StripeSandbox, text: str
) -> None:
    payments = {name: buy(any_shop, sandbox, purchase_id) for name, purchase_id in IDS.items()}
    shown = {each["_id"] for each in get(any_shop, "/admin/all", limit=100).json["purchases"]}
    assert shown == IDS.keys()

    [found] = preview(any_shop, text).json["purchases"]
    response = refund(any_shop, text)

    assert found["_id"] == text
    assert (response.status_code, response.json["purchase"]["_id"]) == (200, text)
    assert response.json["refund"]["purchaseIds"] == [text]
    assert [each["payment_intent"] for each in sandbox.refunds()] == [payments[text]]
    assert refunded_ids(any_shop) == [IDS[text]]
    assert refund(any_shop, text).json["code"] == "purchase_not_refundable"


@pytest.mark.parametrize(
    "text", ["07", "7.0", "+7", " 7", "a/b", "/a//b", "inv", HEX[:-1], str(UUID_1).upper()]
)
def test_other_text_finds_no_purchase(any_shop: Shop, sandbox: StripeSandbox, text: str) -> None:
    for each in IDS.values():
        buy(any_shop, sandbox, each)
    any_shop.client.app_answers = True  # type: ignore[attr-defined]
    for response in (refund(any_shop, text), any_shop.refund(text), preview(any_shop, text)):
        assert response.status_code in (404, 405)  # and no redirect to another purchase
    assert refunded_ids(any_shop) == []


def test_path_of_an_app_below_a_purchase_is_still_the_apps(database: Any, sandbox: StripeSandbox) -> None:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url)
    app.add_url_rule("/api/payments/admin/refund/<id_>/notes", view_func=lambda id_: f"notes of {id_}")
    assert app.test_client().get("/api/payments/admin/refund/7/notes").text == "notes of 7"


@pytest.mark.parametrize("is_paid", [True, False])
@pytest.mark.parametrize(
    ("text", "value"), [("41", 41), (HEX, ObjectId(HEX)), (str(UUID_1), Binary.from_uuid(UUID_1, 3))]
)
def test_text_of_two_purchases_is_ambiguous(
    any_shop: Shop, sandbox: StripeSandbox, text: str, value: Any, is_paid: bool
) -> None:
    buy(any_shop, sandbox, value)
    any_shop.add_purchase(sandbox.create_payment(500) if is_paid else None, _id=text)
    for response in (refund(any_shop, text), preview(any_shop, text)):
        assert (response.status_code, response.json["code"]) == (400, "purchase_id_ambiguous")
    command = any_shop.flask("refund", text)
    assert (command.exit_code, sandbox.refunds(), any_shop.records()) == (2, [], [])
    assert "Two purchases have this ID" in command.stderr
    assert any_shop.flask("show", text).exit_code == 2


@pytest.mark.parametrize("field", [None, "", "free", "pi_", 5, ["pi_1"], {"id": "pi_1"}], ids=repr)
def test_purchase_without_a_payment_is_joined_with_no_other(any_shop: Shop, field: Any) -> None:
    """An app may have any number of them, more than one answer of MongoDB can hold."""
    for number in range(3):
        any_shop.add_purchase(field, _id=number)
    purchases = get_refunds(any_shop.app).purchases
    [found] = any_shop.db.purchases.aggregate([{"$match": {"_id": 1}}, *purchases._with_siblings])
    assert found["_flask_refunds_siblings"] == []
    with any_shop.app.app_context():
        assert purchases.find_many([0, 2]).keys() == {0, 2}
    assert refund(any_shop, "1").json["code"] == "payment_intent_missing"


@pytest.mark.parametrize("alternate", ["shifted", "non-ignorable"])
def test_collation_of_the_purchases_hides_none(shop: Shop, sandbox: StripeSandbox, alternate: str) -> None:
    shop.db.create_collection("purchases", collation={"locale": "en", "strength": 1, "alternate": alternate})
    ids = ["a", "b-c", "\u00e9", 7, ObjectId(HEX)]
    payment = buy(shop, sandbox, "bought")
    for each in ids:
        shop.add_purchase(payment, _id=each)
    pages = all_pages(shop, "/admin/all", "purchases", limit=1)
    assert sorted(each["_id"] for page in pages for each in page) == sorted(["bought", *map(id_text, ids)])
    assert refund(shop, "bought").json["purchase"]["status"] == "refunded"
    assert len(refunded_ids(shop)) == 6
    found = get_refunds(shop.app).purchases.find("bought")
    assert found is not None
    assert [each.id for each in found.refunds] == [f"{payment}:1"]


def test_commands_take_and_show_ids_as_text(shop: Shop, sandbox: StripeSandbox) -> None:
    payments = [buy(shop, sandbox, each) for each in ("order:17/ä", -3, Binary.from_uuid(UUID_1))]
    for text in ("order:17/ä", "-3", str(UUID_1)):
        made = shop.flask("refund", "--json", "--", text)
        assert json.loads(made.stdout)["purchase"]["_id"] == text, made.output
        shown = json.loads(shop.flask("show", "--json", "--", text).stdout)["refunds"]
        assert [each["purchaseIds"] for each in shown] == [[text]]
        assert f"Purchases      {text}\n" in shop.flask("show", shown[0]["id"]).stdout
    exported = csv.DictReader(shop.flask("export").stdout.splitlines())
    assert {each["paymentIntent"]: each["purchaseIds"] for each in exported} == dict(
        zip(payments, ["order:17/ä", "'-3", str(UUID_1)], strict=True)
    )


def test_user_of_a_number_is_not_shown_as_the_user_of_its_text(
    any_shop: Shop, sandbox: StripeSandbox
) -> None:
    for user, name in ((7, "Ann"), ("7", "Bob")):
        any_shop.db.users.insert_one({"_id": user, "name": name})
    for number, user in enumerate((7, "7", 7)):
        buy(any_shop, sandbox, number, user=user)
    shown = {each["_id"]: each["user"]["name"] for each in get(any_shop, "/admin/all").json["purchases"]}
    assert shown == {"0": "Ann", "1": "Bob", "2": "Ann"}


# UUIDs by the app's codec


def test_uuids_are_found_and_shown_in_the_codecs_representation(
    uuid_shop: Shop, sandbox: StripeSandbox
) -> None:
    admin, ann, course, purchase = (uuid4() for _ in range(4))
    uuid_shop.db.users.insert_many(
        [
            {"_id": admin, "role": "admin", "name": "Cy"},
            {"_id": ann, "name": "Ann", "email": "a@x"},
        ]
    )
    uuid_shop.db.contents.insert_one({"_id": course, "title": "Pruning"})
    payment = buy(uuid_shop, sandbox, purchase, user=ann, content=course)
    buy(uuid_shop, sandbox, uuid4(), user=uuid4())

    for user in (str(ann), "a@x"):
        [found] = get(uuid_shop, "/admin/all", admin, user=user).json["purchases"]
        assert found["_id"] == str(purchase)
        assert found["user"] == {"_id": str(ann), "name": "Ann", "email": "a@x"}
        assert found["content"] == {"_id": str(course), "title": "Pruning", "type": None}
    own = get(uuid_shop, f"/status/{payment}", ann).json["purchase"]
    assert (own["_id"], own["user"], own["content"]) == (str(purchase), str(ann), str(course))
    assert get(uuid_shop, f"/status/{payment}", admin).status_code == 404

    response = uuid_shop.refund(purchase, headers=uuid_shop.headers(admin))

    assert (response.status_code, response.json["purchase"]["status"]) == (200, "refunded")
    assert response.json["refund"]["purchaseIds"] == [str(purchase)]
    assert response.json["refund"]["requestedBy"] == str(admin)
    assert refunded_ids(uuid_shop) == [purchase]
    [record] = uuid_shop.records()
    assert record["marks"] == [{"purchaseId": purchase, "status": "completed"}]
    assert record["requestedBy"] == str(admin)
    assert get(uuid_shop, "/admin/refunds", admin).json["names"] == {str(admin): "Cy"}
    pages = all_pages(uuid_shop, "/admin/all", "purchases", limit=1)
    assert sorted(each["_id"] for page in pages for each in page) == sorted(
        str(each["_id"]) for each in uuid_shop.db.purchases.find()
    )


def test_file_of_uuids_is_refunded(
    uuid_shop: Shop, sandbox: StripeSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_refunds.storage.purchases._RESOLVED_AT_ONCE", 2)
    purchases = [uuid4() for _ in range(5)]
    for each in purchases:
        buy(uuid_shop, sandbox, each)
    (tmp_path / "recall.txt").write_text("\n".join(map(str, [*purchases, uuid4()])))
    options = ("--yes", "--rate", "1000", "--output", "-")
    made = uuid_shop.flask("bulk", str(tmp_path / "recall.txt"), *options)
    results = {row["purchaseId"]: row["result"] for row in csv.DictReader(made.stdout.splitlines())}
    assert sorted(results.values()) == ["not_found", *["refunded"] * 5], made.output
    assert all(results[str(each)] == "refunded" for each in purchases)


@pytest.mark.parametrize("order", LEGACY.values(), ids=LEGACY)
def test_legacy_uuid_is_found_without_a_codec_that_knows_its_byte_order(
    shop: Shop, sandbox: StripeSandbox, order: int
) -> None:
    stored = Binary.from_uuid(UUID_1, order)
    buy(shop, sandbox, stored)
    response = refund(shop, str(UUID_1))
    assert response.status_code == 200
    assert UUID(response.json["purchase"]["_id"]).bytes == bytes(stored)


@pytest.mark.parametrize("order", LEGACY.values(), ids=LEGACY)
def test_legacy_uuid_in_a_file_is_refunded(
    shop: Shop, sandbox: StripeSandbox, tmp_path: Path, order: int
) -> None:
    buy(shop, sandbox, Binary.from_uuid(UUID_1, order))
    (tmp_path / "recall.txt").write_text(str(UUID_1))
    made = shop.flask("bulk", str(tmp_path / "recall.txt"), "--yes", "--output", "-")
    assert [row["result"] for row in csv.DictReader(made.stdout.splitlines())] == ["refunded"], made.output


def test_codec_with_a_byte_order_finds_no_uuid_of_another_one(mongo_uri: str, sandbox: StripeSandbox) -> None:
    with pymongo.MongoClient(mongo_uri, tz_aware=True, uuidRepresentation="javaLegacy") as client:
        database = client.get_default_database()
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
        buy(shop, sandbox, Binary.from_uuid(UUID_1, UuidRepresentation.CSHARP_LEGACY))
        [listed] = get(shop, "/admin/all").json["purchases"]
        assert refund(shop, str(UUID_1)).status_code == 404
        assert refund(shop, listed["_id"]).status_code == 200


def test_identity_of_two_users_is_not_authenticated(shop: Shop) -> None:
    user = uuid4()
    shop.add_user(_id=Binary.from_uuid(user), role="admin")
    assert get(shop, "/admin/all", user).status_code == 200
    shop.add_user(_id=str(user))
    assert get(shop, "/admin/all", user).status_code == 401


def test_user_whose_type_matches_is_shown_if_two_have_the_same_text(shop: Shop) -> None:
    shop.db.users.insert_many(
        [{"_id": 41, "name": "Int"}, {"_id": "41", "name": "Text"}, {"_id": "8", "name": "8"}]
    )
    for number, user in enumerate((41, "41", 8)):
        shop.add_purchase(None, _id=number, user=user, content=user)
    shown = [(each["user"], each["content"]) for each in get(shop, "/admin/all").json["purchases"]][::-1]
    assert [(user["_id"], user["name"]) for user, _ in shown] == [("41", "Int"), ("41", "Text"), ("8", "8")]
    assert [content["_id"] for _, content in shown] == ["41", "41", "8"]


def test_purchase_without_a_user_is_found_by_no_user(shop: Shop) -> None:
    shop.add_purchase(None, _id=1, user="41")
    shop.add_purchase(None, _id=2, user=None)
    [found] = get(shop, "/admin/all", user="41").json["purchases"]
    assert found["_id"] == "1"
    newest, _ = get(shop, "/admin/all").json["purchases"]
    assert newest["user"] is None


def test_ids_of_user_and_content_are_text_where_they_are_not_populated(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    shop.add_user(_id=2**40)
    payment = buy(shop, sandbox, 1, user=2**40, content=42)
    own = get(shop, f"/status/{payment}", 2**40).json["purchase"]
    made = refund(shop, "1").json["purchase"]
    assert {(each["_id"], each["user"], each["content"]) for each in (own, made)} == {("1", str(2**40), "42")}


def test_user_whose_id_is_an_email_address_is_found_by_it(shop: Shop) -> None:
    shop.add_purchase(None, _id="by id", user="eve@shop.example")
    shop.add_purchase(None, _id="by email", user=shop.add_user(email="eve@shop.example"))
    found = get(shop, "/admin/all", user="eve@shop.example").json["purchases"]
    assert {each["_id"] for each in found} == {"by id", "by email"}


# Lists


def mixed_ids(count: int) -> list[Any]:
    """Return IDs of five types, as many of each, and a few of rarer ones."""
    oldest = datetime(2024, 3, 1, tzinfo=timezone.utc)
    made = [ObjectId.from_datetime(oldest + timedelta(hours=number)) for number in range(count)]
    texts = [f"order {number}/ä" for number in range(count)]
    numbers = [number * 7 - 30 for number in range(count - 1)] + [2**40]
    uuids = [Binary.from_uuid(uuid4(), order) for order in (4, 3) for _ in range(count // 2)]
    return [*made, *texts, *numbers, *uuids, *({"order": number} for number in range(count))]


@pytest.mark.parametrize("query", [{}, {"status": "completed"}, {"user": "ann"}])
def test_cursors_reach_every_purchase_of_every_type_once(any_shop: Shop, query: dict[str, str]) -> None:
    ids = mixed_ids(12)
    for each in reversed(ids):
        any_shop.add_purchase(None, _id=each, user="ann")
    any_shop.add_purchase(None, _id="another", user="bob", status="failed")
    expected = [each["_id"] for each in any_shop.db.purchases.find({"user": "ann"}).sort("_id", -1)]
    if not query:
        expected = [each["_id"] for each in any_shop.db.purchases.find().sort("_id", -1)]

    pages = all_pages(any_shop, "/admin/all", "purchases", limit=6, **query)

    shown = [each["_id"] for page in pages for each in page]
    assert shown == [each if isinstance(each, dict) else id_text(each) for each in expected]
    assert {len(page) for page in pages[:-1]} == {6}
    assert shown[:12] == [str(each) for each in ids[:12]][::-1]  # ObjectIds, the newest first


def test_forged_cursor_is_rejected(shop: Shop) -> None:
    for after in (HEX, "nonsense", "a" * 9000, "%00"):
        response = get(shop, "/admin/all", after=after)
        assert (response.status_code, response.json["code"]) == (400, "invalid_request")


def test_cursor_of_a_uuid_works_without_a_codec_for_it(uuid_shop: Shop, database: Any) -> None:
    """Two processes of a deployment may differ in it."""
    for _ in range(3):
        uuid_shop.add_purchase(None, _id=uuid4())
    after = get(uuid_shop, "/admin/all", limit=1).json["nextCursor"]
    other = Shop(make_app(REFUNDS_MONGO=database), database)
    assert get(other, "/admin/all", after=after).status_code == 200


# Bulk runs


@pytest.fixture
def cart(shop: Shop, sandbox: StripeSandbox) -> list[Any]:
    """Three purchases of one payment, and four with their own."""
    payment = sandbox.create_payment(3000)
    ids = ["21", 21, ObjectId(HEX), HEX, "order 17/ä", -3, Binary.from_uuid(UUID_1)]
    for each in ids[:3]:
        shop.add_purchase(payment, _id=each, content="course")
    for each in ids[3:]:
        buy(shop, sandbox, each, content="course")
    buy(shop, sandbox, "not in the run")
    return ids


def test_file_of_ids_of_every_type_is_refunded(shop: Shop, sandbox: StripeSandbox, tmp_path: Path) -> None:
    ids = {text: each for text, each in IDS.items() if text.isprintable()}
    for each in ids.values():
        buy(shop, sandbox, each)
    file, output = tmp_path / "recall.txt", tmp_path / "out.csv"
    file.write_text("\n".join([*ids, "missing", "f" * 24]))
    made = shop.flask("bulk", str(file), "--yes", "--rate", "1000", "--output", str(output))
    assert made.exit_code == 0, made.output
    rows = csv.DictReader(output.read_text(encoding="utf-8").splitlines())
    results = {row["purchaseId"].removeprefix("'"): row["result"] for row in rows}
    assert results == dict.fromkeys(ids, "refunded") | {"missing": "not_found", "f" * 24: "not_found"}
    assert len(sandbox.refunds()) == len(ids)


def test_file_with_an_ambiguous_or_repeated_id_is_rejected(
    shop: Shop, cart: list[Any], tmp_path: Path
) -> None:
    file = tmp_path / "recall.txt"
    for lines, message in (
        (["-3", "21"], "Two purchases have the ID 21."),
        ([str(UUID_1), "-3", str(UUID_1)], f"Line 3 repeats line 1: {UUID_1}"),
    ):
        file.write_text("\n".join(lines))
        made = shop.flask("bulk", str(file), "--yes")
        assert (made.exit_code, shop.records()) == (2, [])
        assert message in made.stderr


def test_file_with_the_id_of_a_decimal_is_rejected(
    shop: Shop, sandbox: StripeSandbox, tmp_path: Path
) -> None:
    buy(shop, sandbox, Decimal128("77"))
    (tmp_path / "recall.txt").write_text("77\n")
    made = shop.flask("bulk", str(tmp_path / "recall.txt"), "--yes")
    assert (made.exit_code, "decimals" in made.stderr) == (2, True), made.output
    assert refund(shop, "77").status_code == 200


def test_content_selects_purchases_of_every_type(shop: Shop, sandbox: StripeSandbox, cart: list[Any]) -> None:
    made = shop.flask("bulk", "--content", "course", "--yes", "--rate", "1000", "--output", "-")
    assert made.exit_code == 0, made.output
    rows = list(csv.DictReader(made.stdout.splitlines()))
    assert sorted(row["purchaseId"] for row in rows) == sorted(["'-3", *map(id_text, [*cart[:5], cart[6]])])
    assert sorted(row["amount"] for row in rows) == ["", "", *["1999"] * 4, "3000"]
    assert {row["result"] for row in rows} == {"refunded", "already_refunded"}
    assert shop.db.purchases.count_documents({"status": "completed"}) == 1


def test_python_values_match_their_own_type_only(shop: Shop, sandbox: StripeSandbox) -> None:
    for each in ("41", 41, ObjectId(HEX), Binary.from_uuid(UUID_1)):
        buy(shop, sandbox, each)
    given = [41, HEX, UUID_1, "42"]
    results: dict[Any, str] = {}
    with shop.app.app_context():
        bulk_refund("recall", given, on_result=lambda it: results.update({it.purchase_id: it.result.value}))
    assert results == {
        41: "refunded",
        HEX: "not_found",
        Binary.from_uuid(UUID_1): "refunded",
        "42": "not_found",
    }
    assert shop.status_of("41") == shop.status_of(ObjectId(HEX)) == "completed"  # type: ignore[arg-type]


@pytest.fixture
def in_context(shop: Shop) -> Iterator[None]:
    """An app context, and a Celery app that runs tasks at once, after sending their arguments as JSON."""
    previous = current_app._get_current_object()
    celery_app = Celery("tests")
    celery_app.conf.update(task_always_eager=True, task_store_eager_result=False, task_eager_propagates=True)
    celery_app.set_default()
    try:
        with shop.app.app_context():
            yield
    finally:
        previous.set_current()
        previous.set_default()


@pytest.mark.usefixtures("in_context")
def test_tasks_take_text_and_keep_the_types_of_a_selection(
    shop: Shop, sandbox: StripeSandbox, cart: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = tasks.bulk_part.apply_async
    monkeypatch.setattr(
        tasks.bulk_part, "apply_async", lambda args, options: send(json.loads(json.dumps(args)), options)
    )
    assert tasks.refund_purchase("order 17/ä")["purchaseIds"] == ["order 17/ä"]
    with pytest.raises(PurchaseIdAmbiguous):
        tasks.bulk("recall", [str(UUID_1), "21"])
    with pytest.raises(InvalidRequest):
        tasks.bulk("recall", "21")
    assert tasks.bulk("recall", ["-3", str(UUID_1)], rate=1000)["purchases"] == 2
    assert set(refunded_ids(shop)) == {"order 17/ä", -3, Binary.from_uuid(UUID_1)}
    assert tasks.bulk("all", content="course", rate=1000)["purchases"] == len(cart)
    assert set(refunded_ids(shop)) == set(cart)
    assert len(sandbox.refunds()) == 5


# The app's own documents in the ledger's collection


FOREIGN: list[dict[str, Any]] = [
    {"_id": "order 17", "amount": 5, "createdAt": datetime(2024, 3, 15, tzinfo=timezone.utc)},
    {"_id": ObjectId(HEX), "status": "pending", "createdAt": datetime(2024, 3, 15, tzinfo=timezone.utc)},
    {"_id": 41, "status": {"name": "done"}, "review": {"since": 1, "code": {"a": 1}}},
    {"_id": "pi_shop:note", "createdAt": "yesterday", "history": "none"},
    {
        "_id": "x",
        "status": "processing",
        "lookedAt": 1,
        "updatedAt": datetime(2024, 3, 1, tzinfo=timezone.utc),
        "signalsSent": False,
    },
]


@pytest.fixture
def shared(shop: Shop, sandbox: StripeSandbox) -> Shop:
    """A shop that keeps own documents in the ledger's collection, and has six refunds."""
    moment = FOREIGN[0]["createdAt"]
    for number in range(6):
        shop.refund(shop.add_purchase(sandbox.create_payment(500), _id=number))
    shop.db.flask_refunds.update_many({}, {"$set": {"createdAt": moment}})
    late = {
        "createdAt": datetime(9000, 1, 1, tzinfo=timezone.utc),
        "updatedAt": moment,
        "lookedAt": moment,
        "purchasesVerified": False,
    }
    shop.db.flask_refunds.insert_many([*FOREIGN, {"_id": "late", **late}])
    return shop


@pytest.mark.parametrize("foreign_id", ["order 17", HEX, "41", "pi_shop:note", "x", "late"])
def test_foreign_document_of_the_ledger_is_not_found(shared: Shop, foreign_id: str) -> None:
    response = get(shared, f"/admin/refunds/{quote(foreign_id)}")
    assert (response.status_code, response.json["code"]) == (404, "refund_not_found")


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_foreign_documents_hide_and_repeat_no_refund(shared: Shop, limit: int) -> None:
    pages = all_pages(shared, "/admin/refunds", "refunds", limit=limit)
    ids = [each["id"] for page in pages for each in page]
    assert sorted(ids) == sorted(each["_id"] for each in shared.records() if "number" in each)
    exported = shared.flask("export")
    assert (exported.exit_code, len(exported.stdout.splitlines())) == (0, 7)
    assert get(shared, "/admin/refunds/metrics").status_code == 200


def test_reconcile_goes_on_beside_foreign_documents(shared: Shop, sandbox: StripeSandbox) -> None:
    sandbox.inject("response_lost", times=2)
    shared.add_purchase(sandbox.create_payment(700), _id="unknown")
    assert shared.refund("unknown").status_code == 202
    made = shared.flask("reconcile", "--older-than", "0")
    assert shared.status_of("unknown") == "refunded", made.output  # type: ignore[arg-type]
    assert made.exit_code == 1  # a foreign document looks unfinished, and can't be worked on


@pytest.mark.parametrize("change", [{"status": "a newer word"}, {"paymentIntent": None, "history": 1}])
def test_unreadable_record_bars_another_refund_of_its_payment(
    any_shop: Shop, sandbox: StripeSandbox, change: dict[str, Any]
) -> None:
    payment = buy(any_shop, sandbox, "bought")
    other = buy(any_shop, sandbox, "other")
    sandbox.inject("request_lost", times=2)
    assert refund(any_shop, "bought").status_code == 202
    any_shop.db.flask_refunds.update_one({}, {"$set": change})

    response = refund(any_shop, "bought")

    assert (response.status_code, response.json["code"]) == (500, "record_unreadable")
    assert preview(any_shop, "bought").json["code"] == "record_unreadable"
    results: dict[Any, str] = {}
    with any_shop.app.app_context():
        assert plan_bulk_refund("all", ["bought", "other"]).others == {Result.NEEDS_REVIEW: 1}
        bulk_refund(
            "all", ["bought", "other"], on_result=lambda it: results.update({it.purchase_id: it.result.value})
        )
        refunds = get_refunds(any_shop.app)
        shown = [SimpleNamespace(payment_intent=it, charge=None) for it in (payment, other, "pi_foreign")]
        assert refunds.stripe_sync.find_known(shown).keys() == {payment, other}
    assert results == {"bought": "needs_review", "other": "refunded"}
    assert [each["payment_intent"] for each in sandbox.refunds()] == [other]

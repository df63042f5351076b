"""Purchases that the app changes, or whose new status MongoDB rejects, whatever brings the refund."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Literal

import bson
import pytest
from bson import DBRef, ObjectId
from bson.raw_bson import RawBSONDocument

from flask_refunds import bulk_refund, plan_bulk_refund
from flask_refunds.testing import StripeSandbox, make_event
from tests.integration.unfinished import age, reconcile, unknown
from tests.integration.webhooks import PENDING_CARD, SECRET, send
from tests.shop import Shop, make_app

Channel = Literal["webhook", "reconcile"]
channels = pytest.mark.parametrize("channel", ["webhook", "reconcile"])


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    return make_shop(database, sandbox)


def make_shop(database: Any, sandbox: StripeSandbox, **config: Any) -> Shop:
    config = {"STRIPE_API_BASE": sandbox.url, "STRIPE_WEBHOOK_SECRET": SECRET} | config
    return Shop(make_app(REFUNDS_MONGO=database, **config), database)


def learn(shop: Shop, sandbox: StripeSandbox, channel: Channel) -> None:
    """Let the shop learn what happened at Stripe, by every event or by one pass."""
    if channel == "reconcile":
        age(shop, minutes=2)
        reconcile(shop, "--full")
        return
    for event in sandbox.events:
        assert send(shop, event).status_code == 200


def review(shop: Shop) -> str | None:
    [code] = review_codes(shop)
    return code


def review_codes(shop: Shop) -> list[str | None]:
    return [each.get("review") and each["review"]["code"] for each in shop.records()]


def dismiss(shop: Shop, payment: str) -> None:
    result = shop.flask("resolve", f"{payment}:1", "--dismiss", "--comment", "paid by hand")
    assert result.exit_code == 0, result.output


def returned_beside_a_second_purchase(shop: Shop, sandbox: StripeSandbox) -> tuple[str, ObjectId, ObjectId]:
    """Refund a purchase, buy the same again, and let the bank return the refund."""
    shop.db.purchases.create_index(
        ["buyer", "seat"], unique=True, partialFilterExpression={"status": "completed"}
    )
    payment = sandbox.create_payment(2300, "eur")
    purchase = shop.add_purchase(payment, buyer="b", seat=12)
    assert shop.refund(purchase).status_code == 200
    second = shop.add_purchase(sandbox.create_payment(2300, "eur"), buyer="b", seat=12)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    return payment, purchase, second


@channels
def test_purchase_that_cannot_be_completed_again_is_tried_until_it_can(
    shop: Shop, sandbox: StripeSandbox, channel: Channel
) -> None:
    payment, purchase, second = returned_beside_a_second_purchase(shop, sandbox)
    learn(shop, sandbox, channel)
    assert (shop.records()[0]["status"], review(shop)) == ("failed", "failed_after_success")
    dismiss(shop, payment)
    for _ in range(2):
        age(shop, minutes=2)
        assert reconcile(shop).exit_code == 1
        assert (review(shop), shop.status_of(purchase)) == ("purchase_not_updated", "refunded")
    shop.db.purchases.update_one({"_id": second}, {"$set": {"seat": 13}})
    age(shop, minutes=2)
    assert reconcile(shop).exit_code == 0
    assert (review(shop), shop.status_of(purchase)) == (None, "completed")


@pytest.mark.parametrize("rule", ["enum", "view"])
@pytest.mark.parametrize("path", ["refund", "webhook", "reconcile"])
def test_database_that_rejects_the_mark_hides_no_refund(
    database: Any, sandbox: StripeSandbox, rule: str, path: str
) -> None:
    config = {"REFUNDS_PURCHASES_COLLECTION": "sales"} if rule == "view" else {}
    shop = make_shop(database, sandbox, **config)
    payment = sandbox.create_payment(6100, "eur")
    purchase = shop.add_purchase(payment)
    if rule == "view":
        database.create_collection("sales", viewOn="purchases", pipeline=[])
    else:
        validator = {"status": {"$in": ["completed", "pending", "void"]}}
        database.command("collMod", "purchases", validator=validator)
    if path == "refund":
        response = shop.refund(purchase)
        assert (response.status_code, response.json["refund"]["status"]) == (200, "succeeded")
    else:
        sandbox.dashboard_refund(payment)
        learn(shop, sandbox, path)  # type: ignore[arg-type]
    assert (shop.records()[0]["status"], review(shop)) == ("succeeded", "purchase_not_updated")
    for _ in range(2):
        age(shop, minutes=2)
        assert reconcile(shop).exit_code == 1
    assert shop.status_of(purchase) == "completed"


@contextmanager
def failing_writes(shop: Shop, collection: str) -> Iterator[None]:
    """Let MongoDB answer each update of a collection with an error that may pass."""
    admin = shop.db.client.admin
    data = {"failCommands": ["update"], "errorCode": 8, "namespace": f"{shop.db.name}.{collection}"}
    admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
    try:
        yield
    finally:
        admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.mark.parametrize("path", ["refund", "pending", "dashboard"])
def test_purchase_that_cannot_be_written_for_ten_minutes_hides_no_refund(
    shop: Shop, sandbox: StripeSandbox, path: str
) -> None:
    payment = sandbox.create_payment(910, "chf", **({"card": PENDING_CARD} if path == "pending" else {}))
    purchase = shop.add_purchase(payment)
    if path == "pending":
        assert shop.refund(purchase).status_code == 202
        age(shop, hours=60)
        sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    elif path == "dashboard":
        sandbox.dashboard_refund(payment)
    with failing_writes(shop, "purchases"):
        if path == "refund":
            assert shop.refund(purchase).status_code == 202
        for _ in range(5):
            reconcile(shop)
            assert review(shop) is None
            age(shop, minutes=2)
        if path == "refund":
            response = shop.refund(purchase)
            assert (response.status_code, response.json["purchase"]["status"]) == (200, "completed")
            assert "couldn't write it" in response.json["hint"]
        for _ in range(2):
            assert reconcile(shop).exit_code == 1
            assert (shop.records()[0]["status"], review(shop)) == ("succeeded", "purchase_not_updated")
            age(shop, minutes=2)
        assert len(shop.records()[0]["history"]) <= 4
    assert reconcile(shop).exit_code == 0
    assert (review(shop), shop.status_of(purchase)) == (None, "refunded")
    assert shop.records()[0]["unwrittenSince"] is None


@channels
def test_purchase_that_the_app_marked_after_a_dashboard_part_stays_marked(
    shop: Shop, sandbox: StripeSandbox, channel: Channel
) -> None:
    payment = sandbox.create_payment(7500, "eur")
    returned, *others = [shop.add_purchase(payment) for _ in range(3)]
    sandbox.dashboard_refund(payment, 1900)
    shop.db.purchases.update_one({"_id": returned}, {"$set": {"status": "refunded"}})
    for _ in range(3):
        learn(shop, sandbox, channel)
        assert shop.status_of(returned) == "refunded"
    assert shop.refund(returned).status_code == 400
    assert shop.refund(others[0]).json["refund"]["amount"] == 5600
    sandbox.settle(sandbox.refunds(payment)[1]["id"], "failed")
    learn(shop, sandbox, channel)
    assert [shop.status_of(each) for each in (returned, *others)] == ["refunded", "completed", "completed"]


def returned(shop: Shop, sandbox: StripeSandbox) -> tuple[str, ObjectId]:
    """Return a payment and its purchase; their refund failed after success."""
    payment = sandbox.create_payment(1450, "eur")
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    learn(shop, sandbox, "reconcile")
    return payment, purchase


def retry(shop: Shop, payment: str) -> Any:
    return shop.flask("resolve", f"{payment}:1", "--retry", "--comment", "try again")


@pytest.mark.parametrize("path", ["retry", "refund"])
def test_refund_that_stripe_rejects_leaves_the_review_of_the_earlier_one_open(
    shop: Shop, sandbox: StripeSandbox, path: str
) -> None:
    payment, purchase = returned(shop, sandbox)
    sandbox.dispute(payment)
    if path == "retry":
        assert retry(shop, payment).exit_code == 2
    else:
        assert shop.refund(purchase).status_code == 400
    age(shop, minutes=2)
    assert reconcile(shop).exit_code == 1
    assert shop.records()[1]["failure"]["code"] == "charge_disputed"
    assert review_codes(shop) == ["failed_after_success", None]


@pytest.mark.parametrize("path", ["retry", "refund"])
def test_review_of_an_earlier_refund_closes_when_an_unknown_one_turns_out_to_be_made(
    shop: Shop, sandbox: StripeSandbox, path: str
) -> None:
    payment, purchase = returned(shop, sandbox)
    sandbox.inject("response_lost", times=2)
    if path == "retry":
        assert "is open until Stripe accepts the new refund" in retry(shop, payment).output
    else:
        assert shop.refund(purchase).status_code == 202
    assert review_codes(shop) == ["failed_after_success", None]
    age(shop, minutes=2)
    assert reconcile(shop).exit_code == 0
    assert review_codes(shop) == [None, None]
    assert shop.records()[0]["history"][-1]["comment"] == f"Refunded again as {payment}:2."


def test_pending_refund_closes_the_review_of_the_one_before(shop: Shop, sandbox: StripeSandbox) -> None:
    _, purchase = returned(shop, sandbox)
    sandbox.inject("pending")
    assert shop.refund(purchase).json["refund"]["status"] == "pending"
    assert review_codes(shop)[0] is None


def test_review_that_a_crash_left_open_is_closed_by_the_next_pass(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = returned(shop, sandbox)
    fields = {key: shop.records()[0][key] for key in ("review", "history", "purchasesVerified")}
    assert shop.refund(purchase).status_code == 200
    shop.db.flask_refunds.update_one({"_id": f"{payment}:1"}, {"$set": fields})
    age(shop, minutes=2)
    assert reconcile(shop).exit_code == 0
    assert review_codes(shop) == [None, None]


def test_refund_closes_no_review_of_a_part_that_failed_later(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(7500, "eur")
    purchase = shop.add_purchase(payment)
    part = sandbox.dashboard_refund(payment, 1900)
    learn(shop, sandbox, "reconcile")
    assert shop.refund(purchase).status_code == 200
    sandbox.settle(part["id"], "failed")
    for _ in range(2):
        learn(shop, sandbox, "reconcile")
        assert sorted(map(str, review_codes(shop))) == ["None", "failed_after_success"]
    assert shop.refund(purchase).status_code == 200
    learn(shop, sandbox, "reconcile")
    assert review_codes(shop) == [None] * 3


def test_retry_of_an_unknown_refund_that_stripe_rejects_leaves_the_review_open(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _ = unknown(shop, sandbox, "request_lost")
    age(shop, hours=30)
    assert reconcile(shop).exit_code == 1
    age(shop, minutes=2)
    sandbox.dispute(payment)
    assert retry(shop, payment).exit_code == 2
    assert [each["status"] for each in shop.records()] == ["failed", "failed"]
    assert review_codes(shop) == ["unknown_too_long", None]


def test_retry_of_a_purchase_with_another_payment_changes_nothing(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, newer = (sandbox.create_payment(amount, "eur") for amount in (1450, 1800))
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    learn(shop, sandbox, "reconcile")
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"stripePaymentIntentId": newer}})
    result = shop.flask("resolve", f"{payment}:1", "--retry", "--comment", "try again")
    assert result.exit_code == 2
    assert (review(shop), sandbox.money_refunded(newer)) == ("failed_after_success", 0)


def test_retry_of_an_unknown_refund_with_another_payment_changes_nothing(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, purchase = unknown(shop, sandbox, "request_lost")
    age(shop, hours=30)
    assert reconcile(shop).exit_code == 1
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"stripePaymentIntentId": "pi_newer"}})
    assert shop.flask("resolve", f"{payment}:1", "--retry", "--comment", "again").exit_code == 2
    assert (shop.records()[0]["status"], review(shop)) == ("processing", "unknown_too_long")


@pytest.mark.parametrize("path", ["refund", "preview", "bulk", "webhook", "reconcile"])
def test_purchase_with_several_payments_is_treated_alike_on_every_path(
    shop: Shop, sandbox: StripeSandbox, path: str
) -> None:
    payments = [sandbox.create_payment(amount, "eur") for amount in (500, 1500, 4000)]
    purchase = shop.add_purchase(None, stripePaymentIntentId=payments)
    if path == "refund":
        assert shop.refund(purchase).json["code"] == "payment_intent_missing"
    elif path == "preview":
        url = f"/api/payments/admin/refund/{purchase}"
        shown = shop.client.get(url, headers=shop.headers())
        assert shown.json["code"] == "payment_intent_missing"
    elif path == "bulk":
        with shop.app.app_context():
            assert plan_bulk_refund("spring", [purchase]).others == {"no_payment": 1}
            assert bulk_refund("spring", [purchase]).amounts == {}
    else:
        sandbox.dashboard_refund(payments[1])
        learn(shop, sandbox, path)  # type: ignore[arg-type]
    assert (shop.records(), shop.status_of(purchase)) == ([], "completed")


@pytest.mark.parametrize("path", ["refund", "preview", "bulk", "webhook", "reconcile"])
def test_cart_of_more_than_16_megabytes_is_handled(shop: Shop, sandbox: StripeSandbox, path: str) -> None:
    payment = sandbox.create_payment(4400, "eur")
    cart = [shop.add_purchase(payment, picture="x" * 2_900_000) for _ in range(6)]
    if path == "refund":
        assert shop.refund(cart[0]).status_code == 200
    elif path == "preview":
        url = f"/api/payments/admin/refund/{cart[5]}"
        shown = shop.client.get(url, headers=shop.headers())
        assert (shown.status_code, len(shown.json["purchases"])) == (200, 6)
        return
    elif path == "bulk":
        with shop.app.app_context():
            assert bulk_refund("spring", cart).amounts == {"eur": 4400}
    else:
        sandbox.dashboard_refund(payment)
        learn(shop, sandbox, path)  # type: ignore[arg-type]
    assert {each["status"] for each in shop.db.purchases.find({}, {"status": 1})} == {"refunded"}


ODD: dict[str, dict[str, Any]] = {
    "text date": {"createdAt": "1 March, afternoon"},
    "far date": {"createdAt": bson.Int64(10**17)},
    "object amount": {"amount": {"net": 5, "gross": [6]}},
    "reference": {"user": DBRef("users", ObjectId()), "content": DBRef("contents", 7, "cms")},
    "nested text": {"notes": [{"a": float("nan"), "b": datetime(1066, 10, 14, tzinfo=timezone.utc)}]},
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_document_spoils_no_list_and_is_refunded(shop: Shop, sandbox: StripeSandbox, odd: str) -> None:
    others = [shop.add_purchase(sandbox.create_payment(100, "eur")) for _ in range(2)]
    purchase = shop.add_purchase(sandbox.create_payment(100, "eur"), **ODD[odd])
    if odd == "far date":  # a date of the year 3,170,843
        document = shop.db.purchases.find_one({"_id": purchase})
        encoded = bson.encode(document).replace(b"\x12createdAt\0", b"\x09createdAt\0")
        shop.db.purchases.delete_one({"_id": purchase})
        shop.db.purchases.insert_one(RawBSONDocument(encoded))
    for path in ("all", "all?status=completed", f"refund/{purchase}"):
        shown = shop.client.get(f"/api/payments/admin/{path}", headers=shop.headers())
        assert shown.status_code == 200, shown.json
        ids = {each["_id"] for each in shown.json["purchases"]}
        assert ids >= {str(purchase)} | ({str(each) for each in others} if "all" in path else set())
    assert shop.refund(purchase).status_code == 200


def test_app_that_changes_a_purchase_after_its_undo_is_left_alone(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4700, "eur")
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    failed = sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    learn(shop, sandbox, "reconcile")
    assert shop.status_of(purchase) == "completed"
    age(shop, minutes=2)
    reconcile(shop)
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": "refunded"}})
    for kind in ("refund.failed", "refund.updated", "charge.refunded"):
        obj = sandbox.charge(payment) if kind == "charge.refunded" else failed
        assert send(shop, make_event(kind, obj)).status_code == 200
    learn(shop, sandbox, "reconcile")
    assert shop.status_of(purchase) == "refunded"

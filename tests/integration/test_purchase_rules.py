"""Purchases whose new status MongoDB rejects: the ledger follows Stripe, and a person reviews it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import bson
import pymongo
import pytest
from bson import Binary, ObjectId
from bson.raw_bson import RawBSONDocument

from flask_refunds import refund_needs_review
from flask_refunds.extension import get_refunds
from flask_refunds.models import Mark
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.testing import StripeSandbox, make_event, signed_event
from tests.mongod import failing
from tests.shop import Shop, make_app

SECRET = "whsec_of_the_tests_0123456789"
WEBHOOK = "/api/payments/webhook/refunds"


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=SECRET)
    return Shop(app, database)


def send(shop: Shop, event: dict[str, Any]) -> Any:
    body, headers = signed_event(event, SECRET)
    return shop.client.post(WEBHOOK, data=body, headers=headers)


def verify(shop: Shop, refund_id: str) -> None:
    """Verify a refund's purchases, as reconcile does a minute after its last change."""
    with shop.app.app_context():
        refunds = get_refunds(shop.app)
        refunds.transitions.verify_purchases(refunds.ledger.get(refund_id))


def require_invoice(database: Any) -> None:
    schema = {"$jsonSchema": {"required": ["invoiceNumber"]}}
    database.command("collMod", "purchases", validator=schema)


def drop_validator(database: Any) -> None:
    database.command("collMod", "purchases", validator={})


def allow_one_refund_per_user(database: Any) -> None:
    database.purchases.insert_one({"user": 7, "status": "refunded"})
    database.purchases.update_many({"status": "completed"}, {"$set": {"user": 7}})
    database.purchases.create_index(
        "user", unique=True, name="one", partialFilterExpression={"status": "refunded"}
    )


RULES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "validator": (require_invoice, drop_validator),
    "unique index": (allow_one_refund_per_user, lambda database: database.purchases.drop_index("one")),
}


@pytest.mark.parametrize("rule", RULES)
def test_rejected_purchase_leaves_the_refund_succeeded_and_in_review_until_it_can_be_updated(
    shop: Shop, sandbox: StripeSandbox, rule: str
) -> None:
    forbid, allow = RULES[rule]
    payment = sandbox.create_payment(1234, "eur")
    purchase = shop.add_purchase(payment)
    forbid(shop.db)
    response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["status"]) == (200, "succeeded")
    assert response.json["purchase"]["status"] == "completed"
    assert response.json["refund"]["review"]["code"] == "purchase_not_updated"
    assert "rejected" in response.json["hint"]
    assert sandbox.money_refunded(payment) == 1234
    for _ in range(3):
        verify(shop, f"{payment}:1")
    [record] = shop.records()
    assert (record["purchasesVerified"], len(record["history"])) == (False, 2)
    allow(shop.db)
    verify(shop, f"{payment}:1")
    [record] = shop.records()
    assert (shop.status_of(purchase), record["review"]) == ("refunded", None)
    assert record["history"][-1]["comment"] == "The purchases are updated now."
    assert record["purchasesVerified"]


def test_one_rejected_purchase_of_a_cart_does_not_stop_the_others(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(9000, "usd")
    cart = [shop.add_purchase(payment, invoiceNumber=number) for number in (1, 2)]
    rejected = shop.add_purchase(payment)
    cart += [shop.add_purchase(payment, invoiceNumber=4)]
    require_invoice(shop.db)
    assert shop.refund(cart[0]).status_code == 200
    assert [shop.status_of(each) for each in cart] == ["refunded"] * 3
    assert shop.status_of(rejected) == "completed"


def test_returned_refund_is_recorded_although_the_purchase_cannot_be_completed_again(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    shop.db.purchases.create_index(
        ["buyer", "course"], unique=True, partialFilterExpression={"status": "completed"}
    )
    reviews: list[str] = []
    refund_needs_review.connect(
        lambda app, refund, **extra: reviews.append(refund.review.code.value), shop.app, weak=False
    )
    payment = sandbox.create_payment(5000, "usd")
    purchase = shop.add_purchase(payment, buyer="b", course="c")
    assert shop.refund(purchase).status_code == 200
    shop.add_purchase(sandbox.create_payment(5000, "usd"), buyer="b", course="c")
    failed = sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    for _ in range(2):
        assert send(shop, make_event("refund.failed", failed)).status_code == 200
    [record] = shop.records()
    assert (record["status"], record["review"]["code"]) == ("failed", "failed_after_success")
    assert reviews == ["failed_after_success"]


def test_every_purchase_that_cannot_be_completed_again_is_named(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(5000, "usd")
    statuses = ("completed", "paid", "shipped")
    marks = [Mark(shop.add_purchase(payment, "refunded"), each) for each in statuses]
    shop.db.command("collMod", "purchases", validator={"status": {"$in": ["refunded", "shipped"]}})
    with shop.app.app_context():
        rejected = get_refunds(shop.app).purchases.mark_completed([payment], marks)
    assert set(rejected) == {each.purchase_id for each in marks[:2]}
    assert [shop.status_of(each.purchase_id) for each in marks] == ["refunded", "refunded", "shipped"]


def test_user_without_write_access_gets_the_refund_recorded(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(800, "usd")
    purchase = shop.add_purchase(payment)
    admin = shop.db.client.admin
    data = {"failCommands": ["update"], "errorCode": 13, "namespace": f"{shop.db.name}.purchases"}
    admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
    try:
        response = shop.refund(purchase)
    finally:
        admin.command("configureFailPoint", "failCommand", mode="off")
    assert (response.status_code, response.json["refund"]["review"]["code"]) == (200, "purchase_not_updated")


def test_unavailable_database_is_not_a_rejection(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(800, "usd"))
    with failing(shop.db, "update"):
        response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["status"]) == (202, "processing")
    assert response.json["refund"]["review"] is None


def test_purchase_with_a_list_of_payments_is_never_marked(shop: Shop, sandbox: StripeSandbox) -> None:
    deposit, balance = sandbox.create_payment(2000, "usd"), sandbox.create_payment(8000, "usd")
    purchase = shop.add_purchase(None, stripePaymentIntentId=[deposit, balance])
    neighbor = shop.add_purchase(deposit)
    assert shop.refund(purchase).json["code"] == "payment_intent_missing"
    send(shop, make_event("refund.created", sandbox.dashboard_refund(deposit)))
    assert (shop.status_of(purchase), shop.status_of(neighbor)) == ("completed", "refunded")
    assert shop.records()[0]["purchaseIds"] == [neighbor]


def test_cart_with_large_documents_is_refunded(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(100, "usd")
    cart = [shop.add_purchase(payment, attachment="x" * 3_000_000) for _ in range(7)]
    assert shop.refund(cart[3]).status_code == 200
    assert {shop.status_of(each) for each in cart} == {"refunded"}


def test_document_with_invalid_utf8_is_served_and_refunded(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = ObjectId()
    fields = {"_id": purchase, "status": "completed", "city": "K__ln"}
    encoded = bson.encode({**fields, "stripePaymentIntentId": sandbox.create_payment(500, "usd")})
    shop.db.purchases.insert_one(RawBSONDocument(encoded.replace(b"K__ln", b"K\xf6\xf6ln")))
    listed = shop.client.get("/api/payments/admin/all", headers=shop.headers())
    assert listed.json["purchases"][0]["city"] == "K\ufffd\ufffdln"
    assert shop.refund(purchase).status_code == 200


def test_client_secret_in_the_payment_field_is_neither_stored_nor_sent(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(500, "usd")
    purchase = shop.add_purchase(f"{payment}_secret_k3y")
    assert shop.refund(purchase).json["code"] == "payment_intent_missing"
    assert shop.records() == []
    assert sandbox.money_refunded(payment) == 0


@pytest.mark.parametrize("representation", ["unspecified", "standard"])
def test_uuid_users_are_found_shown_and_searched(
    mongo_uri: str, sandbox: StripeSandbox, representation: str
) -> None:
    with pymongo.MongoClient(mongo_uri, uuidRepresentation=representation) as client:
        database = client.get_default_database()
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
        user = uuid4()
        database.users.insert_one(
            {"_id": Binary.from_uuid(user), "role": "admin", "email": "ann@shop.example"}
        )
        payment = sandbox.create_payment(700, "eur")
        purchase = shop.add_purchase(payment, user=Binary.from_uuid(user))
        headers = shop.headers(user)
        status = shop.client.get(f"/api/payments/status/{payment}", headers=headers)
        assert (status.status_code, status.json["purchase"]["user"]) == (200, str(user))
        for name in (user, "ann@shop.example"):
            found = shop.client.get(f"/api/payments/admin/all?user={name}", headers=headers).json
            assert [each["_id"] for each in found["purchases"]] == [str(purchase)]
            assert found["purchases"][0]["user"]["_id"] == str(user)
        assert shop.refund(purchase, headers=headers).status_code == 200
        assert shop.records()[0]["requestedBy"] == str(user)


def test_loaded_user_with_a_uuid_sees_their_purchase(database: Any, sandbox: StripeSandbox) -> None:
    user = uuid4()
    app = make_app(
        REFUNDS_MONGO=database,
        STRIPE_API_BASE=sandbox.url,
        REFUNDS_USER_LOADER=lambda token_claims: {"_id": user},
    )
    shop = Shop(app, database)
    shop.add_purchase("pi_uuid", user=Binary.from_uuid(user))
    assert shop.client.get("/api/payments/status/pi_uuid", headers=shop.headers()).status_code == 200


def test_lists_and_refunds_pass_over_documents_of_the_app_in_the_ledger(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    foreign = [
        {"amount": 5, "status": "succeeded"},
        {"_id": 7, "createdAt": "yesterday"},
        {"_id": "pi_1", "paymentIntent": 3},
    ]
    shop.db.flask_refunds.insert_many(foreign)
    assert shop.refund(shop.add_purchase(sandbox.create_payment(900, "usd"))).status_code == 200
    for path in ("refunds", "refunds?status=succeeded", "refunds/metrics", "refunds?limit=1"):
        response = shop.client.get(f"/api/payments/admin/{path}", headers=shop.headers())
        assert response.status_code == 200, response.json
    listed = shop.client.get("/api/payments/admin/refunds", headers=shop.headers())
    assert len(listed.json["refunds"]) == 1


def test_answer_shows_a_purchase_that_got_another_payment_meanwhile(
    shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(900, "usd"))
    gateway = Gateway.create_refund

    def repoint_before(*args: Any, **options: Any) -> Any:
        shop.db.purchases.update_one({"_id": purchase}, {"$set": {"stripePaymentIntentId": "pi_new"}})
        return gateway(*args, **options)

    monkeypatch.setattr(Gateway, "create_refund", repoint_before)
    response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["status"]) == (200, "succeeded")
    shown = response.json["purchase"]
    assert (shown["status"], shown["stripePaymentIntentId"]) == ("completed", "pi_new")
    assert "changed" in response.json["hint"]
    assert shop.records()[0]["marks"] == []

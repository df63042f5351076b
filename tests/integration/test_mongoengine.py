"""Apps whose documents are written and read by mongoengine, on a real MongoDB and embedded."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, ClassVar

import mongoengine as me
import mongomock
import pymongo
import pytest
from mongoengine import connection

from flask_refunds.models import id_text
from flask_refunds.testing import StripeSandbox
from tests.integration.test_listing import get
from tests.integration.webhooks import SECRET, send
from tests.shop import Shop, make_app

ALIAS = "shop"
PLACED = datetime(2024, 3, 9, 8, tzinfo=timezone.utc)


class Customer(me.Document):
    login = me.StringField()
    mail = me.EmailField(db_field="e")
    role = me.StringField(default="user")
    meta: ClassVar = {"collection": "customers", "db_alias": ALIAS}


class Course(me.Document):
    slug = me.StringField(primary_key=True)
    name = me.StringField()
    meta: ClassVar = {"collection": "courses", "db_alias": ALIAS}


class Plain(me.Document):
    """Fields at the top level, some of them stored under another name."""

    customer = me.ReferenceField(Customer, db_field="c")
    course = me.ReferenceField(Course)
    price = me.DecimalField(precision=2)
    payment_id = me.StringField(db_field="pi")
    state = me.StringField(choices=("open", "paid", "returned"))
    placed_at = me.DateTimeField()
    meta: ClassVar = {"collection": "orders", "db_alias": ALIAS, "allow_inheritance": True}


class Payment(me.EmbeddedDocument):
    intent = me.StringField()
    state = me.StringField()
    amount = me.Decimal128Field()
    currency = me.StringField()


class Embedded(me.Document):
    """The payment and its state are an embedded document, and the key is a UUID."""

    id = me.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = me.ReferenceField(Customer)
    course = me.ReferenceField(Course)
    payment = me.EmbeddedDocumentField(Payment)
    placed_at = me.DateTimeField()
    meta: ClassVar = {"collection": "orders", "db_alias": ALIAS}


class WithDBRef(me.Document):
    """References are DBRefs, and the key is a number of a sequence."""

    id = me.SequenceField(primary_key=True, db_alias=ALIAS)
    customer = me.ReferenceField(Customer, dbref=True)
    course = me.ReferenceField(Course, dbref=True)
    pi = me.StringField()
    state = me.IntField()
    placed_at = me.DateTimeField()
    meta: ClassVar = {"collection": "orders", "db_alias": ALIAS}


def sell_plain(payment: str, customer: Customer, course: Course) -> Any:
    return Plain(
        customer=customer, course=course, price=Decimal("19.5"), payment_id=payment, state="paid"
    ).save()


def sell_embedded(payment: str, customer: Customer, course: Course) -> Any:
    paid = Payment(intent=payment, state="paid", amount=Decimal("19.50"), currency="eur")
    return Embedded(customer=customer, course=course, payment=paid, placed_at=PLACED).save()


def sell_with_dbref(payment: str, customer: Customer, course: Course) -> Any:
    return WithDBRef(customer=customer, course=course, pi=payment, state=3, placed_at=PLACED).save()


COMMON = {
    "REFUNDS_PURCHASES_COLLECTION": "orders",
    "REFUNDS_USERS_COLLECTION": "customers",
    "REFUNDS_CONTENTS_COLLECTION": "courses",
    "REFUNDS_USER_FIELDS": {"name": "login", "email": "e"},
    "REFUNDS_CONTENT_FIELDS": {"title": "name"},
}
APPS: dict[str, tuple[dict[str, Any], Any, Any, tuple[Any, Any]]] = {
    "plain": (
        {
            "REFUNDS_PURCHASE_FIELDS": {
                "status": "state",
                "payment": "pi",
                "user": "c",
                "content": "course",
                "amount": "price",
            },
            "REFUNDS_STATUS_COMPLETED": "paid",
            "REFUNDS_STATUS_REFUNDED": "returned",
        },
        sell_plain,
        lambda order: order.state,
        ("returned", "19.5"),
    ),
    "embedded": (
        {
            "REFUNDS_PURCHASE_FIELDS": {
                "status": "payment.state",
                "payment": "payment.intent",
                "user": "customer",
                "content": "course",
                "amount": "payment.amount",
                "currency": "payment.currency",
                "created": "placed_at",
            },
            "REFUNDS_STATUS_COMPLETED": "paid",
            "REFUNDS_STATUS_REFUNDED": "returned",
        },
        sell_embedded,
        lambda order: order.payment.state,
        ("returned", "19.50 EUR"),
    ),
    "dbref": (
        {
            "REFUNDS_PURCHASE_FIELDS": {
                "status": "state",
                "payment": "pi",
                "user": "customer.$id",
                "content": "course.$id",
                "created": "placed_at",
            },
            "REFUNDS_STATUS_COMPLETED": 3,
            "REFUNDS_STATUS_REFUNDED": 4,
        },
        sell_with_dbref,
        lambda order: order.state,
        (4, None),
    ),
}


class EngineShop(Shop):
    """A shop that signs in its mongoengine users."""

    def add_user(self, **fields: Any) -> Any:
        return Customer(login="Ann", mail="ann@example.org", **fields).save().id


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Connect mongoengine, and yield the database as the app sees it."""
    options: dict[str, Any] = {"tz_aware": True, "uuidRepresentation": "standard"}
    if request.param == "server":
        options |= {"host": request.getfixturevalue("mongo_uri"), "mongo_client_class": pymongo.MongoClient}
    else:
        options |= {"host": "mongodb://localhost/shop", "mongo_client_class": mongomock.MongoClient}
    me.connect(alias=ALIAS, **options)
    yield connection.get_db(ALIAS)
    me.disconnect(ALIAS)
    for model in (Customer, Course, Plain, Embedded, WithDBRef):
        model._collection = None


@pytest.mark.parametrize(
    ("engine", "name"),
    # mongomock neither encodes UUIDs nor searches in DBRefs.
    [*(("server", name) for name in APPS), ("embedded", "plain")],
    indirect=["engine"],
)
def test_orders_of_mongoengine_are_listed_refunded_and_restored(
    engine: Any, sandbox: StripeSandbox, name: str
) -> None:
    config, sell, state_of, (returned, amount) = APPS[name]
    stripe = {"STRIPE_API_BASE": sandbox.url, "STRIPE_WEBHOOK_SECRET": SECRET}
    shop = EngineShop(make_app(REFUNDS_MONGO=lambda: engine, **stripe, **COMMON, **config), engine)
    customer = Customer.objects(id=shop.add_user()).get()
    course = Course(slug="pruning", name="Pruning").save()
    payment = sandbox.create_payment(1950, "eur")
    order = sell(payment, customer, course)
    paid = state_of(order)

    [listed] = get(shop, "/admin/all", user="ann@example.org").json["purchases"]
    assert listed["_refunds"]["id"] == id_text(order.id)
    assert listed["_refunds"]["amountText"] == amount
    assert listed["_refunds"]["user"] == {"id": str(customer.id), "name": "Ann", "email": "ann@example.org"}
    assert listed["_refunds"]["content"] == {"id": "pruning", "title": "Pruning", "type": None}
    assert get(shop, f"/status/{payment}", customer.id).status_code == 200
    assert get(shop, f"/status/{payment}").status_code == 404

    response = shop.refund(order.id)
    assert (response.status_code, response.json["message"]) == (200, "Refund successful")
    assert state_of(order.reload()) == returned
    order.validate()

    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    for event in sandbox.events:
        assert send(shop, event).status_code == 200
    assert state_of(order.reload()) == paid

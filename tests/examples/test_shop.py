"""The shop's app in this process, on a sandbox whose clock the test steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mongomock
import pytest
from bson import ObjectId
from flask.testing import FlaskClient
from shop import create_app, demo
from shop.database import db
from shop.embedded import OneAtATime
from shop.serving import listen, serving, url_of
from shop.settings import EVENTS, WEBHOOK_PATH
from werkzeug.security import generate_password_hash

from flask_refunds.testing import StripeSandbox, make_event, signed_event
from tests.examples.storefront import CARD_PAYS, SETTLED_WITHIN_SECONDS, eventually

WEBHOOK_SECRET = "whsec_of_the_tests_of_the_storefront"
SETTLES_AFTER = 60.0
QUICK_HASH = "pbkdf2:sha256:1"
CARD_PENDING_REFUND = "4000000000007726"
CARD_REFUND_FAILS = "4000000000005126"


class OpenShop:
    """A shop with its demo's people and contents, and one client for all of them."""

    def __init__(self, app: Any, sandbox: StripeSandbox) -> None:
        self.app = app
        self.sandbox = sandbox
        self.client: FlaskClient = app.test_client()
        with app.app_context(), pytest.MonkeyPatch.context() as patch:
            # A good hash takes its time, which these tests need not.
            patch.setattr(demo, "generate_password_hash", partial(generate_password_hash, method=QUICK_HASH))
            demo.seed()
            self.content = str(db().contents.find_one({"title": "The Compost Handbook"})["_id"])  # type: ignore[index]
        self.ben, self.admin = self._sign_in(demo.BEN), self._sign_in(demo.ADMIN)

    def _sign_in(self, account: demo.Account) -> dict[str, str]:
        answer = self.client.post("/api/sign-in", json={"email": account.email, "password": account.password})
        return {"Authorization": f"Bearer {answer.json['token']}"}  # type: ignore[index]

    def buy(self, card: str, key: str = "an-order-of-the-tests") -> Any:
        """Ben orders the compost book."""
        order = {"contents": [self.content], "card": card}
        return self.client.post("/api/purchases", json=order, headers={**self.ben, "Idempotency-Key": key})

    def bought(self, card: str) -> str:
        """The id of a purchase that is completed."""
        purchase_id: str = self.buy(card).json["purchases"][0]["id"]
        eventually(lambda: self.purchase(purchase_id)["status"] == "completed")
        return purchase_id

    def purchase(self, purchase_id: str) -> dict[str, Any]:
        """A purchase as Ben sees it."""
        listed: Any = self.client.get("/api/purchases", headers=self.ben).json
        return next(each for each in listed["purchases"] if each["id"] == purchase_id)

    def refund(self, purchase_id: str) -> tuple[int, Any]:
        """The admin's call."""
        answer = self.client.post(f"/api/payments/admin/refund/{purchase_id}", headers=self.admin)
        return answer.status_code, answer.json

    def may_open(self) -> bool:
        """Whether Ben may open the compost book."""
        return self.client.get(f"/api/contents/{self.content}", headers=self.ben).status_code == 200

    def pass_time(self) -> None:
        """Until Stripe's refunds have settled, and their events were received."""
        self.sandbox.advance(SETTLES_AFTER)
        self.sandbox.wait_delivered(SETTLED_WITHIN_SECONDS)


@contextmanager
def open_shop(**config: Any) -> Iterator[OpenShop]:
    with (
        listen("127.0.0.1", 0) as listener,
        StripeSandbox(refund_settles_after=SETTLES_AFTER) as sandbox,
    ):
        sandbox.add_webhook(url_of(listener) + WEBHOOK_PATH, WEBHOOK_SECRET, events=EVENTS)
        app = create_app(
            {
                "REFUNDS_MONGO": mongomock.MongoClient(tz_aware=True).shop,
                "STRIPE_SECRET_KEY": "sk_test_ofTheStorefrontsTests",
                "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
                "STRIPE_API_BASE": sandbox.url,
                "JWT_SECRET_KEY": "a-secret-of-the-storefronts-tests-long-enough",
                **config,
            }
        )
        app.wsgi_app = OneAtATime(app.wsgi_app)  # type: ignore[method-assign]
        shop = OpenShop(app, sandbox)
        with serving(app, listener):
            sandbox.wait_delivered(SETTLED_WITHIN_SECONDS)
            yield shop


@pytest.fixture
def shop() -> Iterator[OpenShop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture(scope="module")
def unchanged_shop() -> Iterator[OpenShop]:
    """For tests that leave it as it was."""
    with open_shop() as shop:
        yield shop


def test_a_pending_refund_ends_by_stripes_event(shop: OpenShop) -> None:
    purchase_id = shop.bought(CARD_PENDING_REFUND)
    status, body = shop.refund(purchase_id)
    assert (status, body["message"], body["refund"]["status"]) == (202, "Refund pending", "pending")
    purchase = shop.purchase(purchase_id)
    assert (purchase["status"], purchase["refundStatus"]) == ("completed", "pending")
    assert shop.may_open()

    shop.pass_time()
    purchase = shop.purchase(purchase_id)
    assert (purchase["status"], purchase["refundStatus"]) == ("refunded", "succeeded")
    assert not shop.may_open()


def test_a_pending_refund_is_brought_up_to_date_by_asking_again(shop: OpenShop) -> None:
    purchase_id = shop.bought(CARD_PENDING_REFUND)
    shop.refund(purchase_id)
    [refund] = shop.sandbox.refunds(shop.purchase(purchase_id)["paymentIntent"])
    shop.sandbox.settle(refund["id"], "succeeded")
    status, body = shop.refund(purchase_id)
    # Stripe's event may have come first.
    assert (status, body.get("error")) in [(200, None), (400, "Only completed purchases can be refunded")]
    assert not shop.may_open()


def test_a_refund_that_fails_later_gives_access_back(shop: OpenShop) -> None:
    purchase_id = shop.bought(CARD_REFUND_FAILS)
    assert shop.refund(purchase_id)[0] == 200
    assert not shop.may_open()

    shop.pass_time()
    purchase = shop.purchase(purchase_id)
    assert (purchase["status"], purchase["refundStatus"]) == ("completed", "failed")
    assert shop.may_open()


def test_a_lost_answer_of_stripes_charges_once(shop: OpenShop) -> None:
    lost = shop.sandbox.inject("drop_after", path="/v1/payment_intents/*/confirm")
    answer = shop.buy(CARD_PAYS)
    assert (answer.status_code, lost.hits) == (201, 1)
    shop.sandbox.wait_delivered(SETTLED_WITHIN_SECONDS)
    [purchase] = answer.json["purchases"]
    assert shop.purchase(purchase["id"])["status"] == "completed"
    paid = [
        event
        for event in shop.sandbox.events
        if event["type"] == "payment_intent.succeeded"
        and event["data"]["object"]["id"] == purchase["paymentIntent"]
    ]
    assert len(paid) == 1


def test_only_a_signed_event_completes_a_purchase(shop: OpenShop) -> None:
    with shop.app.app_context():
        pending: Any = db().purchases.find_one({"status": "pending"})
    intent = shop.sandbox.payment_intent(pending["stripePaymentIntentId"])
    for secret, status, becomes in [
        ("whsec_of_somebody_else", 400, "pending"),
        (WEBHOOK_SECRET, 204, "completed"),
    ]:
        body, headers = signed_event(make_event("payment_intent.succeeded", intent), secret)
        assert shop.client.post(WEBHOOK_PATH, data=body, headers=headers).status_code == status
        assert shop.purchase(str(pending["_id"]))["status"] == becomes


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_junk_is_no_event(unchanged_shop: OpenShop, body: bytes) -> None:
    headers = {"Stripe-Signature": "t=1,v1=00"}
    assert unchanged_shop.client.post(WEBHOOK_PATH, data=body, headers=headers).status_code == 400


def test_an_event_of_the_other_mode_is_refused_in_words(unchanged_shop: OpenShop) -> None:
    event = make_event("refund.updated", {"id": "re_1", "object": "refund"}, livemode=True)
    body, headers = signed_event(event, WEBHOOK_SECRET)
    answer = unchanged_shop.client.post(WEBHOOK_PATH, data=body, headers=headers)
    assert (answer.status_code, "live mode" in answer.get_json()["error"]) == (400, True)


def test_contents_of_two_currencies_are_no_one_order(unchanged_shop: OpenShop) -> None:
    with unchanged_shop.app.app_context():
        ids = [str(content["_id"]) for content in db().contents.find()]
    order = {"contents": ids, "card": CARD_PAYS}
    headers = {**unchanged_shop.ben, "Idempotency-Key": "two-currencies-at-once"}
    answer = unchanged_shop.client.post("/api/purchases", json=order, headers=headers)
    assert (answer.status_code, "one currency" in answer.get_json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("order", "key"),
    [
        (None, "a-key-that-is-long-enough"),
        ({"contents": [], "card": CARD_PAYS}, "a-key-that-is-long-enough"),
        ({"contents": [{"$ne": None}], "card": CARD_PAYS}, "a-key-that-is-long-enough"),
        ({"contents": [str(ObjectId())], "card": CARD_PAYS}, "a-key-that-is-long-enough"),
        ({"contents": "known", "card": {"$ne": None}}, "a-key-that-is-long-enough"),
        ({"contents": "known", "card": CARD_PAYS}, "short"),
        ({"contents": "known", "card": CARD_PAYS}, ""),
    ],
)
def test_a_senseless_order_is_refused(unchanged_shop: OpenShop, order: Any, key: str) -> None:
    if order and order["contents"] == "known":
        order = {**order, "contents": [unchanged_shop.content]}
    before = len(unchanged_shop.sandbox.requests)
    answer = unchanged_shop.client.post(
        "/api/purchases", json=order, headers={**unchanged_shop.ben, "Idempotency-Key": key}
    )
    assert answer.status_code == 400
    assert len(unchanged_shop.sandbox.requests) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": demo.ADMIN.email, "password": "wrong"}, 401),
        ({"email": "nobody@shop.example", "password": demo.ADMIN.password}, 401),
        ({"email": {"$ne": None}, "password": demo.ADMIN.password}, 400),
        ([], 400),
    ],
)
def test_signing_in_takes_the_right_password(unchanged_shop: OpenShop, body: Any, status: int) -> None:
    assert unchanged_shop.client.post("/api/sign-in", json=body).status_code == status


def test_a_shop_with_users_is_not_seeded(unchanged_shop: OpenShop) -> None:
    with unchanged_shop.app.app_context():
        before = [list(db()[name].find()) for name in ("users", "contents", "purchases")]
        assert demo.seed() is False
        assert [list(db()[name].find()) for name in ("users", "contents", "purchases")] == before

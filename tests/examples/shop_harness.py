"""The storefront's app in this process, with a Stripe sandbox whose clock the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mongomock
import pytest
from flask.testing import FlaskClient
from shop import create_app, demo
from shop.database import db
from shop.embedded import OneRequestAtATime
from shop.server import listen, run_server, url_of
from shop.settings import EVENTS, WEBHOOK_PATH
from werkzeug.security import generate_password_hash

from flask_refunds.testing import StripeSandbox
from tests.examples.storefront import SETTLED_WITHIN_SECONDS, eventually

WEBHOOK_SECRET = "whsec_for_storefront_tests"
REFUND_SETTLES_AFTER_SECONDS = 60.0
FAST_PASSWORD_HASH = "pbkdf2:sha256:1"
CARD_PENDING_REFUND = "4000000000007726"
CARD_REFUND_FAILS = "4000000000005126"


class ShopHarness:
    """The app with the demo's data, and one client for all accounts."""

    def __init__(self, app: Any, sandbox: StripeSandbox) -> None:
        self.app = app
        self.sandbox = sandbox
        self.client: FlaskClient = app.test_client()
        with app.app_context(), pytest.MonkeyPatch.context() as patch:
            # A secure password hash is slow, which these tests don't need.
            patch.setattr(
                demo, "generate_password_hash", partial(generate_password_hash, method=FAST_PASSWORD_HASH)
            )
            demo.seed()
            self.content = str(db().contents.find_one({"title": "The Compost Handbook"})["_id"])  # type: ignore[index]
        self.ben, self.admin = self._sign_in(demo.BEN), self._sign_in(demo.ADMIN)

    def _sign_in(self, account: demo.Account) -> dict[str, str]:
        response = self.client.post(
            "/api/sign-in", json={"email": account.email, "password": account.password}
        )
        return {"Authorization": f"Bearer {response.json['token']}"}  # type: ignore[index]

    def buy(self, card: str, key: str = "order-of-the-tests") -> Any:
        """Order the compost book as Ben."""
        order = {"contents": [self.content], "card": card}
        return self.client.post("/api/purchases", json=order, headers={**self.ben, "Idempotency-Key": key})

    def buy_and_complete(self, card: str) -> str:
        """Order the compost book as Ben, and return the ID of the completed purchase."""
        purchase_id: str = self.buy(card).json["purchases"][0]["id"]
        eventually(lambda: self.purchase(purchase_id)["status"] == "completed")
        return purchase_id

    def purchase(self, purchase_id: str) -> dict[str, Any]:
        """Return one of Ben's purchases from the API."""
        listed: Any = self.client.get("/api/purchases", headers=self.ben).json
        return next(each for each in listed["purchases"] if each["id"] == purchase_id)

    def refund(self, purchase_id: str) -> tuple[int, Any]:
        """Refund a purchase as the admin."""
        response = self.client.post(f"/api/payments/admin/refund/{purchase_id}", headers=self.admin)
        return response.status_code, response.json

    def has_access(self) -> bool:
        """Return whether Ben can open the compost book."""
        return self.client.get(f"/api/contents/{self.content}", headers=self.ben).status_code == 200

    def settle_refunds(self) -> None:
        """Move the sandbox's clock until refunds have settled, and wait for their events."""
        self.sandbox.advance(REFUND_SETTLES_AFTER_SECONDS)
        self.sandbox.wait_delivered(SETTLED_WITHIN_SECONDS)


@contextmanager
def open_shop(**config: Any) -> Iterator[ShopHarness]:
    """Run the app with more config; yield it once the demo's payments are complete."""
    with (
        listen("127.0.0.1", 0) as listener,
        StripeSandbox(refund_settles_after=REFUND_SETTLES_AFTER_SECONDS) as sandbox,
    ):
        sandbox.add_webhook(url_of(listener) + WEBHOOK_PATH, WEBHOOK_SECRET, events=EVENTS)
        app = create_app(
            {
                "REFUNDS_MONGO": mongomock.MongoClient(tz_aware=True).shop,
                "STRIPE_SECRET_KEY": "sk_test_storefrontTests",
                "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
                "STRIPE_API_BASE": sandbox.url,
                "JWT_SECRET_KEY": "a-jwt-secret-for-the-storefront-tests",
                **config,
            }
        )
        app.wsgi_app = OneRequestAtATime(app.wsgi_app)  # type: ignore[method-assign]
        shop = ShopHarness(app, sandbox)
        with run_server(app, listener):
            sandbox.wait_delivered(SETTLED_WITHIN_SECONDS)
            yield shop

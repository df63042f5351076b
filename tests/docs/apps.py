"""Run a page's Python blocks with an app, a database and a Stripe sandbox.

Placeholders are filled in (:data:`PLACEHOLDERS`), and names are kept from block to block. Nothing else in the
code is changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from bson import ObjectId
from flask import Flask

from flask_refunds import refunds_bp
from flask_refunds.testing import StripeSandbox, make_token
from tests.docs.pages import Block
from tests.live_server import serving
from tests.shop import JWT_SECRET, STRIPE_KEY, make_config

PLACEHOLDERS = {'"sk_test_…"': repr(STRIPE_KEY), 'JWT_SECRET_KEY="…"': f'JWT_SECRET_KEY="{JWT_SECRET}"'}


@dataclass
class Response:
    """A response of a served app."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class PageRunner:
    """Runs a page's blocks.

    :param uri: the MongoDB URI of ``db``.
    """

    db: Any
    uri: str
    stripe: StripeSandbox
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "shop"})
    user: ObjectId = field(default_factory=ObjectId)

    def __post_init__(self) -> None:
        self.db.users.replace_one(
            {"_id": self.user}, {"name": "Ada", "email": "ada@shop.example", "role": "admin"}, upsert=True
        )

    def add_app(self, *, registered: bool = True, **config: Any) -> Flask:
        """Add the names ``app`` and ``db``, which most pages use without defining them."""
        app = Flask("shop")
        app.config.update(make_config(REFUNDS_MONGO=self.db, **config))
        if registered:
            app.register_blueprint(refunds_bp)
        self.names.update(app=app, db=self.db)
        return app

    def run(self, block: Block) -> None:
        """Run a block."""
        text = block.text.replace("mongodb://localhost/shop", self.uri)
        for placeholder, value in PLACEHOLDERS.items():
            text = text.replace(placeholder, value)
        padding = "\n" * block.line  # so that a traceback has the page's line numbers
        exec(compile(padding + text, block.page, "exec"), self.names)

    def add_purchase(self, **fields: Any) -> tuple[ObjectId, str]:
        """Add a purchase and its payment, and return the IDs of both."""
        payment = self.stripe.create_payment(1999, card=fields.pop("card", "4242424242424242"))
        document = {"user": self.user, "status": "completed", "stripePaymentIntentId": payment, **fields}
        return self.db.purchases.insert_one(document).inserted_id, payment

    def admin_headers(self, token: str | None = None) -> dict[str, str]:
        """Return the headers of the admin, or of another token."""
        return {"Authorization": f"Bearer {token or make_token(str(self.user), secret=JWT_SECRET)}"}

    def find_purchase(self, purchase_id: ObjectId) -> Any:
        """Return a purchase as it is stored now."""
        return self.db.purchases.find_one({"_id": purchase_id})


@contextmanager
def serve(app: Any) -> Iterator[Any]:
    """Serve an app, and yield a function ``call(method, path, headers, body) -> Response``."""

    def call(method: str, path: str, headers: Mapping[str, str] = {}, body: Any = None) -> Response:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        finally:
            connection.close()

    with serving(app) as url:
        yield call


def assert_refunds_once(
    page: PageRunner, app: Any = None, prefix: str = "/api/payments", token: str | None = None
) -> None:
    """Check that a served app rejects calls without a token, and refunds a purchase once for its admin."""
    purchase, payment = page.add_purchase()
    path = f"{prefix}/admin/refund/{purchase}"
    with serve(app or page.names["app"]) as call:
        assert call("POST", path).status == 401
        response = call("POST", path, page.admin_headers(token))
        assert (response.status, response.json.get("message")) == (200, "Refund successful"), response
        assert call("POST", path, page.admin_headers(token)).status == 400
        assert call("GET", f"{prefix}/admin/").status == 200
    assert page.find_purchase(purchase)["status"] == "refunded"
    assert page.stripe.money_refunded(payment) == 1999

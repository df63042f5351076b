"""What the Python blocks of the documentation are given: a host, a database, and Stripe.

A block's placeholders are filled in (:data:`PLACEHOLDERS`), Stripe's address is the sandbox's, and the names
of its page, or part, are kept from block to block. Nothing else is done to the code.
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
class Answer:
    """What a served app answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Host:
    """A host's app under a page's blocks.

    :param uri: leads to ``db``.
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

    def give_app(self, *, mounted: bool = True) -> None:
        """An ``app`` and its ``db``, as most pages take them for granted."""
        app = Flask("shop")
        app.config.update(make_config(REFUNDS_MONGO=self.db))
        if mounted:
            app.register_blueprint(refunds_bp)
        self.names.update(app=app, db=self.db)

    def run(self, block: Block) -> None:
        """Run a block among the names of its page."""
        text = block.text.replace("mongodb://localhost/shop", self.uri)
        for placeholder, real in PLACEHOLDERS.items():
            text = text.replace(placeholder, real)
        padding = "\n" * block.line  # so that a traceback names the page's own line
        exec(compile(padding + text, block.page, "exec"), self.names)

    def sell(self, **fields: Any) -> tuple[ObjectId, str]:
        """A purchase, and the payment that paid it."""
        payment = self.stripe.create_payment(1999, card=fields.pop("card", "4242424242424242"))
        sold = {"user": self.user, "status": "completed", "stripePaymentIntentId": payment, **fields}
        return self.db.purchases.insert_one(sold).inserted_id, payment

    def bearer(self, token: str | None = None) -> dict[str, str]:
        """The headers of the admin."""
        return {"Authorization": f"Bearer {token or make_token(str(self.user), secret=JWT_SECRET)}"}

    def purchase(self, purchase_id: ObjectId) -> Any:
        """A purchase as it is now."""
        return self.db.purchases.find_one({"_id": purchase_id})


@contextmanager
def served(app: Any) -> Iterator[Any]:
    """An app behind a real server; gives ``ask(method, path, headers, body) -> Answer``."""

    def ask(method: str, path: str, headers: Mapping[str, str] = {}, body: Any = None) -> Answer:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    with serving(app) as url:
        yield ask


def refunds_one(host: Host, app: Any = None, prefix: str = "/api/payments", token: str | None = None) -> None:
    """A served app lets nobody in without a token, and refunds once for its admin."""
    purchase, payment = host.sell()
    path = f"{prefix}/admin/refund/{purchase}"
    with served(app or host.names["app"]) as ask:
        assert ask("POST", path).status == 401
        answer = ask("POST", path, host.bearer(token))
        assert (answer.status, answer.json.get("message")) == (200, "Refund successful"), answer
        assert ask("POST", path, host.bearer(token)).status == 400
        assert ask("GET", f"{prefix}/admin/").status == 200
    assert host.purchase(purchase)["status"] == "refunded"
    assert host.stripe.money_refunded(payment) == 1999

"""A host's shop, as small as a test needs it: an app with the mount, its documents, and calls to it."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import Any

from bson import ObjectId
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_refunds import refunds_bp
from flask_refunds.testing import make_token
from tests.contract import ContractClient

JWT_SECRET = "a-secret-of-the-tests-that-is-long-enough-for-hs256"
STRIPE_KEY = "sk_test_flaskRefundsTests0000000000"
PAID_AT = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)


def make_config(**overrides: Any) -> dict[str, Any]:
    """A config that is complete but for the database and Stripe's address."""
    return {"JWT_SECRET_KEY": JWT_SECRET, "STRIPE_SECRET_KEY": STRIPE_KEY, "TESTING": True} | overrides


_building = threading.Lock()
"""Werkzeug compiles each route through ``ast``, which in CPython 3.11 fails in two threads at once."""


def make_app(**overrides: Any) -> Flask:
    """An app with the one-line mount."""
    with _building:
        app = Flask("shop")
        app.config.update(make_config(**overrides))
        app.register_blueprint(refunds_bp)
    if app.test_client_class is None:
        app.test_client_class = ContractClient
    return app


class Shop:
    """The documents of a shop in one database, and an admin who calls its app.

    :param database: where the documents are, as the host sees them.
    """

    def __init__(self, app: Flask, database: Any) -> None:
        self.app = app
        self.db = database
        self.client: FlaskClient = app.test_client()
        self.admin_id = self.add_user(role="admin")

    def add_user(self, **fields: Any) -> ObjectId:
        """Store a user and return his id."""
        user_id: ObjectId = self.db.users.insert_one({"name": "Ann", "role": "user"} | fields).inserted_id
        return user_id

    def add_purchase(self, payment_intent: str | None, status: str = "completed", **fields: Any) -> ObjectId:
        """Store a purchase as hosts do and return its id."""
        document = {
            "user": ObjectId(),
            "content": ObjectId(),
            "amount": 19.99,
            "stripePaymentIntentId": payment_intent,
            "status": status,
            "createdAt": PAID_AT,
        }
        purchase_id: ObjectId = self.db.purchases.insert_one(document | fields).inserted_id
        return purchase_id

    def status_of(self, purchase_id: ObjectId) -> str:
        """The purchase's status in the database."""
        status: str = self.db.purchases.find_one({"_id": purchase_id})["status"]
        return status

    def records(self) -> list[dict[str, Any]]:
        """The ledger, as it is stored."""
        rows: list[dict[str, Any]] = list(self.db.flask_refunds.find().sort("_id", 1))
        return rows

    def headers(self, user_id: Any = None, **options: Any) -> dict[str, str]:
        """The headers of a signed-in user; of the admin, where none is named."""
        token = make_token(str(user_id or self.admin_id), secret=JWT_SECRET, **options)
        return {"Authorization": f"Bearer {token}"}

    def refund(self, purchase_id: Any, **options: Any) -> TestResponse:
        """Call the endpoint as the admin."""
        path = f"/api/payments/admin/refund/{purchase_id}"
        return self.client.post(path, **({"headers": self.headers()} | options))

    def flask(self, *arguments: str, **options: Any) -> Result:
        """Run ``flask refunds …`` in this process."""
        return self.app.test_cli_runner().invoke(args=["refunds", *arguments], **options)

"""A small shop: an app with the blueprint, its documents, and requests to it."""

from __future__ import annotations

import copy
import threading
from datetime import datetime, timezone
from functools import cache
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
    """Return a config that lacks only the database and Stripe's URL."""
    return {"JWT_SECRET_KEY": JWT_SECRET, "STRIPE_SECRET_KEY": STRIPE_KEY, "TESTING": True} | overrides


_building = threading.Lock()
"""Werkzeug compiles routes with ``ast``, which isn't thread-safe in CPython 3.11."""


def make_app(**overrides: Any) -> Flask:
    """Return an app with the blueprint."""
    with _building:
        try:
            app = _build_app(overrides)
        except SystemError:  # another thread used ``ast`` at the same moment
            app = _build_app(overrides)
    if app.test_client_class is None:
        app.test_client_class = ContractClient
    return app


def _build_app(overrides: dict[str, Any]) -> Flask:
    app = Flask("shop")
    app.config.update(make_config(**overrides))
    app.register_blueprint(refunds_bp)
    return app


@cache
def _app_without_config() -> Flask:
    return make_app()


def open_app(**overrides: Any) -> Flask:
    """Return an app like :func:`make_app` in less time. All of them share their compiled routes."""
    app = copy.copy(_app_without_config())
    app.extensions = {}
    app.config = copy.copy(app.config)
    app.config.update(overrides)
    return app


class Shop:
    """A shop's documents in one database, with an admin who calls its app.

    :param database: the database as the app sees it.
    """

    def __init__(self, app: Flask, database: Any) -> None:
        self.app = app
        self.db = database
        self.client: FlaskClient = app.test_client()
        self.admin_id = self.add_user(role="admin")

    def add_user(self, **fields: Any) -> ObjectId:
        """Store a user and return the ID."""
        user_id: ObjectId = self.db.users.insert_one({"name": "Ann", "role": "user"} | fields).inserted_id
        return user_id

    def add_purchase(self, payment_intent: str | None, status: str = "completed", **fields: Any) -> ObjectId:
        """Store a purchase as apps do, and return its ID."""
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
        """Return the purchase's status in the database."""
        status: str = self.db.purchases.find_one({"_id": purchase_id})["status"]
        return status

    def records(self) -> list[dict[str, Any]]:
        """Return the stored refund records, oldest first."""
        order = [("createdAt", 1), ("_id", 1)]
        records: list[dict[str, Any]] = list(self.db.flask_refunds.find().sort(order))
        return records

    def headers(self, user_id: Any = None, **options: Any) -> dict[str, str]:
        """Return the headers of a user, by default of the admin."""
        token = make_token(str(user_id or self.admin_id), secret=JWT_SECRET, **options)
        return {"Authorization": f"Bearer {token}"}

    def refund(self, purchase_id: Any, **options: Any) -> TestResponse:
        """Call the refund endpoint, by default as the admin."""
        path = f"/api/payments/admin/refund/{purchase_id}"
        return self.client.post(path, **({"headers": self.headers()} | options))

    def flask(self, *arguments: str, **options: Any) -> Result:
        """Run ``flask refunds …`` in this process."""
        return self.app.test_cli_runner().invoke(args=["refunds", *arguments], **options)

"""The shop's database. flask_refunds uses the same client and connection pool."""

from __future__ import annotations

from typing import Any

from bson import ObjectId
from flask import Flask, current_app
from pymongo import MongoClient
from pymongo.database import Database

_SERVER_SELECTION_TIMEOUT_MS = 5000


def init_app(app: Flask) -> None:
    """Create a client for ``MONGO_URI``, unless ``REFUNDS_MONGO`` is set. It doesn't connect yet.

    :raises pymongo.errors.PyMongoError: the URI is invalid or has no database name.
    """
    uri = app.config.get("MONGO_URI")
    if app.config.get("REFUNDS_MONGO") is None and uri is not None:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri, tz_aware=True, serverSelectionTimeoutMS=_SERVER_SELECTION_TIMEOUT_MS
        )
        app.config["REFUNDS_MONGO"] = client.get_default_database()


def db() -> Database[dict[str, Any]]:
    """Return the current app's database."""
    database: Database[dict[str, Any]] = current_app.config["REFUNDS_MONGO"]
    return database


def create_indexes() -> None:
    """Create the indexes for lookups by payment and by user, and to prevent duplicate orders."""
    db().purchases.create_index("stripePaymentIntentId")
    db().purchases.create_index("user")
    db().purchases.create_index(
        [("order", 1), ("content", 1)], unique=True, partialFilterExpression={"order": {"$exists": True}}
    )


def find_object_id(text: object) -> ObjectId | None:
    """Return the ObjectId that a string represents, or None if it isn't one."""
    return ObjectId(text) if isinstance(text, str) and ObjectId.is_valid(text) else None

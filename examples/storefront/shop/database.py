"""The shop's database: one pool, which flask_refunds shares."""

from __future__ import annotations

from typing import Any

from bson import ObjectId
from flask import Flask, current_app
from pymongo import MongoClient
from pymongo.database import Database

_FIND_SERVER_MS = 5000


def init_app(app: Flask) -> None:
    """Connect to ``MONGO_URI``, unless the app was given a database. Opens no connection yet.

    :raises pymongo.errors.PyMongoError: the URI is malformed, or names no database.
    """
    uri = app.config.get("MONGO_URI")
    if app.config.get("REFUNDS_MONGO") is None and uri is not None:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri, tz_aware=True, serverSelectionTimeoutMS=_FIND_SERVER_MS
        )
        app.config["REFUNDS_MONGO"] = client.get_default_database()


def db() -> Database[dict[str, Any]]:
    """The current app's database."""
    database: Database[dict[str, Any]] = current_app.config["REFUNDS_MONGO"]
    return database


def create_indexes() -> None:
    """What keeps a repeated order single, and the look-ups by payment and by user quick."""
    db().purchases.create_index("stripePaymentIntentId")
    db().purchases.create_index("user")
    db().purchases.create_index(
        [("order", 1), ("content", 1)], unique=True, partialFilterExpression={"order": {"$exists": True}}
    )


def find_object_id(text: object) -> ObjectId | None:
    """The id that a text spells, if it spells one."""
    return ObjectId(text) if isinstance(text, str) and ObjectId.is_valid(text) else None

"""The two apps that are measured against each other, for gunicorn."""

from __future__ import annotations

import os
from typing import Any

import pymongo
from flask import Flask

from tests.bench import handwritten
from tests.shop import JWT_SECRET, STRIPE_KEY, make_app


def _connect() -> Any:
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(os.environ["MONGO_URI"], tz_aware=True)
    return client.get_default_database()


def ours() -> Flask:
    """The mount."""
    return make_app(REFUNDS_MONGO=_connect(), STRIPE_API_BASE=os.environ["STRIPE_API_BASE"])


def theirs() -> Flask:
    """The hand-written view."""
    return handwritten.make_app(_connect(), JWT_SECRET, STRIPE_KEY, os.environ["STRIPE_API_BASE"])

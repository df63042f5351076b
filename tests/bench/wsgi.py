"""The two measured apps, for gunicorn."""

from __future__ import annotations

import os
from typing import Any

import pymongo
from flask import Flask

from tests.bench.handwritten import make_app as make_handwritten_app
from tests.shop import JWT_SECRET, STRIPE_KEY, make_app


def _connect() -> Any:
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(os.environ["MONGO_URI"], tz_aware=True)
    return client.get_default_database()


def library() -> Flask:
    """An app with the library."""
    return make_app(REFUNDS_MONGO=_connect(), STRIPE_API_BASE=os.environ["STRIPE_API_BASE"])


def handwritten() -> Flask:
    """An app with a hand-written view."""
    return make_handwritten_app(_connect(), JWT_SECRET, STRIPE_KEY, os.environ["STRIPE_API_BASE"])

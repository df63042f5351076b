"""The tests' app with a receiver that records each notification, and ends its process the first time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pymongo
from flask import Flask
from pymongo.errors import DuplicateKeyError

from flask_refunds import refund_succeeded
from tests.integration.wsgi import app as app

_database = pymongo.MongoClient[dict[str, Any]](os.environ["MONGO_URI"]).get_default_database()
_EXITS: dict[str, Callable[[], Any]] = {"os._exit": lambda: os._exit(9), "SystemExit": sys.exit}


def exit_once() -> None:
    """End this process, unless an earlier one was ended here."""
    try:
        _database.exits.insert_one({"_id": 1})
    except DuplicateKeyError:
        return
    _EXITS[os.environ["EXIT_BY"]]()


@refund_succeeded.connect_via(app)
def notify(sender: Flask, refund: Any, refund_id: str) -> None:
    if os.environ["EXIT_WHEN"] == "before":
        exit_once()
    _database.notifications.insert_one({"refundId": refund_id, "status": refund.status.value})
    if os.environ["EXIT_WHEN"] == "after":
        exit_once()

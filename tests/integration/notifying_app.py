"""The tests' app with a receiver that tells the customer, and that ends its process the first time."""

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


def _end() -> None:
    os._exit(9)


_ENDS: dict[str, Callable[[], None]] = {"os._exit": _end, "SystemExit": sys.exit}


def crash_once() -> None:
    """End this process, if no process has been ended here before."""
    try:
        _database.crashes.insert_one({"_id": 1})
    except DuplicateKeyError:
        return
    _ENDS[os.environ["ENDS_BY"]]()


@refund_succeeded.connect_via(app)
def tell(sender: Flask, refund: Any, refund_id: str) -> None:
    if os.environ["ENDS"] == "before":
        crash_once()
    _database.told.insert_one({"refundId": refund_id, "status": refund.status.value})
    if os.environ["ENDS"] == "after":
        crash_once()

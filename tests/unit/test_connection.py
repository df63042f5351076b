"""The guarantees and the time limits of the operations in MongoDB."""

from __future__ import annotations

import time
from typing import Any

import pymongo
import pytest
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from flask_refunds.errors import DatabaseUnavailable
from flask_refunds.storage.connection import database_timeout, majority_collection

FAST_AND_LOOSE = "w=1&journal=false&readConcernLevel=local&readPreference=secondaryPreferred"


def client_of(uri: str) -> pymongo.MongoClient[dict[str, Any]]:
    return pymongo.MongoClient(uri, connect=False)


def test_ledger_has_its_guarantees_whatever_the_client_was_told() -> None:
    with client_of(f"mongodb://db.shop.example/shop?{FAST_AND_LOOSE}") as client:
        ledger = majority_collection(client.get_default_database(), "flask_refunds")
    assert ledger.full_name == "shop.flask_refunds"
    assert ledger.write_concern == WriteConcern(w="majority", j=True)
    assert ledger.read_concern == ReadConcern("majority")
    assert ledger.read_preference == ReadPreference.PRIMARY


def test_operation_on_a_stopped_server_ends_at_the_time_limit() -> None:
    """PyMongo alone looks for a server for 30 seconds."""
    started = time.monotonic()
    with (
        client_of("mongodb://127.0.0.1:9/shop") as client,
        pytest.raises(DatabaseUnavailable),
        database_timeout(0.1),
    ):
        client.shop.purchases.find_one()
    assert time.monotonic() - started < 10

"""How MongoDB is reached: which database, with which guarantees, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pymongo.collection
import pymongo.database
from bson import CodecOptions, ObjectId
from bson.codec_options import DatetimeConversion
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from ..config import Settings, is_database, is_pymongo
from ..errors import ConfigurationError, DatabaseUnavailable
from ..models import find_object_id

Collection = pymongo.collection.Collection[dict[str, Any]]
Database = pymongo.database.Database[dict[str, Any]]

OPERATION_SECONDS = 2.0
"""The longest that one MongoDB operation may take, retries and elections included."""

REPORT_SECONDS = 15.0
"""The same where a person waits for figures or a list, and no refund does."""

_CODEC = CodecOptions(document_class=dict, tz_aware=True)


@contextmanager
def operation(seconds: float | None = OPERATION_SECONDS) -> Iterator[None]:
    """Bound MongoDB operations in time, and tell their failures in the library's own words.

    A failed write may have been applied: whoever comes here decides what that means. ``DuplicateKeyError``
    passes, because it is an answer.

    :param seconds: how long everything inside may take together; ``None`` for as long as it takes.
    :raises DatabaseUnavailable: 500.
    """
    try:
        with pymongo.timeout(seconds):
            yield
    except DuplicateKeyError:
        raise
    except PyMongoError as error:
        raise DatabaseUnavailable from error


def durable(database: Database, name: str) -> Collection:
    """A collection whose reads cannot be rolled back and whose writes survive a failover and a power cut.

    Whatever the host's defaults are: read and write concern majority, journaled, on the primary.
    """
    return database.get_collection(
        name,
        codec_options=_codec_for(database),
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern(w="majority", j=True),
        read_concern=ReadConcern("majority"),
    )


def stored_ids(identity: Any) -> list[Any]:
    """The forms in which a document may hold an id, so that one read serves hosts that keep it either way."""
    forms = [identity] if isinstance(identity, str) else [identity, str(identity)]
    object_id = None if isinstance(identity, ObjectId) else find_object_id(str(identity))
    return forms if object_id is None else [*forms, object_id]


def is_server(database: Any) -> bool:
    """Whether this is a database of a real MongoDB: mongomock's serves one process, and knows less."""
    return isinstance(database, pymongo.database.Database)


def _codec_for(database: Any) -> CodecOptions[dict[str, Any]]:
    if not is_server(database):
        return _CODEC  # mongomock knows one way to read dates
    # A host's date beyond Python's years must not make its purchase unreadable.
    return _CODEC.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)


def connect(settings: Settings) -> Database:
    """The host's database: its own pool where ``REFUNDS_MONGO`` gives one, else one of ours on ``MONGO_URI``.

    :raises ConfigurationError: 500; what was given leads to no database.
    """
    given = settings.refunds_mongo
    if given is None:
        return _connect_to(settings.mongo_uri)
    if not is_database(given) and not is_pymongo(given):
        given = given()
    if is_pymongo(given):
        given = given.db
    if not is_database(given):
        raise ConfigurationError(
            {"REFUNDS_MONGO": "leads to no database; a PyMongo needs init_app, and a URI with a database"}
        )
    database: Database = given
    return database


def _connect_to(uri: str | None) -> Database:
    # Flask-PyMongo replaces the JSON provider and the URL converters of the app it is given, so it is given
    # one of its own. It reads the URI and connects at first use only.
    from dns.exception import DNSException
    from flask import Flask
    from flask_pymongo import PyMongo

    try:
        database = PyMongo(Flask("flask_refunds", static_folder=None), uri).db
    except Exception as error:
        # PyMongo resolves the names of a mongodb+srv:// URI at once. Its errors may quote the password.
        if isinstance(error.__cause__ or error.__context__, DNSException):
            raise DatabaseUnavailable from None
        raise ConfigurationError({"MONGO_URI": f"cannot be used ({type(error).__name__})"}) from None
    if database is None:
        raise ConfigurationError({"MONGO_URI": "names no database"})
    return database

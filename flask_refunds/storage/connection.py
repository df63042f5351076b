"""The MongoDB connection: which database, with which guarantees and time limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import Context
from types import TracebackType
from typing import Any

import pymongo
import pymongo.collection
import pymongo.database
from bson import CodecOptions
from bson.codec_options import DatetimeConversion
from pymongo.errors import ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from ..config import Settings, is_database, is_pymongo
from ..config.reader import is_proxy
from ..errors import ConfigurationError, DatabaseUnavailable

Collection = pymongo.collection.Collection[dict[str, Any]]
Database = pymongo.database.Database[dict[str, Any]]

OPERATION_SECONDS = 2.0
"""The time limit of one MongoDB operation in seconds, including retries and elections."""

REPORT_SECONDS = 15.0
"""The time limit for reports and lists, which no refund waits for."""

_FINAL_CODES = frozenset({2, 9, 13, 14, 28, 52, 55, 57, 66, 121, 166, 11000, 17419, 31249})
"""Errors that a retry won't change: unauthorized, a validator, a view, a path that can't be created, …
(https://www.mongodb.com/docs/manual/reference/error-codes/)."""

_CODEC = CodecOptions(document_class=dict, tz_aware=True)


def database_timeout(seconds: float | None = OPERATION_SECONDS) -> AbstractContextManager[None]:
    """Limit the time of the MongoDB operations inside, and raise their failures as this library's error.

    A failed write may have been applied, so callers decide what that means. ``DuplicateKeyError`` passes,
    because it is an answer.

    :param seconds: for everything inside together; ``None`` for no limit.
    :raises DatabaseUnavailable: 500.
    """
    return _DatabaseTimeout(pymongo.timeout(seconds))


class _DatabaseTimeout(AbstractContextManager[None]):
    """Not a generator, because each refund enters five of them."""

    __slots__ = ("_timeout",)

    def __init__(self, timeout: AbstractContextManager[Any]) -> None:
        self._timeout = timeout

    def __enter__(self) -> None:
        self._timeout.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timeout.__exit__(kind, error, traceback)
        if isinstance(error, PyMongoError) and not isinstance(error, DuplicateKeyError):
            raise DatabaseUnavailable from error


@contextmanager
def rejections_as(rejection: type[Exception]) -> Iterator[None]:
    """Raise this error if MongoDB answered that it won't execute an operation, now or later.

    Use it around :func:`database_timeout`. Lost connections, timeouts and elections aren't rejections.

    :raises DatabaseUnavailable: 500; for any other failure.
    """
    try:
        yield
    except DuplicateKeyError as error:
        raise rejection from error
    except DatabaseUnavailable as error:
        cause = error.__cause__
        if not isinstance(cause, OperationFailure) or cause.timeout or cause.code not in _FINAL_CODES:
            raise
        raise rejection from error


def majority_collection(database: Database, name: str) -> Collection:
    """Return a collection whose reads can't be rolled back and whose writes survive a failover.

    Whatever the app's defaults are: read and write concern majority, journaled, on the primary.
    """
    return database.get_collection(
        name,
        codec_options=_codec_for(database),
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern(w="majority", j=True),
        read_concern=ReadConcern("majority"),
    )


def is_server(database: Any) -> bool:
    """Return whether this is a real MongoDB database, and not mongomock's, which has fewer features."""
    return isinstance(database, pymongo.database.Database)


def _codec_for(database: Any) -> CodecOptions[dict[str, Any]]:
    if not is_server(database):
        return _CODEC  # mongomock supports no other options
    # A date beyond Python's range, or invalid UTF-8, must not make one of the app's documents unreadable.
    return _CODEC.with_options(
        datetime_conversion=DatetimeConversion.DATETIME_AUTO,
        unicode_decode_error_handler="replace",
        uuid_representation=database.codec_options.uuid_representation,
    )


def connect(settings: Settings, app_context: Callable[[], AbstractContextManager[object]]) -> Database:
    """Return the app's database: from ``REFUNDS_MONGO``, or a new connection to ``MONGO_URI``.

    :param app_context: makes an app context, for a function of the app.
    :raises ConfigurationError: 500; the setting doesn't lead to a database.
    """
    given = settings.refunds_mongo
    if given is None:
        return _connect_to(settings.mongo_uri)
    if not is_database(given) and not is_pymongo(given):
        given = Context().run(_call, given, app_context)
    if is_pymongo(given):
        given = given.db
    if not is_database(given):
        raise ConfigurationError(
            {"REFUNDS_MONGO": "doesn't lead to a database; PyMongo needs init_app and a URI with a database"}
        )
    database: Database = given
    return database


def _call(function: Callable[[], Any], app_context: Callable[[], AbstractContextManager[object]]) -> Any:
    """Call a function of the app outside of any request, because its result is kept for all requests."""
    try:
        with app_context():
            result = function()
            return result._get_current_object() if is_proxy(result) else result
    except ConnectionFailure as error:
        raise DatabaseUnavailable from error
    except Exception as error:
        problem = (
            f"raised {type(error).__name__} when it was called in an app context, without a request; "
            "it can't depend on a request, so create one app for each tenant with its own database"
        )
        raise ConfigurationError({"REFUNDS_MONGO": problem}) from error


def _connect_to(uri: str | None) -> Database:
    # Flask-PyMongo replaces the JSON provider and the URL converters of its app, so it gets an app of its
    # own. It reads the URI now and connects at first use.
    from dns.exception import DNSException
    from flask import Flask
    from flask_pymongo import PyMongo

    try:
        database = PyMongo(Flask("flask_refunds", static_folder=None), uri).db
    except Exception as error:
        # PyMongo resolves the names of a mongodb+srv:// URI immediately. Its errors may contain the password.
        if isinstance(error.__cause__ or error.__context__, DNSException):
            raise DatabaseUnavailable from None
        raise ConfigurationError({"MONGO_URI": f"can't be used ({type(error).__name__})"}) from None
    if database is None:
        raise ConfigurationError({"MONGO_URI": "doesn't name a database"})
    return database

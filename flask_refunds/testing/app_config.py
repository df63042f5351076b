"""The database and the config of an app under test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pymongo
from pymongo.errors import PyMongoError

from ..storage.connection import Database
from .sandbox import StripeSandbox

STRIPE_TIMEOUT_SECONDS = 0.5
"""How long a request waits for a sandbox that doesn't answer."""
SERVER_TIMEOUT_SECONDS = 5
"""How long a test waits for its MongoDB server."""


def make_config(stripe: StripeSandbox, **database: Any) -> dict[str, Any]:
    """Return the config of an app that uses a sandbox: with secrets, a short timeout and no retries.

    :param database: the config keys of the database, from :func:`open_database`.
    """
    return {
        "TESTING": True,
        "SECRET_KEY": "for-the-tests-only-0123456789abcdef",
        "JWT_SECRET_KEY": "for-the-tests-only-0123456789abcdef",
        "STRIPE_SECRET_KEY": "sk_test_forTheTestsOnly",
        "STRIPE_WEBHOOK_SECRET": "whsec_for_the_tests_only",
        "STRIPE_API_BASE": stripe.url,
        "REFUNDS_STRIPE_TIMEOUT": STRIPE_TIMEOUT_SECONDS,
        "REFUNDS_STRIPE_RETRIES": 0,
        **database,
    }


@contextmanager
def open_database(uri: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the config keys of a new, empty database, which is dropped at the end.

    :param uri: of a MongoDB server; the database that it names isn't used. By default, mongomock simulates a
        server.
    :raises RuntimeError: mongomock isn't installed, or the server doesn't answer within 5 seconds.
    """
    if uri is None:
        yield {"REFUNDS_MONGO": _mongomock_client().refunds_test}
        return
    name = f"refunds_test_{secrets.token_hex(6)}"
    with pymongo.MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        _check_server(client)
        try:
            yield {"REFUNDS_MONGO": client[name], "MONGO_URI": _with_database(uri, name)}
        finally:
            client.drop_database(name)


def _with_database(uri: str, name: str) -> str:
    """Return the URI of another database of the same server, where the same user signs in."""
    parts = urlsplit(uri)
    query = [parts.query] if parts.query else []
    if "@" in parts.netloc and "authsource=" not in parts.query.lower():
        query.append(f"authSource={parts.path.strip('/') or 'admin'}")
    return parts._replace(path=f"/{name}", query="&".join(query)).geturl()


def check_database(used: Database, config: Mapping[str, Any]) -> None:
    """Fail if an app replaced the config's database by its own, which its tests would then fill or empty.

    :raises ValueError: names both.
    """
    expected = getattr(config.get("REFUNDS_MONGO"), "name", used.name)
    if used.name != expected:
        raise ValueError(
            f"The app uses the database {used.name} instead of {expected}, the one for its tests. Don't set "
            'REFUNDS_MONGO after the config is applied: use app.config.setdefault("REFUNDS_MONGO", …).'
        )


def _check_server(client: pymongo.MongoClient[dict[str, Any]]) -> None:
    try:
        with pymongo.timeout(SERVER_TIMEOUT_SECONDS):
            client.admin.command("ping")
    except PyMongoError as error:
        raise RuntimeError(f"The MongoDB server for the tests doesn't answer: {error}") from None


def _mongomock_client() -> Any:
    try:
        import mongomock
    except ImportError:
        raise RuntimeError(
            "Install mongomock, or use a MongoDB server: pytest --refunds-mongo mongodb://localhost"
        ) from None
    return mongomock.MongoClient(tz_aware=True)

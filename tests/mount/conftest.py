"""An app whose responses and log must not contain HTML, tracebacks or secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import mongomock
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from flask_refunds.testing import StripeSandbox
from tests.contract import ContractClient
from tests.shop import JWT_SECRET, STRIPE_KEY, Shop, make_app

WEBHOOK_SECRET = "whsec_of_the_tests_that_must_stay_secret"
MONGO_PASSWORD = "password-of-the-database-of-the-tests"
SECRETS = {JWT_SECRET, STRIPE_KEY, WEBHOOK_SECRET, MONGO_PASSWORD}


def secrets_of(tokens: set[str]) -> set[str]:
    """Return the secrets and the tokens, without short ones, which any text could contain."""
    return SECRETS | {token for token in tokens if len(token) > 40}


class WatchedClient(ContractClient):
    """Checks every response, with tokens as secrets, too.

    Set ``allow_html`` for responses of the app itself.
    """

    allow_html = False
    tokens: set[str]

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        headers = kwargs.get("headers")
        if isinstance(headers, dict) and "Authorization" in headers:
            self.tokens.add(headers["Authorization"].partition(" ")[2])
        response = super().open(*args, **kwargs)
        self.inspect(response)
        return response

    def inspect(self, response: TestResponse) -> None:
        shown = f"{response.status}\n{response.headers}\n{response.get_data(as_text=True)}"
        assert not [secret for secret in secrets_of(self.tokens) if secret in shown]
        assert "Traceback" not in shown
        assert 'File "' not in shown
        if response.get_data() and not self.allow_html:
            assert "html" not in response.headers.get("Content-Type", ""), shown
            assert "<!doctype" not in shown.lower()


@pytest.fixture(autouse=True)
def watched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[type[WatchedClient]]:
    """Use the client for every app, and check the log after the test."""
    client_class = type("Client", (WatchedClient,), {"tokens": set()})
    monkeypatch.setattr(Flask, "test_client_class", client_class)
    caplog.set_level(logging.DEBUG)
    yield client_class
    text = "\n".join(map(logging.Formatter().format, caplog.get_records("call")))
    assert not [secret for secret in secrets_of(client_class.tokens) if secret in text]


class SpyCollection:
    """A collection that records its method calls."""

    def __init__(self, calls: list[tuple[str, str, Any]], collection: Any) -> None:
        self._calls = calls
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._collection, name)
        if not callable(attribute):
            return attribute

        def recorded(*args: Any, **kwargs: Any) -> Any:
            self._calls.append((self._collection.name, name, args))
            return attribute(*args, **kwargs)

        return recorded


class SpyDatabase:
    """A database that records method calls of its collections: (collection, method, arguments)."""

    def __init__(self, database: Any) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self._database = database

    def get_collection(self, name: str, **options: Any) -> SpyCollection:
        return SpyCollection(self.calls, self._database.get_collection(name, **options))

    @property
    def touched(self) -> list[tuple[str, str]]:
        """The recorded calls without their arguments."""
        return [(collection, method) for collection, method, _ in self.calls]


class WatchedShop(Shop):
    """A shop that records what the library does with its database."""

    def __init__(self, app: Flask, database: Any, spy: SpyDatabase) -> None:
        super().__init__(app, database)
        self.spy = spy


MakeShop = Callable[..., WatchedShop]


@pytest.fixture
def make_shop(sandbox: StripeSandbox) -> MakeShop:
    """Return a function that makes a shop with its own mongomock database."""

    def make_shop(**config: Any) -> WatchedShop:
        database = mongomock.MongoClient(tz_aware=True).shop
        spy = SpyDatabase(database)
        defaults = {
            "REFUNDS_MONGO": spy,
            "STRIPE_API_BASE": sandbox.url,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        }
        return WatchedShop(make_app(**(defaults | config)), database, spy)

    return make_shop


@pytest.fixture
def shop(make_shop: MakeShop) -> WatchedShop:
    return make_shop()


def assert_error(response: TestResponse, status: int, code: str, error: str | None = None) -> None:
    """Check that the response is this error, without extra fields."""
    assert (response.status_code, response.mimetype) == (status, "application/json"), response.text
    assert response.json is not None
    assert response.json["code"] == code
    assert response.json.keys() <= {"error", "code", "refund", "hint", "stripeCode"}
    assert isinstance(response.json["error"], str)
    assert response.headers["Cache-Control"] == "no-store"
    assert ("WWW-Authenticate" in response.headers) == (status == 401)
    if error is not None:
        assert response.json["error"] == error


def assert_not_authenticated(response: TestResponse) -> None:
    assert_error(response, 401, "not_authenticated")
    assert response.get_data() == b'{"error":"Not authenticated","code":"not_authenticated"}'
    assert response.headers.getlist("WWW-Authenticate") == ["Bearer"]


def assert_admin_required(response: TestResponse) -> None:
    assert_error(response, 403, "admin_required")
    assert response.get_data() == b'{"error":"Admin access required","code":"admin_required"}'

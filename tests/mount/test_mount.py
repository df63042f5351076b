"""The blueprint in an app: under any prefix, any number of times, without changing the app."""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import mongomock
import pymongo
import pytest
import stripe
from bson import ObjectId
from flask import Blueprint, Flask, Response, abort, got_request_exception, request
from flask.json.provider import DefaultJSONProvider, JSONProvider
from flask_pymongo import BSONObjectIdConverter, BSONProvider, PyMongo
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

import flask_refunds
from flask_refunds import RefundsError, check_config, refunds_bp
from flask_refunds.extension import get_refunds
from flask_refunds.schemas.inputs import MAX_BODY_BYTES
from flask_refunds.testing import StripeSandbox, make_token
from tests.mount.conftest import (
    MONGO_PASSWORD,
    MakeShop,
    WatchedClient,
    WatchedShop,
    assert_error,
    assert_not_authenticated,
)
from tests.shop import JWT_SECRET, STRIPE_KEY, Shop, make_app, make_config

ID = "64b5f2c8e13e4a5b6c7d8e9f"
REFUND_PATH = f"/api/payments/admin/refund/{ID}"


def assert_refunded(response: TestResponse, purchase: ObjectId, payment: str) -> None:
    """Check the whole response to a successful refund."""
    assert (response.status_code, response.mimetype) == (200, "application/json"), response.text
    assert response.headers["Cache-Control"] == "no-store"
    answer = json.loads(response.get_data())
    assert answer.keys() == {"message", "purchase", "refund"}
    assert answer["message"] == "Refund successful"
    assert answer["purchase"]["_id"] == str(purchase)
    assert answer["purchase"]["status"] == "refunded"
    assert answer["purchase"]["createdAt"] == "2024-03-15T10:30:00.000Z"
    assert len(answer["purchase"]["user"]) == 24
    assert answer["refund"]["purchaseIds"] == [str(purchase)]
    assert answer["refund"]["id"] == f"{payment}:1"
    assert answer["refund"]["amount"] == 1999
    assert answer["refund"]["createdAt"].endswith("Z")


def refund_one(shop: Shop, sandbox: StripeSandbox, prefix: str = "/api/payments") -> None:
    """Make a purchase, and refund it through the blueprint at this prefix."""
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    path = f"{prefix}/admin/refund/{purchase}"
    assert_not_authenticated(shop.client.post(path))
    assert_refunded(shop.client.post(path, headers=shop.headers()), purchase, payment)
    assert shop.status_of(purchase) == "refunded"
    assert sandbox.money_refunded(payment) == 1999


# Prefixes, names and apps


def test_registered_blueprint_makes_refunds(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    refund_one(shop, sandbox)


@pytest.mark.parametrize("config_first", [True, False])
def test_config_can_be_set_before_or_after_registering(sandbox: StripeSandbox, config_first: bool) -> None:
    app, database = Flask("shop"), mongomock.MongoClient(tz_aware=True).shop
    config = make_config(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url)
    if config_first:
        app.config.update(config)
    app.register_blueprint(refunds_bp)
    if not config_first:
        app.config.update(config)
    refund_one(Shop(app, database), sandbox)


Mount = Callable[[Flask], object]


def _nested(app: Flask) -> None:
    parent = Blueprint("api", __name__, url_prefix="/v1")
    parent.register_blueprint(refunds_bp)
    app.register_blueprint(parent)


def _deeply_nested(app: Flask) -> None:
    outer, inner = (
        Blueprint("outer", __name__, url_prefix="/a"),
        Blueprint("inner", __name__, url_prefix="/b"),
    )
    inner.register_blueprint(refunds_bp, url_prefix="/c", name="money")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)


MOUNTS: list[tuple[str, str, Mount]] = [
    ("/api/payments", "refunds.refund_purchase", lambda app: app.register_blueprint(refunds_bp)),
    ("/pay", "refunds.refund_purchase", lambda app: app.register_blueprint(refunds_bp, url_prefix="/pay")),
    ("", "refunds.refund_purchase", lambda app: app.register_blueprint(refunds_bp, url_prefix="/")),
    ("/api/payments", "x.refund_purchase", lambda app: app.register_blueprint(refunds_bp, name="x")),
    ("/v1/api/payments", "api.refunds.refund_purchase", _nested),
    ("/a/b/c", "outer.inner.money.refund_purchase", _deeply_nested),
]


@pytest.mark.parametrize(("prefix", "endpoint", "mount"), MOUNTS)
def test_blueprint_works_under_any_prefix_name_and_parent(
    sandbox: StripeSandbox, prefix: str, endpoint: str, mount: Mount
) -> None:
    app, database = Flask("shop"), mongomock.MongoClient(tz_aware=True).shop
    app.config.update(make_config(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url))
    mount(app)
    assert endpoint in app.view_functions
    refund_one(Shop(app, database), sandbox, prefix)


def test_prefix_can_have_a_variable_that_the_app_removes(sandbox: StripeSandbox) -> None:
    app, database = Flask("shop"), mongomock.MongoClient(tz_aware=True).shop
    app.config.update(make_config(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url))
    app.register_blueprint(refunds_bp, url_prefix="/<tenant>/pay")
    app.url_value_preprocessor(lambda endpoint, values: (values or {}).pop("tenant", None))
    refund_one(Shop(app, database), sandbox, "/acme/pay")


def test_blueprint_can_be_registered_twice_with_two_names(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    shop.app.register_blueprint(refunds_bp, name="again", url_prefix="/again")
    refund_one(shop, sandbox)
    refund_one(shop, sandbox, "/again")
    with pytest.raises(ValueError, match="already registered"):
        make_app().register_blueprint(refunds_bp)


def test_two_apps_of_one_factory_have_their_own_ledgers(make_shop: MakeShop, sandbox: StripeSandbox) -> None:
    for shop in (make_shop(), make_shop()):
        refund_one(shop, sandbox)
        assert shop.db.flask_refunds.count_documents({}) == 1


def test_refund_works_under_a_script_root(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    response = shop.refund(purchase, base_url="https://shop.example/under/here")
    assert_refunded(response, purchase, payment)


def test_two_apps_share_no_settings_and_no_data() -> None:
    """Each app has its own secret, database, collection names and Stripe account."""
    keys = {"a": "sk_test_accountA", "b": "sk_test_accountB"}
    with StripeSandbox(secret_key=keys["a"]) as stripe_a, StripeSandbox(secret_key=keys["b"]) as stripe_b:
        shops, sandboxes = {}, {"a": stripe_a, "b": stripe_b}
        for name, sandbox in sandboxes.items():
            database = mongomock.MongoClient(tz_aware=True)[name]
            app = make_app(
                REFUNDS_MONGO=database,
                STRIPE_API_BASE=sandbox.url,
                STRIPE_SECRET_KEY=keys[name],
                JWT_SECRET_KEY=name * 40,
                REFUNDS_COLLECTION=f"ledger_{name}",
                REFUNDS_USER_FIELDS={"id": "_id" if name == "a" else "login"},
            )
            shops[name] = Shop(app, database)
        users = {"a": str(shops["a"].admin_id), "b": "bob"}
        shops["b"].add_user(login="bob", role="admin")

        def headers(name: str) -> dict[str, str]:
            return {"Authorization": f"Bearer {make_token(users[name], secret=name * 40)}"}

        for name, other in (("a", "b"), ("b", "a"), ("a", "b")):
            shop, sandbox = shops[name], sandboxes[name]
            payment = sandbox.create_payment(1999)
            purchase = shop.add_purchase(payment)
            assert_not_authenticated(shop.refund(purchase, headers=headers(other)))
            assert_error(shops[other].refund(purchase, headers=headers(other)), 404, "purchase_not_found")
            assert_refunded(shop.refund(purchase, headers=headers(name)), purchase, payment)
        assert shops["a"].db.ledger_a.count_documents({}) == 2
        assert shops["b"].db.ledger_b.count_documents({}) == 1
        assert "flask_refunds" not in shops["a"].db.list_collection_names()


def test_misconfigured_app_does_not_affect_another(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    invalid = make_app().test_client()
    assert_error(invalid.post(REFUND_PATH), 500, "configuration_error")
    refund_one(shop, sandbox)
    assert_error(invalid.post(REFUND_PATH), 500, "configuration_error")


def _wait_until_all_run(threads: list[threading.Thread], function: Any) -> None:
    """Wait until every thread is executing this function."""

    def runs(thread: threading.Thread) -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        while frame is not None and frame.f_code is not function.__code__:
            frame = frame.f_back
        return frame is not None

    end = time.monotonic() + 10
    while not all(map(runs, threads)):
        assert time.monotonic() < end
        time.sleep(0.001)


def test_concurrent_first_requests_build_the_components_once(sandbox: StripeSandbox) -> None:
    built: list[Any] = []
    database = mongomock.MongoClient(tz_aware=True).shop
    together = threading.Barrier(8, timeout=10)

    def get_database() -> Any:
        built.append(1)
        _wait_until_all_run(threads, get_refunds)
        return database

    shop = Shop(make_app(REFUNDS_MONGO=get_database, STRIPE_API_BASE=sandbox.url), database)
    seen: list[int] = []

    def call() -> None:
        together.wait()
        seen.append(shop.app.test_client().post(REFUND_PATH).status_code)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [401] * 8
    assert built == [1]


def test_slow_start_of_one_app_does_not_block_another(shop: WatchedShop) -> None:
    entered, finish = threading.Event(), threading.Event()

    def get_database() -> Any:
        entered.set()
        finish.wait(10)
        return mongomock.MongoClient().shop

    slow = make_app(REFUNDS_MONGO=get_database)
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(slow.test_client().post(REFUND_PATH).status_code)),
        threading.Thread(target=lambda: seen.append(shop.client.post(REFUND_PATH).status_code)),
    ]
    try:
        threads[0].start()
        assert entered.wait(10)
        threads[1].start()
        threads[1].join(10)
        assert seen == [401]
    finally:
        finish.set()
        for thread in threads:
            thread.join()


# Registering doesn't change the app


def _state_of(app: Flask) -> dict[str, Any]:
    """Return the app's own state, except the routes."""
    return {
        "config": {key: repr(value) for key, value in app.config.items()},
        "json": app.json,
        "json class": type(app.json),
        "json options": {k: repr(v) for k, v in vars(app.json).items()},
        "converters": dict(app.url_map.converters),
        "slashes": (app.url_map.strict_slashes, app.url_map.merge_slashes, app.url_map.host_matching),
        "error handlers": repr(app.error_handler_spec),
        "hooks": [
            repr(hooks)
            for hooks in (
                app.before_request_funcs,
                app.after_request_funcs,
                app.teardown_request_funcs,
                app.teardown_appcontext_funcs,
                {name: hooks for name, hooks in app.url_value_preprocessors.items() if name != "refunds"},
                app.url_default_functions,
                app.shell_context_processors,
            )
        ],
        "classes": (app.response_class, app.request_class, app.session_interface, app.test_client_class),
        "jinja": (sorted(app.jinja_env.filters), sorted(app.jinja_env.globals)),
        "static": (app.static_folder, app.template_folder),
        "handlers": (list(app.logger.handlers), app.logger.level),
    }


def _remove_empty_hooks(app: Flask) -> None:
    """Remove the empty lists that a defaultdict creates when it is read."""
    for hooks in (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs):
        for key in [key for key, functions in hooks.items() if not functions]:
            del hooks[key]


@pytest.mark.parametrize("way", ["REFUNDS_MONGO", "MONGO_URI"])
def test_registering_and_serving_do_not_change_the_app(sandbox: StripeSandbox, way: str) -> None:
    app, database = Flask("shop"), mongomock.MongoClient(tz_aware=True).shop
    uri = f"mongodb://shop:{MONGO_PASSWORD}@127.0.0.1:1/shop"
    app.config.update(make_config(STRIPE_API_BASE=sandbox.url))
    app.config[way] = database if way == "REFUNDS_MONGO" else uri
    json_provider, before = app.json, _state_of(app)
    root = logging.getLogger()
    handlers, logger = list(root.handlers), logging.getLogger("flask_refunds")

    app.register_blueprint(refunds_bp)
    assert _state_of(app) == before
    assert_not_authenticated(app.test_client().post(REFUND_PATH))
    if way == "REFUNDS_MONGO":
        refund_one(Shop(app, database), sandbox)
    _remove_empty_hooks(app)
    assert _state_of(app) == before
    assert app.json is json_provider
    assert app.extensions.keys() == {"refunds"}
    assert root.handlers == handlers
    assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)


def test_deleted_app_is_garbage_collected(watched: type[WatchedClient]) -> None:
    """Otherwise a test suite that makes one app per test would keep all their connections."""
    app = make_app(REFUNDS_MONGO=mongomock.MongoClient().shop)
    assert_not_authenticated(app.test_client().post(REFUND_PATH))
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None


def test_blueprint_has_no_state(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    def state() -> str:
        return repr({key: value for key, value in vars(refunds_bp).items() if key != "_got_registered_once"})

    before = state()
    shop.app.register_blueprint(refunds_bp, name="again", url_prefix="/again")
    refund_one(shop, sandbox, "/again")
    assert state() == before


STRIPE_GLOBALS = {
    "api_key": "sk_test_of_the_app",
    "client_id": "ca_of_the_app",
    "api_base": "https://stripe.example",
    "api_version": "2020-08-27",
    "verify_ssl_certs": False,
    "proxy": "http://proxy.example",
    "default_http_client": object(),
    "app_info": {"name": "the app", "version": None, "url": None, "partner_id": None},
    "enable_telemetry": False,
    "max_network_retries": 7,
    "log": "info",
}


def test_stripe_globals_are_neither_changed_nor_used(
    shop: WatchedShop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in STRIPE_GLOBALS.items():
        monkeypatch.setattr(stripe, name, value)
    refund_one(shop, sandbox)
    assert {name: getattr(stripe, name) for name in STRIPE_GLOBALS} == STRIPE_GLOBALS


IMPORTS = """
import sys
import flask_refunds
from flask import Flask

def loaded():
    return sorted({name.partition(".")[0] for name in sys.modules} & {"stripe", "flask_pymongo", "mongomock"})

assert loaded() == [], loaded()
app = Flask("shop")
app.config.update(JWT_SECRET_KEY="s" * 40, STRIPE_SECRET_KEY="sk_test_1", MONGO_URI="mongodb://127.0.0.1:1/shop")
app.register_blueprint(flask_refunds.refunds_bp)
assert app.url_map and loaded() == [], loaded()
assert app.test_client().post("/api/payments/admin/refund/x").status_code == 401
assert loaded() == ["flask_pymongo"], loaded()
flask_refunds.check_config(app)
assert loaded() == ["flask_pymongo", "stripe"], loaded()
"""


def test_optional_libraries_are_imported_only_when_needed() -> None:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTS],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_exists() -> None:
    for name in flask_refunds.__all__:
        assert getattr(flask_refunds, name) is not None
    assert flask_refunds.refunds_bp.name == "refunds"
    assert flask_refunds.refunds_bp.url_prefix == "/api/payments"


def test_help_describes_every_command() -> None:
    app = make_app()
    listed = app.test_cli_runner().invoke(args=["refunds", "--help"]).output.split("Commands:\n")[1]
    lines = {line.split()[0]: line.split()[1:] for line in listed.splitlines() if line.strip()}
    assert {"refund", "bulk", "reconcile", "resolve", "init-db", "check"} <= lines.keys()
    assert all(lines.values()), lines


# Responses of the app


def _handle_everything(app: Flask) -> list[Any]:
    """Register handlers of the app for every error, and return the list of what they get."""
    seen: list[Any] = []

    def handle(error: Any) -> tuple[dict[str, str], int]:
        seen.append(error)
        return {"app": type(error).__name__}, getattr(error, "code", 500)

    for kind in (400, 401, 403, 404, 405, 409, 413, 500, 503, HTTPException, RefundsError, Exception):
        app.register_error_handler(kind, handle)
    return seen


def test_error_handlers_of_the_app_do_not_handle_our_errors(
    make_shop: MakeShop, sandbox: StripeSandbox
) -> None:
    exceptions: list[Any] = []

    def is_admin(user: Any) -> bool:
        if exceptions:
            raise exceptions.pop()
        return bool(user["role"] == "admin")

    shop = make_shop(REFUNDS_IS_ADMIN=is_admin)
    seen = _handle_everything(shop.app)
    handlers = repr(shop.app.error_handler_spec)
    user = shop.add_user()
    assert_not_authenticated(shop.client.post(REFUND_PATH))
    assert_error(shop.client.post(REFUND_PATH, headers=shop.headers(user)), 403, "admin_required")
    assert_error(shop.refund(ID), 404, "purchase_not_found")
    assert_error(shop.refund(ID, data=b"{"), 400, "invalid_request")
    assert_error(shop.refund(shop.add_purchase("pi_1", "pending")), 400, "purchase_not_refundable")
    assert_error(shop.refund(shop.add_purchase("pi_unknown")), 400, "payment_unknown")
    sandbox.inject("key_rejected")
    assert_error(shop.refund(shop.add_purchase(sandbox.create_payment(1))), 500, "stripe_key_rejected")
    exceptions.append(RuntimeError("unexpected"))
    assert_error(shop.refund(ID), 500, "internal_error")
    assert_error(make_app().test_client().post(REFUND_PATH), 500, "configuration_error")
    assert seen == []
    assert repr(shop.app.error_handler_spec) == handlers


@pytest.mark.parametrize("handled", [True, False])
def test_app_handles_unknown_paths_and_methods(shop: WatchedShop, handled: bool) -> None:
    seen = _handle_everything(shop.app) if handled else []
    shop.client.allow_html = not handled  # type: ignore[attr-defined]
    for path in (
        "/api/payments/",
        "/api/payments/admin/refund/",
        "/api/payments/x%2Fy",
    ):
        response = shop.client.post(path, headers=shop.headers())
        assert response.status_code == 404
        assert response.json == {"app": "NotFound"} if handled else response.mimetype == "text/html"
    for method in ("PUT", "PATCH", "DELETE"):
        response = shop.client.open(REFUND_PATH, method=method, headers=shop.headers())
        assert response.status_code == 405
        assert response.json == {"app": "MethodNotAllowed"} if handled else response.mimetype == "text/html"
    allowed = shop.client.options(REFUND_PATH).headers["Allow"].split(", ")
    assert set(allowed) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert len(seen) == (6 if handled else 0)
    assert shop.spy.calls == []


class AppError(Exception):
    """An error of the app."""


@pytest.mark.parametrize("kind", [AppError, ValueError, RefundsError])
def test_app_handles_exceptions_of_its_hooks_on_our_paths(shop: WatchedShop, kind: type[Exception]) -> None:
    @shop.app.before_request
    def hook() -> None:
        raise kind("from a hook")

    shop.app.register_error_handler(kind, lambda error: ({"app": str(error)}, 418))
    shop.client.app_answers = True  # type: ignore[attr-defined]
    response = shop.refund(ID)
    assert (response.status_code, response.json) == (418, {"app": "from a hook"})


def test_response_of_an_app_hook_on_our_paths_is_returned(shop: WatchedShop) -> None:
    shop.app.before_request(lambda: abort(503))
    shop.app.register_error_handler(503, lambda error: ({"app": "closed"}, 503))
    shop.client.app_answers = True  # type: ignore[attr-defined]

    @shop.app.after_request
    def mark(response: Response) -> Response:
        response.headers["X-App"] = "1"
        return response

    response = shop.refund(ID)
    assert (response.json, response.headers["X-App"]) == ({"app": "closed"}, "1")


@pytest.mark.parametrize(
    "mode",
    [
        {"TESTING": True},
        {"TESTING": False},
        {"DEBUG": True},
        {"PROPAGATE_EXCEPTIONS": True},
        {"TRAP_HTTP_EXCEPTIONS": True},
    ],
)
def test_unexpected_exception_is_logged_and_sent_to_the_app(
    make_shop: MakeShop, mode: dict[str, bool], caplog: pytest.LogCaptureFixture
) -> None:
    """The response doesn't reveal it, and says that a retry is safe."""
    error = RuntimeError("canary")

    def is_admin(user: Any) -> bool:
        raise error

    shop = make_shop(REFUNDS_IS_ADMIN=is_admin, **({"TESTING": False} | mode))
    reported: list[Any] = []

    def receive(sender: Flask, exception: Exception, **extra: Any) -> None:
        reported.append((sender, exception))

    with got_request_exception.connected_to(receive, shop.app):
        response = shop.refund(ID)
    assert_error(response, 500, "internal_error")
    assert "safe to retry" in response.json["error"]
    assert "canary" not in f"{response.headers}{response.text}"
    assert reported == [(shop.app, error)]
    [record] = [record for record in caplog.records if record.name == "flask_refunds"]
    assert record.exc_info is not None
    assert record.exc_info[2] is error.__traceback__
    logged = logging.Formatter().format(record)
    assert "RuntimeError" in logged
    assert "canary" not in logged


def test_expected_error_is_not_sent_to_the_app(shop: WatchedShop) -> None:
    reported: list[Any] = []

    def receive(sender: Flask, **extra: Any) -> None:
        reported.append(extra)

    with got_request_exception.connected_to(receive, shop.app):
        shop.refund(ID)
        shop.client.post(REFUND_PATH)
    assert reported == []


# The app's JSON provider and database


class FailingProvider(JSONProvider):
    """A provider that must not be used."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        raise AssertionError("the app's JSON provider was used")

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        raise AssertionError("the app's JSON provider was used")

    def response(self, *args: Any, **kwargs: Any) -> Response:
        raise AssertionError("the app's JSON provider was used")


class WrappingProvider(DefaultJSONProvider):
    """A provider that changes every value."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return super().dumps({"wrapped": obj}, **kwargs)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return {"wrapped": super().loads(s, **kwargs)}


@pytest.mark.parametrize("provider", [FailingProvider, WrappingProvider, BSONProvider])
def test_json_provider_of_the_app_is_not_used(
    shop: WatchedShop, sandbox: StripeSandbox, provider: type[JSONProvider]
) -> None:
    shop.app.json = provider(shop.app)
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    rejected = shop.refund(purchase, data=b"{")
    refunded = shop.refund(
        purchase, data=b'{"reason": "duplicate", "note": "x"}', content_type="application/json"
    )
    unauthenticated = shop.client.post(REFUND_PATH)
    shop.app.json = DefaultJSONProvider(shop.app)
    for response in (rejected, refunded, unauthenticated):
        response.json_module = json  # Flask's client would parse it with the app's provider
    assert_error(rejected, 400, "invalid_request")
    assert_refunded(refunded, purchase, payment)
    assert_not_authenticated(unauthenticated)
    assert shop.records()[0]["note"] == "x"


def test_response_class_of_the_app_is_not_used(make_shop: MakeShop, sandbox: StripeSandbox) -> None:
    class Branded(Response):
        default_mimetype = "text/plain"

    shop = make_shop()
    shop.app.response_class = Branded
    refund_one(shop, sandbox)


def test_flask_pymongo_of_the_app_keeps_its_json_provider(
    make_shop: MakeShop, sandbox: StripeSandbox
) -> None:
    shop = make_shop()
    PyMongo(shop.app, "mongodb://127.0.0.1:1/shop")
    assert isinstance(shop.app.json, BSONProvider)
    refund_one(shop, sandbox)
    assert isinstance(shop.app.json, BSONProvider)
    assert shop.app.url_map.converters["ObjectId"] is BSONObjectIdConverter


@pytest.mark.parametrize("callable_", [True, False])
def test_pymongo_object_of_the_app_is_used(sandbox: StripeSandbox, callable_: bool) -> None:
    app, database = Flask("shop"), mongomock.MongoClient(tz_aware=True).shop
    mongo = PyMongo(app, "mongodb://127.0.0.1:1/shop")
    mongo.db = database  # instead of a server's
    app.config.update(
        make_config(REFUNDS_MONGO=(lambda: mongo) if callable_ else mongo, STRIPE_API_BASE=sandbox.url)
    )
    app.register_blueprint(refunds_bp)
    refund_one(Shop(app, database), sandbox)


def test_pymongo_object_can_get_its_app_later(sandbox: StripeSandbox) -> None:
    app, mongo = Flask("shop"), PyMongo()
    app.config.update(make_config(REFUNDS_MONGO=mongo))
    app.register_blueprint(refunds_bp)
    client = app.test_client()
    assert_error(client.post(REFUND_PATH), 500, "configuration_error")
    mongo.init_app(app, "mongodb://127.0.0.1:1/shop")
    assert_not_authenticated(client.post(REFUND_PATH))
    assert get_refunds(app).settings.refunds_mongo is mongo


# The database


def _users_collection(app: Flask) -> Any:
    return get_refunds(app).users._collection


def test_connection_pool_of_the_app_is_shared() -> None:
    with pymongo.MongoClient("mongodb://127.0.0.1:1", connect=False) as client:
        mongo = PyMongo(Flask("other"), "mongodb://127.0.0.1:1/shop")
        mongo.cx, mongo.db = client, client.shop  # type: ignore[assignment]
        for given in (client.shop, lambda: client.shop, mongo, lambda: mongo):
            app = make_app(REFUNDS_MONGO=given)
            check_config(app)
            assert _users_collection(app).database.client is client
            assert _users_collection(app).full_name == "shop.users"


def test_database_of_flask_pymongo_is_used() -> None:
    app = make_app()
    app.config["REFUNDS_MONGO"] = PyMongo(app, "mongodb://127.0.0.1:1/shop").db
    check_config(app)
    assert _users_collection(app).full_name == "shop.users"


def test_database_of_the_uri_is_used() -> None:
    app = make_app(MONGO_URI="mongodb://127.0.0.1:1/orders")
    check_config(app)
    assert _users_collection(app).full_name == "orders.users"


def test_failing_database_function_is_called_again(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    failures = [ConnectionError("canary")]

    def get_database() -> Any:
        if failures:
            raise failures.pop()
        return shop.db

    app = make_app(REFUNDS_MONGO=get_database, STRIPE_API_BASE=sandbox.url)
    response = app.test_client().post(REFUND_PATH)
    assert_error(response, 500, "configuration_error")
    assert "canary" not in response.text
    refund_one(Shop(app, shop.db), sandbox)


def test_mongo_uri_names_the_database() -> None:
    app = make_app(MONGO_URI=f"mongodb://shop:{MONGO_PASSWORD}@127.0.0.1:1/shop?appname=x")
    check_config(app)
    assert _users_collection(app).full_name == "shop.users"


@pytest.mark.parametrize("wrapped", [True, False])
def test_mongo_client_is_a_configuration_error(wrapped: bool) -> None:
    with pymongo.MongoClient("mongodb://127.0.0.1:1", connect=False) as client:
        app = make_app(REFUNDS_MONGO=(lambda: client) if wrapped else client)
        assert_error(app.test_client().post(REFUND_PATH), 500, "configuration_error")


def test_unreachable_database_is_database_unavailable(
    sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_refunds.storage.connection.OPERATION_SECONDS", 0.05)
    app = make_app(MONGO_URI=f"mongodb://shop:{MONGO_PASSWORD}@127.0.0.1:1/shop", STRIPE_API_BASE=sandbox.url)
    headers = {"Authorization": f"Bearer {make_token(ID, secret=JWT_SECRET)}"}
    try:
        response = app.test_client().post(REFUND_PATH, headers=headers)
        assert_error(response, 500, "database_unavailable")
        assert "This call refunded nothing" in response.json["error"]
        assert "127.0.0.1" not in response.text
    finally:
        _users_collection(app).database.client.close()
    assert sandbox.requests == []


def test_unresolvable_mongo_host_is_database_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.resolver

    def resolve(*args: Any, **kwargs: Any) -> Any:
        raise dns.resolver.NoNameservers

    monkeypatch.setattr(dns.resolver, "resolve", resolve)
    app = make_app(MONGO_URI=f"mongodb+srv://shop:{MONGO_PASSWORD}@cluster.shop.example/shop")
    headers = {"Authorization": f"Bearer {make_token(ID, secret=JWT_SECRET)}"}
    assert_error(app.test_client().post(REFUND_PATH, headers=headers), 500, "database_unavailable")


# Bodies


@pytest.fixture
def purchase(shop: WatchedShop, sandbox: StripeSandbox) -> OnePurchase:
    return OnePurchase(shop, sandbox)


class OnePurchase:
    """One purchase, and requests to refund it with any body."""

    def __init__(self, shop: WatchedShop, sandbox: StripeSandbox) -> None:
        self.shop = shop
        self.sandbox = sandbox
        self.payment = sandbox.create_payment(1999)
        self.id = shop.add_purchase(self.payment)

    def refund(self, **body: Any) -> TestResponse:
        return self.shop.refund(self.id, **body)

    def assert_rejected(self, response: TestResponse) -> None:
        """Check that the response is a 400, and that Stripe and the database are unchanged."""
        assert_error(response, 400, "invalid_request")
        assert "Nothing was refunded" in response.json["error"]
        assert self.sandbox.requests == []
        assert self.shop.records() == []
        assert self.shop.status_of(self.id) == "completed"

    def assert_refunded(
        self, response: TestResponse, reason: str | None = None, note: str | None = None
    ) -> None:
        assert_refunded(response, self.id, self.payment)
        [record] = self.shop.records()
        assert (record["reason"], record["note"]) == (reason, note)


def _json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": b""},
        {"data": b" \r\n\t"},
        {"data": b"", "content_type": "application/json"},
        {"data": b"{}"},
        {"json": {}},
        {"json": {"reason": None, "note": None}},
        {"query_string": {"amount": "5", "reason": "nonsense"}},
    ],
)
def test_body_without_fields_makes_a_refund(purchase: OnePurchase, body: dict[str, Any]) -> None:
    purchase.assert_refunded(purchase.refund(**body))


@pytest.mark.parametrize(
    ("reason", "content_type"),
    [
        ("requested_by_customer", "application/json"),
        ("duplicate", "text/plain"),
        ("duplicate", "application/x-www-form-urlencoded"),
        ("fraudulent", ""),
    ],
)
def test_reason_is_read_under_any_content_type(purchase: OnePurchase, reason: str, content_type: str) -> None:
    response = purchase.refund(data=_json(reason=reason), content_type=content_type)
    purchase.assert_refunded(response, reason)
    assert response.json["refund"]["reason"] == reason
    assert purchase.sandbox.refunds(purchase.payment)[0]["reason"] == reason


@pytest.mark.parametrize("note", ["", "🎉" * 500, "a\0b"])
def test_note_is_stored_and_returned_unchanged(purchase: OnePurchase, note: str) -> None:
    response = purchase.refund(json={"note": note})
    purchase.assert_refunded(response, note=note)
    assert response.json["refund"]["note"] == note


FORM = "application/x-www-form-urlencoded"
INVALID: dict[str, dict[str, Any]] = {
    "unknown reason": {"json": {"reason": "changed_mind"}},
    "reason an ObjectId": {"data": b'{"reason": {"$oid": "64b5f2c8e13e4a5b6c7d8e9f"}}'},
    "note of 501": {"json": {"note": "x" * 501}},
    "note an ObjectId": {"data": b'{"note": {"$oid": "64b5f2c8e13e4a5b6c7d8e9f"}}'},
    "an amount": {"json": {"amount": 500}},
    "unknown field": {"json": {"currency": "usd"}},
    "unknown operator": {"data": b'{"$oid": "64b5f2c8e13e4a5b6c7d8e9f"}'},
    "unknown field, half a surrogate pair": {"data": b'{"\\udfff": 1}'},
    "a list": {"json": []},
    "100,000 brackets": {"data": b"[" * 100_000},
    "100,000 objects": {"data": b'{"note":' * 100_000},
    "a megabyte": {"data": b'{"note": "' + b"x" * 2**20 + b'"}'},
    "a megabyte of digits": {"data": b"9" * 2**20},
    "just too large": {"data": b"{}".ljust(MAX_BODY_BYTES + 1)},
    "not UTF-8": {"data": b'{"note": "\xff"}'},
    "gzip": {"data": b"\x1f\x8b\x08\x00", "extra_headers": {"Content-Encoding": "gzip"}},
    "a form": {"data": {"reason": "duplicate"}, "content_type": FORM},
    "a form with an amount": {"data": b"amount=500", "content_type": FORM},
    "a multipart form": {"data": {"reason": "duplicate", "file": (io.BytesIO(b"x"), "x.txt")}},
    "XML": {"data": b"<amount>5</amount>", "content_type": "application/xml"},
    "half an object": {"data": b'{"reason": "dup'},
}


@pytest.mark.parametrize("what", INVALID)
def test_invalid_body_is_rejected_and_refunds_nothing(purchase: OnePurchase, what: str) -> None:
    body = dict(INVALID[what])
    headers = purchase.shop.headers() | body.pop("extra_headers", {})
    purchase.assert_rejected(purchase.refund(headers=headers, **body))


@pytest.mark.parametrize("what", ["reason an ObjectId", "note an ObjectId", "unknown operator"])
def test_extended_json_is_rejected_with_flask_pymongo(purchase: OnePurchase, what: str) -> None:
    PyMongo(purchase.shop.app, "mongodb://127.0.0.1:1/shop")
    body = {"content_type": "application/json", **INVALID[what]}
    purchase.assert_rejected(purchase.refund(**body))


@pytest.mark.parametrize("limit", [0, 10, MAX_BODY_BYTES])
def test_lower_content_limit_of_the_app_is_kept(purchase: OnePurchase, limit: int) -> None:
    purchase.shop.app.config["MAX_CONTENT_LENGTH"] = limit
    purchase.assert_rejected(purchase.refund(data=b"x" * (limit + 1)))
    purchase.assert_refunded(purchase.refund())


def test_higher_content_limit_of_the_app_is_not_used(purchase: OnePurchase) -> None:
    purchase.shop.app.config["MAX_CONTENT_LENGTH"] = 2**30
    purchase.assert_rejected(purchase.refund(data=b" " * 5 + b"x" * 2**17))


def streamed(stream: Any, length: int | None, **environ: Any) -> dict[str, Any]:
    """Return a body as a server passes it: a stream, and the client's Content-Length."""
    lengths = {"CONTENT_LENGTH": "" if length is None else str(length)}
    return {"environ_overrides": {"wsgi.input": stream, **lengths, **environ}}


def chunked(body: bytes, *, terminated: bool) -> dict[str, Any]:
    """Return a body without a length. ``terminated``: whether the server ends the stream."""
    environ = {"wsgi.input_terminated": True} if terminated else {}
    return streamed(io.BytesIO(body), None, HTTP_TRANSFER_ENCODING="chunked", **environ)


@pytest.mark.parametrize("is_chunked", [True, False])
def test_too_large_body_is_not_read_in_full(purchase: OnePurchase, is_chunked: bool) -> None:
    body = io.BytesIO(b"x" * 2**20)
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True} if is_chunked else {}
    purchase.assert_rejected(purchase.refund(**streamed(body, None if is_chunked else 2**20, **environ)))
    assert body.tell() <= 4 * MAX_BODY_BYTES


def test_body_is_not_read_before_the_caller_is_known(purchase: OnePurchase) -> None:
    body = io.BytesIO(b"x" * 1000)
    assert_not_authenticated(purchase.shop.client.post(REFUND_PATH, **streamed(body, 1000)))
    assert body.tell() == 0


def test_chunked_body_is_read(purchase: OnePurchase) -> None:
    purchase.assert_refunded(
        purchase.refund(**chunked(_json(reason="duplicate"), terminated=True)), "duplicate"
    )


@pytest.mark.parametrize("body", [_json(amount=5), b"{", b"x" * 2**20, _json(reason="x")], ids=range(4))
def test_invalid_chunked_body_is_rejected(purchase: OnePurchase, body: bytes) -> None:
    purchase.assert_rejected(purchase.refund(**chunked(body, terminated=True)))


def test_chunked_body_over_the_apps_limit_is_rejected(purchase: OnePurchase) -> None:
    purchase.shop.app.config["MAX_CONTENT_LENGTH"] = 10
    purchase.assert_rejected(purchase.refund(**chunked(_json(reason="duplicate"), terminated=True)))


def test_chunked_body_without_terminated_input_is_rejected(purchase: OnePurchase) -> None:
    """A body that can't be read must not count as an empty one."""
    purchase.assert_rejected(purchase.refund(**chunked(_json(amount=500), terminated=False)))


@pytest.mark.parametrize(
    ("content_type", "read"),
    [
        (FORM, lambda: request.form.to_dict()),
        ("application/json", lambda: request.get_data(cache=False)),
        ("application/json", lambda: request.get_json(cache=False)),
        ("application/json", lambda: request.stream.read()),
    ],
    ids=["form", "get_data", "get_json", "stream"],
)
def test_chunked_amount_that_the_app_has_consumed_is_rejected(
    purchase: OnePurchase, content_type: str, read: Callable[[], Any]
) -> None:
    @purchase.shop.app.before_request
    def hook() -> None:
        read()

    body = b"amount=500" if content_type == FORM else _json(amount=500)
    purchase.assert_rejected(purchase.refund(content_type=content_type, **chunked(body, terminated=True)))


@pytest.mark.parametrize("body", [b"", b"{", b'{"reason": "dup'])
def test_body_shorter_than_its_length_is_rejected(purchase: OnePurchase, body: bytes) -> None:
    purchase.assert_rejected(purchase.refund(**streamed(io.BytesIO(body), 100)))


@pytest.mark.parametrize("body", [b" ", b"{}", _json(reason="fraudulent")])
def test_truncated_body_that_is_valid_is_rejected(purchase: OnePurchase, body: bytes) -> None:
    purchase.assert_rejected(purchase.refund(**streamed(io.BytesIO(body), 100)))


READERS: dict[str, Callable[[], Any]] = {
    "get_data": lambda: request.get_data(),
    "data": lambda: request.data,
    "get_json": lambda: request.get_json(silent=True),
    "form": lambda: request.form.to_dict(),
    "values": lambda: request.values.to_dict(),
    "files": lambda: request.files.to_dict(),
    "want_form_data_parsed": lambda: request.want_form_data_parsed,
}


def _read_first(purchase: OnePurchase, reader: str) -> None:
    """Let a hook of the app read the body, as logging or CSRF checks do."""

    @purchase.shop.app.before_request
    def hook() -> None:
        READERS[reader]()


@pytest.mark.parametrize(
    ("reader", "content_type"),
    [(reader, kind) for reader in READERS for kind in ("application/json", FORM)],
)
def test_amount_that_the_app_has_read_first_is_rejected(
    purchase: OnePurchase, reader: str, content_type: str
) -> None:
    _read_first(purchase, reader)
    body = b"amount=500" if content_type == FORM else _json(amount=500)
    purchase.assert_rejected(purchase.refund(data=body, content_type=content_type))


def test_note_that_the_app_has_read_first_is_stored(purchase: OnePurchase) -> None:
    _read_first(purchase, "get_data")
    purchase.assert_refunded(
        purchase.refund(json={"reason": "duplicate", "note": "kept"}), "duplicate", "kept"
    )


def test_amount_after_much_white_space_is_rejected(purchase: OnePurchase) -> None:
    purchase.assert_rejected(purchase.refund(data=b" " * (MAX_BODY_BYTES + 1) + _json(amount=500)))


class SlowStream(io.RawIOBase):
    """A server's stream that returns a few bytes at a time."""

    def __init__(self, body: bytes) -> None:
        self._body = io.BytesIO(body)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._body.readinto(memoryview(buffer)[:7])


@pytest.mark.parametrize(
    "body", [_json(reason="duplicate", note="x" * 20), b" " * 7 + _json(reason="duplicate", note="x" * 20)]
)
def test_body_in_small_pieces_is_read_in_full(purchase: OnePurchase, body: bytes) -> None:
    response = purchase.refund(**streamed(SlowStream(body), len(body)))
    purchase.assert_refunded(response, "duplicate", "x" * 20)


def test_amount_in_the_second_piece_is_rejected(purchase: OnePurchase) -> None:
    body = b" " * 7 + _json(amount=500)
    purchase.assert_rejected(purchase.refund(**streamed(SlowStream(body), len(body))))


# Purchase IDs in the path


@pytest.mark.parametrize(
    "purchase_id", [ID[:-1], "%20" + ID[:-1], ID + "%0A", "%00", ".", "%FF", "{$ne:1}", "$where", ID + "/x"]
)
def test_other_text_in_the_path_is_queried_as_a_value_and_not_found(
    shop: WatchedShop, purchase_id: str
) -> None:
    shop.add_purchase("pi_1")
    assert_error(shop.refund(purchase_id), 404, "purchase_not_found", "Purchase not found")
    assert shop.spy.touched == [("users", "find"), ("purchases", "aggregate")]
    [[match, *_]] = shop.spy.calls[-1][2]
    assert match == {"$match": {"_id": {"$in": [unquote(purchase_id)]}}}


def test_purchase_id_is_case_insensitive(purchase: OnePurchase) -> None:
    response = purchase.shop.client.post(
        f"/api/payments/admin/refund/{str(purchase.id).upper()}", headers=purchase.shop.headers()
    )
    assert_refunded(response, purchase.id, purchase.payment)


@pytest.mark.parametrize(
    "what", [STRIPE_KEY, "Traceback (most recent call last)", "<!DOCTYPE html>", "the token"]
)
def test_watched_client_detects_secrets_and_html(shop: WatchedShop, what: str) -> None:
    headers = shop.headers()
    text = headers["Authorization"] if what == "the token" else what
    shop.app.add_url_rule("/leak", "leak", lambda: Response(text, mimetype="text/plain"))
    with pytest.raises(AssertionError, match="assert"):
        shop.client.get("/leak", headers=headers)

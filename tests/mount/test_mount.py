"""One line mounts it, anywhere and any number of times, and nothing of the host's is changed by that."""

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
    OpenShop,
    WatchedClient,
    WatchedShop,
    assert_answer,
    assert_not_authenticated,
)
from tests.shop import JWT_SECRET, STRIPE_KEY, Shop, make_app, make_config

ID = "64b5f2c8e13e4a5b6c7d8e9f"
NOWHERE = f"/api/payments/admin/refund/{ID}"


def assert_refunded(response: TestResponse, purchase: ObjectId, payment: str) -> None:
    """The whole answer to a good refund, to the letter of the contract."""
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
    """Buy something and take it back through whatever stands at that prefix."""
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    path = f"{prefix}/admin/refund/{purchase}"
    assert_not_authenticated(shop.client.post(path))
    assert_refunded(shop.client.post(path, headers=shop.headers()), purchase, payment)
    assert shop.status_of(purchase) == "refunded"
    assert sandbox.money_refunded(payment) == 1999


# Where it can be mounted


def test_one_line(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    refund_one(shop, sandbox)


@pytest.mark.parametrize("config_first", [True, False])
def test_config_before_or_after(sandbox: StripeSandbox, config_first: bool) -> None:
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
def test_other_prefixes_names_and_parents(
    sandbox: StripeSandbox, prefix: str, endpoint: str, mount: Mount
) -> None:
    app, database = Flask("shop"), mongomock.MongoClient(tz_aware=True).shop
    app.config.update(make_config(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url))
    mount(app)
    assert endpoint in app.view_functions
    refund_one(Shop(app, database), sandbox, prefix)


def test_a_prefix_with_a_variable_that_the_host_takes_out(sandbox: StripeSandbox) -> None:
    app, database = Flask("shop"), mongomock.MongoClient(tz_aware=True).shop
    app.config.update(make_config(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url))
    app.register_blueprint(refunds_bp, url_prefix="/<tenant>/pay")
    app.url_value_preprocessor(lambda endpoint, values: (values or {}).pop("tenant", None))
    refund_one(Shop(app, database), sandbox, "/acme/pay")


def test_twice_in_one_app(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    shop.app.register_blueprint(refunds_bp, name="again", url_prefix="/again")
    refund_one(shop, sandbox)
    refund_one(shop, sandbox, "/again")
    with pytest.raises(ValueError, match="already registered"):
        make_app().register_blueprint(refunds_bp)


def test_an_app_factory_called_twice(open_shop: OpenShop, sandbox: StripeSandbox) -> None:
    for shop in (open_shop(), open_shop()):
        refund_one(shop, sandbox)
        assert shop.db.flask_refunds.count_documents({}) == 1


def test_a_script_root(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    response = shop.refund(purchase, base_url="https://shop.example/under/here")
    assert_refunded(response, purchase, payment)


def test_apps_do_not_bleed() -> None:
    """Two apps in one process: each with its own secret, database, names and Stripe account."""
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
                REFUNDS_USER_FIELDS={"id": "_id"} if name == "a" else "login",
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
            assert_answer(shops[other].refund(purchase, headers=headers(other)), 404, "purchase_not_found")
            assert_refunded(shop.refund(purchase, headers=headers(name)), purchase, payment)
        assert shops["a"].db.ledger_a.count_documents({}) == 2
        assert shops["b"].db.ledger_b.count_documents({}) == 1
        assert "refunds" not in shops["a"].db.list_collection_names()


def test_a_bad_app_beside_a_good_one(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    bad = make_app().test_client()
    assert_answer(bad.post(NOWHERE), 500, "configuration_error")
    refund_one(shop, sandbox)
    assert_answer(bad.post(NOWHERE), 500, "configuration_error")


def _wait_until_all_are_in(threads: list[threading.Thread], function: Any) -> None:
    """Wait until every thread is somewhere inside this function."""

    def is_in(thread: threading.Thread) -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        while frame is not None and frame.f_code is not function.__code__:
            frame = frame.f_back
        return frame is not None

    end = time.monotonic() + 10
    while not all(map(is_in, threads)):
        assert time.monotonic() < end
        time.sleep(0.001)


def test_the_first_requests_come_at_once(sandbox: StripeSandbox) -> None:
    """Eight threads meet an app that has served nothing yet: it is built once."""
    built: list[Any] = []
    database = mongomock.MongoClient(tz_aware=True).shop
    together = threading.Barrier(8, timeout=10)

    def find() -> Any:
        built.append(1)
        _wait_until_all_are_in(threads, get_refunds)
        return database

    shop = Shop(make_app(REFUNDS_MONGO=find, STRIPE_API_BASE=sandbox.url), database)
    seen: list[int] = []

    def call() -> None:
        together.wait()
        seen.append(shop.app.test_client().post(NOWHERE).status_code)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [401] * 8
    assert built == [1]


def test_an_app_that_is_slow_to_start_holds_up_no_other(shop: WatchedShop) -> None:
    entered, finish = threading.Event(), threading.Event()

    def find() -> Any:
        entered.set()
        finish.wait(10)
        return mongomock.MongoClient().shop

    slow = make_app(REFUNDS_MONGO=find)
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(slow.test_client().post(NOWHERE).status_code)),
        threading.Thread(target=lambda: seen.append(shop.client.post(NOWHERE).status_code)),
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


# What mounting leaves alone


def _state_of(app: Flask) -> dict[str, Any]:
    """What a host has of its own in its app, but for the routes."""
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
                app.url_value_preprocessors,
                app.url_default_functions,
                app.shell_context_processors,
            )
        ],
        "classes": (app.response_class, app.request_class, app.session_interface, app.test_client_class),
        "jinja": (sorted(app.jinja_env.filters), sorted(app.jinja_env.globals)),
        "static": (app.static_folder, app.template_folder),
        "handlers": (list(app.logger.handlers), app.logger.level),
    }


def _forget_hooks_of(app: Flask) -> None:
    """Empty lists that a defaultdict made by being looked at are no change."""
    for hooks in (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs):
        for key in [key for key, functions in hooks.items() if not functions]:
            del hooks[key]


@pytest.mark.parametrize("way", ["REFUNDS_MONGO", "MONGO_URI"])
def test_mounting_and_serving_change_nothing_of_the_host(sandbox: StripeSandbox, way: str) -> None:
    app, database = Flask("shop"), mongomock.MongoClient(tz_aware=True).shop
    uri = f"mongodb://shop:{MONGO_PASSWORD}@127.0.0.1:1/shop"
    app.config.update(make_config(STRIPE_API_BASE=sandbox.url))
    app.config[way] = database if way == "REFUNDS_MONGO" else uri
    json_provider, before = app.json, _state_of(app)
    root = logging.getLogger()
    handlers, ours = list(root.handlers), logging.getLogger("flask_refunds")

    app.register_blueprint(refunds_bp)
    assert _state_of(app) == before
    assert_not_authenticated(app.test_client().post(NOWHERE))
    if way == "REFUNDS_MONGO":
        refund_one(Shop(app, database), sandbox)
    _forget_hooks_of(app)
    assert _state_of(app) == before
    assert app.json is json_provider
    assert app.extensions.keys() == {"refunds"}
    assert root.handlers == handlers
    assert (ours.handlers, ours.level, ours.propagate) == ([], logging.NOTSET, True)


def test_an_app_that_is_gone_is_gone(watched: type[WatchedClient]) -> None:
    """A test suite that makes an app a test would keep them all, with their connections."""
    app = make_app(REFUNDS_MONGO=mongomock.MongoClient().shop)
    assert_not_authenticated(app.test_client().post(NOWHERE))
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None


def test_the_blueprint_keeps_no_state(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    def state() -> str:
        return repr({key: value for key, value in vars(refunds_bp).items() if key != "_got_registered_once"})

    before = state()
    shop.app.register_blueprint(refunds_bp, name="again", url_prefix="/again")
    refund_one(shop, sandbox, "/again")
    assert state() == before


STRIPE_GLOBALS = {
    "api_key": "sk_test_the_host_s_own",
    "client_id": "ca_the_host_s_own",
    "api_base": "https://stripe.example",
    "api_version": "2020-08-27",
    "verify_ssl_certs": False,
    "proxy": "http://proxy.example",
    "default_http_client": object(),
    "app_info": {"name": "the host", "version": None, "url": None, "partner_id": None},
    "enable_telemetry": False,
    "max_network_retries": 7,
    "log": "info",
}


def test_stripe_s_own_globals_are_neither_changed_nor_used(
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


def test_nothing_is_imported_before_it_is_needed() -> None:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTS],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    for name in flask_refunds.__all__:
        assert getattr(flask_refunds, name) is not None
    assert flask_refunds.refunds_bp.name == "refunds"
    assert flask_refunds.refunds_bp.url_prefix == "/api/payments"


def test_each_command_says_in_the_help_what_it_does() -> None:
    app = make_app()
    listed = app.test_cli_runner().invoke(args=["refunds", "--help"]).output.split("Commands:\n")[1]
    lines = {line.split()[0]: line.split()[1:] for line in listed.splitlines() if line.strip()}
    assert {"refund", "bulk", "reconcile", "resolve", "init-db", "check"} <= lines.keys()
    assert all(words for words in lines.values()), lines


# The host's own answers


def _handle_everything(app: Flask) -> list[Any]:
    """Give the app a handler for every error there is; they keep what they are called with."""
    seen: list[Any] = []

    def handle(error: Any) -> tuple[dict[str, str], int]:
        seen.append(error)
        return {"host": type(error).__name__}, getattr(error, "code", 500)

    for kind in (400, 401, 403, 404, 405, 409, 413, 500, 503, HTTPException, RefundsError, Exception):
        app.register_error_handler(kind, handle)
    return seen


def test_our_errors_are_not_the_host_s_to_handle(open_shop: OpenShop, sandbox: StripeSandbox) -> None:
    judged: list[Any] = []

    def judge(user: Any) -> bool:
        if judged:
            raise judged.pop()
        return bool(user["role"] == "admin")

    shop = open_shop(REFUNDS_IS_ADMIN=judge)
    seen = _handle_everything(shop.app)
    handlers = repr(shop.app.error_handler_spec)
    user = shop.add_user()
    assert_not_authenticated(shop.client.post(NOWHERE))
    assert_answer(shop.client.post(NOWHERE, headers=shop.headers(user)), 403, "admin_required")
    assert_answer(shop.refund(ID), 404, "purchase_not_found")
    assert_answer(shop.refund(ID, data=b"{"), 400, "invalid_request")
    assert_answer(shop.refund(shop.add_purchase("pi_1", "pending")), 400, "purchase_not_refundable")
    assert_answer(shop.refund(shop.add_purchase("pi_unknown")), 400, "refund_failed")
    sandbox.inject("key_rejected")
    assert_answer(shop.refund(shop.add_purchase(sandbox.create_payment(1))), 500, "stripe_key_rejected")
    judged.append(RuntimeError("unexpected"))
    assert_answer(shop.refund(ID), 500, "internal_error")
    assert_answer(make_app().test_client().post(NOWHERE), 500, "configuration_error")
    assert seen == []
    assert repr(shop.app.error_handler_spec) == handlers


@pytest.mark.parametrize("handled", [True, False])
def test_paths_and_methods_that_we_do_not_have_are_the_host_s(shop: WatchedShop, handled: bool) -> None:
    seen = _handle_everything(shop.app) if handled else []
    shop.client.html_is_fine = not handled  # type: ignore[attr-defined]
    for path in (
        "/api/payments/",
        "/api/payments/admin/refund/",
        f"{NOWHERE}/",
        f"{NOWHERE}/x",
        "/api/payments/x%2Fy",
    ):
        response = shop.client.post(path, headers=shop.headers())
        assert response.status_code == 404
        assert response.json == {"host": "NotFound"} if handled else response.mimetype == "text/html"
    for method in ("PUT", "PATCH", "DELETE"):
        response = shop.client.open(NOWHERE, method=method, headers=shop.headers())
        assert response.status_code == 405
        assert response.json == {"host": "MethodNotAllowed"} if handled else response.mimetype == "text/html"
    allowed = shop.client.options(NOWHERE).headers["Allow"].split(", ")
    assert set(allowed) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert len(seen) == (8 if handled else 0)
    assert shop.spy.calls == []


class Own(Exception):
    """An error of the host's."""


@pytest.mark.parametrize("kind", [Own, ValueError, RefundsError])
def test_what_the_host_s_hooks_raise_on_our_paths_is_the_host_s(
    shop: WatchedShop, kind: type[Exception]
) -> None:
    @shop.app.before_request
    def hook() -> None:
        raise kind("the host's")

    shop.app.register_error_handler(kind, lambda error: ({"host": str(error)}, 418))
    shop.client.host_answers = True  # type: ignore[attr-defined]
    response = shop.refund(ID)
    assert (response.status_code, response.json) == (418, {"host": "the host's"})


def test_what_the_host_s_hooks_answer_on_our_paths_is_the_answer(shop: WatchedShop) -> None:
    shop.app.before_request(lambda: abort(503))
    shop.app.register_error_handler(503, lambda error: ({"host": "closed"}, 503))
    shop.client.host_answers = True  # type: ignore[attr-defined]

    @shop.app.after_request
    def mark(response: Response) -> Response:
        response.headers["X-Host"] = "1"
        return response

    response = shop.refund(ID)
    assert (response.json, response.headers["X-Host"]) == ({"host": "closed"}, "1")


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
def test_what_nobody_expected(
    open_shop: OpenShop, mode: dict[str, bool], caplog: pytest.LogCaptureFixture
) -> None:
    """Told to the host's log and to its error reporting; the caller learns that it is safe to call again."""
    error = RuntimeError("canary-of-the-inside")

    def judge(user: Any) -> bool:
        raise error

    shop = open_shop(REFUNDS_IS_ADMIN=judge, **({"TESTING": False} | mode))
    reported: list[Any] = []

    def receive(sender: Flask, exception: Exception, **extra: Any) -> None:
        reported.append((sender, exception))

    with got_request_exception.connected_to(receive, shop.app):
        response = shop.refund(ID)
    assert_answer(response, 500, "internal_error")
    assert "safe to call again" in response.json["error"]
    assert "canary" not in f"{response.headers}{response.text}"
    assert reported == [(shop.app, error)]
    [record] = [record for record in caplog.records if record.name == "flask_refunds"]
    assert record.exc_info is not None
    assert record.exc_info[2] is error.__traceback__
    told = logging.Formatter().format(record)
    assert "RuntimeError" in told
    assert "canary" not in told


def test_an_expected_error_is_not_reported_as_a_crash(shop: WatchedShop) -> None:
    reported: list[Any] = []

    def receive(sender: Flask, **extra: Any) -> None:
        reported.append(extra)

    with got_request_exception.connected_to(receive, shop.app):
        shop.refund(ID)
        shop.client.post(NOWHERE)
    assert reported == []


# The host's JSON


class Breaking(JSONProvider):
    """A provider under which nothing of ours would survive."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        raise AssertionError("the host's provider was used")

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        raise AssertionError("the host's provider was used")

    def response(self, *args: Any, **kwargs: Any) -> Response:
        raise AssertionError("the host's provider was used")


class Camel(DefaultJSONProvider):
    """A provider that changes what it is given."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return super().dumps({"wrapped": obj}, **kwargs)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return {"wrapped": super().loads(s, **kwargs)}


@pytest.mark.parametrize("provider", [Breaking, Camel, BSONProvider])
def test_the_host_s_json_provider_does_not_reach_us(
    shop: WatchedShop, sandbox: StripeSandbox, provider: type[JSONProvider]
) -> None:
    shop.app.json = provider(shop.app)
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    refused = shop.refund(purchase, data=b"{")
    made = shop.refund(
        purchase, data=b'{"reason": "duplicate", "note": "x"}', content_type="application/json"
    )
    unknown = shop.client.post(NOWHERE)
    shop.app.json = DefaultJSONProvider(shop.app)
    for response in (refused, made, unknown):
        response.json_module = json  # with which the test reads; Flask's client takes the app's provider
    assert_answer(refused, 400, "invalid_request")
    assert_refunded(made, purchase, payment)
    assert_not_authenticated(unknown)
    assert shop.records()[0]["note"] == "x"


def test_the_host_s_response_class(open_shop: OpenShop, sandbox: StripeSandbox) -> None:
    class Branded(Response):
        default_mimetype = "text/plain"

    shop = open_shop()
    shop.app.response_class = Branded
    refund_one(shop, sandbox)


def test_flask_pymongo_in_the_host(open_shop: OpenShop, sandbox: StripeSandbox) -> None:
    """Its BSON provider and converter are the host's, and stay; our answers stay as they are."""
    shop = open_shop()
    PyMongo(shop.app, "mongodb://127.0.0.1:1/shop")
    assert isinstance(shop.app.json, BSONProvider)
    refund_one(shop, sandbox)
    assert isinstance(shop.app.json, BSONProvider)
    assert shop.app.url_map.converters["ObjectId"] is BSONObjectIdConverter


@pytest.mark.parametrize("callable_", [True, False])
def test_the_host_s_pymongo_is_used(sandbox: StripeSandbox, callable_: bool) -> None:
    app, database = Flask("shop"), mongomock.MongoClient(tz_aware=True).shop
    mongo = PyMongo(app, "mongodb://127.0.0.1:1/shop")
    mongo.db = database  # in place of a server
    app.config.update(
        make_config(REFUNDS_MONGO=(lambda: mongo) if callable_ else mongo, STRIPE_API_BASE=sandbox.url)
    )
    app.register_blueprint(refunds_bp)
    refund_one(Shop(app, database), sandbox)


def test_a_pymongo_that_gets_its_app_later(sandbox: StripeSandbox) -> None:
    app, mongo = Flask("shop"), PyMongo()
    app.config.update(make_config(REFUNDS_MONGO=mongo))
    app.register_blueprint(refunds_bp)
    client = app.test_client()
    assert_answer(client.post(NOWHERE), 500, "configuration_error")
    mongo.init_app(app, "mongodb://127.0.0.1:1/shop")
    assert_not_authenticated(client.post(NOWHERE))
    assert get_refunds(app).settings.refunds_mongo is mongo


# Ways to the database


def _users_collection(app: Flask) -> Any:
    return get_refunds(app).users._collection


def test_the_pool_of_the_host_is_shared() -> None:
    with pymongo.MongoClient("mongodb://127.0.0.1:1", connect=False) as client:
        mongo = PyMongo(Flask("other"), "mongodb://127.0.0.1:1/shop")
        mongo.cx, mongo.db = client, client.shop  # type: ignore[assignment]
        for given in (client.shop, lambda: client.shop, mongo, lambda: mongo):
            app = make_app(REFUNDS_MONGO=given)
            check_config(app)
            assert _users_collection(app).database.client is client
            assert _users_collection(app).full_name == "shop.users"


def test_flask_pymongo_s_own_database() -> None:
    app = make_app()
    app.config["REFUNDS_MONGO"] = PyMongo(app, "mongodb://127.0.0.1:1/shop").db
    check_config(app)
    assert _users_collection(app).full_name == "shop.users"


def test_a_function_of_the_host_s_that_fails(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    """Once: what could not be built is built at the next call."""
    failures = [ConnectionError("canary-of-the-inside")]

    def find() -> Any:
        if failures:
            raise failures.pop()
        return shop.db

    app = make_app(REFUNDS_MONGO=find, STRIPE_API_BASE=sandbox.url)
    response = app.test_client().post(NOWHERE)
    assert_answer(response, 500, "internal_error")
    assert "canary" not in response.text
    refund_one(Shop(app, shop.db), sandbox)


def test_the_database_of_the_uri() -> None:
    app = make_app(MONGO_URI=f"mongodb://shop:{MONGO_PASSWORD}@127.0.0.1:1/shop?appname=x")
    check_config(app)
    assert _users_collection(app).full_name == "shop.users"


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_client_is_refused_with_words(wrapped: bool) -> None:
    with pymongo.MongoClient("mongodb://127.0.0.1:1", connect=False) as client:
        app = make_app(REFUNDS_MONGO=(lambda: client) if wrapped else client)
        assert_answer(app.test_client().post(NOWHERE), 500, "configuration_error")


def test_a_database_that_is_away(sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_refunds.storage.connection.OPERATION_SECONDS", 0.05)
    app = make_app(MONGO_URI=f"mongodb://shop:{MONGO_PASSWORD}@127.0.0.1:1/shop", STRIPE_API_BASE=sandbox.url)
    headers = {"Authorization": f"Bearer {make_token(ID, secret=JWT_SECRET)}"}
    try:
        response = app.test_client().post(NOWHERE, headers=headers)
        assert_answer(response, 500, "database_unavailable")
        assert "Nothing was refunded" in response.json["error"]
        assert "127.0.0.1" not in response.text
    finally:
        _users_collection(app).database.client.close()
    assert sandbox.requests == []


def test_a_name_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.resolver

    def resolve(*args: Any, **kwargs: Any) -> Any:
        raise dns.resolver.NoNameservers

    monkeypatch.setattr(dns.resolver, "resolve", resolve)
    app = make_app(MONGO_URI=f"mongodb+srv://shop:{MONGO_PASSWORD}@cluster.shop.example/shop")
    headers = {"Authorization": f"Bearer {make_token(ID, secret=JWT_SECRET)}"}
    assert_answer(app.test_client().post(NOWHERE, headers=headers), 500, "database_unavailable")


# Bodies


@pytest.fixture
def sale(shop: WatchedShop, sandbox: StripeSandbox) -> Sale:
    return Sale(shop, sandbox)


class Sale:
    """One purchase, and calls that ask for its refund with a body of any kind."""

    def __init__(self, shop: WatchedShop, sandbox: StripeSandbox) -> None:
        self.shop = shop
        self.sandbox = sandbox
        self.payment = sandbox.create_payment(1999)
        self.id = shop.add_purchase(self.payment)

    def refund(self, **body: Any) -> TestResponse:
        return self.shop.refund(self.id, **body)

    def assert_refused(self, response: TestResponse) -> None:
        """400, and nothing happened: not at Stripe, not in the database."""
        assert_answer(response, 400, "invalid_request")
        assert "Nothing was refunded" in response.json["error"]
        assert self.sandbox.requests == []
        assert self.shop.records() == []
        assert self.shop.status_of(self.id) == "completed"

    def assert_made(self, response: TestResponse, reason: str | None = None, note: str | None = None) -> None:
        assert_refunded(response, self.id, self.payment)
        [row] = self.shop.records()
        assert (row["reason"], row["note"]) == (reason, note)


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
def test_bodies_that_ask_for_nothing(sale: Sale, body: dict[str, Any]) -> None:
    sale.assert_made(sale.refund(**body))


@pytest.mark.parametrize("reason", ["requested_by_customer", "duplicate", "fraudulent"])
@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""]
)
def test_every_reason_under_every_content_type(sale: Sale, reason: str, content_type: str) -> None:
    response = sale.refund(data=_json(reason=reason), content_type=content_type)
    sale.assert_made(response, reason)
    assert response.json["refund"]["reason"] == reason
    assert sale.sandbox.refunds(sale.payment)[0]["reason"] == reason


@pytest.mark.parametrize("note", ["", "x" * 500, "🎉" * 500, "a\0b", "<script>alert(1)</script>", "\u2028"])
def test_notes(sale: Sale, note: str) -> None:
    response = sale.refund(json={"note": note})
    sale.assert_made(response, note=note)
    assert response.json["refund"]["note"] == note


FORM = "application/x-www-form-urlencoded"
REFUSED: dict[str, dict[str, Any]] = {
    "unknown reason": {"json": {"reason": "changed_mind"}},
    "reason in capitals": {"json": {"reason": "DUPLICATE"}},
    "reason a number": {"json": {"reason": 1}},
    "reason a list": {"json": {"reason": ["duplicate"]}},
    "reason an ObjectId": {"data": b'{"reason": {"$oid": "64b5f2c8e13e4a5b6c7d8e9f"}}'},
    "note of 501": {"json": {"note": "x" * 501}},
    "note of 501 emoji": {"json": {"note": "🎉" * 501}},
    "note half a surrogate pair": {"data": b'{"note": "\\ud800"}'},
    "note a number": {"json": {"note": 5}},
    "note an operator": {"json": {"note": {"$gt": ""}}},
    "note an ObjectId": {"data": b'{"note": {"$oid": "64b5f2c8e13e4a5b6c7d8e9f"}}'},
    "an amount": {"json": {"amount": 500}},
    "the full amount": {"json": {"amount": 1999, "reason": "duplicate"}},
    "an amount of null": {"json": {"amount": None}},
    "unknown field": {"json": {"currency": "usd"}},
    "unknown operator": {"data": b'{"$oid": "64b5f2c8e13e4a5b6c7d8e9f"}'},
    "unknown field, half a surrogate pair": {"data": b'{"\\udfff": 1}'},
    "a list": {"json": []},
    "a list of what would do": {"json": [{"reason": "duplicate"}]},
    "null": {"data": b"null"},
    "a number": {"data": b"5"},
    "a string": {"json": "duplicate"},
    "NaN": {"data": b'{"reason": NaN}'},
    "Infinity": {"data": b'{"note": -Infinity}'},
    "a key twice": {"data": b'{"reason": "duplicate", "reason": "fraudulent"}'},
    "a key twice, escaped": {"data": b'{"note": "a", "n\\u006fte": "b"}'},
    "100,000 brackets": {"data": b"[" * 100_000},
    "100,000 objects": {"data": b'{"note":' * 100_000},
    "as many brackets as are read": {"data": b"[" * (MAX_BODY_BYTES - 1)},
    "a megabyte": {"data": b'{"note": "' + b"x" * 2**20 + b'"}'},
    "a megabyte of digits": {"data": b"9" * 2**20},
    "just too large": {"data": b"{}".ljust(MAX_BODY_BYTES + 1)},
    "a number without end": {"data": b'{"note": ' + b"9" * 5000 + b"}"},
    "no UTF-8": {"data": b'{"note": "\xff"}'},
    "a surrogate in UTF-8": {"data": b'{"note": "\xed\xa0\x80"}'},
    "UTF-16": {"data": '{"reason": "duplicate"}'.encode("utf-16")},
    "a byte order mark": {"data": b'\xef\xbb\xbf{"reason": "duplicate"}'},
    "gzip": {"data": b"\x1f\x8b\x08\x00", "headers_too": {"Content-Encoding": "gzip"}},
    "a form": {"data": {"reason": "duplicate"}, "content_type": FORM},
    "a form with an amount": {"data": b"amount=500", "content_type": FORM},
    "a multipart form": {"data": {"reason": "duplicate", "file": (io.BytesIO(b"x"), "x.txt")}},
    "XML": {"data": b"<amount>5</amount>", "content_type": "application/xml"},
    "a single quote": {"data": b"{'reason': 'duplicate'}"},
    "half an object": {"data": b'{"reason": "dup'},
    "an object and more": {"data": b'{"reason": "duplicate"}{"amount": 5}'},
    "a NUL": {"data": b"\0"},
}


@pytest.mark.parametrize("what", REFUSED)
def test_bodies_that_are_refused(sale: Sale, what: str) -> None:
    body = dict(REFUSED[what])
    headers = sale.shop.headers() | body.pop("headers_too", {})
    sale.assert_refused(sale.refund(headers=headers, **body))


@pytest.mark.parametrize("what", ["reason an ObjectId", "note an ObjectId", "unknown operator"])
def test_extended_json_is_refused_with_flask_pymongo_in_the_host(sale: Sale, what: str) -> None:
    PyMongo(sale.shop.app, "mongodb://127.0.0.1:1/shop")
    body = {"content_type": "application/json", **REFUSED[what]}
    sale.assert_refused(sale.refund(**body))


@pytest.mark.parametrize("limit", [0, 10, MAX_BODY_BYTES])
def test_the_host_s_own_limit(sale: Sale, limit: int) -> None:
    sale.shop.app.config["MAX_CONTENT_LENGTH"] = limit
    sale.assert_refused(sale.refund(data=b"x" * (limit + 1)))
    sale.assert_made(sale.refund())


def test_the_host_s_own_limit_is_larger_than_ours(sale: Sale) -> None:
    sale.shop.app.config["MAX_CONTENT_LENGTH"] = 2**30
    sale.assert_refused(sale.refund(data=b" " * 5 + b"x" * 2**17))


def streamed(stream: Any, length: int | None, **environ: Any) -> dict[str, Any]:
    """A body as a server hands it on: a stream, and the length that the client gave."""
    given = {"CONTENT_LENGTH": "" if length is None else str(length)}
    return {"environ_overrides": {"wsgi.input": stream, **given, **environ}}


def chunked(body: bytes, *, terminated: bool) -> dict[str, Any]:
    """A body without a length. A server that ends the stream for us says so (``wsgi.input_terminated``)."""
    environ = {"wsgi.input_terminated": True} if terminated else {}
    return streamed(io.BytesIO(body), None, HTTP_TRANSFER_ENCODING="chunked", **environ)


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_large_body_is_not_read_to_its_end(sale: Sale, is_chunked: bool) -> None:
    body = io.BytesIO(b"x" * 2**20)
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True} if is_chunked else {}
    sale.assert_refused(sale.refund(**streamed(body, None if is_chunked else 2**20, **environ)))
    assert body.tell() <= 4 * MAX_BODY_BYTES


def test_a_body_is_not_read_before_the_caller_is_known(sale: Sale) -> None:
    body = io.BytesIO(b"x" * 1000)
    assert_not_authenticated(sale.shop.client.post(NOWHERE, **streamed(body, 1000)))
    assert body.tell() == 0


def test_a_chunked_body(sale: Sale) -> None:
    sale.assert_made(sale.refund(**chunked(_json(reason="duplicate"), terminated=True)), "duplicate")


@pytest.mark.parametrize("body", [_json(amount=5), b"{", b"x" * 2**20, _json(reason="x")], ids=range(4))
def test_a_chunked_body_that_is_refused(sale: Sale, body: bytes) -> None:
    sale.assert_refused(sale.refund(**chunked(body, terminated=True)))


def test_a_chunked_body_under_the_host_s_own_limit(sale: Sale) -> None:
    sale.shop.app.config["MAX_CONTENT_LENGTH"] = 10
    sale.assert_refused(sale.refund(**chunked(_json(reason="duplicate"), terminated=True)))


def test_a_chunked_body_that_cannot_be_read(sale: Sale) -> None:
    """Where the server does not say that the stream ends, what cannot be read is not nothing."""
    sale.assert_refused(sale.refund(**chunked(_json(amount=500), terminated=False)))


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
def test_a_chunked_amount_that_the_host_has_consumed(
    sale: Sale, content_type: str, read: Callable[[], Any]
) -> None:
    @sale.shop.app.before_request
    def hook() -> None:
        read()

    body = b"amount=500" if content_type == FORM else _json(amount=500)
    sale.assert_refused(sale.refund(content_type=content_type, **chunked(body, terminated=True)))


@pytest.mark.parametrize("body", [b"", b"{", b'{"reason": "dup'])
def test_a_body_shorter_than_it_says(sale: Sale, body: bytes) -> None:
    sale.assert_refused(sale.refund(**streamed(io.BytesIO(body), 100)))


@pytest.mark.parametrize("body", [b" ", b"{}", _json(reason="fraudulent")])
def test_a_body_that_breaks_off_at_a_good_place(sale: Sale, body: bytes) -> None:
    sale.assert_refused(sale.refund(**streamed(io.BytesIO(body), 100)))


READERS: dict[str, Callable[[], Any]] = {
    "get_data": lambda: request.get_data(),
    "data": lambda: request.data,
    "get_json": lambda: request.get_json(silent=True),
    "form": lambda: request.form.to_dict(),
    "values": lambda: request.values.to_dict(),
    "files": lambda: request.files.to_dict(),
    "want_form_data_parsed": lambda: request.want_form_data_parsed,
}


def _read_first(sale: Sale, reader: str) -> None:
    """Let the host's own hook read the body, as one that logs, counts, or checks for CSRF does."""

    @sale.shop.app.before_request
    def hook() -> None:
        READERS[reader]()


@pytest.mark.parametrize(
    ("reader", "content_type"),
    [(reader, kind) for reader in READERS for kind in ("application/json", FORM)],
)
def test_an_amount_that_the_host_has_read_before_us(sale: Sale, reader: str, content_type: str) -> None:
    _read_first(sale, reader)
    body = b"amount=500" if content_type == FORM else _json(amount=500)
    sale.assert_refused(sale.refund(data=body, content_type=content_type))


def test_a_note_that_the_host_has_read_before_us_is_kept(sale: Sale) -> None:
    _read_first(sale, "get_data")
    sale.assert_made(sale.refund(json={"reason": "duplicate", "note": "kept"}), "duplicate", "kept")


def test_an_amount_behind_a_lot_of_white_space(sale: Sale) -> None:
    sale.assert_refused(sale.refund(data=b" " * (MAX_BODY_BYTES + 1) + _json(amount=500)))


class Dripping(io.RawIOBase):
    """A server's stream that gives a few bytes at a time, as a raw stream may."""

    def __init__(self, body: bytes) -> None:
        self._body = io.BytesIO(body)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._body.readinto(memoryview(buffer)[:7])


@pytest.mark.parametrize(
    "body", [_json(reason="duplicate", note="x" * 20), b" " * 7 + _json(reason="duplicate", note="x" * 20)]
)
def test_a_body_that_comes_in_pieces(sale: Sale, body: bytes) -> None:
    response = sale.refund(**streamed(Dripping(body), len(body)))
    sale.assert_made(response, "duplicate", "x" * 20)


def test_an_amount_that_comes_in_the_second_piece(sale: Sale) -> None:
    body = b" " * 7 + _json(amount=500)
    sale.assert_refused(sale.refund(**streamed(Dripping(body), len(body))))


# Purchases' ids in the path


@pytest.mark.parametrize(
    "purchase_id",
    [
        ID[:-1],
        ID + "0",
        ID[:-1] + "g",
        "%20" + ID[:-1],
        ID + "%0A",
        "٣" * 24,
        "%00",
        "{$ne:1}",
        "[object Object]",
        ".",
        "%FF",
    ],
)
def test_ids_that_are_none(shop: WatchedShop, purchase_id: str) -> None:
    assert_answer(shop.refund(purchase_id), 404, "purchase_not_found", "Purchase not found")
    assert shop.spy.touched == [("users", "find_one")]


def test_ids_in_capitals(sale: Sale) -> None:
    response = sale.shop.client.post(
        f"/api/payments/admin/refund/{str(sale.id).upper()}", headers=sale.shop.headers()
    )
    assert_refunded(response, sale.id, sale.payment)


@pytest.mark.parametrize(
    "what", [STRIPE_KEY, "Traceback (most recent call last)", "<!DOCTYPE html>", "the token"]
)
def test_the_trap_would_spring(shop: WatchedShop, what: str) -> None:
    """The watched client of these tests does see what it watches for."""
    headers = shop.headers()
    text = headers["Authorization"] if what == "the token" else what
    shop.app.add_url_rule("/trap", "trap", lambda: Response(text, mimetype="text/plain"))
    with pytest.raises(AssertionError, match="assert"):
        shop.client.get("/trap", headers=headers)

"""Where config values come from: import strings, the environment, files of secrets, and misspelled keys."""

from __future__ import annotations

import sys
from dataclasses import fields
from types import ModuleType
from typing import Any

import mongomock
import pytest
from flask import Flask, current_app, g, request, session
from werkzeug.local import LocalProxy

from flask_refunds import ConfigurationError, DatabaseUnavailable, check_config, refunds_bp
from flask_refunds.config import Settings, read_settings, unknown_keys
from flask_refunds.extension import get_refunds
from flask_refunds.testing import make_event, signed_event
from tests.shop import JWT_SECRET, STRIPE_KEY, make_app, make_config

DATABASE = mongomock.MongoClient(tz_aware=True).shop
SECRET = "whsec_of_a_secret_file_0123456789"


def problem(**config: Any) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(make_config(**{"REFUNDS_MONGO": DATABASE, **config}))
    return caught.value.problems


# Import strings


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the app."""
    module = ModuleType("shop_access")
    monkeypatch.setitem(sys.modules, "shop_access", module)
    return module


async def load_user_async(claims: Any) -> Any: ...


@pytest.mark.parametrize("key", ["REFUNDS_USER_LOADER", "REFUNDS_IS_ADMIN"])
def test_function_can_be_an_import_string(module: ModuleType, key: str) -> None:
    module.Access = type("Access", (), {"check": staticmethod(bool)})  # type: ignore[attr-defined]
    module.check = bool  # type: ignore[attr-defined]
    for text in ("shop_access:check", "shop_access:Access.check"):
        config = make_config(REFUNDS_MONGO=DATABASE) | {key: text}
        assert getattr(read_settings(config), key.lower()) is bool


@pytest.mark.parametrize("kind", ["database", "function", "proxy"])
def test_mongo_can_be_an_import_string(module: ModuleType, kind: str) -> None:
    values = {"database": DATABASE, "function": lambda: DATABASE, "proxy": LocalProxy(lambda: DATABASE)}
    module.mongo = values[kind]  # type: ignore[attr-defined]
    app = make_app(REFUNDS_MONGO="shop_access:mongo")
    check_config(app)
    assert get_refunds(app).database is DATABASE


@pytest.mark.parametrize("kind", ["function", "proxy"])
def test_current_user_can_be_an_import_string(module: ModuleType, kind: str) -> None:
    user = {"_id": "ada", "role": "admin"}
    module.user = LocalProxy(lambda: user) if kind == "proxy" else lambda: user  # type: ignore[attr-defined]
    app = make_app(REFUNDS_MONGO=DATABASE, REFUNDS_CURRENT_USER="shop_access:user", JWT_SECRET_KEY="")
    check_config(app)
    assert get_refunds(app).users.current() == ("ada", user)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shop_access:missing", "can't be imported (AttributeError)"),
        ("shop_acess:check", "can't be imported (ModuleNotFoundError)"),
        ("shop_access:number", "must be a function"),
        ("shop_access:load_user_async", "must be a function that isn't async"),
        ("shop_access.check", "must be a function"),
        ("shop access:check", "must be a function"),
    ],
)
def test_import_string_of_no_function_is_rejected(module: ModuleType, text: str, message: str) -> None:
    module.number, module.load_user_async = 5, load_user_async  # type: ignore[attr-defined]
    assert problem(REFUNDS_USER_LOADER=text)["REFUNDS_USER_LOADER"].startswith(message)


def test_error_of_the_imported_module_is_a_config_error(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_broken.py").write_text("raise OSError('canary')")
    monkeypatch.syspath_prepend(tmp_path)
    message = problem(REFUNDS_IS_ADMIN="shop_broken:is_admin")["REFUNDS_IS_ADMIN"]
    assert message == "can't be imported (OSError); check package.module:name"


# The environment


def test_whole_config_can_come_from_the_environment(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.db, module.load = DATABASE, bool  # type: ignore[attr-defined]
    environment = {
        "STRIPE_SECRET_KEY": STRIPE_KEY,
        "JWT_SECRET_KEY": JWT_SECRET,
        "REFUNDS_MONGO": "shop_access:db",
        "REFUNDS_USER_LOADER": "shop_access:load",
        "REFUNDS_PURCHASE_FIELDS__payment": "payment.intent",
        "REFUNDS_USER_FIELDS__id": "",
        "REFUNDS_STRIPE_TIMEOUT": "4.5",
        "REFUNDS_ADMIN_PAGE": "false",
        "STRIPE_WEBHOOK_SECRET": "",
        "REFUNDS_LOGIN_URL": "",
    }
    for key, value in environment.items():
        monkeypatch.setenv(f"SHOP_{key}", value)
    app = Flask("shop")
    app.config.from_prefixed_env("SHOP")
    check_config(app)
    settings = get_refunds(app).settings
    assert (settings.purchase_fields.payment, settings.user_id_field) == ("payment.intent", "_id")
    assert (settings.refunds_stripe_timeout, settings.refunds_admin_page) == (4.5, False)
    assert (settings.refunds_user_loader, settings.stripe_webhook_secret) == (bool, ())
    assert settings.refunds_login_url is None


OPTIONAL = [
    each.name.upper()
    for each in fields(Settings)
    if each.name not in ("refunds_mongo", "stripe_secret_key", "mongo_uri")
]


@pytest.mark.parametrize("key", OPTIONAL)
def test_empty_string_means_not_set(key: str) -> None:
    config = make_config(REFUNDS_MONGO=DATABASE)
    assert read_settings(config | {key: ""}) == read_settings(config)


def test_empty_required_setting_is_reported_as_not_set() -> None:
    assert problem(STRIPE_SECRET_KEY="")["STRIPE_SECRET_KEY"].startswith("isn't set")
    assert problem(REFUNDS_MONGO="", MONGO_URI="")["MONGO_URI"].startswith("isn't set")


# Secrets from files


@pytest.mark.parametrize(
    "given", [f"{SECRET}\n", f" {SECRET}\r\n", ["whsec_0123456789abcdef", f"{SECRET}\n"]]
)
def test_line_break_of_a_secret_file_is_removed(given: Any) -> None:
    app = make_app(REFUNDS_MONGO=DATABASE, STRIPE_SECRET_KEY=f"{STRIPE_KEY}\n", STRIPE_WEBHOOK_SECRET=given)
    check_config(app)
    assert get_refunds(app).settings.stripe_secret_key == STRIPE_KEY
    body, headers = signed_event(make_event("payout.paid", {"object": "payout"}), SECRET)
    assert (
        app.test_client().post("/api/payments/webhook/refunds", data=body, headers=headers).status_code == 200
    )


def test_line_break_after_the_mongo_uri_is_removed() -> None:
    uri = "mongodb://shop:pass@localhost/shop"
    assert read_settings(make_config(MONGO_URI=f"{uri}\n")).mongo_uri == uri


# Misspelled keys


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("REFUNDS_PURCHASE_COLLECTION", "REFUNDS_PURCHASES_COLLECTION"),
        ("REFUNDS_USER_FIELD", "REFUNDS_USER_FIELDS"),
        ("REFUNDS_ISADMIN", "REFUNDS_IS_ADMIN"),
        ("REFUNDS_STRIPE_RETRY", "REFUNDS_STRIPE_RETRIES"),
        ("REFUNDS_LEASE_SECOND", "REFUNDS_LEASE_SECONDS"),
    ],
)
def test_misspelled_key_is_rejected_with_the_right_one(key: str, meant: str) -> None:
    assert problem(**{key: "members"}) == {key: f"isn't a setting; did you mean {meant}?"}


def test_other_keys_with_the_prefix_belong_to_the_app() -> None:
    own = {"REFUNDS_EMAIL_SENDER": "ann@shop.example", "REFUNDS_DASHBOARD": True, "REFUNDS_TAX": 1}
    config = make_config(REFUNDS_MONGO=DATABASE)
    assert read_settings(config | own) == read_settings(config)
    assert unknown_keys(config | own) == sorted(own)


# A function or a proxy that leads to the database


@pytest.mark.parametrize(
    "make",
    [
        lambda get_database: LocalProxy(get_database),
        lambda get_database: lambda: LocalProxy(get_database),
        lambda get_database: get_database,
    ],
    ids=["proxy", "function that returns a proxy", "function"],
)
def test_proxy_is_resolved_once_in_an_app_context_without_a_request(make: Any) -> None:
    calls: list[tuple[str, bool]] = []

    def get_database() -> Any:
        calls.append((current_app.name, bool(request)))
        return DATABASE

    app = make_app(REFUNDS_MONGO=make(get_database))
    with app.test_request_context():
        g.tenant = "north"
        for _ in range(2):
            assert get_refunds(app).database is DATABASE
    assert calls == [("shop", False)]


@pytest.mark.parametrize(
    "get_database",
    [
        lambda: {"north": DATABASE}[request.headers["X-Tenant"]],
        lambda: {"north": DATABASE}[session["tenant"]],
        lambda: {"north": DATABASE}[g.tenant],
        LocalProxy(lambda: {"north": DATABASE}[g.tenant]),
    ],
    ids=["request", "session", "g", "proxy"],
)
def test_database_that_depends_on_the_request_is_rejected(get_database: Any) -> None:
    """Otherwise the first caller's tenant would be everyone's."""
    app = make_app(REFUNDS_MONGO=get_database, SECRET_KEY="s")
    app.before_request(lambda: setattr(g, "tenant", "north"))
    response = app.test_client().post(f"/api/payments/admin/refund/{'0' * 24}", headers={"X-Tenant": "north"})
    assert (response.status_code, response.json["code"]) == (500, "configuration_error")
    with pytest.raises(ConfigurationError, match="without a request; it can't depend on a request"):
        check_config(app)


def test_error_of_the_database_function_is_named() -> None:
    with pytest.raises(ConfigurationError, match="REFUNDS_MONGO: raised ZeroDivisionError when"):
        check_config(make_app(REFUNDS_MONGO=lambda: 1 / 0))


def test_lost_connection_in_the_database_function_is_database_unavailable() -> None:
    def get_database() -> Any:
        from pymongo.errors import ServerSelectionTimeoutError

        raise ServerSelectionTimeoutError

    with pytest.raises(DatabaseUnavailable):
        check_config(make_app(REFUNDS_MONGO=get_database))


# One app per tenant


def test_each_tenants_app_has_its_own_database() -> None:
    apps = {}
    for tenant in ("north", "south"):
        database = mongomock.MongoClient(tz_aware=True)[tenant]
        apps[tenant] = app = Flask(tenant)
        app.config.update(make_config(REFUNDS_MONGO=lambda database=database: database))
        app.register_blueprint(refunds_bp)
    assert {name: get_refunds(app).database.name for name, app in apps.items()} == {
        "north": "north",
        "south": "south",
    }

"""Config keys: defaults, valid and invalid values, and secrets that must not be shown."""

from __future__ import annotations

import dataclasses
import traceback
from datetime import timedelta
from functools import partial
from typing import Any

import mongomock
import pymongo
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask, current_app
from flask_pymongo import PyMongo
from werkzeug.local import LocalProxy

from flask_refunds import ConfigurationError, check_config, refunds_bp
from flask_refunds.config import CALL_SECONDS, Settings, check_settings, read_settings, read_token_settings
from flask_refunds.config.tokens import TokenSettings
from flask_refunds.origins import Origin
from flask_refunds.purchase_fields import PurchaseFields
from tests.mount.keys import PUBLIC_KEY_ALGORITHMS, KeyPair, key_pair
from tests.shop import JWT_SECRET, STRIPE_KEY, make_app

DATABASE = mongomock.MongoClient().shop
GOOD: dict[str, Any] = {
    "JWT_SECRET_KEY": JWT_SECRET,
    "STRIPE_SECRET_KEY": STRIPE_KEY,
    "REFUNDS_MONGO": DATABASE,
}


def read(**changes: Any) -> Settings:
    return read_settings(GOOD | changes)


def read_tokens(**changes: Any) -> TokenSettings:
    return read_token_settings(GOOD | changes)


def problems(**changes: Any) -> dict[str, str]:
    """Return the problems of a config that is valid except for these changes."""
    with pytest.raises(ConfigurationError) as caught:
        check_settings(GOOD | changes, with_flask_jwt=False)
    return caught.value.problems


def public_key(algorithm: str) -> dict[str, Any]:
    return {
        "JWT_SECRET_KEY": None,
        "JWT_ALGORITHM": algorithm,
        "JWT_PUBLIC_KEY": key_pair(algorithm).public_pem,
    }


def app_function(_: Any) -> None:
    """Do nothing, as a function of the app."""


# Defaults


def test_optional_keys_have_documented_defaults() -> None:
    assert dataclasses.asdict(dataclasses.replace(read(), refunds_mongo=None)) == {
        "mongo_uri": None,
        "refunds_mongo": None,
        "refunds_purchases_collection": "purchases",
        "refunds_users_collection": "users",
        "refunds_contents_collection": "contents",
        "refunds_collection": "flask_refunds",
        "refunds_current_user": None,
        "refunds_trusted_origins": (),
        "refunds_purchase_fields": {
            "status": "status",
            "payment": "stripePaymentIntentId",
            "user": "user",
            "content": "content",
            "amount": "amount",
            "currency": "currency",
            "created": None,
            "stripe_account": None,
        },
        "refunds_user_fields": {"id": "_id", "name": "name", "email": "email"},
        "refunds_content_fields": {"title": "title", "type": "type"},
        "refunds_status_completed": ("completed",),
        "refunds_status_refunded": "refunded",
        "refunds_amount_unit": "major",
        "refunds_user_loader": None,
        "refunds_is_admin": None,
        "stripe_secret_key": STRIPE_KEY,
        "stripe_webhook_secret": (),
        "stripe_api_base": "https://api.stripe.com",
        "refunds_allow_partial": False,
        "refunds_stripe_timeout": 8.0,
        "refunds_stripe_retries": 1,
        "refunds_stripe_options": {},
        "refunds_lease_seconds": 60.0,
        "refunds_admin_page": True,
        "refunds_login_url": None,
        "refunds_order_url": None,
    }
    assert dataclasses.asdict(read_tokens()) == {
        "jwt_decode_keys": (JWT_SECRET,),
        "jwt_jwks_url": None,
        "jwt_decode_algorithms": ("HS256",),
        "jwt_decode_audience": None,
        "verify_audience": True,
        "jwt_decode_issuer": None,
        "jwt_decode_leeway": 0.0,
        "jwt_identity_claim": "sub",
        "jwt_verify_sub": True,
        "jwt_header_name": "Authorization",
        "jwt_header_type": "Bearer",
        "require_expiry": True,
    }


OPTIONAL = [
    "MONGO_URI",
    "JWT_PUBLIC_KEY",
    "JWT_ALGORITHM",
    "JWT_DECODE_ALGORITHMS",
    "JWT_DECODE_AUDIENCE",
    "JWT_DECODE_ISSUER",
    "JWT_DECODE_LEEWAY",
    "JWT_IDENTITY_CLAIM",
    "JWT_JWKS_URL",
    "JWT_VERIFY_SUB",
    "JWT_HEADER_NAME",
    "JWT_HEADER_TYPE",
    "JWT_ACCESS_TOKEN_EXPIRES",
    "JWT_SECRET_KEY_FALLBACKS",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_API_BASE",
    "REFUNDS_PURCHASES_COLLECTION",
    "REFUNDS_USERS_COLLECTION",
    "REFUNDS_CONTENTS_COLLECTION",
    "REFUNDS_COLLECTION",
    "REFUNDS_PURCHASE_FIELDS",
    "REFUNDS_USER_FIELDS",
    "REFUNDS_CURRENT_USER",
    "REFUNDS_TRUSTED_ORIGINS",
    "REFUNDS_CONTENT_FIELDS",
    "REFUNDS_STATUS_COMPLETED",
    "REFUNDS_STATUS_REFUNDED",
    "REFUNDS_AMOUNT_UNIT",
    "REFUNDS_USER_LOADER",
    "REFUNDS_IS_ADMIN",
    "REFUNDS_STRIPE_TIMEOUT",
    "REFUNDS_STRIPE_RETRIES",
    "REFUNDS_LEASE_SECONDS",
    "REFUNDS_ADMIN_PAGE",
    "REFUNDS_ALLOW_PARTIAL",
    "REFUNDS_LOGIN_URL",
    "REFUNDS_ORDER_URL",
]


def test_none_means_not_set() -> None:
    """Flask-JWT-Extended sets several keys to ``None``."""
    assert read(**dict.fromkeys(OPTIONAL)) == read()
    assert read_tokens(**dict.fromkeys(OPTIONAL)) == read_tokens()


def test_keys_of_other_libraries_are_ignored() -> None:
    assert read(SECRET_KEY=1, DEBUG="yes", REFUNDS_TYPO=object(), JWT_TOKEN_LOCATION=["cookies"]) == read()


# Valid values


ACCEPTED: list[tuple[str, Any, str, Any]] = [
    ("REFUNDS_ADMIN_PAGE", False, "refunds_admin_page", False),
    ("REFUNDS_LOGIN_URL", "/sign-in?by=mail", "refunds_login_url", "/sign-in?by=mail"),
    ("REFUNDS_ORDER_URL", "/orders/{id}#top", "refunds_order_url", "/orders/{id}#top"),
    ("REFUNDS_ORDER_URL", "https://a.example/?o={id}", "refunds_order_url", "https://a.example/?o={id}"),
    ("REFUNDS_ORDER_URL", "http://localhost/{id}", "refunds_order_url", "http://localhost/{id}"),
    ("REFUNDS_PURCHASES_COLLECTION", "shop.orders", "refunds_purchases_collection", "shop.orders"),
    ("REFUNDS_USERS_COLLECTION", "members", "refunds_users_collection", "members"),
    ("REFUNDS_CONTENTS_COLLECTION", "courses", "refunds_contents_collection", "courses"),
    ("REFUNDS_COLLECTION", "refund_ledger", "refunds_collection", "refund_ledger"),
    ("REFUNDS_PURCHASE_FIELDS", {}, "purchase_fields", PurchaseFields()),
    (
        "REFUNDS_PURCHASE_FIELDS",
        {"payment": "payment.intent", "status": "payment.state", "user": "buyer.$id", "created": "at"},
        "purchase_fields",
        PurchaseFields(payment="payment.intent", status="payment.state", user="buyer.$id", created="at"),
    ),
    (
        "REFUNDS_PURCHASE_FIELDS",
        {"payment": "_id", "created": None, "stripe_account": "seller.account"},
        "purchase_fields",
        PurchaseFields(payment="_id", stripe_account="seller.account"),
    ),
    ("REFUNDS_STATUS_COMPLETED", "PAID", "purchase_fields", PurchaseFields(completed_words=("PAID",))),
    ("REFUNDS_STATUS_COMPLETED", [3, "3"], "refunds_status_completed", (3, "3")),
    ("REFUNDS_STATUS_COMPLETED", True, "refunds_status_completed", (True,)),
    ("REFUNDS_STATUS_COMPLETED", (0, False), "refunds_status_completed", (0, False)),
    ("REFUNDS_STATUS_REFUNDED", -4.5, "purchase_fields", PurchaseFields(refunded_word=-4.5)),
    ("REFUNDS_AMOUNT_UNIT", "minor", "purchase_fields", PurchaseFields(amount_in_minor_units=True)),
    ("REFUNDS_USER_FIELDS", {"id": "email"}, "user_id_field", "email"),
    ("REFUNDS_USER_FIELDS", {}, "user_id_field", "_id"),
    (
        "REFUNDS_USER_FIELDS",
        {"name": "profile.fullName"},
        "refunds_user_fields",
        {"id": "_id", "name": "profile.fullName", "email": "email"},
    ),
    (
        "REFUNDS_CONTENT_FIELDS",
        {"title": "i18n.en"},
        "refunds_content_fields",
        {"title": "i18n.en", "type": "type"},
    ),
    ("REFUNDS_USER_LOADER", app_function, "refunds_user_loader", app_function),
    ("REFUNDS_CURRENT_USER", app_function, "refunds_current_user", app_function),
    ("REFUNDS_TRUSTED_ORIGINS", [], "refunds_trusted_origins", ()),
    (
        "REFUNDS_TRUSTED_ORIGINS",
        ("https://Admin.example:443", "http://[::1]:3000"),
        "refunds_trusted_origins",
        (Origin("https", "admin.example", 443), Origin("http", "[::1]", 3000)),
    ),
    ("REFUNDS_IS_ADMIN", app_function, "refunds_is_admin", app_function),
    ("REFUNDS_IS_ADMIN", bool, "refunds_is_admin", bool),
    ("STRIPE_SECRET_KEY", "sk_live_51Abc", "stripe_secret_key", "sk_live_51Abc"),
    ("STRIPE_SECRET_KEY", "rk_test_51Abc", "stripe_secret_key", "rk_test_51Abc"),
    ("STRIPE_SECRET_KEY", "rk_live_51Abc", "stripe_secret_key", "rk_live_51Abc"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_0123456789abcdef", "stripe_webhook_secret", ("whsec_0123456789abcdef",)),
    (
        "STRIPE_WEBHOOK_SECRET",
        ["whsec_0123456789abcdef", "whsec_fedcba9876543210"],
        "stripe_webhook_secret",
        ("whsec_0123456789abcdef", "whsec_fedcba9876543210"),
    ),
    (
        "STRIPE_WEBHOOK_SECRET",
        ("whsec_0123456789abcdef",),
        "stripe_webhook_secret",
        ("whsec_0123456789abcdef",),
    ),
    ("STRIPE_API_BASE", "https://stripe.example/", "stripe_api_base", "https://stripe.example"),
    ("STRIPE_API_BASE", "http://127.0.0.1:12111", "stripe_api_base", "http://127.0.0.1:12111"),
    ("STRIPE_API_BASE", "http://localhost:12111/", "stripe_api_base", "http://localhost:12111"),
    ("STRIPE_API_BASE", "http://[::1]:12111", "stripe_api_base", "http://[::1]:12111"),
    ("REFUNDS_ALLOW_PARTIAL", True, "refunds_allow_partial", True),
    ("REFUNDS_STRIPE_TIMEOUT", 0.1, "refunds_stripe_timeout", 0.1),
    ("REFUNDS_STRIPE_TIMEOUT", 18, "refunds_stripe_timeout", 18),
    ("REFUNDS_STRIPE_RETRIES", 0, "refunds_stripe_retries", 0),
    ("REFUNDS_STRIPE_RETRIES", 5, "refunds_stripe_retries", 5),
    ("REFUNDS_LEASE_SECONDS", 20, "refunds_lease_seconds", 20),
    ("REFUNDS_LEASE_SECONDS", 3600, "refunds_lease_seconds", 3600),
    ("JWT_DECODE_AUDIENCE", "shop", "jwt_decode_audience", ("shop",)),
    ("JWT_DECODE_AUDIENCE", ["shop", "admin"], "jwt_decode_audience", ("shop", "admin")),
    ("JWT_DECODE_ISSUER", "https://login.example", "jwt_decode_issuer", ("https://login.example",)),
    ("JWT_DECODE_ISSUER", ["one", "two"], "jwt_decode_issuer", ("one", "two")),
    ("JWT_DECODE_LEEWAY", 0, "jwt_decode_leeway", 0),
    ("JWT_DECODE_LEEWAY", 300.0, "jwt_decode_leeway", 300.0),
    ("JWT_DECODE_LEEWAY", timedelta(minutes=2), "jwt_decode_leeway", 120.0),
    ("JWT_VERIFY_SUB", False, "jwt_verify_sub", False),
    ("JWT_HEADER_NAME", "X-Access-Token", "jwt_header_name", "X-Access-Token"),
    ("JWT_HEADER_TYPE", "JWT", "jwt_header_type", "JWT"),
    ("JWT_HEADER_TYPE", "", "jwt_header_type", ""),
    ("JWT_ACCESS_TOKEN_EXPIRES", False, "require_expiry", False),
    ("JWT_ACCESS_TOKEN_EXPIRES", 900, "require_expiry", True),
    ("JWT_IDENTITY_CLAIM", "uid", "jwt_identity_claim", "uid"),
    ("JWT_ALGORITHM", "HS256", "jwt_decode_algorithms", ("HS256",)),
    ("JWT_DECODE_ALGORITHMS", ["HS256"], "jwt_decode_algorithms", ("HS256",)),
    ("JWT_DECODE_ALGORITHMS", ("HS256", "HS384"), "jwt_decode_algorithms", ("HS256", "HS384")),
]


@pytest.mark.parametrize(("key", "value", "field", "expected"), ACCEPTED)
def test_valid_value_is_accepted(key: str, value: Any, field: str, expected: Any) -> None:
    settings = read_tokens(**{key: value}) if key.startswith("JWT_") else read(**{key: value})
    assert getattr(settings, field) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://localhost/shop",
        "mongodb://user:pa%2Fss@host:27017/shop",
        "mongodb://a:1,b:2,c:3/shop?replicaSet=rs&w=majority",
        "mongodb+srv://user:pass@cluster.example/shop?retryWrites=true",
        "mongodb://[::1]:27017/shop",
    ],
)
def test_mongo_uri_with_database_is_accepted(uri: str) -> None:
    assert read(MONGO_URI=uri, REFUNDS_MONGO=None).mongo_uri == uri


def test_database_objects_and_functions_are_accepted() -> None:
    real: Any = pymongo.MongoClient(connect=False)
    for given in (DATABASE, real.shop, PyMongo(), lambda: DATABASE, partial(getattr, real, "shop")):
        assert read(REFUNDS_MONGO=given).refunds_mongo is given


def test_livemode_follows_the_stripe_key() -> None:
    assert read(STRIPE_SECRET_KEY="rk_live_1").livemode
    assert not read(STRIPE_SECRET_KEY="sk_test_1").livemode
    assert not read(STRIPE_SECRET_KEY="sk_test_alive").livemode


def test_call_time_limit_is_below_a_workers_30_seconds() -> None:
    assert CALL_SECONDS <= 20


# Invalid values


class Anything:
    """An object that isn't valid for any key."""


INVALID_NAMES = [" ", 1, True, b"users", ["users"], "$where", "us\0ers", Anything()]
INVALID_FIELDS: list[Any] = ["email", 1, True, ["id"], Anything()]
INVALID_WORDS: list[Any] = ["  ", b"paid", {"status": "paid"}, float("nan"), 2**63, Anything()]
INVALID_TEXTS = [" \t", 1, True, b"text", ["text"], {"text": 1}]
INVALID_URLS = [
    "api.stripe.com",
    "http://api.stripe.com",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1@evil.example",
    "http://localhost.evil.example",
    "http://evil.example/127.0.0.1",
    "http://evil.example#@127.0.0.1",
    "http://2130706433",
    "http://0.0.0.0:80",
    "//127.0.0.1",
    "https://",
    "https:///path",
    "https://[::1",
    "ftp://127.0.0.1",
    "file:///etc/passwd",
    "javascript:alert(1)",
    " http://evil.example",
    1,
    b"https://x.example",
    ["https://x.example"],
]
INVALID: dict[str, list[Any]] = {
    "MONGO_URI": [
        " ",
        1,
        b"mongodb://localhost/shop",
        "localhost/shop",
        "http://localhost/shop",
        "mongodb://localhost",
        "mongodb://localhost/",
        "mongodb://localhost/?w=1",
        "mongodb:///shop",
        "mongodb://local host/shop",
        "mongodb://localhost/a/b",
    ],
    "REFUNDS_MONGO": ["mongodb://localhost/shop", 1, True, {}, [DATABASE], Anything()],
    "REFUNDS_PURCHASES_COLLECTION": INVALID_NAMES,
    "REFUNDS_USERS_COLLECTION": INVALID_NAMES,
    "REFUNDS_CONTENTS_COLLECTION": INVALID_NAMES,
    "REFUNDS_COLLECTION": INVALID_NAMES,
    "REFUNDS_PURCHASE_FIELDS": [
        *INVALID_FIELDS,
        *({"payment": name} for name in INVALID_NAMES),
        {"pay": "x"},
        *({"created": name} for name in INVALID_NAMES),
        {"user": None},
        {"status": "_id"},
        {"status": "amount"},
        {"status": "paid.state", "payment": "paid.state"},
        {"amount": "price", "currency": "price.currency"},
        {"payment": "payment.$id"},
        {"user": "$id"},
        {"content": "c.$id.$id"},
    ],
    "REFUNDS_CONTENT_FIELDS": [*INVALID_FIELDS, {"id": "sku"}, {"title": "a", "type": "a.b"}],
    "REFUNDS_STATUS_COMPLETED": [*INVALID_WORDS, [], [None, 1], ["paid", ["done"]], "refunded", ["refunded"]],
    "REFUNDS_STATUS_REFUNDED": [*INVALID_WORDS, ["refunded"], "completed"],
    "REFUNDS_AMOUNT_UNIT": ["cents", 100, True, ["minor"]],
    "REFUNDS_USER_FIELDS": [*INVALID_FIELDS, *({"id": name} for name in INVALID_NAMES), {"payment": "x"}],
    "REFUNDS_CURRENT_USER": ["app_function", 1, True, {}, Anything()],
    "REFUNDS_TRUSTED_ORIGINS": [
        "https://admin.example",
        {"https://admin.example"},
        1,
        True,
        [1],
        [""],
        ["*"],
        ["null"],
        ["admin.example"],
        ["https://admin.example/"],
        ["https://admin.example", "https://admin.example/refunds"],
        ["https://*.example"],
        ["https://ada@admin.example"],
        ["ws://admin.example"],
        ["https://admin.example:port"],
    ],
    "REFUNDS_USER_LOADER": ["app_function", 1, True, {}, Anything()],
    "REFUNDS_IS_ADMIN": ["app_function", 1, True, ["ann"], Anything()],
    "STRIPE_SECRET_KEY": [
        *INVALID_TEXTS,
        "pk_test_51Abc",
        "pk_live_51Abc",
        "whsec_0123456789abcdef",
        "sk_test_",
        "sk_51Abc",
        "sk_test_51 Abc",
        "sk_test_51Abc\r\nX-Evil: 1",
        "Sk_test_51Abc",
    ],
    "STRIPE_WEBHOOK_SECRET": [
        *INVALID_TEXTS,
        " " * 40,
        "\t\n" * 20,
        "whsec_",
        "short",
        "x" * 15,
        "x" + " " * 30,
        [],
        (),
        [""],
        [" " * 40],
        ["whsec_0123456789abcdef", ""],
        ["whsec_0123456789abcdef", None],
        ["whsec_0123456789abcdef", ["whsec_0123456789abcdef"]],
        {"whsec_0123456789abcdef"},
        True,
    ],
    "STRIPE_API_BASE": INVALID_URLS,
    "JWT_JWKS_URL": INVALID_URLS,
    "REFUNDS_STRIPE_TIMEOUT": [0, 0.09, 18.1, -1, "8", True, float("nan"), float("inf"), 10**400, [8]],
    "REFUNDS_STRIPE_RETRIES": [-1, 6, 1.0, 1.5, "1", True, float("nan"), [1]],
    "REFUNDS_LEASE_SECONDS": [0, 19.9, 3601, -60, "60", True, float("nan"), float("inf"), [60]],
    "JWT_SECRET_KEY": [*INVALID_TEXTS, "short"],
    "JWT_ALGORITHM": ["none", "None", "hs256", "HS257", "RSA", "HS256,RS256", 1, True, b"HS256"],
    "JWT_DECODE_ALGORITHMS": [
        [],
        (),
        "HS256",
        {"HS256"},
        ["none"],
        ["HS256", "none"],
        ["HS256", "HS257"],
        ["hs256"],
        [None],
        [["HS256"]],
        [{}],
        {"HS256": True},
        1,
    ],
    "JWT_DECODE_AUDIENCE": [*INVALID_TEXTS[:4], [], [""], ["shop", ""], ["shop", 1], {"shop": 1}, {"shop"}],
    "JWT_DECODE_ISSUER": [*INVALID_TEXTS[:4], [], [""], {"iss": 1}],
    "JWT_VERIFY_SUB": [1, "False", "no"],
    "JWT_HEADER_NAME": ["X Token", "X-Token:", " ", 1, ["Authorization"]],
    "JWT_HEADER_TYPE": ["Bearer token", " ", 1, ["Bearer", "JWT"]],
    "JWT_SECRET_KEY_FALLBACKS": ["short", ["short"], [None], [""], 1],
    "JWT_DECODE_LEEWAY": [
        *(-1, 301, "10", True, float("nan"), float("inf"), [10]),
        *(timedelta(seconds=-1), timedelta(minutes=6)),
    ],
    "JWT_IDENTITY_CLAIM": INVALID_TEXTS,
    "REFUNDS_ADMIN_PAGE": [0, 1, "no", []],
    "REFUNDS_ALLOW_PARTIAL": [0, 1, "yes", []],
    "REFUNDS_LOGIN_URL": [
        "sign-in",
        "//elsewhere.example/sign-in",
        "/\\elsewhere.example",
        "https://elsewhere.example/sign-in",
        "javascript:alert(1)",
        "/sign in",
        "/sign-in\n",
        1,
    ],
    "REFUNDS_ORDER_URL": [
        "orders/{id}",
        "//elsewhere.example/{id}",
        "http://elsewhere.example/{id}",
        "https://{id}.elsewhere.example/{id}",
        "https://elsewhere.example\\{id}/",
        "https://elsewhere.example/orders",
        "https://ann:secret@elsewhere.example/{id}",
        "javascript:alert('{id}')",
        "/orders/ {id}",
        "/orders/{id}\n",
        1,
    ],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in INVALID.items() for value in values]
)
def test_invalid_value_is_rejected(key: str, value: Any) -> None:
    assert key in problems(**{key: value})


@pytest.mark.parametrize("key", ["STRIPE_SECRET_KEY", "JWT_SECRET_KEY"])
def test_required_key_is_reported_when_missing(key: str) -> None:
    assert problems(**{key: None})[key].startswith("isn't set; ")


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_jwt_keys_are_optional_with_sessions(algorithm: str) -> None:
    changes = {"JWT_SECRET_KEY": None, "JWT_ALGORITHM": algorithm}
    assert f"JWT_{'SECRET' if algorithm == 'HS256' else 'PUBLIC'}_KEY" in problems(**changes)
    settings = read_tokens(**changes, REFUNDS_CURRENT_USER=app_function)
    assert (settings.jwt_decode_keys, settings.jwt_jwks_url) == ((), None)
    assert "JWT_SECRET_KEY" in problems(JWT_SECRET_KEY="short", REFUNDS_CURRENT_USER=app_function)


def test_proxy_is_accepted_without_resolving_it() -> None:
    def fail() -> None:
        raise LookupError("resolved")

    settings = read(REFUNDS_CURRENT_USER=LocalProxy(fail))
    with pytest.raises(LookupError):
        settings.refunds_current_user._get_current_object()


def test_missing_database_is_reported_with_both_ways_to_set_it() -> None:
    [(key, problem)] = problems(REFUNDS_MONGO=None).items()
    assert key == "MONGO_URI"
    assert "REFUNDS_MONGO" in problem


@pytest.mark.parametrize("client", [pymongo.MongoClient(connect=False), mongomock.MongoClient()])
def test_mongo_client_is_rejected(client: Any) -> None:
    assert "Database" in problems(REFUNDS_MONGO=client)["REFUNDS_MONGO"]


@pytest.mark.parametrize("database", [pymongo.MongoClient(connect=False).shop, DATABASE])
def test_collection_is_rejected(database: Any) -> None:
    assert "REFUNDS_MONGO" in problems(REFUNDS_MONGO=database.flask_refunds)


def test_async_database_is_rejected() -> None:
    database: Any = pymongo.AsyncMongoClient(connect=False).shop
    assert "REFUNDS_MONGO" in problems(REFUNDS_MONGO=database)


@pytest.mark.parametrize("value", [["HS256"], {}, [None]])
def test_unhashable_algorithm_is_rejected(value: Any) -> None:
    assert "JWT_ALGORITHM" in problems(JWT_ALGORITHM=value)


@pytest.mark.parametrize("name", ["a..b", ".a", "a.", "a$b"])
def test_invalid_collection_name_is_rejected(name: str) -> None:
    with pytest.raises(ConfigurationError):
        check_config(make_app(REFUNDS_MONGO=DATABASE, REFUNDS_COLLECTION=name))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://user:p@ss@host/shop", "can't be used (InvalidURI)"),
        ("mongodb://user:pa%ss@host/shop", "can't be used (InvalidURI)"),
        ("mongodb://host:port/shop", "can't be used (ValueError)"),
        ("mongodb://host/sh$op", "can't be used (InvalidURI)"),
        ("mongodb://host/shop?w=-1", "can't be used (ValueError)"),
        ("mongodb://host/.shop", "doesn't name a database"),
    ],
)
def test_uri_that_pymongo_rejects_is_reported(uri: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_config(make_app(MONGO_URI=uri))
    assert caught.value.problems == {"MONGO_URI": expected}


def test_non_ascii_stripe_key_is_rejected() -> None:
    assert "STRIPE_SECRET_KEY" in problems(STRIPE_SECRET_KEY="sk_test_ключ")


@pytest.mark.parametrize("key", ["REFUNDS_PURCHASES_COLLECTION", "REFUNDS_USERS_COLLECTION"])
def test_app_collection_that_is_the_ledger_is_rejected(key: str) -> None:
    assert list(problems(**{key: "flask_refunds"})) == [key]


async def _async_function(*_: Any) -> Any: ...


class _AsyncCallable:
    """An object with an async ``__call__``."""

    async def __call__(self, *_: Any) -> Any: ...


@pytest.mark.parametrize(
    "key", ["REFUNDS_USER_LOADER", "REFUNDS_IS_ADMIN", "REFUNDS_MONGO", "REFUNDS_CURRENT_USER"]
)
@pytest.mark.parametrize(
    "function", [_async_function, partial(_async_function, 1), _AsyncCallable(), _AsyncCallable().__call__]
)
def test_async_function_is_rejected(key: str, function: Any) -> None:
    assert key in problems(**{key: function})


# Keys and algorithms


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
def test_public_key_is_accepted(algorithm: str) -> None:
    settings = read_tokens(**public_key(algorithm))
    assert settings.jwt_decode_algorithms == (algorithm,)
    assert settings.jwt_decode_keys == (key_pair(algorithm).public_pem,)


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
def test_public_key_algorithm_without_public_key_is_rejected(algorithm: str) -> None:
    # The HMAC secret that is set can't verify these tokens.
    assert "isn't set" in problems(JWT_ALGORITHM=algorithm)["JWT_PUBLIC_KEY"]


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
@pytest.mark.parametrize("key", [JWT_SECRET, "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"])
def test_text_that_is_not_a_public_key_is_rejected(algorithm: str, key: str) -> None:
    assert "isn't a valid key" in problems(JWT_ALGORITHM=algorithm, JWT_PUBLIC_KEY=key)["JWT_PUBLIC_KEY"]


@pytest.mark.parametrize(
    ("algorithm", "other"),
    [("RS256", "ES256"), ("ES256", "RS256"), ("ES256", "ES384"), ("EdDSA", "RS256"), ("PS256", "EdDSA")],
)
def test_public_key_of_another_family_is_rejected(algorithm: str, other: str) -> None:
    invalid = problems(JWT_ALGORITHM=algorithm, JWT_PUBLIC_KEY=key_pair(other).public_pem)
    assert list(invalid) == ["JWT_PUBLIC_KEY"]


def test_weak_rsa_key_is_rejected() -> None:
    weak = KeyPair(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    invalid = problems(JWT_ALGORITHM="RS256", JWT_PUBLIC_KEY=weak.public_pem)
    assert "too short" in invalid["JWT_PUBLIC_KEY"]


@pytest.mark.parametrize(("algorithm", "length"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_hmac_secret_shorter_than_its_digest_is_rejected(algorithm: str, length: int) -> None:
    secret = "é" + "x" * (length - 2)  # bytes count, not characters
    assert read_tokens(JWT_ALGORITHM=algorithm, JWT_SECRET_KEY=secret).jwt_decode_keys == (secret,)
    invalid = problems(JWT_ALGORITHM=algorithm, JWT_SECRET_KEY=secret[:-1])
    assert "too short" in invalid["JWT_SECRET_KEY"]
    assert "secrets.token_urlsafe" in invalid["JWT_SECRET_KEY"]


def test_hmac_secret_must_be_long_enough_for_every_algorithm() -> None:
    secret = "x" * 48
    assert read_tokens(JWT_DECODE_ALGORITHMS=["HS256", "HS384"], JWT_SECRET_KEY=secret)
    invalid = problems(JWT_DECODE_ALGORITHMS=["HS256", "HS384", "HS512"], JWT_SECRET_KEY=secret)
    assert "HS512" in invalid["JWT_SECRET_KEY"]


SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJlYWNoZXMgYXJlIG5pY2UgaW4gc3VtbWVyISEh"


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key_pair("RS256").public_pem, id="public PEM"),
        pytest.param(key_pair("RS256").private_pem, id="private PEM"),
        pytest.param(key_pair("ES256").public_pem, id="EC PEM"),
        pytest.param("\n" + key_pair("RS256").public_pem.strip(), id="PEM, moved"),
        pytest.param(SSH_KEY, id="ssh key"),
        pytest.param('{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}', id="JWK"),
    ],
)
def test_public_or_private_key_is_rejected_as_hmac_secret(key: str) -> None:
    assert "isn't a valid key" in problems(JWT_SECRET_KEY=key)["JWT_SECRET_KEY"]


@pytest.mark.parametrize(
    "mixed",
    [["HS256", "RS256"], ["RS256", "HS256"], ["HS256", "HS512", "EdDSA"], ["PS256", "ES256", "HS384"]],
)
def test_hmac_and_public_key_algorithms_cannot_be_mixed(mixed: list[str]) -> None:
    pem = key_pair("RS256").public_pem
    invalid = problems(JWT_DECODE_ALGORITHMS=mixed, JWT_PUBLIC_KEY=pem, JWT_SECRET_KEY="x" * 64)
    assert "family" in invalid["JWT_DECODE_ALGORITHMS"]


def test_public_key_algorithms_of_one_key_can_be_combined() -> None:
    settings = read_tokens(**public_key("RS256"), JWT_DECODE_ALGORITHMS=["RS256", "PS256"])
    assert settings.jwt_decode_algorithms == ("RS256", "PS256")
    assert problems(**public_key("RS256"), JWT_DECODE_ALGORITHMS=["RS256", "ES256"])


def test_jwt_algorithm_is_always_accepted_for_decoding() -> None:
    settings = read_tokens(JWT_ALGORITHM="HS512", JWT_DECODE_ALGORITHMS=["HS256"], JWT_SECRET_KEY="x" * 64)
    assert set(settings.jwt_decode_algorithms) == {"HS256", "HS512"}


# Keys from an identity provider

JWKS = "https://login.example/jwks.json"


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
def test_jwks_url_replaces_the_decode_key(algorithm: str) -> None:
    settings = read_tokens(JWT_SECRET_KEY=None, JWT_ALGORITHM=algorithm, JWT_JWKS_URL=JWKS)
    assert settings.jwt_jwks_url == JWKS
    assert settings.jwt_decode_keys == ()


def test_secret_key_is_ignored_with_a_jwks_url() -> None:
    assert read_tokens(JWT_ALGORITHM="RS256", JWT_JWKS_URL=JWKS).jwt_decode_keys == ()


@pytest.mark.parametrize(
    "algorithms",
    [{}, {"JWT_ALGORITHM": "HS512"}, {"JWT_ALGORITHM": "RS256", "JWT_DECODE_ALGORITHMS": ["RS256", "HS256"]}],
)
def test_hmac_algorithm_with_a_jwks_url_is_rejected(algorithms: dict[str, Any]) -> None:
    assert "public-key algorithm" in problems(JWT_JWKS_URL=JWKS, **algorithms)["JWT_ALGORITHM"]


# One error for all problems, without secrets

CANARY = "CANARY"
ALL_INVALID: dict[str, Any] = {
    "MONGO_URI": f"mongodb://{CANARY}:{CANARY}@host/",
    "REFUNDS_MONGO": f"mongodb://{CANARY}@host/shop",
    "REFUNDS_PURCHASES_COLLECTION": f"${CANARY}",
    "REFUNDS_USERS_COLLECTION": f"${CANARY}",
    "REFUNDS_CONTENTS_COLLECTION": f"${CANARY}",
    "REFUNDS_COLLECTION": f"${CANARY}",
    "REFUNDS_PURCHASE_FIELDS": {"payment": f"${CANARY}"},
    "REFUNDS_USER_FIELDS": {CANARY: "email"},
    "REFUNDS_CONTENT_FIELDS": {CANARY: "title"},
    "REFUNDS_STATUS_COMPLETED": [CANARY, None],
    "REFUNDS_STATUS_REFUNDED": {CANARY: CANARY},
    "REFUNDS_AMOUNT_UNIT": CANARY,
    "REFUNDS_USER_LOADER": CANARY,
    "REFUNDS_IS_ADMIN": CANARY,
    "STRIPE_SECRET_KEY": f"sk_test {CANARY}",
    "STRIPE_WEBHOOK_SECRET": [f"whsec_{CANARY}0123456789", CANARY],
    "STRIPE_API_BASE": f"http://{CANARY}.example",
    "REFUNDS_STRIPE_TIMEOUT": CANARY,
    "REFUNDS_STRIPE_RETRIES": CANARY,
    "REFUNDS_LEASE_SECONDS": CANARY,
    "REFUNDS_USERS_COLECTION": CANARY,
    "JWT_SECRET_KEY": CANARY,
    "JWT_SECRET_KEY_FALLBACKS": [CANARY],
    "JWT_HEADER_NAME": f"{CANARY}:",
    "JWT_HEADER_TYPE": f"Bearer {CANARY}",
    "JWT_VERIFY_SUB": CANARY,
    "JWT_ALGORITHM": CANARY,
    "JWT_DECODE_ALGORITHMS": [CANARY],
    "JWT_DECODE_AUDIENCE": [CANARY, 1],
    "JWT_DECODE_ISSUER": [CANARY, 1],
    "JWT_DECODE_LEEWAY": CANARY,
    "JWT_IDENTITY_CLAIM": [CANARY],
}


def shown_by(error: BaseException) -> str:
    """Return everything that could be logged of an error."""
    attributes = [error.args, vars(error), error.__cause__, error.__context__]
    return "\n".join([str(error), repr(error), str(attributes), *traceback.format_exception(error)])


def test_error_names_every_invalid_key_without_values() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_settings(ALL_INVALID, with_flask_jwt=False)
    assert caught.value.problems.keys() == ALL_INVALID.keys()
    for key in ALL_INVALID:
        assert f"  {key}: " in str(caught.value)
    assert CANARY not in shown_by(caught.value)


def test_error_response_does_not_name_keys() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_settings(ALL_INVALID, with_flask_jwt=False)
    assert not any(key in caught.value.message for key in ALL_INVALID)
    assert (caught.value.status, caught.value.code) == (500, "configuration_error")


def test_each_invalid_key_is_reported_once() -> None:
    invalid = problems(
        JWT_ALGORITHM="HS512", JWT_DECODE_ALGORITHMS=["HS256", "HS384"], JWT_SECRET_KEY="short"
    )
    assert list(invalid) == ["JWT_SECRET_KEY"]
    expected = "must be a non-empty string, or a list of them during a rotation"
    assert problems(JWT_SECRET_KEY=1) == {"JWT_SECRET_KEY": expected}


@pytest.mark.parametrize(
    "canary",
    [
        {"JWT_SECRET_KEY": f"{CANARY}-short"},
        {"JWT_SECRET_KEY": f'{{"kty": "oct", "k": "{CANARY}"}}'},
        {"JWT_SECRET_KEY": key_pair("RS256").private_pem + CANARY},
        {"JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": f"{CANARY}-and-more-so-that-it-is-long-enough"},
        {"STRIPE_SECRET_KEY": f"pk_live_{CANARY}"},
        {"STRIPE_SECRET_KEY": {"live": CANARY}},
        {"STRIPE_WEBHOOK_SECRET": CANARY},
        {"STRIPE_WEBHOOK_SECRET": CANARY.encode()},
        {"MONGO_URI": f"mongodb://shop:{CANARY}@host"},
        {"REFUNDS_MONGO": f"mongodb://shop:{CANARY}@host/shop"},
        {"STRIPE_API_BASE": f"http://user:{CANARY}@stripe.example"},
        {"JWT_JWKS_URL": f"http://user:{CANARY}@login.example", "JWT_ALGORITHM": "RS256"},
    ],
)
def test_error_does_not_contain_secrets(canary: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_settings(GOOD | canary, with_flask_jwt=False)
    shown = shown_by(caught.value)
    assert CANARY not in shown
    assert "BEGIN" not in shown


def test_settings_repr_does_not_contain_secrets() -> None:
    settings = read(
        MONGO_URI=f"mongodb://{CANARY}:{CANARY}@host/shop",
        STRIPE_SECRET_KEY=f"sk_live_{CANARY}",
        STRIPE_WEBHOOK_SECRET=[f"whsec_{CANARY}0123456789", f"whsec_{CANARY}9876543210"],
        REFUNDS_MONGO=mongomock.MongoClient()[CANARY],
    )
    tokens = read_tokens(
        JWT_SECRET_KEY=f"{CANARY}-and-more-so-that-it-is-long-enough",
        JWT_SECRET_KEY_FALLBACKS=[f"{CANARY}-that-was-used-before-the-rotation"],
    )
    assert CANARY not in f"{settings!r}{settings}{tokens!r}{tokens}"
    assert key_pair("RS256").public_pem[40:60] not in repr(read_tokens(**public_key("RS256")))


@pytest.mark.parametrize("key", ["STRIPE_API_BASE", "JWT_JWKS_URL"])
def test_url_with_password_is_rejected(key: str) -> None:
    config = GOOD | public_key("RS256") | {key: f"https://user:{CANARY}@login.example/keys"}
    with pytest.raises(ConfigurationError) as caught:
        check_settings(config, with_flask_jwt=False)
    assert key in caught.value.problems
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://shop:{CANARY}@host:port/shop",
        f"mongodb://shop:{CANARY}@{CANARY}@host/shop",
        f"mongodb://shop:{CANARY}%zz@host/shop",
        f"mongodb://shop:{CANARY}:x@host/shop",
        f"mongodb://shop:{CANARY}@host/shop?authMechanismProperties=AWS_SESSION_TOKEN:{CANARY},x",
        f"mongodb://shop:{CANARY}@host/sh$op",
        f"mongodb://shop:{CANARY}@/shop",
    ],
)
def test_error_of_invalid_uri_does_not_contain_its_password(uri: str) -> None:
    """The config reader rejects some of these, and PyMongo the others."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        check_config(make_app(MONGO_URI=uri))
    assert CANARY not in shown_by(caught.value)


def test_settings_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().refunds_collection = "other"  # type: ignore[misc]


# When the config is read


def test_check_config_accepts_a_valid_config() -> None:
    app = make_app(REFUNDS_MONGO=DATABASE)
    check_config(app)
    check_config(app)


def test_check_config_works_without_blueprint_and_context() -> None:
    app = Flask("bare")
    app.config.update(GOOD)
    check_config(app)
    assert app.url_map._rules_by_endpoint.keys() == {"static"}


def test_check_config_calls_app_functions_in_an_app_context() -> None:
    check_config(make_app(REFUNDS_MONGO=lambda: {"shop": DATABASE}[current_app.name]))


def test_check_config_raises_for_an_invalid_key() -> None:
    with pytest.raises(ConfigurationError, match="STRIPE_SECRET_KEY"):
        check_config(make_app(REFUNDS_MONGO=DATABASE, STRIPE_SECRET_KEY="pk_test_1"))


def test_check_config_raises_for_pymongo_without_init_app() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_config(make_app(REFUNDS_MONGO=PyMongo()))
    problem = "doesn't lead to a database; PyMongo needs init_app and a URI with a database"
    assert caught.value.problems == {"REFUNDS_MONGO": problem}


@pytest.mark.parametrize(
    "given",
    [
        None,
        "shop",
        42,
        pymongo.MongoClient(connect=False),
        mongomock.MongoClient(),
    ],
)
def test_function_that_returns_no_database_is_rejected(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="REFUNDS_MONGO"):
        check_config(make_app(REFUNDS_MONGO=lambda: given))


def test_registering_does_not_read_the_config() -> None:
    app = Flask("bare")
    app.register_blueprint(refunds_bp)
    assert "refunds" not in app.extensions


def test_config_is_read_at_first_use_only() -> None:
    app = make_app(REFUNDS_MONGO=DATABASE, STRIPE_SECRET_KEY="pk_wrong", JWT_ALGORITHM="none")
    app.config.update(STRIPE_SECRET_KEY=STRIPE_KEY, JWT_ALGORITHM="HS256")
    assert app.test_client().post(f"/api/payments/admin/refund/{'0' * 24}").status_code == 401
    app.config.update(STRIPE_SECRET_KEY=None, JWT_SECRET_KEY=None, REFUNDS_MONGO=None)
    check_config(app)
    assert app.test_client().post(f"/api/payments/admin/refund/{'0' * 24}").status_code == 401


def test_corrected_config_is_read_again() -> None:
    app = make_app(REFUNDS_MONGO=DATABASE, JWT_SECRET_KEY="short")
    client = app.test_client()
    for _ in range(2):
        response = client.post(f"/api/payments/admin/refund/{'0' * 24}")
        assert (response.status_code, response.json["code"]) == (500, "configuration_error")
    app.config["JWT_SECRET_KEY"] = JWT_SECRET
    assert client.post(f"/api/payments/admin/refund/{'0' * 24}").status_code == 401
    check_config(app)

"""Read and validate the app's config.

Only :func:`read_settings` reads ``app.config``. It doesn't use the network or the database. Its error names
every invalid key, without the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any, TypeVar
from urllib.parse import urlsplit

import jwt
from jwt.algorithms import HMACAlgorithm, get_default_algorithms

from .clock import CALL_SECONDS
from .errors import ConfigurationError

STRIPE_API_BASE = "https://api.stripe.com"

_T = TypeVar("_T")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_MONGO_URI = re.compile(r"mongodb(\+srv)?://[^/\s]+/[^/?\s]+(\?.*)?")
_STRIPE_KEY = re.compile(r"(sk|rk)_(test|live)_\w+", re.ASCII)
_MIN_WEBHOOK_SECRET_LENGTH = 16
_LOCAL_PATH = re.compile(r"/(?![/\\])[!-~]*", re.ASCII)
_PURCHASE_FIELDS = {"payment": "stripePaymentIntentId"}
_USER_FIELDS = {"id": "_id"}
_APP_COLLECTIONS = {
    "REFUNDS_PURCHASES_COLLECTION": "purchases",
    "REFUNDS_USERS_COLLECTION": "users",
    "REFUNDS_CONTENTS_COLLECTION": "contents",
}


@dataclass(frozen=True)
class Settings:
    """The validated settings of one app. The fields are the config keys in lower case."""

    mongo_uri: str | None = field(repr=False)
    refunds_mongo: Any = field(repr=False)
    refunds_purchases_collection: str
    refunds_users_collection: str
    refunds_contents_collection: str
    refunds_collection: str
    refunds_purchase_fields: Mapping[str, str]
    refunds_user_fields: Mapping[str, str]
    refunds_user_loader: Callable[[Mapping[str, Any]], Any] | None
    refunds_is_admin: Callable[[Any], bool] | None
    stripe_secret_key: str = field(repr=False)
    stripe_webhook_secret: tuple[str, ...] = field(repr=False)
    stripe_api_base: str
    refunds_allow_partial: bool
    refunds_stripe_timeout: float
    refunds_stripe_retries: int
    refunds_lease_seconds: float
    jwt_decode_key: str | None = field(repr=False)
    """The HMAC secret or the public key (PEM), or ``None`` if the keys come from ``jwt_jwks_url``."""
    jwt_jwks_url: str | None
    jwt_decode_algorithms: tuple[str, ...]
    jwt_decode_audience: str | tuple[str, ...] | None
    jwt_decode_issuer: str | None
    jwt_decode_leeway: float
    jwt_identity_claim: str
    refunds_admin_page: bool
    refunds_login_url: str | None

    @property
    def payment_field(self) -> str:
        """The field of a purchase that contains its payment intent's ID."""
        return self.refunds_purchase_fields["payment"]

    @property
    def user_id_field(self) -> str:
        """The field of a user that a token's identity claim names."""
        return self.refunds_user_fields["id"]

    @property
    def livemode(self) -> bool:
        """Whether the Stripe key moves real money."""
        return "_live_" in self.stripe_secret_key


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Read and validate all keys of this library.

    :param config: the app's config.
    :raises ConfigurationError: 500; names every key that is missing, invalid, unsafe, or in conflict with
        another.
    """
    reader = _Reader(config)
    settings = Settings(
        **_mongo_settings(reader),
        **_stripe_settings(reader),
        **_jwt_settings(reader),
        **_admin_page_settings(reader),
    )
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return settings


class _Reader:
    """Reads the config key by key, and collects all problems for one error."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.problems: dict[str, str] = {}

    def is_set(self, key: str) -> bool:
        return self._config.get(key) is not None

    def reject(self, key: str, problem: str) -> None:
        self.problems.setdefault(key, problem)

    def get(self, key: str, default: _T, is_valid: Callable[[Any], bool], expected: str) -> _T:
        """Return the key's value, or the default if it isn't set or isn't valid."""
        value = self._config.get(key)
        if value is None:
            return default
        if not is_valid(value):
            self.reject(key, f"must be {expected}")
            return default
        result: _T = value
        return result

    def text(self, key: str, default: str) -> str:
        return self.get(key, default, _is_text, "a non-empty string")

    def optional_text(self, key: str) -> str | None:
        return self.get(key, None, _is_text, "a non-empty string")

    def number(self, key: str, default: float, low: float, high: float) -> float:
        return self.get(
            key, default, lambda v: _is_number(v) and low <= v <= high, f"a number from {low:g} to {high:g}"
        )

    def function(self, key: str) -> Callable[..., Any] | None:
        # An async function returns a coroutine, which is truthy whatever its result.
        return self.get(key, None, _is_sync_function, "a function that isn't async")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_sync_function(value: Any) -> bool:
    call = getattr(type(value), "__call__", None)  # noqa: B004 - an object can be callable, too
    return callable(value) and not iscoroutinefunction(value) and not iscoroutinefunction(call)


def _is_one_or_more(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a check for one valid value, or a list of at least one."""
    return lambda value: (
        bool(value) and all(map(is_valid, value)) if isinstance(value, (list, tuple)) else is_valid(value)
    )


def _is_path(value: Any) -> bool:
    """Return whether MongoDB accepts the value as a field's path, or as a collection's name."""
    return _is_text(value) and "$" not in value and "\0" not in value and all(value.split("."))


def _mongo_settings(reader: _Reader) -> dict[str, Any]:
    uri = reader.get(
        "MONGO_URI",
        None,
        _matches(_MONGO_URI),
        "a mongodb:// URI with a database name, such as mongodb://localhost/shop",
    )
    if not reader.is_set("REFUNDS_MONGO") and not reader.is_set("MONGO_URI"):
        reader.reject(
            "MONGO_URI", "isn't set; set it, or set REFUNDS_MONGO to your app's PyMongo or Database object"
        )

    def name(key: str, default: str) -> str:
        return reader.get(key, default, _is_path, "a collection name: no $, and no empty part between dots")

    ledger = name("REFUNDS_COLLECTION", "flask_refunds")
    collections = {key: name(key, default) for key, default in _APP_COLLECTIONS.items()}
    for key, collection in collections.items():
        if collection == ledger:
            reader.reject(key, "must be a different collection from REFUNDS_COLLECTION")
    return {
        "mongo_uri": uri,
        "refunds_mongo": reader.get(
            "REFUNDS_MONGO", None, _is_mongo, "a PyMongo or Database object, or a function that returns one"
        ),
        **{key.lower(): collection for key, collection in collections.items()},
        "refunds_collection": ledger,
        "refunds_purchase_fields": _fields(reader, "REFUNDS_PURCHASE_FIELDS", _PURCHASE_FIELDS),
        "refunds_user_fields": _fields(reader, "REFUNDS_USER_FIELDS", _USER_FIELDS),
        "refunds_user_loader": reader.function("REFUNDS_USER_LOADER"),
        "refunds_is_admin": reader.function("REFUNDS_IS_ADMIN"),
    }


def _fields(reader: _Reader, key: str, defaults: Mapping[str, str]) -> Mapping[str, str]:
    """Return the field paths of the app's documents: the setting, merged over the defaults."""

    def is_valid(value: Any) -> bool:
        known = isinstance(value, Mapping) and value.keys() <= defaults.keys()
        return known and all(map(_is_path, value.values()))

    known = ", ".join(sorted(defaults))
    return {**defaults, **reader.get(key, {}, is_valid, f"a dict of field paths; its keys can be: {known}")}


def is_database(value: Any) -> bool:
    """Return whether this is a synchronous ``Database`` of PyMongo or mongomock, or works like one.

    The check uses the type, because clients, databases and collections have every attribute.
    """
    command = getattr(type(value), "command", None)
    return hasattr(type(value), "get_collection") and not iscoroutinefunction(command)


def is_pymongo(value: Any) -> bool:
    """Return whether this is a ``PyMongo`` object of Flask-PyMongo."""
    return hasattr(type(value), "init_app") and hasattr(value, "db")


def _is_mongo(value: Any) -> bool:
    if is_database(value) or is_pymongo(value):
        return True
    library = type(value).__module__.partition(".")[0]
    return library not in ("pymongo", "mongomock", "flask_pymongo") and _is_sync_function(value)


def _stripe_settings(reader: _Reader) -> dict[str, Any]:
    key = reader.get(
        "STRIPE_SECRET_KEY",
        "",
        _matches(_STRIPE_KEY),
        "a secret or restricted key from Stripe: sk_test_…, sk_live_…, rk_test_… or rk_live_…",
    )
    if not reader.is_set("STRIPE_SECRET_KEY"):
        reader.reject(
            "STRIPE_SECRET_KEY", "isn't set; copy a key from Stripe's Dashboard (Developers, API keys)"
        )
    base = reader.get(
        "STRIPE_API_BASE", STRIPE_API_BASE, _is_safe_url, "an https:// URL (http:// only on loopback)"
    )
    timeout = reader.number("REFUNDS_STRIPE_TIMEOUT", 8.0, 0.1, CALL_SECONDS)
    retries = reader.get(
        "REFUNDS_STRIPE_RETRIES",
        1,
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 5,
        "a whole number from 0 to 5",
    )
    return {
        "stripe_secret_key": key,
        "stripe_webhook_secret": _webhook_secrets(reader),
        "stripe_api_base": base.rstrip("/"),
        "refunds_allow_partial": reader.get(
            "REFUNDS_ALLOW_PARTIAL", False, lambda value: isinstance(value, bool), "True or False"
        ),
        "refunds_stripe_timeout": timeout,
        "refunds_stripe_retries": retries,
        # A lease that ends before its call does would let a second call work on the same refund.
        "refunds_lease_seconds": reader.number("REFUNDS_LEASE_SECONDS", 60.0, CALL_SECONDS + 2, 3600.0),
    }


def _webhook_secrets(reader: _Reader) -> tuple[str, ...]:
    def is_secret(value: Any) -> bool:
        # With a blank secret, anyone could sign events.
        return _is_text(value) and len(value.strip()) >= _MIN_WEBHOOK_SECRET_LENGTH

    value = reader.get(
        "STRIPE_WEBHOOK_SECRET",
        (),
        _is_one_or_more(is_secret),
        "a signing secret (whsec_…), or a list of them during rotation",
    )
    return (value,) if isinstance(value, str) else tuple(value)


def _is_safe_url(value: Any) -> bool:
    if not _is_text(value):
        return False
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        return False
    if parts.username or parts.password:
        return False  # the URL may be logged
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))


def _jwt_settings(reader: _Reader) -> dict[str, Any]:
    algorithms = _algorithms(reader)
    jwks_url = reader.get("JWT_JWKS_URL", None, _is_safe_url, "an https:// URL (http:// only on loopback)")
    return {
        "jwt_decode_key": _decode_key(reader, algorithms),
        "jwt_jwks_url": jwks_url,
        "jwt_decode_algorithms": algorithms,
        "jwt_decode_audience": _audience(reader),
        "jwt_decode_issuer": reader.optional_text("JWT_DECODE_ISSUER"),
        "jwt_decode_leeway": reader.number("JWT_DECODE_LEEWAY", 0.0, 0.0, 300.0),
        "jwt_identity_claim": reader.text("JWT_IDENTITY_CLAIM", "sub"),
    }


def _algorithms(reader: _Reader) -> tuple[str, ...]:
    """Return the algorithms that a token may be signed with: all HMAC, or all with a public key.

    If both were accepted, an attacker could sign with the public key as the HMAC secret (RFC 8725, section
    2.1).
    """
    known = set(get_default_algorithms()) - {"none"}

    def is_known(value: Any) -> bool:
        return isinstance(value, str) and value in known

    def are_known(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and _is_one_or_more(is_known)(value)

    names = ", ".join(sorted(known))
    default = reader.get("JWT_ALGORITHM", "HS256", is_known, f"one of {names}")
    listed = reader.get("JWT_DECODE_ALGORITHMS", [default], are_known, f"a list with any of {names}")
    if reader.is_set("JWT_ALGORITHM") and default not in listed:
        listed = [*listed, default]  # as Flask-JWT-Extended does
    if len({_is_hmac(algorithm) for algorithm in listed}) > 1:
        reader.reject(
            "JWT_DECODE_ALGORITHMS", "mixes HMAC (HS…) and public-key algorithms; keep one family only"
        )
    return tuple(listed)


def _is_hmac(algorithm: str) -> bool:
    return algorithm.startswith("HS")


def _decode_key(reader: _Reader, algorithms: Sequence[str]) -> str | None:
    """Return the key that verifies tokens, or ``None`` if it comes from ``JWT_JWKS_URL``."""
    if reader.is_set("JWT_JWKS_URL"):
        if any(map(_is_hmac, algorithms)):
            reader.reject(
                "JWT_ALGORITHM", "must be a public-key algorithm, such as RS256, if JWT_JWKS_URL is set"
            )
        return None
    name = "JWT_SECRET_KEY" if any(map(_is_hmac, algorithms)) else "JWT_PUBLIC_KEY"
    key = reader.optional_text(name)
    if key is None:
        reader.reject(name, f"isn't set; set it to the key that verifies {' and '.join(algorithms)} tokens")
        return None
    for algorithm in algorithms:
        problem = _key_problem(key, algorithm)
        if problem:
            reader.reject(name, problem)
    return key


def _key_problem(key: str, algorithm: str) -> str | None:
    """Return what is wrong with this key for this algorithm, without the key."""
    try:
        checker = jwt.PyJWS(algorithms=[algorithm]).get_algorithm_by_name(algorithm)
        prepared = checker.prepare_key(key)
    except Exception:
        return f"isn't a valid key for {algorithm}; use one that belongs to this algorithm"
    if not checker.check_key_length(prepared):
        return None
    if isinstance(checker, HMACAlgorithm):
        return (
            f"is too short for {algorithm} (RFC 7518, section 3.2); create one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(64))"'
        )
    return f"is too short for {algorithm}; use a longer key, such as RSA with 2048 bits"


def _audience(reader: _Reader) -> str | tuple[str, ...] | None:
    value = reader.get(
        "JWT_DECODE_AUDIENCE", None, _is_one_or_more(_is_text), "a string, or a list of strings"
    )
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _admin_page_settings(reader: _Reader) -> dict[str, Any]:
    return {
        "refunds_admin_page": reader.get(
            "REFUNDS_ADMIN_PAGE", True, lambda value: isinstance(value, bool), "True or False"
        ),
        # On this origin only: the sign-in page shares the sessionStorage of the admin page.
        "refunds_login_url": reader.get(
            "REFUNDS_LOGIN_URL", None, _matches(_LOCAL_PATH), "a path on this server, like /sign-in"
        ),
    }

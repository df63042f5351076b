"""The app's config, read once and refused as a whole.

:func:`read_settings` is the only reader of ``app.config``. It touches no network and no database, and its one
error names every bad key without showing a value.
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
_WEBHOOK_SECRET_MIN_LENGTH = 16
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
    """One app's settings, validated. The field names are the config keys, in lower case."""

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
    refunds_stripe_timeout: float
    refunds_stripe_retries: int
    refunds_lease_seconds: float
    jwt_decode_key: str | None = field(repr=False)
    """The HMAC secret or the public key (PEM); ``None`` when the keys come from ``jwt_jwks_url``."""
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
    """Read and validate every key of the library.

    :param config: the app's config.
    :raises ConfigurationError: 500; names every key that is missing, of the wrong type, unsafe, or at odds
        with another.
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
    """Reads one key at a time and collects what is wrong, so that all of it is told at once."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.problems: dict[str, str] = {}

    def is_set(self, key: str) -> bool:
        return self._config.get(key) is not None

    def refuse(self, key: str, problem: str) -> None:
        self.problems.setdefault(key, problem)

    def get(self, key: str, default: _T, accepts: Callable[[Any], bool], wanted: str) -> _T:
        """The key's value; where it is not set, or refused, the default."""
        value = self._config.get(key)
        if value is None:
            return default
        if not accepts(value):
            self.refuse(key, f"must be {wanted}")
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
        # What an async function returns is true, whatever it would come to.
        return self.get(key, None, _is_plain_function, "a function, and not an async one")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_plain_function(value: Any) -> bool:
    by_call = getattr(type(value), "__call__", None)  # noqa: B004 - an object may be called, too
    return callable(value) and not iscoroutinefunction(value) and not iscoroutinefunction(by_call)


def _is_path(value: Any) -> bool:
    """Whether MongoDB takes this as a field's path, or as a collection's name."""
    return _is_text(value) and "$" not in value and "\0" not in value and all(value.split("."))


def _mongo_settings(reader: _Reader) -> dict[str, Any]:
    uri = reader.get(
        "MONGO_URI",
        None,
        lambda value: _is_text(value) and _MONGO_URI.fullmatch(value) is not None,
        "a mongodb:// URI that names a database, as in mongodb://localhost/shop",
    )
    if not reader.is_set("REFUNDS_MONGO") and not reader.is_set("MONGO_URI"):
        reader.refuse(
            "MONGO_URI", "is not set; set it, or set REFUNDS_MONGO to the app's own PyMongo or Database"
        )

    def name(key: str, default: str) -> str:
        return reader.get(key, default, _is_path, "a name that MongoDB takes: no $, and no empty part")

    ledger = name("REFUNDS_COLLECTION", "flask_refunds")
    for key, default in _APP_COLLECTIONS.items():
        if name(key, default) == ledger:
            reader.refuse(key, "must not be the collection of the ledger (REFUNDS_COLLECTION)")
    return {
        "mongo_uri": uri,
        "refunds_mongo": reader.get(
            "REFUNDS_MONGO", None, _is_mongo, "a PyMongo, a Database, or a function that returns one"
        ),
        "refunds_purchases_collection": name("REFUNDS_PURCHASES_COLLECTION", "purchases"),
        "refunds_users_collection": name("REFUNDS_USERS_COLLECTION", "users"),
        "refunds_contents_collection": name("REFUNDS_CONTENTS_COLLECTION", "contents"),
        "refunds_collection": ledger,
        "refunds_purchase_fields": _fields(reader, "REFUNDS_PURCHASE_FIELDS", _PURCHASE_FIELDS),
        "refunds_user_fields": _fields(reader, "REFUNDS_USER_FIELDS", _USER_FIELDS),
        "refunds_user_loader": reader.function("REFUNDS_USER_LOADER"),
        "refunds_is_admin": reader.function("REFUNDS_IS_ADMIN"),
    }


def _fields(reader: _Reader, key: str, defaults: Mapping[str, str]) -> Mapping[str, str]:
    """Return the field paths of the app's documents: the setting, merged over the defaults."""

    def accepts(value: Any) -> bool:
        return (
            isinstance(value, Mapping)
            and value.keys() <= defaults.keys()
            and all(map(_is_path, value.values()))
        )

    known = ", ".join(sorted(defaults))
    return {**defaults, **reader.get(key, {}, accepts, f"a dict of field paths; its keys can be: {known}")}


def is_database(value: Any) -> bool:
    """Whether this is a ``Database`` of PyMongo's (and not of its async kind), of mongomock's, or like one.

    Asked of the type: a client, a database and a collection answer every attribute with something.
    """
    command = getattr(type(value), "command", None)
    return hasattr(type(value), "get_collection") and not iscoroutinefunction(command)


def is_pymongo(value: Any) -> bool:
    """Whether this is Flask-PyMongo's ``PyMongo``."""
    return hasattr(type(value), "init_app") and hasattr(value, "db")


def _is_mongo(value: Any) -> bool:
    if is_database(value) or is_pymongo(value):
        return True
    return _library_of(value) not in ("pymongo", "mongomock", "flask_pymongo") and _is_plain_function(value)


def _library_of(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _stripe_settings(reader: _Reader) -> dict[str, Any]:
    key = reader.get(
        "STRIPE_SECRET_KEY",
        "",
        lambda value: _is_text(value) and _STRIPE_KEY.fullmatch(value) is not None,
        "a secret or restricted key of Stripe's: sk_test_…, sk_live_…, rk_test_… or rk_live_…",
    )
    if not reader.is_set("STRIPE_SECRET_KEY"):
        reader.refuse("STRIPE_SECRET_KEY", "is not set")
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
        "refunds_stripe_timeout": timeout,
        "refunds_stripe_retries": retries,
        # A lease shorter than a call's work would let a second call in while the first still works.
        "refunds_lease_seconds": reader.number("REFUNDS_LEASE_SECONDS", 60.0, CALL_SECONDS + 2, 3600.0),
    }


def _webhook_secrets(reader: _Reader) -> tuple[str, ...]:
    def is_secret(value: Any) -> bool:
        # A blank secret verifies whatever an attacker signs with a blank secret.
        return _is_text(value) and len(value.strip()) >= _WEBHOOK_SECRET_MIN_LENGTH

    def accepts(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return bool(value) and all(is_secret(each) for each in value)
        return is_secret(value)

    value = reader.get(
        "STRIPE_WEBHOOK_SECRET", (), accepts, "a signing secret (whsec_…), or a list of them while rotating"
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
        return False  # it would show wherever the URL does
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
    """The algorithms that a token may be signed with, all of one family.

    Were HMAC and a public key accepted side by side, the public key's own bytes would serve as a secret
    (RFC 8725, section 2.1).
    """
    known = set(get_default_algorithms()) - {"none"}

    def is_known(value: Any) -> bool:
        return isinstance(value, str) and value in known

    def accepts(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and bool(value) and all(map(is_known, value))

    default = reader.get("JWT_ALGORITHM", "HS256", is_known, f"one of {', '.join(sorted(known))}")

    listed: Sequence[str] = reader.get(
        "JWT_DECODE_ALGORITHMS", [default], accepts, f"a list of some of {', '.join(sorted(known))}"
    )
    if reader.is_set("JWT_ALGORITHM") and default not in listed:
        listed = [*listed, default]  # as Flask-JWT-Extended does
    if len({_is_hmac(algorithm) for algorithm in listed}) > 1:
        reader.refuse(
            "JWT_DECODE_ALGORITHMS", "mixes HMAC (HS…) with public-key algorithms; name one family only"
        )
    return tuple(listed)


def _is_hmac(algorithm: str) -> bool:
    return algorithm.startswith("HS")


def _decode_key(reader: _Reader, algorithms: Sequence[str]) -> str | None:
    """The key that the tokens are checked with, or ``None`` when it comes from ``JWT_JWKS_URL``."""
    if reader.is_set("JWT_JWKS_URL"):
        if any(map(_is_hmac, algorithms)):
            reader.refuse(
                "JWT_ALGORITHM", "must be a public-key algorithm, such as RS256, beside JWT_JWKS_URL"
            )
        return None
    name = "JWT_SECRET_KEY" if any(map(_is_hmac, algorithms)) else "JWT_PUBLIC_KEY"
    key = reader.optional_text(name)
    if key is None:
        reader.refuse(name, f"is not set, and {' and '.join(algorithms)} cannot be checked without it")
        return None
    for algorithm in algorithms:
        problem = _key_problem(key, algorithm)
        if problem:
            reader.refuse(name, problem)
    return key


def _key_problem(key: str, algorithm: str) -> str | None:
    """What is wrong with this key for this algorithm, without showing it."""
    try:
        checker = jwt.PyJWS(algorithms=[algorithm]).get_algorithm_by_name(algorithm)
        prepared = checker.prepare_key(key)
    except Exception:
        return f"is no usable key for {algorithm}"
    if not checker.check_key_length(prepared):
        return None
    if isinstance(checker, HMACAlgorithm):
        return (
            f"is too short for {algorithm} (RFC 7518, section 3.2); make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(64))"'
        )
    return f"is too short a key for {algorithm}"


def _audience(reader: _Reader) -> str | tuple[str, ...] | None:
    def accepts(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return bool(value) and all(_is_text(each) for each in value)
        return _is_text(value)

    value = reader.get("JWT_DECODE_AUDIENCE", None, accepts, "a string, or a list of strings")
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _admin_page_settings(reader: _Reader) -> dict[str, Any]:
    return {
        "refunds_admin_page": reader.get(
            "REFUNDS_ADMIN_PAGE", True, lambda value: isinstance(value, bool), "True or False"
        ),
        # Of this origin only: that is who may write the page's sessionStorage.
        "refunds_login_url": reader.get(
            "REFUNDS_LOGIN_URL",
            None,
            lambda value: isinstance(value, str) and _LOCAL_PATH.fullmatch(value) is not None,
            "a path on this server, like /sign-in",
        ),
    }

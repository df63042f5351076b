"""Read and validate the app's config.

Only this package reads ``app.config``. It doesn't use the network or the database. Its error names every
invalid key, without the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from inspect import iscoroutinefunction
from typing import Any

from ..clock import CALL_SECONDS
from ..origins import Origin, parse_origin
from ..purchase_fields import PurchaseFields
from .documents import document_settings
from .reader import (
    Reader,
    as_tuple,
    is_one_or_more,
    is_path,
    is_proxy,
    is_safe_url,
    is_sync_function,
    is_text,
    matches,
)
from .tokens import TokenSettings, token_settings

STRIPE_API_BASE = "https://api.stripe.com"

_MONGO_URI = re.compile(r"mongodb(\+srv)?://[^/\s]+/[^/?\s]+(\?.*)?")
_STRIPE_KEY = re.compile(r"(sk|rk)_(test|live)_\w+", re.ASCII)
_MIN_WEBHOOK_SECRET_LENGTH = 16
_STRIPE_OPTIONS = {"reverse_transfer": bool, "refund_application_fee": bool, "instructions_email": str}
_LOCAL_PATH = re.compile(r"/(?![/\\])[!-~]*", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]+", re.ASCII)
_APP_COLLECTIONS = {
    "REFUNDS_PURCHASES_COLLECTION": "purchases",
    "REFUNDS_USERS_COLLECTION": "users",
    "REFUNDS_CONTENTS_COLLECTION": "contents",
}


@dataclass(frozen=True)
class Settings:
    """The validated settings of one app, except those for tokens.

    The fields are the config keys in lower case. Those without a ``repr`` are secret.
    """

    mongo_uri: str | None = field(repr=False)
    refunds_mongo: Any = field(repr=False)
    refunds_purchases_collection: str
    refunds_users_collection: str
    refunds_contents_collection: str
    refunds_collection: str
    refunds_purchase_fields: Mapping[str, str | None]
    refunds_user_fields: Mapping[str, str]
    refunds_current_user: Any
    """A ``LocalProxy``, or a function without arguments: the user who is signed in by session."""
    refunds_trusted_origins: tuple[Origin, ...]
    refunds_content_fields: Mapping[str, str]
    refunds_status_completed: tuple[Any, ...]
    refunds_status_refunded: Any
    refunds_amount_unit: str
    refunds_user_loader: Callable[[Mapping[str, Any]], Any] | None
    refunds_is_admin: Callable[[Any], bool] | None
    stripe_secret_key: str = field(repr=False)
    stripe_webhook_secret: tuple[str, ...] = field(repr=False)
    stripe_api_base: str
    refunds_allow_partial: bool
    refunds_stripe_timeout: float
    refunds_stripe_retries: int
    refunds_lease_seconds: float
    refunds_stripe_options: Mapping[str, Any] | Callable[[Mapping[str, Any]], Any]
    refunds_admin_page: bool
    refunds_login_url: str | None
    refunds_order_url: str | None
    """The address of a purchase in the app, with ``{id}`` for its ID."""

    @cached_property
    def purchase_fields(self) -> PurchaseFields:
        """The shape of a purchase."""
        paths: Any = self.refunds_purchase_fields
        return PurchaseFields(
            **paths,
            completed_words=self.refunds_status_completed,
            refunded_word=self.refunds_status_refunded,
            amount_in_minor_units=self.refunds_amount_unit == "minor",
        )

    @property
    def user_id_field(self) -> str:
        """The field of a user that a token's identity claim names."""
        return self.refunds_user_fields["id"]

    @property
    def livemode(self) -> bool:
        """Whether the Stripe key moves real money."""
        return "_live_" in self.stripe_secret_key


_KNOWN_KEYS = frozenset(each.name.upper() for each in fields(Settings))


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Read and validate all keys of this library, except those for tokens.

    :param config: the app's config.
    :raises ConfigurationError: 500; names every key that is missing, invalid, unsafe, misspelled, or in
        conflict with another.
    """
    reader = Reader(config)
    settings = _settings(reader)
    reader.raise_problems()
    return settings


def read_token_settings(config: Mapping[str, Any], *, with_flask_jwt: bool = False) -> TokenSettings:
    """Read and validate the keys for tokens, which commands don't need.

    :param with_flask_jwt: whether Flask-JWT-Extended is in the app.
    :raises ConfigurationError: 500; as for :func:`read_settings`.
    """
    reader = Reader(config)
    settings = token_settings(reader, with_flask_jwt=with_flask_jwt)
    reader.raise_problems()
    return settings


def check_settings(config: Mapping[str, Any], *, with_flask_jwt: bool) -> None:
    """Validate all keys at once.

    :raises ConfigurationError: 500; as for :func:`read_settings`.
    """
    reader = Reader(config)
    _settings(reader)
    token_settings(reader, with_flask_jwt=with_flask_jwt)
    reader.raise_problems()


def unknown_keys(config: Mapping[str, Any]) -> list[str]:
    """Return the ``REFUNDS_…`` keys that this library ignores."""
    return Reader(config).unknown(_KNOWN_KEYS)


def _settings(reader: Reader) -> Settings:
    reader.reject_misspelled(_KNOWN_KEYS)
    return Settings(
        **_mongo_settings(reader),
        **_session_settings(reader),
        **document_settings(reader),
        **_stripe_settings(reader),
        **_admin_page_settings(reader),
    )


def _mongo_settings(reader: Reader) -> dict[str, Any]:
    uri = reader.secret(
        "MONGO_URI",
        None,
        matches(_MONGO_URI),
        "a mongodb:// URI with a database name, such as mongodb://localhost/shop",
    )
    if not reader.is_set("REFUNDS_MONGO") and not reader.is_set("MONGO_URI"):
        reader.reject(
            "MONGO_URI", "isn't set; set it, or set REFUNDS_MONGO to your app's PyMongo or Database object"
        )

    def name(key: str, default: str) -> str:
        return reader.get(key, default, is_path, "a collection name: no $, and no empty part between dots")

    ledger = name("REFUNDS_COLLECTION", "flask_refunds")
    collections = {key: name(key, default) for key, default in _APP_COLLECTIONS.items()}
    for key, collection in collections.items():
        if collection == ledger:
            reader.reject(key, "must be a different collection from REFUNDS_COLLECTION")
    return {
        "mongo_uri": uri,
        "refunds_mongo": _mongo(reader),
        **{key.lower(): collection for key, collection in collections.items()},
        "refunds_collection": ledger,
    }


def _session_settings(reader: Reader) -> dict[str, Any]:
    user = reader.get(
        "REFUNDS_CURRENT_USER",
        None,
        lambda value: is_proxy(value) or is_sync_function(value),
        "a LocalProxy, a function that isn't async, or its import string",
        importable=True,
    )
    origins: Sequence[str] = reader.get(
        "REFUNDS_TRUSTED_ORIGINS",
        [],
        lambda value: isinstance(value, (list, tuple)) and all(map(parse_origin, value)),
        'a list of origins, such as ["https://admin.example"]: each without a path',
    )
    return {
        "refunds_current_user": user,
        "refunds_trusted_origins": tuple(filter(None, map(parse_origin, origins))),
    }


def _mongo(reader: Reader) -> Any:
    """Return the database object, or the function that returns it; a proxy counts as such a function."""
    given: Any = reader.get(
        "REFUNDS_MONGO",
        None,
        lambda value: is_proxy(value) or _is_mongo(value),
        "a PyMongo or Database object, a LocalProxy or a function that leads to one, or an import string",
        importable=True,
    )
    return given._get_current_object if is_proxy(given) else given


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
    return library not in ("pymongo", "mongomock", "flask_pymongo") and is_sync_function(value)


def _stripe_settings(reader: Reader) -> dict[str, Any]:
    key = reader.secret(
        "STRIPE_SECRET_KEY",
        "",
        matches(_STRIPE_KEY),
        "a secret or restricted key from Stripe: sk_test_…, sk_live_…, rk_test_… or rk_live_…",
    )
    if not reader.is_set("STRIPE_SECRET_KEY"):
        reader.reject(
            "STRIPE_SECRET_KEY", "isn't set; copy a key from Stripe's Dashboard (Developers, API keys)"
        )
    base = reader.get(
        "STRIPE_API_BASE", STRIPE_API_BASE, is_safe_url, "an https:// URL (http:// only on loopback)"
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
        "refunds_allow_partial": reader.boolean("REFUNDS_ALLOW_PARTIAL", False),
        "refunds_stripe_timeout": timeout,
        "refunds_stripe_retries": retries,
        # A lease that ends before its call does would let a second call work on the same refund.
        "refunds_lease_seconds": reader.number("REFUNDS_LEASE_SECONDS", 60.0, CALL_SECONDS + 2, 3600.0),
        "refunds_stripe_options": _stripe_options(reader),
    }


def stripe_options_problem(value: Any) -> str | None:
    """Return what is wrong with a value of ``REFUNDS_STRIPE_OPTIONS``, or ``None``."""
    if not isinstance(value, Mapping) or not value.keys() <= _STRIPE_OPTIONS.keys():
        return f"isn't a dict with any of {', '.join(_STRIPE_OPTIONS)}"
    for name, each in value.items():
        if each is not None and not isinstance(each, _STRIPE_OPTIONS[name]):
            return f"has a {name} that isn't {'text' if _STRIPE_OPTIONS[name] is str else 'True or False'}"
    return None


def _stripe_options(reader: Reader) -> Any:
    names = ", ".join(_STRIPE_OPTIONS)
    return reader.get(
        "REFUNDS_STRIPE_OPTIONS",
        {},
        lambda value: is_sync_function(value) or stripe_options_problem(value) is None,
        f"a dict with {names}, a function that isn't async and returns one, or its import string",
        importable=True,
    )


def _webhook_secrets(reader: Reader) -> tuple[str, ...]:
    def is_secret(value: Any) -> bool:
        # With a blank secret, anyone could sign events.
        return is_text(value) and len(value) >= _MIN_WEBHOOK_SECRET_LENGTH

    value: Any = reader.secret(
        "STRIPE_WEBHOOK_SECRET",
        (),
        is_one_or_more(is_secret),
        "a signing secret (whsec_…), or a list of them during rotation",
    )
    return as_tuple(value)


def _admin_page_settings(reader: Reader) -> dict[str, Any]:
    return {
        "refunds_admin_page": reader.boolean("REFUNDS_ADMIN_PAGE", True),
        # On this origin only: the sign-in page shares the sessionStorage of the admin page.
        "refunds_login_url": reader.get(
            "REFUNDS_LOGIN_URL", None, matches(_LOCAL_PATH), "a path on this server, like /sign-in"
        ),
        "refunds_order_url": reader.get(
            "REFUNDS_ORDER_URL",
            None,
            _is_order_url,
            "a path on this server or an https:// URL, with {id} for the purchase's ID, like /orders/{id}",
        ),
    }


def _is_order_url(value: Any) -> bool:
    """Return whether this is a pattern of addresses whose host doesn't depend on the purchase."""
    if not matches(_LOCAL_PATH)(value) and not (matches(_PRINTABLE)(value) and is_safe_url(value)):
        return False
    host, _, rest = value.removeprefix("https://").partition("/")
    return "{id}" in rest and "{id}" not in host

"""The configuration page matches the config: its keys, their defaults, and when they are read."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from typing import Any

import jwt
import mongomock
import pytest
from flask import Flask

from flask_refunds import check_config, config, refunds_bp
from flask_refunds.config import documents, read_settings, read_token_settings, tokens
from tests.docs.pages import read
from tests.mount.jwks import key_endpoint
from tests.mount.keys import claims, key_pair
from tests.shop import make_config

ENTRY = re.compile(r"^\| `([A-Z_]+)` \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
ENTRIES = {key: (default, when) for key, default, when, _ in ENTRY.findall(read("docs/config.md"))}

UNSET = "none"
DESCRIBED = {
    "JWT_ALGORITHM": ("`HS256`", "jwt_decode_algorithms", ("HS256",)),
    "JWT_DECODE_ALGORITHMS": ("`[JWT_ALGORITHM]`", "jwt_decode_algorithms", ("HS256",)),
    "JWT_ACCESS_TOKEN_EXPIRES": (UNSET, "require_expiry", True),
    "JWT_PUBLIC_KEY": (UNSET, "jwt_decode_keys", None),
    "JWT_SECRET_KEY": (UNSET, "jwt_decode_keys", None),
    "JWT_SECRET_KEY_FALLBACKS": (UNSET, "jwt_decode_keys", None),
    "REFUNDS_IS_ADMIN": ('the user\'s `role` is `"admin"`', "refunds_is_admin", None),
    "REFUNDS_PURCHASE_FIELDS": ("see below", "refunds_purchase_fields", None),
    "REFUNDS_STATUS_COMPLETED": ("`completed`", "refunds_status_completed", ("completed",)),
    "REFUNDS_MONGO": ("`MONGO_URI`'s", "refunds_mongo", None),
    "REFUNDS_USER_LOADER": ('find by `REFUNDS_USER_FIELDS["id"]`', "refunds_user_loader", None),
    "REFUNDS_TRUSTED_ORIGINS": ("`[]`", "refunds_trusted_origins", ()),
    "STRIPE_SECRET_KEY": ("none; required", "stripe_secret_key", None),
    "STRIPE_WEBHOOK_SECRET": (UNSET, "stripe_webhook_secret", ()),
}
"""Keys whose default is described, or is stored under another name."""


class RecordingConfig(dict[str, Any]):
    """A config that records which keys were read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keys_read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_read.add(key)
        return super().get(key, default)


def keys_in_the_code() -> set[str]:
    """Return the string literals of the settings' modules that look like a key."""
    trees = [ast.parse(inspect.getsource(module)) for module in (config, documents, tokens)]
    texts = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {text for text in texts if re.fullmatch(r"(MONGO|JWT|STRIPE|REFUNDS)_[A-Z_]+", str(text))}


def test_every_key_has_exactly_one_entry() -> None:
    keys = [key for key, *_ in ENTRY.findall(read("docs/config.md"))]
    assert len(keys) == len(set(keys))
    assert set(keys) == keys_in_the_code()


@pytest.mark.parametrize("key", ENTRIES)
def test_documented_default_is_the_real_one(key: str) -> None:
    config = make_config(MONGO_URI="mongodb://localhost/shop")
    defaults = dataclasses.asdict(read_settings(config)) | dataclasses.asdict(read_token_settings(config))
    documented = ENTRIES[key][0]
    if key in DESCRIBED:
        description, field, default = DESCRIBED[key]
        assert documented == description
        if default is not None:
            assert defaults[field] == default
        return
    value = defaults[key.lower()]
    if key == "MONGO_URI" or value is None:
        assert documented == UNSET
    elif isinstance(value, dict):
        assert ast.literal_eval(documented.strip("`")) == value
    else:
        assert documented == (f"`{value:g}`" if isinstance(value, float) else f"`{value}`")


def test_fields_of_a_purchase_are_the_real_ones() -> None:
    documented = re.findall(r"^\| `([a-z_]+)` \| `(\w+)` \| ", read("docs/config.md"), re.MULTILINE)
    fields = read_settings(make_config(MONGO_URI="mongodb://localhost/shop")).refunds_purchase_fields
    assert documented == [(name, str(path)) for name, path in fields.items()]


def test_every_key_is_read_at_first_use_and_at_no_other_time() -> None:
    pair = key_pair("RS256")
    keys_read: set[str] = set()
    for changes in (
        {},
        {"JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": pair.public_pem},
        {"JWT_ALGORITHM": "RS256", "JWT_JWKS_URL": "https://login.example/keys"},
    ):
        app = Flask("shop")
        app.config = recording = RecordingConfig(app.config)  # type: ignore[assignment]
        recording.update(make_config(REFUNDS_MONGO=mongomock.MongoClient().shop, **changes))
        recording.keys_read.clear()
        app.register_blueprint(refunds_bp)
        assert not recording.keys_read & ENTRIES.keys()
        check_config(app)
        keys_read |= recording.keys_read & ENTRIES.keys()
        recording.keys_read.clear()
        app.test_client().get("/api/payments/admin/refunds", headers={"Authorization": "Bearer x"})
        app.test_client().get("/api/payments/admin/")
        assert not recording.keys_read & ENTRIES.keys()
    assert keys_read == ENTRIES.keys()


@pytest.mark.parametrize("key", ENTRIES)
def test_documented_time_of_reading_is_the_real_one(key: str) -> None:
    assert ENTRIES[key][1].partition(";")[0] == ("first token" if key.startswith("JWT_") else "first use")


def test_documented_functions_and_urls_are_called_when_documented() -> None:
    called_later = {key for key, (_, when) in ENTRIES.items() if ";" in when}
    functions = {
        "REFUNDS_MONGO",
        "REFUNDS_CURRENT_USER",
        "REFUNDS_USER_LOADER",
        "REFUNDS_IS_ADMIN",
        "REFUNDS_STRIPE_OPTIONS",
    }
    assert called_later == functions | {"JWT_JWKS_URL"}
    calls: list[str] = []
    database = mongomock.MongoClient(tz_aware=True).shop
    pair = key_pair("ES256")

    def recording(name: str, result: Any) -> Any:
        def call(*_: Any) -> Any:
            calls.append(name)
            return result

        return call

    with key_endpoint(pair.jwk("ES256", "1")) as provider:
        app = Flask("shop")
        app.config.update(
            make_config(
                JWT_ALGORITHM="ES256",
                JWT_JWKS_URL=provider.url,
                REFUNDS_MONGO=recording("REFUNDS_MONGO", database),
                REFUNDS_CURRENT_USER=recording("REFUNDS_CURRENT_USER", {"_id": "ada"}),
                REFUNDS_STRIPE_OPTIONS=recording("REFUNDS_STRIPE_OPTIONS", {}),
                REFUNDS_USER_LOADER=recording("REFUNDS_USER_LOADER", {"_id": "ada"}),
                REFUNDS_IS_ADMIN=recording("REFUNDS_IS_ADMIN", True),
            )
        )
        app.register_blueprint(refunds_bp)
        assert calls == []
        check_config(app)
        assert calls == ["REFUNDS_MONGO"]
        assert provider.hits == 0
        token = jwt.encode(claims("ada"), pair.key, algorithm="ES256", headers={"kid": "1"})
        for _ in range(2):
            response = app.test_client().get(
                "/api/payments/admin/refunds", headers={"Authorization": f"Bearer {token}"}
            )
            assert response.status_code == 200, response.text
        assert app.test_client().get("/api/payments/admin/refunds").status_code == 200
    by_token = ["REFUNDS_USER_LOADER", "REFUNDS_IS_ADMIN"]
    by_session = ["REFUNDS_CURRENT_USER", "REFUNDS_IS_ADMIN"]
    assert calls == ["REFUNDS_MONGO", *by_token, *by_token, *by_session]
    assert provider.hits == 1

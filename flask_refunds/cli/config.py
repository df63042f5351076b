"""``flask refunds config``: print the settings that are in effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from flask import current_app

from ..config import read_settings
from ..config.reader import is_proxy
from ..errors import ConfigurationError
from ..extension import token_settings_of
from .errors import refunds_command
from .options import as_json_option
from .output import print_fields, print_json

_SECRET, _UNSET = "set", "not set"
_DERIVED = {"JWT_DECODE_KEYS", "VERIFY_AUDIENCE", "REQUIRE_EXPIRY"}
"""What is decided from several keys, or from a key of another name."""


@refunds_command("config")
@as_json_option
def config(as_json: bool) -> None:
    """Print the settings that are in effect, with defaults and without secrets.

    It uses neither the network nor the database.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    values = _values(read_settings(app.config))
    try:
        tokens = token_settings_of(app)
    except ConfigurationError as error:
        values |= error.problems
    else:
        name = "JWT_SECRET_KEY" if tokens.jwt_decode_algorithms[0].startswith("HS") else "JWT_PUBLIC_KEY"
        values |= {name: _SECRET if tokens.jwt_decode_keys else None}
        values |= {key: value for key, value in _values(tokens).items() if key not in _DERIVED}
        values["JWT_ACCESS_TOKEN_EXPIRES"] = None if tokens.require_expiry else False
    if as_json:
        print_json(values)
    else:
        print_fields([(key, _text(value)) for key, value in values.items()])


def _values(settings: Any) -> dict[str, Any]:
    """Return the values by their keys; of secrets, only whether they are set."""
    found = {each.name.upper(): (each, getattr(settings, each.name)) for each in fields(settings)}
    return {
        key: _plain(value) if each.repr else (None if value in (None, ()) else _SECRET)
        for key, (each, value) in found.items()
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON can represent; of a function or a class, its import string."""
    if is_proxy(value):
        return "LocalProxy"
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if callable(value):
        return f"{value.__module__}:{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _text(value: Any) -> str:
    if value is None:
        return _UNSET
    return value if isinstance(value, str) else json.dumps(value)

"""Parameters of Stripe's API: nested forms in, checked values out.

Everything refused here is refused before an endpoint runs, so no idempotency key remembers it
(https://docs.stripe.com/api/idempotent_requests).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from .errors import invalid

Params = dict[str, Any]
Reader = Callable[[str, Any], Any]

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_INTEGER = re.compile(r"[+-]?\d{1,15}")
_METADATA_KEYS, _METADATA_KEY_LENGTH, _METADATA_VALUE_LENGTH = 50, 40, 500


def parse_form(encoded: str) -> Params:
    """``metadata[refund_id]=x&expand[]=charge`` as nested dicts.

    A list is a dict with its indexes as keys: only the parameter's reader knows which it is.
    """
    params: Params = {}
    for name, value in parse_qsl(encoded, keep_blank_values=True):
        _insert(params, name, value)
    return params


def _insert(params: Params, name: str, value: str) -> None:
    match = _NAME.fullmatch(name)
    if match is None:
        raise invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
    head, brackets = match.groups()
    keys = [head, *brackets[1:-1].split("][")] if brackets else [head]
    node = params
    for key in keys[:-1]:
        node = node.setdefault(key or str(len(node)), {})
        if not isinstance(node, dict):
            raise invalid(f"Invalid object: {name}", param=head)
    node[keys[-1] or str(len(node))] = value


def read(params: Params, readers: Mapping[str, Reader]) -> Params:
    """Only what is known and well formed.

    :param readers: every parameter that the endpoint takes, and how to read it.
    :raises ApiError: 400 for a parameter that is unknown or malformed.
    """
    unknown = [name for name in params if name not in readers]
    if unknown:
        names = ", ".join(unknown)
        plural = "s" if len(unknown) > 1 else ""
        message = f"Received unknown parameter{plural}: {names}"
        raise invalid(message, code="parameter_unknown", param=unknown[0])
    return {name: readers[name](name, value) for name, value in params.items()}


def required(params: Params, *names: str) -> None:
    """:raises ApiError: 400 when one of these is not there."""
    for name in names:
        if name not in params:
            message = f"Missing required param: {name}."
            raise invalid(message, code="parameter_missing", param=name)


def text(name: str, value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {_shown(value)}", param=name)
    if not value:
        raise invalid(
            f"You passed an empty string for '{name}'. We assume empty values are an attempt to "
            f"unset a parameter; however '{name}' cannot be unset. You should remove '{name}' from "
            "your request or supply a non-empty value.",
            code="parameter_invalid_empty",
            param=name,
        )
    return value


def integer(name: str, value: Any) -> int:
    """A whole number."""
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        message = f"Invalid integer: {_shown(value)}"
        raise invalid(message, code="parameter_invalid_integer", param=name)
    return int(value)


def amount(name: str, value: Any) -> int:
    """Money in minor units: 1 to 99999999."""
    number = integer(name, value)
    if number < 1:
        message = "This value must be greater than or equal to 1."
        raise invalid(message, code="parameter_invalid_integer", param=name)
    if number > 99_999_999:
        message = "Amount must be no more than 99999999"
        raise invalid(message, code="amount_too_large", param=name)
    return number


def limit(name: str, value: Any) -> int:
    """The size of a page: 1 to 100."""
    number = integer(name, value)
    if not 1 <= number <= 100:
        raise invalid(
            f"This value must be {'greater' if number < 1 else 'less'} than or equal to "
            f"{1 if number < 1 else 100}.",
            code="parameter_invalid_integer",
            param=name,
        )
    return number


def boolean(name: str, value: Any) -> bool:
    """``true`` or ``false``."""
    if value not in ("true", "false"):
        raise invalid(f"Invalid boolean: {_shown(value)}", param=name)
    return bool(value == "true")


def currency(name: str, value: Any) -> str:
    """A lowercase ISO 4217 code."""
    code = text(name, value).lower()
    if not re.fullmatch(r"[a-z]{3}", code):
        raise invalid(f"Invalid currency: {code}", param=name)
    return code


def one_of(*choices: str) -> Reader:
    """A reader that takes only these words."""

    def choice(name: str, value: Any) -> str:
        if value not in choices:
            allowed = ", ".join(choices[:-1]) + (", or " if choices[1:] else "") + choices[-1]
            raise invalid(f"Invalid {name}: must be one of {allowed}", param=name)
        return str(value)

    return choice


def listed(name: str, value: Any) -> list[str]:
    """A list of strings: ``expand[]=charge`` or ``expand[0]=charge``."""
    if not isinstance(value, dict):
        raise invalid("Invalid array", param=name)
    return [text(name, item) for item in value.values()]


def anything(name: str, value: Any) -> Any:
    """A documented parameter that changes nothing here."""
    return value


def metadata(name: str, value: Any) -> dict[str, str]:
    """Up to 50 pairs; an empty value unsets its key, an empty ``metadata`` all of them."""
    if value == "":
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise invalid("Invalid object", param=name)
    for key, item in value.items():
        _check_length(name, "keys", key, _METADATA_KEY_LENGTH)
        _check_length(name, "values", item, _METADATA_VALUE_LENGTH)
    if len(value) > _METADATA_KEYS:
        raise invalid(f"Metadata can have up to {_METADATA_KEYS} keys.", param=name)
    return value


def _check_length(name: str, what: str, string: str, most: int) -> None:
    if len(string) > most:
        raise invalid(
            f"Metadata {what} can have up to {most} characters, but you passed in one that is "
            f"{len(string)} characters. Invalid value: {string}",
            param=name,
        )


def time_range(name: str, value: Any) -> dict[str, int]:
    """``created=1700000000`` or ``created[gte]=1700000000``; seconds since the epoch."""
    if isinstance(value, str):
        return {"gte": integer(name, value), "lte": integer(name, value)}
    return read(value, dict.fromkeys(("gt", "gte", "lt", "lte"), integer))


def in_range(created: int, bounds: Mapping[str, int]) -> bool:
    """Whether a time lies within what :func:`time_range` read."""
    return (
        created > bounds.get("gt", -1)
        and created >= bounds.get("gte", 0)
        and created < bounds.get("lt", created + 1)
        and created <= bounds.get("lte", created)
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "{}"

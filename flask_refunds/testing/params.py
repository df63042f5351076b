"""Parsing and validation of request parameters.

Errors raised here come before the endpoint runs, so they aren't stored under the idempotency key
(https://docs.stripe.com/api/idempotent_requests).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from .errors import invalid

Params = dict[str, Any]
Reader = Callable[[str, Any], Any]

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_INTEGER = re.compile(r"[+-]?\d{1,15}")
_MAX_METADATA_KEYS, _MAX_METADATA_KEY_LENGTH, _MAX_METADATA_VALUE_LENGTH = 50, 40, 500


def parse_form(encoded: str) -> Params:
    """Parse a form such as ``metadata[refund_id]=x&expand[]=charge`` into nested dicts.

    A list becomes a dict with its indexes as keys; the parameter's reader converts it.
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
    """Return the validated parameters.

    :param readers: the parameters that the endpoint accepts, with the function that validates each.
    :raises ApiError: 400 for an unknown or invalid parameter.
    """
    unknown = [name for name in params if name not in readers]
    if unknown:
        names = ", ".join(unknown)
        plural = "s" if len(unknown) > 1 else ""
        message = f"Received unknown parameter{plural}: {names}"
        raise invalid(message, code="parameter_unknown", param=unknown[0])
    return {name: readers[name](name, value) for name, value in params.items()}


def required(params: Params, *names: str) -> None:
    """Check that the parameters are present.

    :raises ApiError: 400 if one is missing.
    """
    for name in names:
        if name not in params:
            message = f"Missing required param: {name}."
            raise invalid(message, code="parameter_missing", param=name)


def string(name: str, value: Any) -> str:
    """Read a non-empty string."""
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {_display(value)}", param=name)
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
    """Read an integer."""
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        message = f"Invalid integer: {_display(value)}"
        raise invalid(message, code="parameter_invalid_integer", param=name)
    return int(value)


def amount(name: str, value: Any) -> int:
    """Read an amount in minor units: 1 to 99999999."""
    number = integer(name, value)
    if number < 1:
        message = "This value must be greater than or equal to 1."
        raise invalid(message, code="parameter_invalid_integer", param=name)
    if number > 99_999_999:
        message = "Amount must be no more than 99999999"
        raise invalid(message, code="amount_too_large", param=name)
    return number


def limit(name: str, value: Any) -> int:
    """Read the size of a page: 1 to 100."""
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
    """Read ``true`` or ``false``."""
    if value not in ("true", "false"):
        raise invalid(f"Invalid boolean: {_display(value)}", param=name)
    return bool(value == "true")


def currency(name: str, value: Any) -> str:
    """Read a currency code and return it in lowercase."""
    code = string(name, value).lower()
    if not re.fullmatch(r"[a-z]{3}", code):
        raise invalid(f"Invalid currency: {code}", param=name)
    return code


def one_of(*choices: str) -> Reader:
    """Return a reader that accepts only these values."""

    def choice(name: str, value: Any) -> str:
        if value not in choices:
            allowed = ", ".join(choices[:-1]) + (", or " if choices[1:] else "") + choices[-1]
            raise invalid(f"Invalid {name}: must be one of {allowed}", param=name)
        return str(value)

    return choice


def fields(readers: Mapping[str, Reader]) -> Reader:
    """Return a reader of an object with these fields."""

    def nested(name: str, value: Any) -> Params:
        if not isinstance(value, dict):
            raise invalid("Invalid object", param=name)
        return read(value, readers)

    return nested


def string_list(name: str, value: Any) -> list[str]:
    """Read a list of strings: ``expand[]=charge`` or ``expand[0]=charge``."""
    if not isinstance(value, dict):
        raise invalid("Invalid array", param=name)
    return [string(name, item) for item in value.values()]


def unused(name: str, value: Any) -> Any:
    """Accept a documented parameter that has no effect in the sandbox."""
    return value


def metadata(name: str, value: Any) -> dict[str, str]:
    """Read up to 50 key-value pairs. An empty value removes its key, an empty ``metadata`` removes all."""
    if value == "":
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise invalid("Invalid object", param=name)
    for key, item in value.items():
        _check_length(name, "keys", key, _MAX_METADATA_KEY_LENGTH)
        _check_length(name, "values", item, _MAX_METADATA_VALUE_LENGTH)
    if len(value) > _MAX_METADATA_KEYS:
        raise invalid(f"Metadata can have up to {_MAX_METADATA_KEYS} keys.", param=name)
    return value


def _check_length(name: str, part: str, text: str, maximum: int) -> None:
    if len(text) > maximum:
        raise invalid(
            f"Metadata {part} can have up to {maximum} characters, but you passed in one that is "
            f"{len(text)} characters. Invalid value: {text}",
            param=name,
        )


def time_range(name: str, value: Any) -> dict[str, int]:
    """Read ``created=1700000000`` or ``created[gte]=1700000000``, in seconds since the epoch."""
    if isinstance(value, str):
        return {"gte": integer(name, value), "lte": integer(name, value)}
    return read(value, dict.fromkeys(("gt", "gte", "lt", "lte"), integer))


def first_and_last(bounds: Mapping[str, int]) -> tuple[float, float]:
    """Return the first and last time within the bounds that :func:`time_range` returned."""
    first = max(bounds.get("gte", 0), bounds.get("gt", -1) + 1)
    return first, min(bounds.get("lte", math.inf), bounds.get("lt", math.inf) - 1)


def _display(value: Any) -> str:
    return value if isinstance(value, str) else "{}"

"""Read config keys one by one, and collect what is wrong with them. Nothing here knows a particular key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from inspect import iscoroutinefunction
from pkgutil import resolve_name
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..errors import ConfigurationError

_T = TypeVar("_T")
_IMPORT_STRING = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_PREFIX = "REFUNDS_"
_SIMILARITY = 0.75
"""From which similarity on a key is taken for a misspelled one, from 0 to 1."""


class Reader:
    """Reads a config key by key, and collects all problems for one error.

    An empty string, as an environment variable may have, means that a key isn't set.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.problems: dict[str, str] = {}

    def raw(self, key: str) -> Any:
        """Return the value, for the few keys to which an empty string or ``False`` means something."""
        return self._config.get(key)

    def is_set(self, key: str) -> bool:
        value = self.raw(key)
        return value is not None and not (_is_str(value) and value == "")

    def reject(self, key: str, problem: str) -> None:
        self.problems.setdefault(key, problem)

    def raise_problems(self) -> None:
        """Raise one error for all problems.

        :raises ConfigurationError: 500.
        """
        if self.problems:
            raise ConfigurationError(self.problems)

    def get(
        self,
        key: str,
        default: _T,
        is_valid: Callable[[Any], bool],
        expected: str,
        *,
        importable: bool = False,
    ) -> _T:
        """Return the key's value, or the default if it isn't set or isn't valid.

        :param importable: whether the value may be an import string, ``package.module:name``.
        """
        if not self.is_set(key):
            return default
        value = self.raw(key)
        if importable and _is_str(value) and _IMPORT_STRING.fullmatch(value):
            try:
                value = resolve_name(value)
            except Exception as error:  # whatever the module raises
                self.reject(key, f"can't be imported ({type(error).__name__}); check package.module:name")
                return default
        return self._valid(key, value, default, is_valid, expected)

    def secret(self, key: str, default: _T, is_valid: Callable[[Any], bool], expected: str) -> _T:
        """Return a secret, or a list of them, without the line break that a file of secrets ends with."""
        if not self.is_set(key):
            return default
        return self._valid(key, _stripped(self.raw(key)), default, is_valid, expected)

    def _valid(self, key: str, value: Any, default: _T, is_valid: Callable[[Any], bool], expected: str) -> _T:
        if not is_valid(value):
            self.reject(key, f"must be {expected}")
            return default
        result: _T = value
        return result

    def text(self, key: str, default: str) -> str:
        return self.get(key, default, is_text, "a non-empty string")

    def boolean(self, key: str, default: bool) -> bool:
        return self.get(key, default, lambda value: isinstance(value, bool), "True or False")

    def number(self, key: str, default: float, low: float, high: float) -> float:
        return self.get(
            key, default, lambda v: is_number(v) and low <= v <= high, f"a number from {low:g} to {high:g}"
        )

    def function(self, key: str) -> Callable[..., Any] | None:
        # An async function returns a coroutine, which is truthy whatever its result.
        expected = 'a function that isn\'t async, or its import string, such as "shop.access:is_admin"'
        return self.get(key, None, is_sync_function, expected, importable=True)

    def reject_misspelled(self, known: Iterable[str]) -> None:
        """Reject keys of this library that it doesn't have, if they resemble one that it has."""
        for key in self.unknown(known):
            if similar := _most_similar(key, known):
                self.reject(key, f"isn't a setting; did you mean {similar}?")

    def unknown(self, known: Iterable[str]) -> list[str]:
        """Return the keys with this library's prefix that it doesn't have."""
        return sorted(key for key in self._config if key.startswith(_PREFIX) and key not in known)


def _most_similar(key: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches  # a correct config doesn't need it

    names = [each.removeprefix(_PREFIX) for each in known]
    similar = get_close_matches(key.removeprefix(_PREFIX), names, 1, _SIMILARITY)
    return _PREFIX + similar[0] if similar else None


def _is_str(value: Any) -> bool:
    """Like ``isinstance``, which would resolve a proxy."""
    return issubclass(type(value), str)


def _stripped(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_stripped(each) for each in value]
    return value.strip() if isinstance(value, str) else value


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_proxy(value: Any) -> bool:
    """Return whether this is a ``LocalProxy`` of Werkzeug, without resolving it."""
    return hasattr(type(value), "_get_current_object")


def is_sync_function(value: Any) -> bool:
    call = getattr(type(value), "__call__", None)  # noqa: B004 - an object can be callable, too
    return callable(value) and not iscoroutinefunction(value) and not iscoroutinefunction(call)


def is_one_or_more(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a check for one valid value, or a list of at least one."""
    return lambda value: (
        bool(value) and all(map(is_valid, value)) if isinstance(value, (list, tuple)) else is_valid(value)
    )


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return one value or a list of them as a tuple."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def is_path(value: Any) -> bool:
    """Return whether MongoDB accepts the value as a field's path, or as a collection's name."""
    return is_text(value) and "$" not in value and "\0" not in value and all(value.split("."))


def is_safe_url(value: Any) -> bool:
    """Return whether this is an ``https`` URL, or ``http`` on loopback, without a password."""
    if not is_text(value):
        return False
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        return False
    if parts.username or parts.password:
        return False  # the URL may be logged
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))

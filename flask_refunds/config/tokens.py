"""The settings for bearer tokens: what Flask-JWT-Extended's keys mean for decoding, and ``JWT_JWKS_URL``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import jwt
from jwt.algorithms import HMACAlgorithm, get_default_algorithms

from .reader import Reader, as_tuple, is_number, is_one_or_more, is_safe_url, is_text, matches

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_HEADER_TYPE = re.compile(r"\S*")
_MAX_LEEWAY = 300.0


@dataclass(frozen=True)
class TokenSettings:
    """The validated settings for tokens. Most fields are the config keys in lower case."""

    jwt_decode_keys: tuple[str | bytes, ...] = field(repr=False)
    """The HMAC secrets or the public keys (PEM), the current one first; empty with ``jwt_jwks_url``, or if
    the app uses sessions only."""
    jwt_jwks_url: str | None
    jwt_decode_algorithms: tuple[str, ...]
    jwt_decode_audience: tuple[str, ...] | None
    verify_audience: bool
    """Whether a token that names an audience needs a configured one."""
    jwt_decode_issuer: tuple[str, ...] | None
    jwt_decode_leeway: float
    jwt_identity_claim: str
    jwt_verify_sub: bool
    jwt_header_name: str
    jwt_header_type: str
    require_expiry: bool


def token_settings(reader: Reader, *, with_flask_jwt: bool) -> TokenSettings:
    """Read the settings for tokens.

    :param with_flask_jwt: whether Flask-JWT-Extended is in the app. Its tokens must then be valid here.
    """
    algorithms = _algorithms(reader)
    jwks_url = reader.get("JWT_JWKS_URL", None, is_safe_url, "an https:// URL (http:// only on loopback)")
    audience = _one_or_more_texts(reader, "JWT_DECODE_AUDIENCE")
    return TokenSettings(
        jwt_decode_keys=_decode_keys(reader, algorithms, with_flask_jwt=with_flask_jwt),
        jwt_jwks_url=jwks_url,
        jwt_decode_algorithms=algorithms,
        jwt_decode_audience=audience,
        # Flask-JWT-Extended ignores the claim then. An identity provider signs tokens for other apps, too.
        verify_audience=audience is not None or not with_flask_jwt or jwks_url is not None,
        jwt_decode_issuer=_one_or_more_texts(reader, "JWT_DECODE_ISSUER"),
        jwt_decode_leeway=_leeway(reader),
        jwt_identity_claim=reader.text("JWT_IDENTITY_CLAIM", "sub"),
        jwt_verify_sub=reader.boolean("JWT_VERIFY_SUB", True),
        jwt_header_name=reader.get(
            "JWT_HEADER_NAME", "Authorization", matches(_HEADER_NAME), "the name of a header"
        ),
        jwt_header_type=_header_type(reader),
        require_expiry=reader.raw("JWT_ACCESS_TOKEN_EXPIRES") is not False,
    )


def _algorithms(reader: Reader) -> tuple[str, ...]:
    """Return the algorithms that a token may be signed with: all HMAC, or all with a public key.

    If both were accepted, an attacker could sign with the public key as the HMAC secret (RFC 8725, section
    2.1).
    """
    known = set(get_default_algorithms()) - {"none"}

    def is_known(value: Any) -> bool:
        return isinstance(value, str) and value in known

    def are_known(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and is_one_or_more(is_known)(value)

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


def _decode_keys(
    reader: Reader, algorithms: Sequence[str], *, with_flask_jwt: bool
) -> tuple[str | bytes, ...]:
    """Return the keys that verify tokens; none if they come from ``JWT_JWKS_URL``."""
    is_hmac = any(map(_is_hmac, algorithms))
    if reader.is_set("JWT_JWKS_URL"):
        if is_hmac:
            reader.reject(
                "JWT_ALGORITHM", "must be a public-key algorithm, such as RS256, if JWT_JWKS_URL is set"
            )
        return ()
    name = "JWT_SECRET_KEY" if is_hmac else "JWT_PUBLIC_KEY"
    if is_hmac and with_flask_jwt and not reader.is_set(name) and reader.is_set("SECRET_KEY"):
        name = "SECRET_KEY"  # as Flask-JWT-Extended does
    keys = _valid_keys(reader, name, algorithms)
    if not keys and not reader.is_set("REFUNDS_CURRENT_USER"):
        reader.reject(
            name,
            f"isn't set; set it to the key that verifies {' and '.join(algorithms)} tokens, or set "
            "REFUNDS_CURRENT_USER if your app signs users in by session",
        )
    if not is_hmac:
        return keys
    keys += _valid_keys(reader, "JWT_SECRET_KEY_FALLBACKS", algorithms)
    # Who signs may have stripped the line break that a file of secrets ends with, or not.
    return tuple(dict.fromkeys((*keys, *(key.strip() for key in keys if isinstance(key, str)))))


def _valid_keys(reader: Reader, name: str, algorithms: Sequence[str]) -> tuple[str | bytes, ...]:
    expected = "a non-empty string, or a list of them during a rotation"
    keys: tuple[str | bytes, ...] = as_tuple(
        reader.get(name, (), lambda value: all(map(_is_key, as_tuple(value))), expected)
    )
    for key in keys:
        for algorithm in algorithms:
            if problem := _key_problem(key.strip(), algorithm):
                reader.reject(name, problem)
    return keys


def _is_key(value: Any) -> bool:
    return isinstance(value, (str, bytes)) and bool(value.strip())


def _key_problem(key: str | bytes, algorithm: str) -> str | None:
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


def _one_or_more_texts(reader: Reader, key: str) -> tuple[str, ...] | None:
    value = reader.get(key, None, is_one_or_more(is_text), "a string, or a list of strings")
    return None if value is None else as_tuple(value)


def _leeway(reader: Reader) -> float:
    def seconds(value: Any) -> Any:
        return value.total_seconds() if isinstance(value, timedelta) else value

    def is_valid(value: Any) -> bool:
        return is_number(seconds(value)) and 0 <= seconds(value) <= _MAX_LEEWAY

    expected = f"a number or timedelta from 0 to {_MAX_LEEWAY:g} seconds"
    leeway: float = seconds(reader.get("JWT_DECODE_LEEWAY", 0.0, is_valid, expected))
    return leeway


def _header_type(reader: Reader) -> str:
    """Return the word before the token. An empty one means that the header contains the token alone."""
    if reader.raw("JWT_HEADER_TYPE") == "":
        return ""
    return reader.get("JWT_HEADER_TYPE", "Bearer", matches(_HEADER_TYPE), "one word, or an empty string")

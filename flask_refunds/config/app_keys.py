"""Keys of Flask and Flask-JWT-Extended that the library doesn't use, but that matter to refunds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def find_unsafe_keys(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys whose values endanger a signed-in admin, with what to do."""
    if config.get("SESSION_COOKIE_SAMESITE") == "None" and not config.get("SESSION_COOKIE_SECURE"):
        yield (
            "SESSION_COOKIE_SAMESITE",
            "is None without SESSION_COOKIE_SECURE: browsers reject the session, or send it with requests of "
            "other websites over plain HTTP. Set it to Lax, or set SESSION_COOKIE_SECURE to True.",
        )


def find_differing_keys(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys for tokens that have less effect here than elsewhere in the app, with what to know."""
    locations = config.get("JWT_TOKEN_LOCATION") or ("headers",)
    if "headers" not in ((locations,) if isinstance(locations, str) else locations):
        yield (
            "JWT_TOKEN_LOCATION",
            "has no headers, but the refund endpoints read tokens from the header only. Send them there, or "
            "set REFUNDS_CURRENT_USER to a function that reads your cookie.",
        )
    if config.get("JWT_ACCESS_TOKEN_EXPIRES") is False:
        yield (
            "JWT_ACCESS_TOKEN_EXPIRES",
            "is False, so a stolen token can refund as long as its user is an admin. Set a time.",
        )

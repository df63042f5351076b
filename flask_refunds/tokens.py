"""Who a bearer token speaks for: the one place where a JWT is checked. Knows keys and claims, no request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt

from .config import Settings
from .errors import IdentityProviderUnavailable, NotAuthenticated

_JWKS_TIMEOUT_SECONDS = 3.0
_MAX_TOKEN_LENGTH = 8192


class TokenVerifier:
    """Checks tokens by one app's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jwks = (
            jwt.PyJWKClient(settings.jwt_jwks_url, timeout=_JWKS_TIMEOUT_SECONDS)
            if settings.jwt_jwks_url
            else None
        )

    def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that is whole, genuine, of the right audience and issuer, and not expired.

        :raises NotAuthenticated: 401.
        :raises IdentityProviderUnavailable: 500; the keys cannot be fetched.
        """
        if len(token) > _MAX_TOKEN_LENGTH:
            raise NotAuthenticated
        try:
            claims = self._decode(token)
        except jwt.PyJWKClientConnectionError as error:
            raise IdentityProviderUnavailable from error
        except Exception as error:
            # PyJWT raises its own errors for most malformed tokens, and TypeError or ValueError for some.
            raise NotAuthenticated from error
        # Flask-JWT-Extended signs its refresh tokens with the same key; they are good for one thing only.
        if claims.get("type") == "refresh":
            raise NotAuthenticated
        return claims

    def identity(self, claims: Mapping[str, Any]) -> str:
        """The caller's id, from the identity claim.

        :raises NotAuthenticated: 401; the claim is missing, or neither a string nor a whole number.
        """
        identity = claims.get(self._settings.jwt_identity_claim)
        if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
            raise NotAuthenticated
        return str(identity)

    def _decode(self, token: str) -> Mapping[str, Any]:
        settings = self._settings
        key: Any = self._jwks.get_signing_key_from_jwt(token) if self._jwks else settings.jwt_decode_key
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(settings.jwt_decode_algorithms),
            audience=settings.jwt_decode_audience,
            issuer=settings.jwt_decode_issuer,
            leeway=settings.jwt_decode_leeway,
            options={"require": ["exp", settings.jwt_identity_claim], "enforce_minimum_key_length": True},
        )
        return claims

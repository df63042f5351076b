"""Who a bearer token speaks for: the one place where a JWT is checked. Knows keys and claims, no request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jwt

from ..config import Settings
from ..errors import IdentityProviderUnavailable, NotAuthenticated

if TYPE_CHECKING:
    from .jwks import KeySet

_MAX_TOKEN_LENGTH = 8192


class TokenVerifier:
    """Checks tokens by one app's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._published = _key_set(settings.jwt_jwks_url)

    def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that is whole, genuine, of the right audience and issuer, and not expired.

        :raises NotAuthenticated: 401.
        :raises IdentityProviderUnavailable: 500; the keys cannot be fetched.
        """
        if len(token) > _MAX_TOKEN_LENGTH:
            raise NotAuthenticated
        try:
            claims = self._decode(token)
        except (NotAuthenticated, IdentityProviderUnavailable):
            raise
        except Exception as error:
            # PyJWT raises its own errors for most malformed tokens, and TypeError or ValueError for some.
            raise NotAuthenticated(reason=_reason(error)) from error
        # Flask-JWT-Extended signs its refresh tokens with the same key; they are good for one thing only.
        if claims.get("type") == "refresh":
            raise NotAuthenticated(reason="refresh_token")
        return claims

    def identity(self, claims: Mapping[str, Any]) -> str | int:
        """The caller's id, from the identity claim.

        :raises NotAuthenticated: 401; the claim is missing, or neither text nor a whole number.
        """
        identity = claims.get(self._settings.jwt_identity_claim)
        if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
            raise NotAuthenticated(reason="claims")
        return identity

    def _decode(self, token: str) -> Mapping[str, Any]:
        settings = self._settings
        claims: Mapping[str, Any] = jwt.decode(
            token,
            self._key_of(token),
            algorithms=list(settings.jwt_decode_algorithms),
            audience=settings.jwt_decode_audience,
            issuer=settings.jwt_decode_issuer,
            leeway=settings.jwt_decode_leeway,
            options={"require": ["exp", settings.jwt_identity_claim], "enforce_minimum_key_length": True},
        )
        return claims

    def _key_of(self, token: str) -> Any:
        """The key that a token must be signed with."""
        if self._published is None:
            return self._settings.jwt_decode_key
        header = jwt.get_unverified_header(token)
        key_id = header.get("kid")
        # A token that cannot be good, whoever signed it, is not worth a fetch.
        if not isinstance(key_id, str) or header.get("alg") not in self._settings.jwt_decode_algorithms:
            raise NotAuthenticated(reason="key")
        published = self._published.find(key_id)
        if published is None:
            raise NotAuthenticated(reason="key")
        # The bare key: a published key need not name its algorithm, and PyJWT would guess one.
        return published.key


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidAlgorithmError, "key"),
    (jwt.InvalidKeyError, "key"),
    (jwt.DecodeError, "malformed"),
    (jwt.InvalidTokenError, "claims"),
)
"""Which check it was that PyJWT's error speaks of; the narrower class first."""


def _reason(error: Exception) -> str:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "malformed")


def _key_set(url: str | None) -> KeySet | None:
    if url is None:
        return None
    from .jwks import KeySet

    return KeySet(url)

"""Verify bearer tokens (JWT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jwt

from ..config.tokens import TokenSettings
from ..errors import IdentityProviderUnavailable, NotAuthenticated

if TYPE_CHECKING:
    from .jwks import KeySet

_MAX_TOKEN_LENGTH = 8192


class TokenVerifier:
    """Verifies tokens by the settings of one app."""

    def __init__(self, settings: TokenSettings) -> None:
        self.settings = settings
        self._required = [settings.jwt_identity_claim, *(["exp"] if settings.require_expiry else [])]
        self._key_set = _connect(settings.jwt_jwks_url)

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token, if its signature, audience, issuer and expiry are valid.

        :raises NotAuthenticated: 401.
        :raises IdentityProviderUnavailable: 500; the public keys can't be fetched.
        """
        if len(token) > _MAX_TOKEN_LENGTH:
            raise NotAuthenticated
        try:
            claims = self._decode(token)
        except (NotAuthenticated, IdentityProviderUnavailable):
            raise
        except Exception as error:
            # PyJWT raises its own exceptions for most malformed tokens, and TypeError or ValueError for some.
            raise NotAuthenticated(reason=_reason(error)) from error
        # Flask-JWT-Extended signs refresh tokens with the same key. They must not give access.
        if claims.get("type") == "refresh":
            raise NotAuthenticated(reason="refresh_token")
        return claims

    def identity(self, claims: Mapping[str, Any]) -> str | int:
        """Return the caller's ID from the identity claim.

        :raises NotAuthenticated: 401; the claim is missing, or isn't text or an integer.
        """
        identity = claims.get(self.settings.jwt_identity_claim)
        if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
            raise NotAuthenticated(reason="claims")
        return identity

    def _decode(self, token: str) -> Mapping[str, Any]:
        *fallbacks, last = self._verification_keys(token)
        for key in fallbacks:
            try:
                return self._decode_with(key, token)
            except jwt.InvalidSignatureError:
                pass  # another key may have signed it
        return self._decode_with(last, token)

    def _decode_with(self, key: Any, token: str) -> Mapping[str, Any]:
        settings = self.settings
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(settings.jwt_decode_algorithms),
            audience=settings.jwt_decode_audience,
            issuer=settings.jwt_decode_issuer,
            leeway=settings.jwt_decode_leeway,
            options={
                "require": self._required,
                "enforce_minimum_key_length": True,
                "verify_aud": settings.verify_audience,
                "verify_sub": settings.jwt_verify_sub,
            },
        )
        return claims

    def _verification_keys(self, token: str) -> Sequence[Any]:
        """Return the keys that may verify a token's signature, at least one."""
        if self._key_set is None:
            if not self.settings.jwt_decode_keys:  # the app uses sessions only
                raise NotAuthenticated(reason="key")
            return self.settings.jwt_decode_keys
        header = jwt.get_unverified_header(token)
        key_id = header.get("kid")
        # Don't fetch keys for a token that can't be valid.
        if not isinstance(key_id, str) or header.get("alg") not in self.settings.jwt_decode_algorithms:
            raise NotAuthenticated(reason="key")
        jwk = self._key_set.find(key_id)
        if jwk is None:
            raise NotAuthenticated(reason="key")
        # Not the PyJWK itself: a published key may omit its algorithm, and PyJWT would guess one.
        return (jwk.key,)


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidAlgorithmError, "key"),
    (jwt.InvalidKeyError, "key"),
    (jwt.DecodeError, "malformed"),
    (jwt.InvalidTokenError, "claims"),
)
"""The reason to log for each of PyJWT's exceptions; subclasses come first."""


def _reason(error: Exception) -> str:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "malformed")


def _connect(url: str | None) -> KeySet | None:
    if url is None:
        return None
    from .jwks import KeySet  # with its HTTP client, which apps without JWT_JWKS_URL don't need

    return KeySet(url)

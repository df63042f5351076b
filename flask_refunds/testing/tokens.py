"""Access tokens for tests."""

from __future__ import annotations

import time
from typing import Any

import jwt


def make_token(
    identity: str,
    *,
    secret: str,
    algorithm: str = "HS256",
    expires_in: int = 3600,
    claim: str = "sub",
    **claims: Any,
) -> str:
    """Return a signed JWT like the one that your app issues at sign-in.

    :param identity: the user's ID, stored in the identity claim.
    :param secret: the HMAC secret, or a PEM private key for an asymmetric algorithm.
    :param expires_in: seconds from now; a negative number makes an expired token.
    :param claim: the name of the identity claim.
    :param claims: more claims; they override the ones set here.
    """
    now = int(time.time())
    payload = {claim: identity, "iat": now, "exp": now + expires_in, **claims}
    return jwt.encode(payload, secret, algorithm=algorithm)

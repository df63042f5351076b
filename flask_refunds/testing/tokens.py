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
    """A signed JWT, as the host's login would hand it out.

    :param identity: who it is for: the value of the identity claim.
    :param secret: the HMAC secret, or the private key in PEM for an asymmetric algorithm.
    :param expires_in: seconds from now; negative makes a token that has expired.
    :param claim: name of the identity claim.
    :param claims: further claims, which win over those made here.
    """
    now = int(time.time())
    payload = {claim: identity, "iat": now, "exp": now + expires_in, **claims}
    return jwt.encode(payload, secret, algorithm=algorithm)

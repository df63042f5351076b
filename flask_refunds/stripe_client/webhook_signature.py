"""Verify that a webhook request was sent by Stripe, recently
(https://docs.stripe.com/webhooks#verify-manually).

Stripe's own library accepts timestamps from the future, and supports one secret at a time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

TOLERANCE_SECONDS = 300
"""The maximum difference between the signature's time and the current time, in either direction."""

_MAX_HEADER_LENGTH = 4096


def is_signed(body: bytes, header: str, secrets: Sequence[str], now: float) -> bool:
    """Return whether a body was signed with one of the secrets, within the tolerance.

    :param body: the raw body, unchanged.
    :param header: ``Stripe-Signature``, such as ``t=1492774577,v1=5257a8…``.
    :param secrets: all current secrets; more than one during a rotation.
    :param now: seconds since the epoch.
    """
    timestamp, signatures = _parse(header)
    if timestamp is None or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    expected = [_sign(secret, timestamp, body) for secret in secrets]
    # Compare every pair, so that the time taken doesn't tell which one is close.
    matches = [hmac.compare_digest(made, given) for made in expected for given in signatures]
    return any(matches)


def sign(body: bytes, secret: str, now: float) -> str:
    """Return the ``Stripe-Signature`` of a body, for a request to one's own webhook."""
    timestamp = str(int(now))
    return f"t={timestamp},v1={_sign(secret, timestamp, body).decode()}"


def _sign(secret: str, timestamp: str, body: bytes) -> bytes:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest().encode()


def _parse(header: str) -> tuple[str | None, list[bytes]]:
    """Return the timestamp, and the signatures of the scheme ``v1``."""
    if len(header) > _MAX_HEADER_LENGTH:
        return None, []
    pairs = [item.partition("=") for item in header.split(",")]
    times = [value for key, _, value in pairs if key == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12):
        return None, []
    return times[0], [value.encode("utf-8", "replace") for key, _, value in pairs if key == "v1"]

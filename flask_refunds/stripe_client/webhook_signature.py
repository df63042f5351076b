"""Whether a webhook came from Stripe, and now (https://docs.stripe.com/webhooks#verify-manually).

Stripe's own library accepts a timestamp from the future, and knows one secret at a time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

TOLERANCE_SECONDS = 300
"""How far a signature's time may be from ours, in either direction."""

_MAX_HEADER_LENGTH = 4096


def is_signed(body: bytes, header: str, secrets: Sequence[str], now: float) -> bool:
    """Whether a body was signed with one of the secrets, within the tolerance.

    :param body: the raw body, byte for byte as it came.
    :param header: ``Stripe-Signature``, as in ``t=1492774577,v1=5257a8…``.
    :param secrets: every secret that serves now; more than one while rotating.
    :param now: seconds since the epoch.
    """
    timestamp, signatures = _parse(header)
    if timestamp is None or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    expected = [_sign(secret, timestamp, body) for secret in secrets]
    # Every pair is compared, so that the time taken does not tell which one is near.
    matches = [hmac.compare_digest(made, given) for made in expected for given in signatures]
    return any(matches)


def _sign(secret: str, timestamp: str, body: bytes) -> bytes:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest().encode()


def _parse(header: str) -> tuple[str | None, list[bytes]]:
    """The one timestamp, and the signatures of the scheme that Stripe uses."""
    if len(header) > _MAX_HEADER_LENGTH:
        return None, []
    pairs = [item.partition("=") for item in header.split(",")]
    times = [value for key, _, value in pairs if key == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12):
        return None, []
    return times[0], [value.encode("utf-8", "replace") for key, _, value in pairs if key == "v1"]

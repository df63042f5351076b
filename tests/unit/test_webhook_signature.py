"""Webhook signatures: which are valid, and which are forged, malformed or too old."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from flask_refunds.stripe_client.webhook_signature import TOLERANCE_SECONDS, is_signed

SECRET, OLD_SECRET = "whsec_of_the_tests_0123456789", "whsec_during_the_rotation_0123"
BODY = b'{"type": "ping"}'
NOW = 1_710_498_600
WIDE_DIGIT = "\uff11"


def sign(time: object = NOW, body: bytes = BODY, secret: str = SECRET, digest: str = "sha256") -> str:
    """Return the signature that Stripe would put into ``v1``."""
    return hmac.new(secret.encode(), f"{time}.".encode() + body, digest).hexdigest()


def header(time: object = NOW, body: bytes = BODY, secret: str = SECRET) -> str:
    return f"t={time},v1={sign(time, body, secret)}"


def verify(value: str) -> bool:
    return is_signed(BODY, value, [SECRET, OLD_SECRET], NOW + 0.5)


@pytest.mark.parametrize(
    "value",
    [
        header(),
        header(secret=OLD_SECRET),
        header(NOW - TOLERANCE_SECONDS + 1),
        header(NOW + TOLERANCE_SECONDS),
        f"t={NOW},v0={'0' * 64},v1={sign()}",
        f"t={NOW},v1={'0' * 64},v1={sign()}",
        f"v1={sign()},t={NOW}",
    ],
)
def test_signature_of_stripe_is_valid(value: str) -> None:
    assert verify(value)


SIGNATURE = sign()
INVALID = {
    "empty": "",
    "not a header": "nonsense",
    "no time": f"v1={SIGNATURE}",
    "no signature": f"t={NOW}",
    "empty signature": f"t={NOW},v1=",
    "empty time": f"t=,v1={sign('')}",
    "another secret": header(secret="whsec_guessed"),
    "empty secret": header(secret=""),
    "another body": header(body=BODY + b" "),
    "empty body": header(body=b""),
    "another time": f"t={NOW - 1},v1={SIGNATURE}",
    "older scheme": f"t={NOW},v0={SIGNATURE}",
    "newer scheme": f"t={NOW},v2={SIGNATURE}",
    "half a signature": f"t={NOW},v1={SIGNATURE[:32]}",
    "one digit more": f"t={NOW},v1={SIGNATURE}0",
    "upper case": f"t={NOW},v1={SIGNATURE.upper()}",
    "quoted": f't={NOW},v1="{SIGNATURE}"',
    "two times": f"t={NOW},t={NOW},v1={SIGNATURE}",
    "two times, at the end": f"t={NOW},v1={SIGNATURE},t={NOW}",
    "a space": f"t={NOW}, v1={SIGNATURE}",
    "semicolons": f"t={NOW};v1={SIGNATURE}",
    "not ASCII": f"t={NOW},v1=é{SIGNATURE}",
    "body without time": f"t={NOW},v1={hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()}",
    "SHA-1": f"t={NOW},v1={sign(digest='sha1')}",
    "time with a sign": header(f"+{NOW}"),
    "negative time": header(-NOW),
    "time with decimals": header(f"{NOW}.0"),
    "time as a word": header("now"),
    "time as NaN": header("NaN"),
    "time with wide digits": f"t={WIDE_DIGIT * 10},v1={SIGNATURE}",
    "very long time": header("9" * 4000),
    "too old": header(NOW - TOLERANCE_SECONDS),
    "one day old": header(NOW - 86400),
    "in the future": header(NOW + TOLERANCE_SECONDS + 1),
    "very long header": f"t={NOW}," + ",".join(["v1=0"] * 2000) + f",v1={SIGNATURE}",
}


@pytest.mark.parametrize("name", INVALID)
def test_other_signature_is_invalid(name: str) -> None:
    assert not verify(INVALID[name])


def test_without_secrets_no_signature_is_valid() -> None:
    assert not is_signed(BODY, header(secret=""), [], NOW)

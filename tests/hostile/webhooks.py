"""What is not believed to be Stripe's, and what changes nothing though it is."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from flask_refunds.testing import make_event
from tests.canaries import WEBHOOK_SECRET
from tests.hostile.targets import Case
from tests.hostile.tokens import bearer, good
from tests.shop import JWT_SECRET, STRIPE_KEY

PATH = "/webhook/refunds"
WIDE_DIGIT = "\uff11"
REFUND: Mapping[str, Any] = {
    "id": "re_hostile",
    "object": "refund",
    "amount": 1999,
    "currency": "usd",
    "created": 1_710_581_400,
    "payment_intent": "pi_nobody_s",
    "status": "succeeded",
    "reason": None,
    "metadata": {},
}
EVENT = json.dumps(make_event("refund.updated", REFUND)).encode()
"""Well made: whoever believes it answers 200."""


def signature(body: bytes, at: float | str | None = None, secret: str = WEBHOOK_SECRET) -> str:
    """What Stripe would put into ``v1`` at that time."""
    moment = str(int(time.time())) if at is None else str(at)
    return hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()


def signed(body: bytes, at: float | str | None = None, secret: str = WEBHOOK_SECRET) -> str:
    """A header as Stripe writes it."""
    moment = int(time.time()) if at is None else at
    return f"t={moment},v1={signature(body, moment, secret)}"


def sent(body: bytes, header: str | None, status: int, code: str | None, app: str = "shop") -> Case:
    headers = () if header is None else (("Stripe-Signature", header),)
    return Case("POST", PATH, status, code, headers, body, app)


def cases() -> Iterator[tuple[str, Case]]:
    """All of them, by name."""
    for name, header in _forged().items():
        yield f"webhook, forged: {name}", sent(EVENT, header, 400, "invalid_request")
    for name, body in JUNK.items():
        yield f"webhook, signed junk: {name}", sent(body, signed(body), 400, "invalid_request")
    for name, refund in _bent_refunds().items():
        body = json.dumps(make_event("refund.updated", refund)).encode()
        yield f"webhook, a bent refund: {name}", sent(body, signed(body), 400, "invalid_request")
    for name, refund in _foreign_refunds().items():
        body = json.dumps(make_event("refund.updated", refund)).encode()
        yield f"webhook, not ours: {name}", sent(body, signed(body), 200, None)
    for name, payment in FOREIGN_PAYMENTS.items():
        body = json.dumps(make_event("charge.refunded", {"payment_intent": payment})).encode()
        yield f"webhook, a charge not ours: {name}", sent(body, signed(body), 200, None)
    large = b" " * (1024 * 1024 + 1)
    yield "webhook: too large", sent(large, signed(large), 400, "invalid_request")
    unsigned = Case("POST", PATH, 400, "invalid_request", bearer(good()), EVENT)
    yield "webhook: an admin's token in place of a signature", unsigned
    yield "webhook: not configured", sent(EVENT, signed(EVENT), 404, "webhook_not_configured", "no webhook")
    blank = sent(EVENT, signed(EVENT, secret=""), 404, "webhook_not_configured", "no webhook")
    yield "webhook: not configured, and signed with nothing", blank


def _forged() -> dict[str, str | None]:
    now = int(time.time())
    good_one = signature(EVENT, now)
    key = WEBHOOK_SECRET.encode()
    return {
        "no header": None,
        "an empty header": "",
        "words": "trust me",
        "no time": f"v1={good_one}",
        "no signature": f"t={now}",
        "an empty signature": f"t={now},v1=",
        "an empty time": f"t=,v1={signature(EVENT, '')}",
        "another secret": signed(EVENT, secret="whsec_guessed"),
        "no secret": signed(EVENT, secret=""),
        "the tokens' secret": signed(EVENT, secret=JWT_SECRET),
        "Stripe's key": signed(EVENT, secret=STRIPE_KEY),
        "another body": signed(EVENT + b" "),
        "no body": signed(b""),
        "another time": f"t={now - 1},v1={good_one}",
        "the older scheme": f"t={now},v0={good_one}",
        "a scheme to come": f"t={now},v2={good_one}",
        "half of it": f"t={now},v1={good_one[:32]}",
        "and a digit more": f"t={now},v1={good_one}0",
        "in capitals": f"t={now},v1={good_one.upper()}",
        "in quotes": f't={now},v1="{good_one}"',
        "two times": f"t={now},t={now},v1={good_one}",
        "a space in it": f"t={now}, v1={good_one}",
        "semicolons": f"t={now};v1={good_one}",
        "no ASCII": f"t={now},v1=é{good_one}",
        "of the body alone": f"t={now},v1={hmac.new(key, EVENT, hashlib.sha256).hexdigest()}",
        "by SHA-1": f"t={now},v1={hmac.new(key, str(now).encode() + b'.' + EVENT, 'sha1').hexdigest()}",
        "a time with a sign": f"t=+{now},v1={signature(EVENT, f'+{now}')}",
        "a negative time": signed(EVENT, -now),
        "a broken time": signed(EVENT, f"{now}.0"),
        "a time in words": signed(EVENT, "now"),
        "a time as NaN": signed(EVENT, "NaN"),
        "a time in wide digits": f"t={WIDE_DIGIT * 10},v1={good_one}",
        "an endless time": signed(EVENT, "9" * 4000),
        "stale": signed(EVENT, now - 301),
        "a day old": signed(EVENT, now - 86400),
        "of the future": signed(EVENT, now + 310),
        "an endless header": f"t={now}," + ",".join(["v1=0"] * 2000) + f",v1={good_one}",
    }


JUNK: Mapping[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "null": b"null",
    "a list": b"[]",
    "text": b'"refund.updated"',
    "an empty object": b"{}",
    "deep": b"[" * 100_000,
    "an endless number": b'{"type":' + b"9" * 5000 + b"}",
    "no type": b'{"livemode":false,"data":{"object":{}}}',
    "a type that is none": b'{"type":{"$ne":1},"livemode":false,"data":{"object":{}}}',
    "no mode": b'{"type":"refund.updated","data":{"object":{}}}',
    "a mode in words": b'{"type":"refund.updated","livemode":"false","data":{"object":{}}}',
    "NaN for a mode": b'{"type":"refund.updated","livemode":NaN,"data":{"object":{}}}',
    "of the live mode": b'{"type":"refund.updated","livemode":true,"data":{"object":{}}}',
    "no data": b'{"type":"refund.updated","livemode":false}',
    "data a list": b'{"type":"refund.updated","livemode":false,"data":[]}',
    "no object": b'{"type":"refund.updated","livemode":false,"data":{}}',
    "an object that is none": b'{"type":"refund.updated","livemode":false,"data":{"object":"re_1"}}',
}

FOREIGN_PAYMENTS: Mapping[str, Any] = {
    "half a surrogate pair": "pi_\ud800",
    "NUL": "pi_\0",
    "an operator": {"$ne": 1},
    "a word": "free",
}


def _bent_refunds() -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {
        "another object": {"object": "charge"},
        "no object": {"object": None},
        "an id that is an operator": {"id": {"$ne": None}},
        "an amount as text": {"amount": "1999"},
        "a broken amount": {"amount": 19.99},
        "an amount of true": {"amount": True},
        "an amount as NaN": {"amount": float("nan")},
        "a currency that is none": {"currency": None},
        "a status that is none": {"status": "completed"},
        "a status that is an operator": {"status": {"$gt": ""}},
        "a payment that is an operator": {"payment_intent": {"$ne": None}},
        "a payment that is a list": {"payment_intent": ["pi_1"]},
        "a date in words": {"created": "yesterday"},
        "a date beyond the calendar": {"created": 10**12},
        "a date beyond every clock": {"created": 10**20},
        "a date that is infinite": {"created": float("inf")},
        "a payment with half a surrogate pair": {"payment_intent": "pi_\ud800"},
        "an id with half a surrogate pair": {"id": "re_\ud800"},
        "a currency with half a surrogate pair": {"currency": "\udfff"},
        "a reason to fail with half a surrogate pair": {"status": "failed", "failure_reason": "\ud800"},
        "an amount beyond every ledger": {"amount": 10**30},
        "a negative amount": {"amount": -1},
    }
    return {name: {**REFUND, **change} for name, change in changes.items()}


def _foreign_refunds() -> dict[str, dict[str, Any]]:
    """Well made, and of payments that no purchase has."""
    changes: dict[str, dict[str, Any]] = {
        "a payment of nobody's": {},
        "a payment with a NUL": {"payment_intent": "pi_\0"},
        "a row's id that is an operator": {"metadata": {"refund_id": {"$ne": None}}},
        "a row's id of another payment": {"metadata": {"refund_id": "pi_1:1"}},
        "a word for a payment": {"payment_intent": "free"},
        "no payment": {"payment_intent": None},
    }
    return {name: {**REFUND, **change} for name, change in changes.items()}

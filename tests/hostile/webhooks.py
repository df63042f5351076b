"""Webhook requests that must be rejected, or that change nothing."""

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
from tests.hostile.tokens import bearer, valid_token
from tests.shop import JWT_SECRET, STRIPE_KEY

PATH = "/webhook/refunds"
REFUND: Mapping[str, Any] = {
    "id": "re_hostile",
    "object": "refund",
    "amount": 1999,
    "currency": "usd",
    "created": 1_710_581_400,
    "payment_intent": "pi_unknown",
    "status": "succeeded",
    "reason": None,
    "metadata": {},
}
EVENT = json.dumps(make_event("refund.updated", REFUND)).encode()
"""A valid event: with a valid signature, the response is 200."""


def signature(body: bytes, at: float | str | None = None, secret: str = WEBHOOK_SECRET) -> str:
    """Return the signature that Stripe would put into ``v1`` at that time."""
    moment = str(int(time.time())) if at is None else str(at)
    return hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()


def signed(body: bytes, at: float | str | None = None, secret: str = WEBHOOK_SECRET) -> str:
    """Return the header that Stripe would send."""
    moment = int(time.time()) if at is None else at
    return f"t={moment},v1={signature(body, moment, secret)}"


def event_case(body: bytes, header: str | None, status: int, code: str | None, app: str = "shop") -> Case:
    headers = () if header is None else (("Stripe-Signature", header),)
    return Case("POST", PATH, status, code, headers, body, app)


def cases() -> Iterator[tuple[str, Case]]:
    """Yield each name and case."""
    for name, header in _forged().items():
        yield f"webhook, forged: {name}", event_case(EVENT, header, 400, "invalid_request")
    for name, body in INVALID_EVENTS.items():
        yield f"webhook, signed, not an event: {name}", event_case(body, signed(body), 400, "invalid_request")
    for name, event in _ignored_events():
        body = json.dumps(event).encode()
        yield f"webhook, {name}", event_case(body, signed(body), 200, None)
    large = b" " * (1024 * 1024 + 1)
    yield "webhook: too large", event_case(large, signed(large), 400, "invalid_request")
    unsigned = Case("POST", PATH, 400, "invalid_request", bearer(valid_token()), EVENT)
    yield "webhook: an admin's token instead of a signature", unsigned
    yield (
        "webhook: not configured",
        event_case(EVENT, signed(EVENT), 404, "webhook_not_configured", "no webhook"),
    )
    blank = event_case(EVENT, signed(EVENT, secret=""), 404, "webhook_not_configured", "no webhook")
    yield "webhook: not configured, signed with an empty secret", blank


def _ignored_events() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield signed events that this app can't use."""
    for name, refund in _invalid_refunds().items():
        yield f"invalid refund: {name}", make_event("refund.updated", refund)
    for name, refund in _other_refunds().items():
        yield f"another app's refund: {name}", make_event("refund.updated", refund)
    for name, payment in OTHER_PAYMENTS.items():
        yield f"another app's charge: {name}", make_event("charge.refunded", {"payment_intent": payment})
    for name, object_id in OTHER_IDS.items():
        for kind, prefix in (("v1.refund.updated", "re_"), ("v1.charge.refunded", "ch_")):
            related = {"id": object_id.replace("re_", prefix)}
            yield (
                f"{kind}: {name}",
                {"type": kind, "object": "v2.core.event", "livemode": False, "related_object": related},
            )
    for name, fields in OTHER_ACCOUNTS.items():
        yield f"not this account's: {name}", {**make_event("refund.updated", REFUND), **fields}


def _forged() -> dict[str, str | None]:
    """Return signatures to reject. ``tests/unit/test_webhook_signature.py`` has more."""
    now = int(time.time())
    return {
        "no header": None,
        "an empty header": "",
        "another secret": signed(EVENT, secret="whsec_guessed"),
        "an empty secret": signed(EVENT, secret=""),
        "the JWT secret": signed(EVENT, secret=JWT_SECRET),
        "Stripe's key": signed(EVENT, secret=STRIPE_KEY),
        "another body": signed(EVENT + b" "),
        "no body": signed(b""),
        "stale": signed(EVENT, now - 301),
        "of the future": signed(EVENT, now + 310),
    }


INVALID_EVENTS: Mapping[str, bytes] = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "null": b"null",
    "a list": b"[]",
    "text": b'"refund.updated"',
    "an empty object": b"{}",
    "deep": b"[" * 100_000,
    "a very long number": b'{"type":' + b"9" * 5000 + b"}",
    "no type": b'{"livemode":false,"data":{"object":{}}}',
    "a type that is an operator": b'{"type":{"$ne":1},"livemode":false,"data":{"object":{}}}',
    "no mode": b'{"type":"refund.updated","data":{"object":{}}}',
    "a mode as text": b'{"type":"refund.updated","livemode":"false","data":{"object":{}}}',
    "a mode of NaN": b'{"type":"refund.updated","livemode":NaN,"data":{"object":{}}}',
    "no data": b'{"type":"refund.updated","livemode":false}',
    "data a list": b'{"type":"refund.updated","livemode":false,"data":[]}',
    "no object": b'{"type":"refund.updated","livemode":false,"data":{}}',
    "an object that is text": b'{"type":"refund.updated","livemode":false,"data":{"object":"re_1"}}',
    "thin, no related object": b'{"type":"v1.refund.updated","livemode":false,"object":"v2.core.event"}',
    "thin, an ID that is an operator": b'{"type":"v1.refund.updated","livemode":false,'
    b'"object":"v2.core.event","related_object":{"id":{"$ne":1}}}',
}

OTHER_PAYMENTS: Mapping[str, Any] = {
    "half a surrogate pair": "pi_\ud800",
    "NUL": "pi_\0",
    "an operator": {"$ne": 1},
    "a word": "free",
}

OTHER_IDS: Mapping[str, str] = {
    "nothing": "",
    "a path": "re_1/../../v1/balance",
    "a query": "re_1?expand[]=charge",
    "a line break": "re_1\r\nX-Injected: 1",
    "half a surrogate pair": "re_\ud800",
    "another object": "cus_1",
    "too long": "re_" + "1" * 5000,
}
"""IDs of refunds, or of charges with another prefix."""

OTHER_ACCOUNTS: Mapping[str, Mapping[str, Any]] = {
    "live mode": {"livemode": True},
    "a connected account": {"account": "acct_1"},
    "an account that is an operator": {"account": {"$ne": None}},
    "a context": {"context": "acct_1"},
    "another type": {"type": "customer.created"},
    "another type in live mode": {"type": "customer.created", "livemode": True},
    "an unknown version": {"type": "v9.refund.updated"},
    "a thin event's type that is unknown": {"type": "v1.billing.meter.no_meter_found"},
}


def _invalid_refunds() -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {
        "another object": {"object": "charge"},
        "no object": {"object": None},
        "an id that is an operator": {"id": {"$ne": None}},
        "an amount as text": {"amount": "1999"},
        "an amount with decimals": {"amount": 19.99},
        "an amount of true": {"amount": True},
        "an amount as NaN": {"amount": float("nan")},
        "no currency": {"currency": None},
        "an unknown status": {"status": "completed"},
        "a status that is an operator": {"status": {"$gt": ""}},
        "a payment that is an operator": {"payment_intent": {"$ne": None}},
        "a payment that is a list": {"payment_intent": ["pi_1"]},
        "a date as text": {"created": "yesterday"},
        "a date after year 9999": {"created": 10**12},
        "a date beyond 64 bits": {"created": 10**20},
        "a date that is infinite": {"created": float("inf")},
        "a payment with half a surrogate pair": {"payment_intent": "pi_\ud800"},
        "an id with half a surrogate pair": {"id": "re_\ud800"},
        "a currency with half a surrogate pair": {"currency": "\udfff"},
        "a failure reason with half a surrogate pair": {"status": "failed", "failure_reason": "\ud800"},
        "an amount beyond 64 bits": {"amount": 10**30},
        "a negative amount": {"amount": -1},
    }
    return {name: {**REFUND, **change} for name, change in changes.items()}


def _other_refunds() -> dict[str, dict[str, Any]]:
    """Return valid refunds of payments that no purchase has."""
    changes: dict[str, dict[str, Any]] = {
        "an unknown payment": {},
        "a payment with a NUL": {"payment_intent": "pi_\0"},
        "a record's ID that is an operator": {"metadata": {"refund_id": {"$ne": None}}},
        "a record's ID of another payment": {"metadata": {"refund_id": "pi_1:1"}},
        "a payment that is a word": {"payment_intent": "free"},
        "no payment": {"payment_intent": None},
    }
    return {name: {**REFUND, **change} for name, change in changes.items()}

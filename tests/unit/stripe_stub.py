"""A scripted transport in place of Stripe, which rejects unexpected requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import stripe
import urllib3

from flask_refunds.stripe_client.transport import _deadline

PAYMENT = "pi_1"
REFUND_ID = "pi_1:1"


def refund_key(number: int = 1) -> str:
    """Return the idempotency key of a record. In unit tests, all end with the same digits."""
    return f"{PAYMENT}:{number}:0123456789abcdef"


@dataclass
class Sent:
    """One request that was sent."""

    method: str
    path: str
    params: dict[str, str]
    headers: Mapping[str, str]


@dataclass
class StubTransport(stripe.HTTPClient):
    """Answers scripted requests, in order.

    :param script: ``(method, path, answer)``; an answer is ``(status, body)``, or an exception to raise.
    """

    script: list[tuple[str, str, Any]]
    sent: list[Sent] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    before: Callable[[Sent], None] = lambda sent: None
    clock: Callable[[], datetime] | None = None
    name = "stub"

    def __post_init__(self) -> None:
        super().__init__()

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        parts = urlsplit(url)
        sent = Sent(method.upper(), parts.path, dict(parse_qsl(post_data or parts.query)), headers)
        wanted_method, wanted_path, answer = self.script.pop(0) if self.script else (None, None, None)
        if (sent.method, sent.path) != (wanted_method, wanted_path):
            # The gateway treats any exception as an unreadable answer, so assert_done reports it too.
            self.unexpected.append(f"{sent.method} {sent.path} instead of {wanted_method} {wanted_path}")
            raise AssertionError(self.unexpected[-1])
        if _deadline.get(None) is None:
            self.unexpected.append(f"{sent.method} {sent.path} without a deadline")
        self.before(sent)
        self.sent.append(sent)
        if isinstance(answer, BaseException):
            raise answer
        status, body = answer
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        answer_headers = {"Request-Id": f"req_{len(self.sent)}"}
        if self.clock is not None:
            answer_headers["Date"] = format_datetime(self.clock(), usegmt=True)
        return text, status, urllib3.HTTPHeaderDict(answer_headers)

    def close(self) -> None: ...

    def assert_done(self) -> None:
        assert not self.unexpected
        assert not self.script, f"never sent: {self.script}"


def charge_object(amount_captured: int) -> dict[str, Any]:
    """Return a charge as Stripe shows it where it is expanded."""
    return {"id": "ch_1", "object": "charge", "amount_captured": amount_captured}


def refund_object(**fields: Any) -> dict[str, Any]:
    """Return a refund as Stripe shows it."""
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 1999,
        "charge": charge_object(1999),
        "currency": "usd",
        "created": 1_700_000_000,
        "metadata": {"refund_id": refund_key()},
        "payment_intent": PAYMENT,
        "reason": None,
        "status": "succeeded",
    } | fields


def error_object(code: str, type_: str = "invalid_request_error", message: str = "No.") -> dict[str, Any]:
    """Return an error as Stripe shows it."""
    return {"error": {"code": code, "type": type_, "message": message}}


def lost() -> Exception:
    """Return the error of a lost connection."""
    return stripe.APIConnectionError("lost")  # type: ignore[no-untyped-call]

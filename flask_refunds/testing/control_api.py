"""The sandbox's own routes, for tests and people in another process. They need no API key.

Only programs on this machine can use them: the server listens on loopback, and a request that a web page in a
browser could have sent is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from . import params as p
from .api import error_response, parse_parameters
from .errors import ApiError
from .http_server import Request, Response

PREFIX = "/_sandbox/"

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PAYMENTS: dict[str, p.Reader] = {
    "amount": p.amount,
    "currency": p.currency,
    "card": p.string,
    "account": p.string,
    "transfer_to": p.string,
    "transfer_amount": p.amount,
    "application_fee_amount": p.amount,
    "intent": p.boolean,
    "checkout": p.boolean,
    "count": p.integer,
}
_DASHBOARD_REFUND: dict[str, p.Reader] = {
    "payment_intent": p.string,
    "amount": p.amount,
    "status": p.string,
}
_SETTLE: dict[str, p.Reader] = {"refund": p.string, "status": p.string, "failure_reason": p.string}


class SandboxControl(Protocol):
    """The methods of StripeSandbox that these routes use."""

    @property
    def create_payment(self) -> Callable[..., str]:
        """Create a payment and return its payment intent's or charge's ID."""

    def create_checkout_session(self, payment_intent: str) -> str:
        """Create the Checkout session of a payment and return its ID."""

    def refunds(self, payment_intent: str | None = None) -> list[dict[str, Any]]:
        """Return the refunds."""

    def dashboard_refund(
        self, payment_intent: str, amount: int | None = ..., *, status: str | None = ...
    ) -> dict[str, Any]:
        """Refund as a Dashboard user does."""

    def settle(self, refund_id: str, status: str, failure_reason: str | None = ...) -> dict[str, Any]:
        """Change a refund's status."""

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""

    def now(self) -> float:
        """Return the time."""

    def redeliver(self, event_id: str) -> None:
        """Deliver an event again."""

    def count_requests(self) -> dict[str, int]:
        """Return the number of requests by response status."""


def respond(sandbox: SandboxControl, request: Request) -> Response:
    """Return the response to a request below ``/_sandbox/``."""
    try:
        _refuse_browsers(request)
        result = _dispatch(sandbox, request)
    except ApiError as error:
        return error_response(error, "")
    except (ValueError, LookupError) as error:
        return error_response(ApiError(400 if isinstance(error, ValueError) else 404, str(error)), "")
    return Response(200, json.dumps(result).encode())


def _refuse_browsers(request: Request) -> None:
    """Refuse what a page could send: from another origin, or to a name that it made point to this machine."""
    host = request.headers.get("host", "")
    name = (host if host.endswith("]") else host.rpartition(":")[0] or host).lower()
    if name not in _LOOPBACK or "origin" in request.headers or "sec-fetch-site" in request.headers:
        raise ApiError(403, "The sandbox's own routes are for programs on this machine, not for web pages.")


def _dispatch(sandbox: SandboxControl, request: Request) -> dict[str, Any]:
    params = parse_parameters(request)
    match request.method, request.path.removeprefix(PREFIX):
        case "GET", "health":
            return {"status": "ok"}
        case "GET", "refunds":
            return {"data": sandbox.refunds(**p.read(params, {"payment_intent": p.string}))}
        case "GET", "requests":
            return {"byStatus": sandbox.count_requests()}
        case "POST", "payments":
            return {"ids": _create_payments(sandbox, params)}
        case "POST", "advance":
            sandbox.advance(_read(params, {"seconds": p.integer}, "seconds")["seconds"])
            return {"now": int(sandbox.now())}
        case "POST", "settle":
            read = _read(params, _SETTLE, "refund")
            return sandbox.settle(read["refund"], read.get("status", "succeeded"), read.get("failure_reason"))
        case "POST", "dashboard_refund":
            return sandbox.dashboard_refund(**_read(params, _DASHBOARD_REFUND, "payment_intent"))
        case "POST", "deliver":
            event = _read(params, {"event": p.string}, "event")["event"]
            sandbox.redeliver(event)
            return {"event": event}
    raise ApiError(404, f"Unknown sandbox route: {request.method} {request.path}")


def _create_payments(sandbox: SandboxControl, params: p.Params) -> list[str]:
    read = _read(params, _PAYMENTS, "amount")
    count, checkout = read.pop("count", 1), read.pop("checkout", False)
    if checkout and not read.get("intent", True):
        raise ValueError(
            "A Checkout session has a payment intent: use checkout=true or intent=false, not both."
        )
    payments = [sandbox.create_payment(**read) for _ in range(count)]
    return [sandbox.create_checkout_session(each) for each in payments] if checkout else payments


def _read(params: p.Params, readers: dict[str, p.Reader], *required: str) -> dict[str, Any]:
    read = p.read(params, readers)
    p.required(read, *required)
    return read

"""The sandbox's own routes, for tests in another process. They need no API key."""

from __future__ import annotations

import json
from typing import Any, Protocol

from . import params as p
from .api import error_response, parse_parameters
from .errors import ApiError
from .http_server import Request, Response

PREFIX = "/_sandbox/"

_PAYMENTS: dict[str, p.Reader] = {
    "amount": p.amount,
    "currency": p.currency,
    "card": p.string,
    "count": p.integer,
}


class SandboxControl(Protocol):
    """The methods of StripeSandbox that these routes use."""

    def create_payment(self, amount: int, currency: str = ..., card: str = ...) -> str:
        """Create a payment and return its payment intent's ID."""

    def refunds(self, payment_intent: str | None = None) -> list[dict[str, Any]]:
        """Return the refunds."""

    def count_requests(self) -> dict[str, int]:
        """Return the number of requests by response status."""


def respond(sandbox: SandboxControl, request: Request) -> Response:
    """Return the response to a request below ``/_sandbox/``."""
    try:
        result = _dispatch(sandbox, request)
    except ApiError as error:
        return error_response(error, "")
    except ValueError as error:
        return error_response(ApiError(400, str(error)), "")
    return Response(200, json.dumps(result).encode())


def _dispatch(sandbox: SandboxControl, request: Request) -> dict[str, Any]:
    params = parse_parameters(request)
    route = request.method, request.path.removeprefix(PREFIX)
    if route == ("GET", "health"):
        return {"status": "ok"}
    if route == ("POST", "payments"):
        return {"ids": _create_payments(sandbox, params)}
    if route == ("GET", "refunds"):
        return {"data": sandbox.refunds(**p.read(params, {"payment_intent": p.string}))}
    if route == ("GET", "requests"):
        return {"byStatus": sandbox.count_requests()}
    raise ApiError(404, f"Unknown sandbox route: {request.method} {request.path}")


def _create_payments(sandbox: SandboxControl, params: p.Params) -> list[str]:
    read = p.read(params, _PAYMENTS)
    p.required(read, "amount")
    count = read.pop("count", 1)
    return [sandbox.create_payment(**read) for _ in range(count)]

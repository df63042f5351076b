"""The sandbox's own routes, for a caller in another process. They need no key."""

from __future__ import annotations

import json
from typing import Any, Protocol

from . import params as p
from .api import parameters, error_response
from .errors import ApiError
from .http_server import Request, Response

PREFIX = "/_sandbox/"

_PAYMENTS: dict[str, p.Reader] = {
    "amount": p.amount,
    "currency": p.currency,
    "card": p.text,
    "count": p.integer,
}


class SandboxControl(Protocol):
    """What of the sandbox these routes use."""

    def create_payment(self, amount: int, currency: str = ..., card: str = ...) -> str:
        """A payment that somebody has made."""

    def refunds(self, payment_intent: str | None = None) -> list[dict[str, Any]]:
        """The refunds so far."""

    def count_requests(self) -> dict[str, int]:
        """How many requests were answered with each status."""


def answer(sandbox: SandboxControl, request: Request) -> Response:
    """Answer a request below ``/_sandbox/``."""
    try:
        found = _find(sandbox, request)
    except ApiError as error:
        return error_response(error, "")
    except ValueError as error:
        return error_response(ApiError(400, str(error)), "")
    return Response(200, json.dumps(found).encode())


def _find(sandbox: SandboxControl, request: Request) -> dict[str, Any]:
    params = parameters(request)
    route = request.method, request.path.removeprefix(PREFIX)
    if route == ("GET", "health"):
        return {"status": "ok"}
    if route == ("POST", "payments"):
        return {"ids": _create_payments(sandbox, params)}
    if route == ("GET", "refunds"):
        return {"data": sandbox.refunds(**p.read(params, {"payment_intent": p.text}))}
    if route == ("GET", "requests"):
        return {"byStatus": sandbox.count_requests()}
    raise ApiError(404, f"The sandbox has no {request.method} {request.path}")


def _create_payments(sandbox: SandboxControl, params: p.Params) -> list[str]:
    read = p.read(params, _PAYMENTS)
    p.required(read, "amount")
    count = read.pop("count", 1)
    return [sandbox.create_payment(**read) for _ in range(count)]

"""Build JSON responses, independent of the app's JSON provider and error handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from flask import Flask, Response, current_app, got_request_exception, request
from werkzeug.exceptions import HTTPException

from ..errors import RefundsError
from ..log import LogEvent, log_event
from ..schemas.rendering import render_refund, to_json

_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]


def json_response(
    body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response that caches must not store, and that other websites can't embed."""
    every = [*_HEADERS, *headers.items()] if headers else _HEADERS
    return Response(to_json(body), status=status, mimetype="application/json", headers=every)


def no_store(response: Response) -> Response:
    """Add ``Cache-Control: no-store`` to a response."""
    response.headers["Cache-Control"] = "no-store"
    return response


def json_errors(view: Callable[..., Response]) -> Callable[..., Response]:
    """Return exceptions of a view as JSON responses.

    This isn't an error handler of the blueprint, because that would also handle exceptions of the app's
    hooks.
    """

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Response:
        try:
            return view(*args, **kwargs)
        except Exception as error:
            return error_response(error)

    return wrapper


def error_response(error: Exception) -> Response:
    """Return the response for an exception: ``{"error", "code"}``, with ``refund``, ``hint`` and
    ``stripeCode`` if any.

    An unexpected exception is logged and sent to the app's ``got_request_exception`` signal. Its response
    doesn't reveal anything about it.
    """
    if isinstance(error, HTTPException):
        raise error  # one of the app's functions called abort()
    if isinstance(error, RefundsError):
        answer = error
    else:
        answer = RefundsError()
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
    if answer.status >= 500:
        endpoint = request.endpoint if request else None
        log_event(
            LogEvent.REQUEST_FAILED,
            error,
            code=answer.code,
            status=answer.status,
            endpoint=endpoint,
            stripe_code=answer.stripe_code,
        )
    body: dict[str, Any] = {"error": answer.message, "code": answer.code, **answer.details}
    if answer.refund is not None:
        body["refund"] = render_refund(answer.refund)
    if answer.hint is not None:
        body["hint"] = answer.hint
    if answer.stripe_code is not None:
        body["stripeCode"] = answer.stripe_code
    return json_response(body, answer.status, answer.headers)

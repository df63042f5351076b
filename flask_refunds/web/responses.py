"""How the library answers: in JSON of its own making, whatever the host's JSON provider and handlers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from flask import Flask, Response, current_app, got_request_exception, request
from werkzeug.exceptions import HTTPException

from ..errors import RefundsError
from ..log import LogEvent, log_event
from ..schemas.rendering import render_refund, to_json


def json_response(
    body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that no cache may keep."""
    return no_store(Response(to_json(body), status=status, mimetype="application/json", headers=headers))


def no_store(response: Response) -> Response:
    """Forbid every cache to keep an answer."""
    response.headers["Cache-Control"] = "no-store"
    return response


def json_errors(view: Callable[..., Response]) -> Callable[..., Response]:
    """Make every exception of a view of ours an answer of the contract.

    A decorator rather than a handler on the blueprint: a handler would also catch what the host's own hooks
    raise on our paths.
    """

    @wraps(view)
    def answering(*args: Any, **kwargs: Any) -> Response:
        try:
            return view(*args, **kwargs)
        except Exception as error:
            return answer_error(error)

    return answering


def answer_error(error: Exception) -> Response:
    """The answer that an exception becomes: ``{"error", "code"}``, and ``refund`` where there is one.

    What is not ours is logged and sent to the app's ``got_request_exception``, and tells the caller nothing.
    """
    if isinstance(error, HTTPException):
        raise error  # a host's function aborts with it, and the host answers it
    if not isinstance(error, RefundsError):
        _report(error)
        error = RefundsError()
    elif error.status >= 500:
        _log_failure(error, error)
    body: dict[str, Any] = {"error": error.message, "code": error.code}
    if error.refund is not None:
        body["refund"] = render_refund(error.refund)
    return json_response(body, error.status, error.headers)


def _report(error: Exception) -> None:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
    _log_failure(RefundsError(), error)


def _log_failure(answer: RefundsError, error: Exception) -> None:
    endpoint = request.endpoint if request else None
    log_event(LogEvent.REQUEST_FAILED, error, code=answer.code, status=answer.status, endpoint=endpoint)

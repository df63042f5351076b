"""Who calls, and whether he may: :func:`authenticate` and :func:`require_admin`.

They guard our views and the host's alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from flask import Response, request
from werkzeug.local import LocalProxy

from ..errors import AdminRequired, NotAuthenticated
from ..extension import current_refunds
from ..log import LogEvent, log_event
from .responses import answer_error

_View = TypeVar("_View", bound=Callable[..., Any])
_CALLER = "_flask_refunds_caller"


class Caller:
    """Who makes this request.

    :param identity: the id in the token.
    :param user: the user's document, or whatever ``REFUNDS_USER_LOADER`` gave.
    """

    def __init__(self, identity: str, user: Any) -> None:
        self.identity = identity
        self.user = user


def identify() -> Caller:
    """The caller of this request; the token is checked and the user read once a request.

    :raises NotAuthenticated: 401.
    :raises DatabaseUnavailable: 500.
    :raises ConfigurationError: 500.
    """
    # Kept on the request itself: flask.g outlives it where a test or a command pushes an app context.
    this_request = request._get_current_object()  # type: ignore[attr-defined]
    caller: Caller | None = getattr(this_request, _CALLER, None)
    if caller is None:
        caller = _identify_and_log()
        setattr(this_request, _CALLER, caller)
    return caller


def _identify_and_log() -> Caller:
    try:
        return _identify()
    except NotAuthenticated as error:
        log_event(LogEvent.AUTHENTICATION_FAILED, reason=error.reason, endpoint=request.endpoint)
        raise


def _identify() -> Caller:
    refunds = current_refunds()
    claims = refunds.verifier.verify(_bearer_token())
    identity = refunds.verifier.identity(claims)
    user = refunds.users.find(identity, claims)
    if user is None:
        raise NotAuthenticated(reason="user_not_found")
    return Caller(str(identity), user)


def _bearer_token() -> str:
    """The token of ``Authorization: Bearer <token>`` (RFC 6750, section 2.1)."""
    header = request.headers.get("Authorization")
    if header is None:
        raise NotAuthenticated(reason="missing")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or token.split() != [token]:
        raise NotAuthenticated
    return token


def identify_admin() -> Caller:
    """The caller of this request, who is an admin now: the role is read at each request.

    :raises AdminRequired: 403.
    :raises NotAuthenticated: 401.
    """
    caller = identify()
    refunds = current_refunds()
    if not refunds.users.is_admin(caller.user):
        log_event(LogEvent.ADMIN_REQUIRED, identity=caller.identity, endpoint=request.endpoint)
        raise AdminRequired
    return caller


def authenticate(view: _View) -> _View:
    """Let only known users call a view, sync or async; :data:`current_user` is then the caller.

    Everybody else is answered 401 ``Not authenticated``, in JSON, before the view runs.
    """
    return _guarded(view, identify)


def require_admin(view: _View) -> _View:
    """Let only admins call a view, sync or async. Includes :func:`authenticate`.

    Others are answered 401 ``Not authenticated`` or 403 ``Admin access required``, in JSON, before the view
    runs.
    """
    return _guarded(view, identify_admin)


def _guarded(view: _View, check: Callable[[], Caller]) -> _View:
    def refusal() -> Response | None:
        """The answer for who may not pass. A host's view is outside our handlers, so nothing is raised."""
        try:
            check()
        except Exception as error:
            return answer_error(error)
        return None

    if iscoroutinefunction(view):

        @wraps(view)
        async def guarded_async(*args: Any, **kwargs: Any) -> Any:
            return refusal() or await view(*args, **kwargs)

        return cast(_View, guarded_async)

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return refusal() or view(*args, **kwargs)

    return cast(_View, guarded)


def _current_user() -> Any:
    caller: Caller | None = getattr(request._get_current_object(), _CALLER, None)  # type: ignore[attr-defined]
    if caller is None:
        raise RuntimeError(
            "There is no current user here: decorate the view with authenticate or require_admin."
        )
    return caller.user


current_user: Any = LocalProxy(_current_user)
"""The user whom :func:`authenticate` or :func:`require_admin` let in: his document, or whatever
``REFUNDS_USER_LOADER`` returned. Elsewhere, using it raises ``RuntimeError``."""

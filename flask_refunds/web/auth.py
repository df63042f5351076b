"""Authenticate requests: :func:`authenticate` and :func:`require_admin` guard our views and your app's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from flask import Response, request
from werkzeug.local import LocalProxy

from ..config.tokens import TokenSettings
from ..errors import AdminRequired, NotAuthenticated
from ..extension import Refunds, current_refunds
from ..log import LogEvent, log_event
from .responses import error_response
from .same_origin import check_same_origin

_View = TypeVar("_View", bound=Callable[..., Any])
_CALLER = "_flask_refunds_caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated user of a request.

    :param identity: the ID from the token, or the ID of the session's user.
    :param user: the user's document, or the return value of ``REFUNDS_USER_LOADER`` or
        ``REFUNDS_CURRENT_USER``.
    """

    identity: str
    user: Any


def get_caller(*, allow_links: bool = False) -> Caller:
    """Return the caller. The token is verified, and the user loaded, once per request.

    :param allow_links: see :func:`check_same_origin`.
    :raises NotAuthenticated: 401.
    :raises CrossSiteRequest: 403.
    :raises DatabaseUnavailable: 500.
    :raises ConfigurationError: 500.
    """
    caller = _known_caller()
    if caller is None:
        try:
            caller = _authenticate(allow_links)
        except NotAuthenticated as error:
            log_event(LogEvent.AUTHENTICATION_FAILED, reason=error.reason, endpoint=request.endpoint)
            raise
        # Not in flask.g, which outlives the request if a test or command has pushed an app context.
        setattr(request._get_current_object(), _CALLER, caller)  # type: ignore[attr-defined]
    return caller


def _known_caller() -> Caller | None:
    caller: Caller | None = getattr(request._get_current_object(), _CALLER, None)  # type: ignore[attr-defined]
    return caller


def _authenticate(allow_links: bool) -> Caller:
    refunds = current_refunds()
    verifier = refunds.verifier
    header = request.headers.get(verifier.settings.jwt_header_name)
    if refunds.settings.refunds_current_user is not None and not _is_token(header, verifier.settings):
        return _session_caller(refunds, allow_links)
    claims = verifier.verify(_bearer_token(header, verifier.settings))
    identity = verifier.identity(claims)
    user = refunds.users.find(identity, claims)
    if user is None:
        raise NotAuthenticated(reason="user_not_found")
    return Caller(str(identity), user)


def _session_caller(refunds: Refunds, allow_links: bool) -> Caller:
    found = refunds.users.current()
    if found is None:
        raise NotAuthenticated(reason="missing")
    check_same_origin(refunds.settings.refunds_trusted_origins, allow_links=allow_links)
    return Caller(*found)


def _is_token(header: str | None, settings: TokenSettings) -> bool:
    """Return whether a request has a bearer token, even a malformed one: it never counts by its session."""
    return header is not None and header.strip().lower().startswith(settings.jwt_header_type.lower())


def _bearer_token(header: str | None, settings: TokenSettings) -> str:
    """Return the token of ``Authorization: Bearer <token>`` (RFC 6750, section 2.1) or the app's header."""
    if header is None:
        raise NotAuthenticated(reason="missing")
    scheme, _, token = header.partition(" ") if settings.jwt_header_type else ("", "", header)
    if scheme.lower() != settings.jwt_header_type.lower() or token.split() != [token]:
        raise NotAuthenticated
    return token


def get_admin(*, allow_links: bool = False) -> Caller:
    """Return the caller, who must be an admin. The role is checked at every request.

    :param allow_links: see :func:`check_same_origin`.
    :raises AdminRequired: 403.
    :raises CrossSiteRequest: 403.
    :raises NotAuthenticated: 401.
    """
    caller = get_caller(allow_links=allow_links)
    if not current_refunds().users.is_admin(caller.user):
        log_event(LogEvent.ADMIN_REQUIRED, identity=caller.identity, endpoint=request.endpoint)
        raise AdminRequired
    return caller


def authenticate(view: _View) -> _View:
    """Require a valid token or session for a view, sync or async. Its user is then in :data:`current_user`.

    Other requests get 401 ``Not authenticated`` as JSON, and the view doesn't run. With a session, requests
    from other websites get 403; a GET by a link from there is allowed.
    """
    return _guard(view, get_caller)


def require_admin(view: _View) -> _View:
    """Require an admin's token or session for a view, sync or async. This includes :func:`authenticate`.

    Other requests get 401 ``Not authenticated`` or 403 ``Admin access required`` as JSON, and the view
    doesn't run.
    """
    return _guard(view, get_admin)


def _guard(view: _View, check: Callable[..., Caller]) -> _View:
    def rejection() -> Response | None:
        """Return the error response, or ``None`` if the request may pass.

        A raised error would reach the app's handlers, because its views aren't wrapped in ours.
        """
        try:
            check(allow_links=True)
        except Exception as error:
            return error_response(error)
        return None

    if iscoroutinefunction(view):

        @wraps(view)
        async def guarded_async(*args: Any, **kwargs: Any) -> Any:
            return rejection() or await view(*args, **kwargs)

        return cast(_View, guarded_async)

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return rejection() or view(*args, **kwargs)

    return cast(_View, guarded)


def _current_user() -> Any:
    caller = _known_caller()
    if caller is None:
        raise RuntimeError(
            "There is no current user. Decorate the view with authenticate or require_admin to have one."
        )
    return caller.user


current_user: Any = LocalProxy(_current_user)
"""The user of a request, in views behind :func:`authenticate` or :func:`require_admin`: the user's document,
or what ``REFUNDS_USER_LOADER`` or ``REFUNDS_CURRENT_USER`` returned. In other places, using it raises
``RuntimeError``."""

"""Reject requests that another website makes with a user's session (CSRF)."""

from __future__ import annotations

from collections.abc import Collection

from flask import request

from ..errors import CrossSiteRequest
from ..log import LogEvent, log_event
from ..origins import Origin, parse_origin

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_NOT_CROSS_SITE = {None, "same-origin", "same-site", "none"}


def check_same_origin(trusted: Collection[Origin], *, allow_links: bool = False) -> None:
    """Raise an error if another website may have made this request.

    :param trusted: other origins that may.
    :param allow_links: let other websites link to this address. Their scripts can't read the answer.
    :raises CrossSiteRequest: 403.
    """
    if not _is_allowed(trusted, allow_links):
        log_event(LogEvent.CROSS_SITE_REQUEST, endpoint=request.endpoint)
        raise CrossSiteRequest


def _is_allowed(trusted: Collection[Origin], allow_links: bool) -> bool:
    headers = request.headers
    site, sent = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    origin = parse_origin(sent)
    if origin in trusted:
        return True
    if request.method in _SAFE_METHODS:
        return site in _NOT_CROSS_SITE or (allow_links and headers.get("Sec-Fetch-Dest") == "document")
    if site is not None:
        return site == "same-origin"
    if sent is not None:
        return origin is not None and origin.has_host(request.host)
    # An old browser sends neither header, but it can't act for a user without sending credentials.
    return "Cookie" not in headers and "Authorization" not in headers

"""What came with a request, all of it or nothing: half a body may lack the field that would be refused."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import HTTPException

from .errors import InvalidRequest


def read_body(limit: int) -> bytes:
    """The request's whole body, whether or not a hook of the host's has read it before.

    :param limit: the most bytes to accept; the host's ``MAX_CONTENT_LENGTH`` may be lower.
    :raises InvalidRequest: 400; it is larger, or did not come whole, or has been read and is gone.
    """
    length = request.content_length
    if length is None and request.headers.get("Transfer-Encoding") and not _ends_by_itself():
        raise InvalidRequest(
            "The body has no Content-Length, and this server needs one. Nothing was refunded."
        )
    if (length or 0) > limit:
        raise InvalidRequest(f"The body is larger than {limit} bytes. Nothing was refunded.")
    if request.max_content_length is None or request.max_content_length > limit:
        request.max_content_length = limit
    try:
        body = request.get_data()
    except HTTPException as error:
        raise InvalidRequest(f"The body could not be read: {error.name}. Nothing was refunded.") from error
    if len(body) != (len(body) if length is None else length) or len(body) > limit:
        raise InvalidRequest(
            "The body did not come whole, or the app has read it before. Nothing was refunded."
        )
    return body


def _ends_by_itself() -> bool:
    """Whether the server ends the stream where a chunked body ends; where not, Werkzeug reads nothing."""
    return bool(request.environ.get("wsgi.input_terminated"))

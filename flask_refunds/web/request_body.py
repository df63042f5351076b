"""Read request bodies in full. A truncated body could lack the field that makes a request invalid."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import HTTPException

from ..errors import InvalidRequest


def read_body(limit: int) -> bytes:
    """Return the whole body of the request, even if a hook of the app has read it before.

    :param limit: the maximum size in bytes; the app's ``MAX_CONTENT_LENGTH`` may be lower.
    :raises InvalidRequest: 400; the body is too large, incomplete, or no longer available.
    """
    length = request.content_length
    chunked = length is None and "Transfer-Encoding" in request.headers
    if chunked and not request.environ.get("wsgi.input_terminated"):
        # The server doesn't end the stream where the body ends, so Werkzeug would read nothing.
        raise InvalidRequest("This server requires a Content-Length header. Nothing was refunded.")
    if (length or 0) > limit:
        raise InvalidRequest(f"The body is larger than {limit} bytes. Nothing was refunded.")
    body = _read_all(limit)
    # An empty chunked body means that the app has read the stream: a client has no reason to send one.
    complete = len(body) == length if length is not None else bool(body) or not chunked
    if not complete or len(body) > limit:
        raise InvalidRequest("The body is incomplete, or the app has already read it. Nothing was refunded.")
    return body


def _read_all(limit: int) -> bytes:
    if request.max_content_length is None or request.max_content_length > limit:
        request.max_content_length = limit
    try:
        return request.get_data()
    except Exception as error:
        # Werkzeug has its own exceptions, and each server raises others, such as for a broken chunk.
        name = f": {error.name}" if isinstance(error, HTTPException) else ""
        raise InvalidRequest(f"The body couldn't be read{name}. Nothing was refunded.") from error

"""What came with a request, all of it or nothing: half a body may lack the field that would be refused."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import HTTPException

from ..errors import InvalidRequest

_NOT_WHOLE = "The body did not come whole, or the app has read it before. Nothing was refunded."


def read_body(limit: int) -> bytes:
    """The request's whole body, whether or not a hook of the host's has read it before.

    :param limit: the most bytes to accept; the host's ``MAX_CONTENT_LENGTH`` may be lower.
    :raises InvalidRequest: 400; it is larger, or did not come whole, or has been read and is gone.
    """
    length = request.content_length
    chunked = length is None and "Transfer-Encoding" in request.headers
    if chunked and not request.environ.get("wsgi.input_terminated"):
        # The server does not end the stream where the body ends, so Werkzeug would read nothing.
        raise InvalidRequest("The body needs a Content-Length on this server. Nothing was refunded.")
    if (length or 0) > limit:
        raise InvalidRequest(f"The body is larger than {limit} bytes. Nothing was refunded.")
    body = _read_all(limit)
    # A chunked body may be of any length but none: what was announced and is not there, somebody has read.
    whole = len(body) == length if length is not None else bool(body) or not chunked
    if not whole or len(body) > limit:
        raise InvalidRequest(_NOT_WHOLE)
    return body


def _read_all(limit: int) -> bytes:
    if request.max_content_length is None or request.max_content_length > limit:
        request.max_content_length = limit
    try:
        return request.get_data()
    except Exception as error:
        # Werkzeug has its own errors, and each server others: a chunk without a length, a line that ends.
        name = f": {error.name}" if isinstance(error, HTTPException) else ""
        raise InvalidRequest(f"The body could not be read{name}. Nothing was refunded.") from error

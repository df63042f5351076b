"""Raw requests that no client library sends."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from tests.hostile.targets import COMPLETED, PREFIX
from tests.hostile.tokens import valid_token

PATH = f"{PREFIX}/admin/refund/{COMPLETED}"

REJECTED = 400
"""The status if the server's parser rejects a request."""
SERVER_REJECTIONS = (REJECTED, 414, 431, 501, 505)
"""The statuses that some releases of the server use instead."""


@dataclass(frozen=True)
class RawCase:
    """A request as bytes, and its expected response.

    :param status: 0 if the server closes the connection; :data:`REJECTED` if its parser rejects it.
    :param code: the error's code; ``None`` if the server or the app answers.
    """

    request: bytes
    status: int
    code: str | None = None


def head(line: str, *headers: str, token: str | None = None) -> bytes:
    """Return a request's head, by default with the admin's token. ``token=""`` sends none."""
    token = valid_token() if token is None else token
    authorization = [f"Authorization: Bearer {token}"] if token else []
    lines = [line, "Host: shop", "Connection: close", *authorization, *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def send(port: int, request: bytes) -> bytes:
    """Return everything that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass  # the server closed it before reading everything
    return answer


def cases() -> Mapping[str, RawCase]:
    """Return the cases by name."""
    post = f"POST {PATH} HTTP/1.1"
    body = b'{"amount":1}'
    amount = f"Content-Length: {len(body)}"
    unknown_user, case = valid_token("0" * 24), RawCase
    chunk = b"c\r\n" + body + b"\r\n0\r\n\r\n"
    return {
        "two lengths": case(head(post, amount, "Content-Length: 0") + body, REJECTED),
        "a length and chunks": case(head(post, amount, "Transfer-Encoding: chunked") + chunk, REJECTED),
        "chunks, and a length behind": case(
            head(post, "Transfer-Encoding: chunked", amount) + chunk, REJECTED
        ),
        "chunks": case(head(post, "Transfer-Encoding: chunked") + chunk, 400, "invalid_request"),
        "half a chunk": case(head(post, "Transfer-Encoding: chunked") + b"ff\r\n{", 400, "invalid_request"),
        "chunks without an end": case(
            head(post, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n", 400, "invalid_request"
        ),
        "an invalid chunk length": case(
            head(post, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n", 400, "invalid_request"
        ),
        "a negative chunk": case(
            head(post, "Transfer-Encoding: chunked") + b"-1\r\n{}\r\n0\r\n\r\n", 400, "invalid_request"
        ),
        "an unknown coding": case(head(post, "Transfer-Encoding: x, chunked") + chunk, REJECTED),
        "a similar coding": case(head(post, "Transfer-Encoding: xchunked") + chunk, REJECTED),
        "a negative length": case(head(post, "Content-Length: -1"), REJECTED),
        "a length with a sign": case(head(post, "Content-Length: +12") + body, REJECTED),
        "a length as a word": case(head(post, "Content-Length: twelve") + body, REJECTED),
        "more length than body": case(head(post, "Content-Length: 5000") + b"{}", 400, "invalid_request"),
        "less length than body": case(head(post, "Content-Length: 5") + body, 400, "invalid_request"),
        "a huge length": case(head(post, "Content-Length: 99999999999") + b"{}", 400, "invalid_request"),
        "two tokens, the invalid one first": case(
            head(post, f"Authorization: Bearer {valid_token()}", token="x"), 401, "not_authenticated"
        ),
        "two tokens, the valid one first": case(
            head(post, "Authorization: Bearer x"), 401, "not_authenticated"
        ),
        "the valid token twice": case(
            head(post, f"Authorization: Bearer {valid_token()}"), 401, "not_authenticated"
        ),
        "an underscore in a header's name": case(
            head(post, f"Authorization_: Bearer {valid_token()}", token=""), 401, "not_authenticated"
        ),
        "a space after a header's name": case(
            head(post, f"Authorization : Bearer {valid_token()}", token=""), REJECTED
        ),
        "a header on two lines": case(
            head(post, f"Authorization: Bearer\r\n {valid_token()}", token=""), REJECTED
        ),
        "a header with a NUL": case(head(post, "X: \0"), REJECTED),
        "not a header": case(head(post, "nonsense"), REJECTED),
        "a very long header": case(head(post, "X: " + "x" * 70_000), REJECTED),
        "200 headers": case(head(post, *[f"X-{each}: 1" for each in range(200)]), REJECTED),
        "half a head": case(f"{post}\r\nHost: shop\r\n".encode(), 0),
        "nothing": case(b"\r\n\r\n", REJECTED),
        "not HTTP": case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", REJECTED),
        "HTTP 0.9": case(f"POST {PATH}\r\n\r\n".encode(), REJECTED),
        "HTTP 3.0": case(head(f"POST {PATH} HTTP/3.0"), REJECTED),
        "a method in lower case": case(head(f"post {PATH} HTTP/1.1"), REJECTED),
        "a method with a NUL": case(head(f"PO\0ST {PATH} HTTP/1.1"), REJECTED),
        "a raw NUL in the path": case(head(f"POST {PATH}\0 HTTP/1.1"), REJECTED),
        "raw bytes in the path": case(head(f"POST {PATH}\xff HTTP/1.1"), REJECTED),
        "an encoded NUL": case(head(f"POST {PATH}%00 HTTP/1.1"), 404, "purchase_not_found"),
        "a question mark, encoded": case(head(f"POST {PATH}%3Fa=1 HTTP/1.1"), 404, "purchase_not_found"),
        "a very long path": case(head(f"POST {PREFIX}/admin/refund/{'6' * 5000} HTTP/1.1"), REJECTED),
        "a double slash": case(head(f"POST {PREFIX}/admin/refund//{COMPLETED} HTTP/1.1"), 404),
        "dots": case(head(f"POST {PREFIX}/status/../admin/refund/{COMPLETED} HTTP/1.1"), 404),
        "an encoded slash": case(head(f"POST {PREFIX}/admin/refund%2f{COMPLETED}x HTTP/1.1"), 404),
        "a backslash": case(head(f"POST {PREFIX}\\admin\\refund\\{COMPLETED} HTTP/1.1"), 404),
        "no path": case(head("POST * HTTP/1.1"), REJECTED),
        "a URL of another host": case(
            head(f"POST http://evil.example{PATH} HTTP/1.1", token=""), 401, "not_authenticated"
        ),
        "an unknown user": case(head(f"POST {PATH} HTTP/1.1", token=unknown_user), 401, "not_authenticated"),
        "headers of a proxy": case(
            head(post, "X-Forwarded-User: admin", "X-Original-URL: /", token=""), 401, "not_authenticated"
        ),
        "SCRIPT_NAME as a header": case(head(post, "SCRIPT_NAME: /api"), 404),
        "Expect: 100-continue": case(
            head(post, "Expect: 100-continue", amount) + body, 400, "invalid_request"
        ),
        "an upgrade": case(
            head(post, "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", token=""),
            401,
            "not_authenticated",
        ),
    }

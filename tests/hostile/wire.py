"""Requests that no client library would send, byte for byte."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from tests.hostile.targets import COMPLETED, PREFIX
from tests.hostile.tokens import good

PATH = f"{PREFIX}/admin/refund/{COMPLETED}"

REFUSED = 400
"""The status of what the server's parser refuses."""
REFUSALS = (REFUSED, 414, 431, 501, 505)
"""What releases of the server have in its place."""


@dataclass(frozen=True)
class RawCase:
    """A request as bytes, and the status of its answer.

    :param status: 0 where the server hangs up without one; :data:`REFUSED` where its parser says no.
    :param code: of our error; ``None`` where the server or the host answers.
    """

    request: bytes
    status: int
    code: str | None = None


def head(line: str, *headers: str, token: str | None = None) -> bytes:
    """A request's head with the admin's token, or another, or none (``""``)."""
    token = good() if token is None else token
    authorization = [f"Authorization: Bearer {token}"] if token else []
    lines = [line, "Host: shop", "Connection: close", *authorization, *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def exchange(port: int, request: bytes) -> bytes:
    """Everything that a server answers until it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass  # it hung up with some of ours unread
    return answer


def cases() -> Mapping[str, RawCase]:
    """All of them, by name."""
    post = f"POST {PATH} HTTP/1.1"
    body = b'{"amount":1}'
    amount = f"Content-Length: {len(body)}"
    none, bad = good("0" * 24), RawCase
    chunk = b"c\r\n" + body + b"\r\n0\r\n\r\n"
    return {
        "two lengths": bad(head(post, amount, "Content-Length: 0") + body, REFUSED),
        "a length and chunks": bad(head(post, amount, "Transfer-Encoding: chunked") + chunk, REFUSED),
        "chunks, and a length behind": bad(head(post, "Transfer-Encoding: chunked", amount) + chunk, REFUSED),
        "chunks": bad(head(post, "Transfer-Encoding: chunked") + chunk, 400, "invalid_request"),
        "half a chunk": bad(head(post, "Transfer-Encoding: chunked") + b"ff\r\n{", 400, "invalid_request"),
        "chunks without an end": bad(
            head(post, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n", 400, "invalid_request"
        ),
        "no chunk's length": bad(
            head(post, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n", 400, "invalid_request"
        ),
        "a negative chunk": bad(
            head(post, "Transfer-Encoding: chunked") + b"-1\r\n{}\r\n0\r\n\r\n", 400, "invalid_request"
        ),
        "an unknown coding": bad(head(post, "Transfer-Encoding: x, chunked") + chunk, REFUSED),
        "a coding in odd letters": bad(head(post, "Transfer-Encoding: xchunked") + chunk, REFUSED),
        "a negative length": bad(head(post, "Content-Length: -1"), REFUSED),
        "a length with a sign": bad(head(post, "Content-Length: +12") + body, REFUSED),
        "a length in words": bad(head(post, "Content-Length: twelve") + body, REFUSED),
        "more length than body": bad(head(post, "Content-Length: 5000") + b"{}", 400, "invalid_request"),
        "less length than body": bad(head(post, "Content-Length: 5") + body, 400, "invalid_request"),
        "a huge length": bad(head(post, "Content-Length: 99999999999") + b"{}", 400, "invalid_request"),
        "two tokens, the bad one first": bad(
            head(post, f"Authorization: Bearer {good()}", token="x"), 401, "not_authenticated"
        ),
        "two tokens, the good one first": bad(
            head(post, "Authorization: Bearer x"), 401, "not_authenticated"
        ),
        "the good token twice": bad(head(post, f"Authorization: Bearer {good()}"), 401, "not_authenticated"),
        "an underscore in a header's name": bad(
            head(post, f"Authorization_: Bearer {good()}", token=""), 401, "not_authenticated"
        ),
        "a header's name and a space": bad(head(post, f"Authorization : Bearer {good()}", token=""), REFUSED),
        "a header on two lines": bad(head(post, f"Authorization: Bearer\r\n {good()}", token=""), REFUSED),
        "a header with a NUL": bad(head(post, "X: \0"), REFUSED),
        "a header that is none": bad(head(post, "nonsense"), REFUSED),
        "a header without end": bad(head(post, "X: " + "x" * 70_000), REFUSED),
        "a hundred and more headers": bad(head(post, *[f"X-{each}: 1" for each in range(200)]), REFUSED),
        "half a head": bad(f"{post}\r\nHost: shop\r\n".encode(), 0),
        "nothing": bad(b"\r\n\r\n", REFUSED),
        "no HTTP": bad(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", REFUSED),
        "HTTP 0.9": bad(f"POST {PATH}\r\n\r\n".encode(), REFUSED),
        "HTTP 3.0": bad(head(f"POST {PATH} HTTP/3.0"), REFUSED),
        "a method in small letters": bad(head(f"post {PATH} HTTP/1.1"), REFUSED),
        "a method with a NUL": bad(head(f"PO\0ST {PATH} HTTP/1.1"), REFUSED),
        "a raw NUL in the path": bad(head(f"POST {PATH}\0 HTTP/1.1"), REFUSED),
        "raw bytes in the path": bad(head(f"POST {PATH}\xff HTTP/1.1"), REFUSED),
        "an encoded NUL": bad(head(f"POST {PATH}%00 HTTP/1.1"), 404, "purchase_not_found"),
        "a question mark, encoded": bad(head(f"POST {PATH}%3Fa=1 HTTP/1.1"), 404, "purchase_not_found"),
        "a path too long": bad(head(f"POST {PREFIX}/admin/refund/{'6' * 5000} HTTP/1.1"), REFUSED),
        "a slash more": bad(head(f"POST {PREFIX}/admin/refund//{COMPLETED} HTTP/1.1"), 308),
        "dots": bad(head(f"POST {PREFIX}/status/../admin/refund/{COMPLETED} HTTP/1.1"), 404),
        "an encoded slash": bad(head(f"POST {PREFIX}/admin/refund%2f{COMPLETED}x HTTP/1.1"), 404),
        "a backslash": bad(head(f"POST {PREFIX}\\admin\\refund\\{COMPLETED} HTTP/1.1"), 404),
        "no path": bad(head("POST * HTTP/1.1"), REFUSED),
        "another host's path": bad(
            head(f"POST http://evil.example{PATH} HTTP/1.1", token=""), 401, "not_authenticated"
        ),
        "a path of nobody's": bad(head(f"POST {PATH} HTTP/1.1", token=none), 401, "not_authenticated"),
        "a proxy's word": bad(
            head(post, "X-Forwarded-User: admin", "X-Original-URL: /", token=""), 401, "not_authenticated"
        ),
        "a script's name": bad(head(post, "SCRIPT_NAME: /api"), 404),
        "waiting to go on": bad(head(post, "Expect: 100-continue", amount) + body, 400, "invalid_request"),
        "an upgrade": bad(
            head(post, "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", token=""),
            401,
            "not_authenticated",
        ),
    }

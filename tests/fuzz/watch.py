"""A WSGI middleware that checks each response: documented, without secrets, and without side effects."""

from __future__ import annotations

import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pymongo.monitoring
from flask import Flask
from werkzeug.wrappers import Response

from flask_refunds.testing import StripeSandbox
from tests.canaries import Canaries
from tests.contract import answer_faults, operation_of
from tests.hostile.webhooks import signed

MAY_WRITE = frozenset(("refundPurchase", "resolveRefund", "cancelRefund", "receiveEvent"))
MAY_REQUEST = MAY_WRITE | {"previewRefund"}
REJECTED = frozenset(
    (
        "invalid_request",
        "not_authenticated",
        "admin_required",
        "purchase_not_found",
        "refund_not_found",
        "payment_intent_missing",
        "webhook_not_configured",
    )
)
"""The codes of requests that are rejected before any request to Stripe and any write."""
NAMES_USERS = frozenset(("listPurchases", "previewRefund", "listRefunds", "showMe", "showRefund"))


class Writes(pymongo.monitoring.CommandListener):
    """Counts the commands that write, whether or not they change anything."""

    NAMES = frozenset(("insert", "update", "delete", "findAndModify"))

    def __init__(self) -> None:
        self.count = 0

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
        self.count += event.command_name in self.NAMES

    def succeeded(self, event: pymongo.monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: pymongo.monitoring.CommandFailedEvent) -> None: ...


class CountingSandbox(StripeSandbox):
    """A sandbox that counts requests without keeping them."""

    count = 0

    def _serve(self, connection: Any, request: Any) -> None:
        self.count += 1
        super()._serve(connection, request)


@dataclass
class Findings:
    """The findings of a run."""

    requests: int = 0
    linked: int = 0
    """Requests that followed the document's links."""
    answers: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    """By operation, status and code."""
    server_errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    """Responses that the document doesn't allow."""
    moved: list[str] = field(default_factory=list)
    """Requests to Stripe or writes by requests that must not cause any."""

    def all(self) -> list[str]:
        return [*self.server_errors, *self.outside, *self.moved]


class Watch:
    """A WSGI app around the shop's app.

    Most webhook requests get a valid signature, and some requests of the admin get the token of another user.

    :param visitor: the Authorization header of a user who isn't an admin.
    """

    def __init__(
        self, app: Flask, sandbox: CountingSandbox, writes: Writes, canaries: Canaries, *, visitor: str
    ) -> None:
        self.app = app
        self.sandbox = sandbox
        self.writes = writes
        self.canaries = canaries
        self.visitor = visitor
        self.findings = Findings()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].endswith("/webhook/refunds") and "HTTP_STRIPE_SIGNATURE" in environ:
            _sign(environ)
        if "HTTP_AUTHORIZATION" in environ and zlib.crc32(_target(environ)) % 16 == 0:
            environ["HTTP_AUTHORIZATION"] = self.visitor
        requests, writes = self.sandbox.count, self.writes.count
        answer = Response.from_app(self.app, environ, buffered=True)
        self._check(environ, answer, self.sandbox.count - requests, self.writes.count - writes)
        return answer(environ, start_response)

    def _check(self, environ: dict[str, Any], answer: Response, requests: int, writes: int) -> None:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        path = path.encode("latin-1").decode("utf-8", "replace")
        operation = operation_of(self.app, path, method)
        name = "the app's" if operation is None else operation["operationId"]
        code = _code(answer)
        shown = (
            f"{method} {path}?{environ.get('QUERY_STRING')} -> {answer.status} {answer.get_data()[:300]!r}"
        )
        findings = self.findings
        findings.requests += 1
        findings.answers[name, answer.status_code, code] += 1
        if answer.status_code >= 500:
            findings.server_errors.append(shown)
        if operation is not None:
            wrong = answer_faults(operation, answer, head=method == "HEAD")
            findings.outside += [f"{shown}: {each}" for each in wrong]
        rejected = code in REJECTED or method not in ("GET", "HEAD", "POST")
        if (requests and (rejected or name not in MAY_REQUEST)) or (
            writes and (rejected or name not in MAY_WRITE)
        ):
            findings.moved.append(f"{shown}: {requests} requests to Stripe, {writes} writes")
        names_users = name in NAMES_USERS and answer.status_code == 200
        self.canaries.inspect(answer.status_code, answer.headers, answer.get_data(), names_users=names_users)


def _target(environ: dict[str, Any]) -> bytes:
    return f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}".encode(errors="replace")


def _sign(environ: dict[str, Any]) -> None:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    if zlib.crc32(body) % 8:
        environ["HTTP_STRIPE_SIGNATURE"] = signed(body)


def _code(answer: Response) -> str:
    if answer.mimetype != "application/json" or not answer.get_data() or answer.status_code < 400:
        return ""
    code = json.loads(answer.get_data()).get("code", "")
    assert isinstance(code, str)
    return code

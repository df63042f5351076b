"""Request handling: apply faults and latency, run the endpoint, send the response."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from . import errors
from .api import (
    AcceptedRequest,
    Api,
    error_response,
    parse_parameters,
    read_account,
    read_idempotency_key,
    read_secret_key,
    store_response,
)
from .errors import ApiError
from .faults import FORCED_STATUSES, Fault, FaultPlan
from .http_server import Connection, Request, Response
from .objects import new_id
from .request_log import ReceivedRequest, RequestLog

_DRIP_INTERVAL_SECONDS = 0.05
_SLOW_DRIP_LENGTH = 1_000_000
_BAD_GATEWAY = Response(
    502,
    b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>\n",
    content_type="text/html",
)
_ERRORS_BEFORE_CHECKS: dict[Fault, Callable[[Request], ApiError]] = {
    Fault.RATE_LIMITED: lambda request: errors.rate_limited(_is_livemode(request)),
    Fault.LOCK_TIMEOUT: lambda request: errors.lock_timeout(),
    Fault.CONFLICT: lambda request: errors.idempotency_key_in_use(read_idempotency_key(request)),
    Fault.KEY_REJECTED: lambda request: errors.key_rejected(read_secret_key(request.headers)),
    Fault.KEY_EXPIRED: lambda request: errors.key_expired(read_secret_key(request.headers)),
    Fault.KEY_FORBIDDEN: lambda request: errors.key_forbidden(read_secret_key(request.headers)),
    Fault.SERVICE_UNAVAILABLE: lambda request: errors.server_error(503),
}
_ERRORS_IN_ENDPOINT: dict[Fault, Callable[[], ApiError]] = {
    Fault.SERVER_ERROR_BEFORE: lambda: errors.server_error(retry=False),
    Fault.CARD_ERROR: lambda: errors.card_declined("generic_decline"),
    Fault.INSUFFICIENT_BALANCE: errors.balance_insufficient,
}
_NOT_EXECUTED_NO_RESPONSE = frozenset({Fault.REQUEST_LOST, Fault.TIMEOUT_BEFORE_REFUND})
_NO_RESPONSE = _NOT_EXECUTED_NO_RESPONSE | {Fault.RESPONSE_LOST, Fault.TIMEOUT_AFTER_REFUND}


@dataclass
class PendingRequest:
    """A request that has no response yet."""

    connection: Connection
    request: Request
    log_entry: ReceivedRequest
    accepted: AcceptedRequest | None = None

    @property
    def fault(self) -> Fault | None:
        """The fault that applies to this request."""
        return self.log_entry.fault


class RequestHandler:
    """Handles requests on the event loop's thread.

    It holds the lock while it uses the accounts, and never waits while it holds it.

    :param changed: the lock around all state; it is notified after each step.
    :param apply_due_transitions: called with the lock held, before each request.
    :param latency: seconds between the arrival of a request and its execution.
    :param on_request: called with each request when it has its response, or won't get one.
    """

    def __init__(
        self,
        api: Api,
        *,
        faults: FaultPlan,
        request_log: RequestLog,
        changed: threading.Condition,
        apply_due_transitions: Callable[[], None],
        latency: float,
        on_request: Callable[[ReceivedRequest], None],
    ) -> None:
        self._on_request = on_request
        self._api = api
        self._faults = faults
        self._request_log = request_log
        self._changed = changed
        self._apply_due_transitions = apply_due_transitions
        self.latency = latency
        self._hanging: list[Connection] = []
        self._late: list[PendingRequest] = []

    def handle(self, connection: Connection, request: Request) -> None:
        """Handle a request that arrived on a connection.

        Without latency, the lock is held until the request has been executed. A test that sees the
        request in the log therefore also sees its effects.
        """
        with self._changed:
            self._apply_due_transitions()
            pending = self._log(connection, request)
            if pending.fault in _NOT_EXECUTED_NO_RESPONSE:
                self._on_request(pending.log_entry)
                self._withhold_response(pending)
                return
            response = self._accept(pending)
            if pending.fault is Fault.LATE and response is None:
                self._late.append(pending)
                return
            self._after_latency(partial(self._finish, pending, response))

    def execute_late(self) -> None:
        """Execute the requests that are held by :attr:`Fault.LATE`."""
        late, self._late = self._late, []
        for pending in late:
            self._finish(pending, None)

    def drop_late(self) -> None:
        """Close the connections of the requests that are held by :attr:`Fault.LATE`; don't execute them."""
        late, self._late = self._late, []
        for pending in late:
            pending.connection.close()

    def close_hanging(self) -> None:
        """Close the connections that will never get a response."""
        hanging, self._hanging = self._hanging, []
        for connection in hanging:
            connection.close()

    def _after_latency(self, finish: Callable[[], None]) -> None:
        if self.latency > 0:
            asyncio.get_running_loop().call_later(self.latency, finish)
        else:
            finish()

    def _log(self, connection: Connection, request: Request) -> PendingRequest:
        log_entry = ReceivedRequest(
            request.method,
            request.path,
            _loggable_parameters(request),
            read_idempotency_key(request),
            new_id("req"),
            self._faults.pick(request.method, request.path),
            account=read_account(request.headers),
        )
        self._request_log.add(log_entry)
        self._changed.notify_all()
        return PendingRequest(connection, request, log_entry)

    def _accept(self, pending: PendingRequest) -> Response | None:
        """Accept the request, or return the response that it gets without being executed."""
        request, request_id = pending.request, pending.log_entry.request_id
        headers = self._api.common_headers(request, request_id)
        if pending.fault is Fault.BAD_GATEWAY:
            return _BAD_GATEWAY
        try:
            if pending.fault in _ERRORS_BEFORE_CHECKS:
                raise _ERRORS_BEFORE_CHECKS[pending.fault](request)
            accepted = pending.accepted = self._api.accept(request, request_id)
        except ApiError as error:
            response = error_response(error, request_id, livemode=_is_livemode(request))
            return replace(response, headers=headers + response.headers)
        if accepted.key_record is None or accepted.key_record.response is None:
            return None
        return _with_headers(accepted.key_record.response, accepted)

    def _finish(self, pending: PendingRequest, response: Response | None) -> None:
        try:
            with self._changed:
                if response is None:
                    response = self._execute(pending)
                response = _corrupt(response, pending.fault)
                if pending.connection.alive and pending.fault not in _NO_RESPONSE:
                    pending.log_entry.status = response.status
                self._on_request(pending.log_entry)
                self._changed.notify_all()
            self._send(pending, response)
        except BaseException:
            pending.connection.abort()
            raise

    def _execute(self, pending: PendingRequest) -> Response:
        fault, accepted = pending.fault, cast(AcceptedRequest, pending.accepted)
        call = accepted.call
        if fault is not None and fault in FORCED_STATUSES:
            call = replace(call, forced_status=fault.value)
        if fault in _ERRORS_IN_ENDPOINT:
            response = _reject(accepted, _ERRORS_IN_ENDPOINT[fault]())
        else:
            response = self._api.run(accepted, call)
        if fault is Fault.SERVER_ERROR_AFTER:
            response = _reject(accepted, errors.server_error(retry=False))
        store_response(accepted, response)
        return _with_headers(response, accepted)

    def _send(self, pending: PendingRequest, response: Response) -> None:
        connection, fault = pending.connection, pending.fault
        if fault in _NO_RESPONSE:
            self._withhold_response(pending)
        elif fault is Fault.TRUNCATED_RESPONSE:
            connection.write(response.encode(length=len(response.body) + 100))
            connection.close()
        elif fault is Fault.ENDLESS_RESPONSE:
            self._hanging.append(connection)
            connection.write(response.head(_SLOW_DRIP_LENGTH, close=False))
            _drip(connection, response.body)
        else:
            connection.respond(response)

    def _withhold_response(self, pending: PendingRequest) -> None:
        if pending.fault in (Fault.TIMEOUT_BEFORE_REFUND, Fault.TIMEOUT_AFTER_REFUND):
            self._hanging.append(pending.connection)
        else:
            pending.connection.close()


def _drip(connection: Connection, rest: bytes) -> None:
    if connection.alive:
        connection.write(rest[:1] or b" ")
        asyncio.get_running_loop().call_later(_DRIP_INTERVAL_SECONDS, _drip, connection, rest[1:])


def _corrupt(response: Response, fault: Fault | None) -> Response:
    if fault is Fault.UNREADABLE_RESPONSE:
        return replace(response, status=200, body=b"\x00\xff<!-- not JSON -->")
    if fault is Fault.EMPTY_RESPONSE:
        return replace(response, status=200, body=b"")
    if fault is Fault.WRONG_OBJECT:
        body = f'{{"id":"{new_id("cus")}","object":"customer","livemode":false}}'
        return replace(response, status=200, body=body.encode())
    return response


def _reject(accepted: AcceptedRequest, error: ApiError) -> Response:
    return error_response(error, accepted.call.request_id or "", livemode=accepted.account.livemode)


def _with_headers(response: Response, accepted: AcceptedRequest) -> Response:
    return replace(response, headers=accepted.headers + response.headers)


def _is_livemode(request: Request) -> bool:
    return read_secret_key(request.headers)[3:8] == "live_"


def _loggable_parameters(request: Request) -> dict[str, object]:
    try:
        return parse_parameters(request)
    except ApiError:
        return {}

"""Serving requests: when each is executed, what it suffers, and what leaves on the wire."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from . import errors
from .api import AcceptedRequest, Api, idempotency_key, parameters, error_response, secret_key
from .errors import ApiError
from .faults import FORCED_STATUSES, Fault, FaultPlan
from .request_log import RequestLog, ReceivedRequest
from .objects import new_id
from .http_server import Connection, Request, Response

_DRIP_SECONDS = 0.05
_ENDLESS = 1_000_000
_BAD_GATEWAY = Response(
    502,
    b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>\n",
    content_type="text/html",
)
_REFUSED_BEFORE: dict[Fault, Callable[[Request], ApiError]] = {
    Fault.RATE_LIMITED: lambda request: errors.rate_limited(_livemode(request)),
    Fault.LOCK_TIMEOUT: lambda request: errors.lock_timeout(),
    Fault.CONFLICT: lambda request: errors.key_in_use(idempotency_key(request)),
    Fault.KEY_REJECTED: lambda request: errors.key_rejected(secret_key(request.headers)),
    Fault.KEY_FORBIDDEN: lambda request: errors.key_forbidden(secret_key(request.headers)),
    Fault.ERROR_503: lambda request: errors.server_error(503),
}
_REFUSED_WITHIN: dict[Fault, Callable[[], ApiError]] = {
    Fault.ERROR_500: lambda: errors.server_error(retry=False),
    Fault.CARD_ERROR: lambda: errors.card_declined("generic_decline"),
    Fault.INSUFFICIENT_BALANCE: errors.balance_insufficient,
}
_SILENT_BEFORE = frozenset({Fault.DROP_BEFORE, Fault.HANG_BEFORE})
_SILENT = _SILENT_BEFORE | {Fault.DROP_AFTER, Fault.HANG_AFTER}


@dataclass
class PendingRequest:
    """A request, on its way to its answer."""

    connection: Connection
    request: Request
    record: ReceivedRequest
    admitted: AcceptedRequest | None = None

    @property
    def fault(self) -> Fault | None:
        """What it suffers."""
        return self.record.fault


class RequestHandler:
    """Runs on the loop's thread; holds the lock for what touches the accounts, never to wait.

    :param changed: the lock around all state, notified after each step.
    :param run_due: settles what fell due.
    """

    def __init__(
        self,
        api: Api,
        *,
        faults: FaultPlan,
        journal: RequestLog,
        changed: threading.Condition,
        run_due: Callable[[], None],
        latency: float,
    ) -> None:
        self._api = api
        self._faults = faults
        self._journal = journal
        self._changed = changed
        self._run_due = run_due
        self.latency = latency
        self._hanging: list[Connection] = []
        self._late: list[PendingRequest] = []

    def serve(self, connection: Connection, request: Request) -> None:
        """Take a request from the wire.

        The lock is held until a request without latency is done: whoever sees it in the journal sees
        what it did.
        """
        with self._changed:
            self._run_due()
            exchange = self._receive(connection, request)
            if exchange.fault in _SILENT_BEFORE:
                self._fall_silent(exchange)
                return
            answer = self._admit(exchange)
            if exchange.fault is Fault.LATE and answer is None:
                self._late.append(exchange)
                return
            self._after_latency(partial(self._finish, exchange, answer))

    def release(self) -> None:
        """Execute what is late."""
        late, self._late = self._late, []
        for exchange in late:
            self._finish(exchange, None)

    def hang_up(self) -> None:
        """Close the connections that wait for an answer which will not come."""
        hanging, self._hanging = self._hanging, []
        for connection in hanging:
            connection.close()

    def forget(self) -> None:
        """Drop what is late: it is never executed."""
        late, self._late = self._late, []
        for exchange in late:
            exchange.connection.close()

    def _after_latency(self, finish: Callable[[], None]) -> None:
        if self.latency > 0:
            asyncio.get_running_loop().call_later(self.latency, finish)
        else:
            finish()

    def _receive(self, connection: Connection, request: Request) -> PendingRequest:
        record = ReceivedRequest(
            request.method,
            request.path,
            _readable(request),
            idempotency_key(request),
            new_id("req"),
            self._faults.pick(request.method, request.path),
        )
        self._journal.add(record)
        self._changed.notify_all()
        return PendingRequest(connection, request, record)

    def _admit(self, exchange: PendingRequest) -> Response | None:
        """Let the request in, or give the answer that it gets without being executed."""
        request, request_id = exchange.request, exchange.record.request_id
        headers = self._api.common_headers(request, request_id)
        if exchange.fault is Fault.ERROR_502_HTML:
            return _BAD_GATEWAY
        try:
            if exchange.fault in _REFUSED_BEFORE:
                raise _REFUSED_BEFORE[exchange.fault](request)
            exchange.admitted = self._api.admit(request, request_id)
        except ApiError as error:
            answer = error_response(error, request_id, livemode=_livemode(request))
            return replace(answer, headers=headers + answer.headers)
        ticket = exchange.admitted.ticket
        if ticket is None or ticket.answer is None:
            return None
        return _with_headers(ticket.answer, exchange.admitted)

    def _finish(self, exchange: PendingRequest, answer: Response | None) -> None:
        try:
            with self._changed:
                if answer is None:
                    answer = self._execute(exchange)
                answer = _garbled(answer, exchange.fault)
                if exchange.connection.alive and exchange.fault not in _SILENT:
                    exchange.record.status = answer.status
                self._changed.notify_all()
            self._send(exchange, answer)
        except BaseException:
            exchange.connection.abort()
            raise

    def _execute(self, exchange: PendingRequest) -> Response:
        fault, admitted = exchange.fault, cast(AcceptedRequest, exchange.admitted)
        call = admitted.call
        if fault is not None and fault in FORCED_STATUSES:
            call = replace(call, forced_status=fault.value)
        if fault in _REFUSED_WITHIN:
            answer = self._refuse(admitted, _REFUSED_WITHIN[fault]())
        else:
            answer = self._api.run(admitted, call)
        if fault is Fault.ERROR_500_AFTER:
            answer = self._refuse(admitted, errors.server_error(retry=False))
        self._api.conclude(admitted, answer)
        return _with_headers(answer, admitted)

    def _refuse(self, admitted: AcceptedRequest, error: ApiError) -> Response:
        request_id = admitted.call.request_id or ""
        return error_response(error, request_id, livemode=admitted.account.livemode)

    def _send(self, exchange: PendingRequest, answer: Response) -> None:
        connection, fault = exchange.connection, exchange.fault
        if fault in _SILENT:
            self._fall_silent(exchange)
        elif fault is Fault.TRUNCATED:
            connection.write(answer.encode(length=len(answer.body) + 100))
            connection.close()
        elif fault is Fault.SLOW_DRIP:
            self._hanging.append(connection)
            connection.write(answer.head(_ENDLESS, close=False))
            _drip(connection, answer.body)
        else:
            connection.respond(answer)

    def _fall_silent(self, exchange: PendingRequest) -> None:
        if exchange.fault in (Fault.HANG_BEFORE, Fault.HANG_AFTER):
            self._hanging.append(exchange.connection)
        else:
            exchange.connection.close()


def _drip(connection: Connection, rest: bytes) -> None:
    if connection.alive:
        connection.write(rest[:1] or b" ")
        asyncio.get_running_loop().call_later(_DRIP_SECONDS, _drip, connection, rest[1:])


def _garbled(answer: Response, fault: Fault | None) -> Response:
    if fault is Fault.GARBAGE:
        return replace(answer, status=200, body=b"\x00\xff<!-- not JSON -->")
    if fault is Fault.EMPTY:
        return replace(answer, status=200, body=b"")
    if fault is Fault.WRONG_OBJECT:
        body = f'{{"id":"{new_id("cus")}","object":"customer","livemode":false}}'
        return replace(answer, status=200, body=body.encode())
    return answer


def _with_headers(answer: Response, admitted: AcceptedRequest) -> Response:
    return replace(answer, headers=admitted.headers + answer.headers)


def _livemode(request: Request) -> bool:
    return secret_key(request.headers)[3:8] == "live_"


def _readable(request: Request) -> dict[str, object]:
    try:
        return parameters(request)
    except ApiError:
        return {}

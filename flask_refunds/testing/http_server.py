"""HTTP/1.1 on 127.0.0.1: one event loop in a thread of its own.

A loop rather than a thread per connection: a request that hangs, waits or drips costs nothing, and
stopping ends every one of them.
"""

from __future__ import annotations

import asyncio
import http
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

_HEAD_LIMIT, _BODY_LIMIT = 64 * 1024, 1024 * 1024
_BACKLOG = 1024
_CALL_TIMEOUT = 10.0


@dataclass(frozen=True)
class Request:
    """A request, whole: header names are lowercase."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """A response without the headers that the connection sees to."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"

    def encode(self, *, length: int | None = None, close: bool = False) -> bytes:
        """Head and body.

        :param length: the Content-Length to announce; the true one if None.
        """
        return self.head(len(self.body) if length is None else length, close=close) + self.body

    def head(self, length: int, *, close: bool) -> bytes:
        """The status line and the headers."""
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        lines.append(f"Content-Type: {self.content_type}")
        lines.append(f"Content-Length: {length}")
        lines.extend(f"{name}: {value}" for name, value in self.headers)
        lines.append("Connection: close\r\n\r\n" if close else "Connection: keep-alive\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1")


Handler = Callable[["Connection", Request], None]


class Connection(asyncio.Protocol):
    """One caller. It is handed one request at a time, and owes one answer for each."""

    def __init__(self, handle: Handler, connections: set[Connection]) -> None:
        self._handle = handle
        self._connections = connections
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None

    @property
    def alive(self) -> bool:
        """Whether an answer could still arrive."""
        return self._transport is not None and not self._transport.is_closing()

    def respond(self, response: Response) -> None:
        """Answer the request, and go on to the next."""
        request = self._request
        close = request is None or _wants_close(request)
        encoded = response.encode(close=close)
        if request is not None and request.method == "HEAD":
            encoded = encoded[: len(encoded) - len(response.body)]
        self.write(encoded)
        self._request = None
        if close:
            self.close()
        elif self._buffer:
            asyncio.get_running_loop().call_soon(self._take)

    def write(self, raw: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None and self.alive:
            self._transport.write(raw)

    def close(self) -> None:
        """Hang up, after what was written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the caller is here."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the caller is gone."""
        self._transport = None
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: more of a request."""
        self._buffer += data
        self._take()

    def _take(self) -> None:
        if self._request is not None or not self.alive:
            return
        try:
            self._request = self._parse()
        except ValueError as error:
            self.respond(Response(400, f"{error}\n".encode(), content_type="text/plain"))
            return
        if self._request is not None:
            self._handle(self, self._request)

    def _parse(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 and len(self._buffer) <= _HEAD_LIMIT:
            return None
        if not 0 <= end <= _HEAD_LIMIT:
            raise ValueError("headers too large")
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in _split_all(lines)}
        start, length = end + 4, _content_length(headers)
        if len(self._buffer) < start + length:
            return None
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        method, target, _version = first.split(" ")
        path, _, query = target.partition("?")
        return Request(method, path, query, headers, body)


def _split_all(lines: list[str]) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in lines]


def _content_length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise ValueError("a Content-Length is needed")
    length = int(headers.get("content-length", 0))
    if not 0 <= length <= _BODY_LIMIT:
        raise ValueError("body too large")
    return length


def _wants_close(request: Request) -> bool:
    return request.headers.get("connection", "").lower() == "close"


def _phrase(status: int) -> str:
    return http.HTTPStatus(status).phrase


class HttpServer:
    """The listening socket, the loop and its thread.

    :param port: 0 for any that is free.
    """

    def __init__(self, handle: Handler, *, port: int = 0) -> None:
        self._handle = handle
        self._wanted_port = port
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._listening = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    def start(self) -> None:
        """Listen.

        :raises OSError: when the port is taken.
        """
        self._thread = threading.Thread(target=self._run, name="stripe-sandbox", daemon=True)
        self._thread.start()
        self._listening.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Hang up on everybody and end the thread."""
        if self._loop is not None and self._stopping is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def call(self, action: Callable[[], None]) -> None:
        """Have the loop's thread do something, and wait until it did."""

        async def act() -> None:
            action()

        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(act(), self._loop).result(_CALL_TIMEOUT)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as failure:
            self._failure = failure
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(
            lambda: Connection(self._handle, self._connections),
            host="127.0.0.1",
            port=self._wanted_port,
            backlog=_BACKLOG,
        )
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stopping.wait()
        server.close()
        while self._connections:
            for connection in list(self._connections):
                connection.abort()
            await asyncio.sleep(0)
        await server.wait_closed()

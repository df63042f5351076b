"""An HTTP/1.1 server on 127.0.0.1, with an event loop in its own thread.

With an event loop, a hanging or slow request doesn't occupy a thread, and stopping the server ends all of
them.
"""

from __future__ import annotations

import asyncio
import http
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

_MAX_HEAD_BYTES, _MAX_BODY_BYTES = 64 * 1024, 1024 * 1024
_BACKLOG = 1024
_CALL_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Request:
    """A complete request. Header names are lowercase."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """A response. ``headers`` leaves out Content-Type, Content-Length and Connection."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"

    def encode(self, *, length: int | None = None, close: bool = False) -> bytes:
        """Return the head and body as bytes.

        :param length: the value of Content-Length; None for the length of the body.
        """
        return self.head(len(self.body) if length is None else length, close=close) + self.body

    def head(self, length: int, *, close: bool) -> bytes:
        """Return the status line and headers as bytes."""
        lines = [f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}"]
        lines.append(f"Content-Type: {self.content_type}")
        lines.append(f"Content-Length: {length}")
        lines.extend(f"{name}: {value}" for name, value in self.headers)
        lines.append("Connection: close\r\n\r\n" if close else "Connection: keep-alive\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1")


Handler = Callable[["Connection", Request], None]


class Connection(asyncio.Protocol):
    """A client's connection. Requests are handled one at a time, each with one response."""

    def __init__(self, handle: Handler, connections: set[Connection]) -> None:
        self._handle = handle
        self._connections = connections
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None

    @property
    def alive(self) -> bool:
        """Whether the client can still receive a response."""
        return self._transport is not None and not self._transport.is_closing()

    def respond(self, response: Response) -> None:
        """Send the response, and continue with the next request."""
        request = self._request
        close = request is None or _asks_to_close(request)
        encoded = response.encode(close=close)
        if request is not None and request.method == "HEAD":
            encoded = encoded[: len(encoded) - len(response.body)]
        self.write(encoded)
        self._request = None
        if close:
            self.close()
        elif self._buffer:
            asyncio.get_running_loop().call_soon(self._process_buffer)

    def write(self, raw: bytes) -> None:
        """Send bytes unchanged."""
        if self._transport is not None and self.alive:
            self._transport.write(raw)

    def close(self) -> None:
        """Close the connection after the pending bytes are sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection immediately."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle a new connection (asyncio callback)."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle a closed connection (asyncio callback)."""
        self._transport = None
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Handle received bytes (asyncio callback)."""
        self._buffer += data
        self._process_buffer()

    def _process_buffer(self) -> None:
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
        if end < 0 and len(self._buffer) <= _MAX_HEAD_BYTES:
            return None
        if not 0 <= end <= _MAX_HEAD_BYTES:
            raise ValueError("Headers too large")
        request_line, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        start, length = end + 4, _content_length(headers)
        if len(self._buffer) < start + length:
            return None
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        method, target, _version = request_line.split(" ")
        path, _, query = target.partition("?")
        return Request(method, path, query, headers, body)


def _content_length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise ValueError("Content-Length required")
    length = int(headers.get("content-length", 0))
    if not 0 <= length <= _MAX_BODY_BYTES:
        raise ValueError("Body too large")
    return length


def _asks_to_close(request: Request) -> bool:
    return request.headers.get("connection", "").lower() == "close"


class HttpServer:
    """The listening socket, the event loop and its thread.

    :param handle: called with each request, on the event loop's thread.
    :param port: 0 for any free port.
    """

    def __init__(self, handle: Handler, *, port: int = 0) -> None:
        self._handle = handle
        self._requested_port = port
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._listening = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    def start(self) -> None:
        """Start to listen.

        :raises OSError: the port is in use.
        """
        self._thread = threading.Thread(target=self._run, name="stripe-sandbox", daemon=True)
        self._thread.start()
        self._listening.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Close all connections and end the thread."""
        if self._loop is not None and self._stopping is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def call(self, action: Callable[[], None]) -> None:
        """Run a function on the event loop's thread, and wait until it returns."""

        async def run() -> None:
            action()

        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(run(), self._loop).result(_CALL_TIMEOUT_SECONDS)

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
            port=self._requested_port,
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

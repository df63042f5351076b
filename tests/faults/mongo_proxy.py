"""A TCP proxy in front of a ``mongod`` that loses or holds selected commands.

It parses only as much of the wire protocol (OP_MSG,
https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/#op_msg) as it needs to name each command.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import bson

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_BODY_AT = _HEADER.size + 4 + 1
"""The offset of the command: after the header, the flags, and the kind of the first section."""

_UNCOUNTED = frozenset({"hello", "ismaster", "isMaster", "ping", "endSessions", "killCursors", "buildInfo"})
"""The commands that the driver sends on its own."""


class Loss(str, enum.Enum):
    """What happens to a command."""

    REQUEST = "request lost"
    """The connection ends before the server receives it."""
    REPLY = "reply lost"
    """The server executes it, and the connection ends before the client receives the reply."""
    HELD = "held"
    """The server receives it only at :meth:`MongoProxy.release`, and the client gets no reply."""


@dataclass
class Interference:
    """Which commands to lose.

    :param after: how many commands pass first.
    :param lasting: whether all later commands are lost too.
    """

    loss: Loss
    after: int
    lasting: bool
    hits: int = field(default=0, init=False)


class MongoProxy:
    """The proxy, as a context manager; ``port`` is where it listens on 127.0.0.1.

    :param server_port: the port of the ``mongod``.
    """

    def __init__(self, server_port: int) -> None:
        self._server = ("127.0.0.1", server_port)
        self._lock = threading.Lock()
        self._interference: Interference | None = None
        self._names: list[str] = []
        self._held: list[bytes] = []
        self._links: set[_Link] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> MongoProxy:
        self._accepting.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for link in list(self._links):
            link.cut()
            link.join()

    def watch(self, interference: Interference | None = None) -> None:
        """Count commands from now on, and apply the interference."""
        with self._lock:
            self._names, self._interference = [], interference

    @property
    def names(self) -> list[str]:
        """The names of the commands since :meth:`watch`."""
        with self._lock:
            return list(self._names)

    def release(self) -> None:
        """Send the held commands to the server, and wait until it has executed them.

        They use a new connection, because the client has closed its own.
        """
        with self._lock:
            held, self._held = self._held, []
        if held:
            with socket.create_connection(self._server) as server:
                for message in held:
                    server.sendall(message)
                    assert _receive(server) is not None, "the server didn't answer"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            self._links = {link for link in self._links if link.alive}
            link = _Link(client, server, self._decide)
            self._links.add(link)
            link.start()

    def _decide(self, message: bytes) -> Loss | None:
        """Return what happens to a request."""
        name = _command(message)
        if name in _UNCOUNTED:
            return None
        with self._lock:
            index, planned = len(self._names), self._interference
            self._names.append(name)
            if planned is None or index < planned.after or (index > planned.after and not planned.lasting):
                return None
            planned.hits += 1
            if planned.loss is Loss.HELD:
                self._held.append(message)
            return planned.loss


class _Link:
    """A client's connection, its counterpart to the server, and a thread for each direction."""

    def __init__(
        self, client: socket.socket, server: socket.socket, decide: Callable[[bytes], Loss | None]
    ) -> None:
        self._client = client
        self._server = server
        self._decide = decide
        self._lost_reply: int | None = None
        targets = (self._forward_requests, self._forward_replies)
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until both threads have ended."""
        for thread in self._threads:
            thread.join()

    @property
    def alive(self) -> bool:
        """Whether a thread is still running."""
        return any(thread.is_alive() for thread in self._threads)

    def cut(self) -> None:
        """Shut down both connections."""
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _forward_requests(self) -> None:
        while (message := _receive(self._client)) is not None:
            loss = self._decide(message)
            if loss is Loss.HELD:
                continue
            if loss is Loss.REPLY:
                self._lost_reply = _HEADER.unpack_from(message)[1]
            if loss is Loss.REQUEST or not _send(self._server, message):
                break
        self.cut()

    def _forward_replies(self) -> None:
        while (message := _receive(self._server)) is not None:
            lost = _HEADER.unpack_from(message)[2] == self._lost_reply
            if lost or not _send(self._client, message):
                break
        self.cut()
        # Let the other thread finish reading before both sockets are closed.
        self._threads[0].join()
        self._client.close()
        self._server.close()


def _command(message: bytes) -> str:
    """Return the name of a message's command."""
    assert _HEADER.unpack_from(message)[3] == _OP_MSG, "the driver sends OP_MSG, uncompressed by default"
    (size,) = struct.unpack_from("<i", message, _BODY_AT)
    return next(iter(bson.decode(message[_BODY_AT : _BODY_AT + size])))


def _receive(end: socket.socket) -> bytes | None:
    """Return one message, or ``None`` at the end of the connection."""
    header = _receive_exactly(end, _HEADER.size)
    if header is None:
        return None
    rest = _receive_exactly(end, _HEADER.unpack(header)[0] - _HEADER.size)
    return None if rest is None else header + rest


def _receive_exactly(end: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        try:
            chunk = end.recv(size - len(received))
        except OSError:
            return None
        if not chunk:
            return None
        received += chunk
    return bytes(received)


def _send(end: socket.socket, message: bytes) -> bool:
    """Return whether the message was sent."""
    try:
        end.sendall(message)
    except OSError:
        return False
    return True

"""An HTTP server that runs in a thread."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask
from werkzeug.serving import make_server

_POLL_SECONDS = 0.1


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on this port, or on a free port if this one is in use.

    :raises OSError: the host isn't an address of this machine.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return _listen(host, 0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def url_of(listener: socket.socket) -> str:
    """Return the URL for a browser on this machine: ``http://127.0.0.1:5000``."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def run_server(app: Flask, listener: socket.socket) -> Iterator[None]:
    """Serve the app on a listening socket, including requests that are already waiting there."""
    # Unlike app.run, make_server prints nothing and sets no signal handlers.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    host, port = listener.getsockname()[:2]
    server = make_server(host, port, app, threaded=True, fd=listener.fileno())
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="shop")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()  # also closes the socket
        thread.join()

"""Serving the shop over HTTP, in a thread, until told to stop."""

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
    """A listening socket on this port, or on a free one where it is taken.

    :raises OSError: there is no listening on this host.
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
    """Where a browser on this machine finds the shop: ``http://127.0.0.1:5000``."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def serving(app: Flask, listener: socket.socket) -> Iterator[None]:
    """Answer what comes in on the socket, and what has been waiting there."""
    # make_server, unlike app.run, prints nothing and leaves signals alone.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    host, port = listener.getsockname()[:2]
    server = make_server(host, port, app, threaded=True, fd=listener.fileno())
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="shop")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()  # which closes the socket, too
        thread.join()

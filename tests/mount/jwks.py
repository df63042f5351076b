"""An identity provider's key endpoint on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class KeyEndpoint:
    """Answers and counts GET requests.

    :param keys: the JWKs to publish. Set :attr:`body` or :attr:`status` for an invalid answer.
    """

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.hits = 0
        self.publish(*keys)
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.answer(self)

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def publish(self, *keys: dict[str, Any]) -> None:
        """Replace the published keys."""
        self.body = json.dumps({"keys": list(keys)}).encode()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.hits += 1
        handler.send_response(self.status)
        for name, value in {"Content-Length": str(len(self.body)), **self.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(self.body)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@contextmanager
def key_endpoint(*keys: dict[str, Any]) -> Iterator[KeyEndpoint]:
    endpoint = KeyEndpoint(*keys)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()

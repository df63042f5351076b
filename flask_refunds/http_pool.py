"""HTTP requests with a deadline for the complete response.

The usual timeouts limit each read, so a response that arrives byte by byte would never end.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3

from .clock import Deadline

CONNECT_SECONDS = 3.0
_MAX_RESPONSE_BYTES = 4 * 1024 * 1024
_CHUNK = 64 * 1024
_POOL_SIZE = 128


class IncompleteResponse(Exception):
    """No complete response arrived in time."""


class HTTPPool:
    """Connections to one server. Requests aren't retried and redirects aren't followed.

    :param base_url: the server, which decides whether the environment's ``HTTPS_PROXY`` applies.
    :param ca_certs: a file of trusted certificate authorities; ``None`` for the system's.
    """

    def __init__(self, base_url: str, *, ca_certs: str | None = None) -> None:
        options: dict[str, Any] = {"maxsize": _POOL_SIZE, "cert_reqs": "CERT_REQUIRED", "ca_certs": ca_certs}
        parts = urlsplit(base_url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and urllib.request.proxy_bypass(parts.hostname or ""):
            proxy = None
        self._server = f"{parts.scheme}://{parts.netloc}"
        # A proxy is told the whole URL, except in a tunnel.
        self._sends_url = proxy is not None and parts.scheme == "http"
        pools = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        self._pool = pools.connection_from_url(self._server)

    def request(
        self,
        deadline: Deadline,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request.

        :param url: on the server of ``base_url``.
        :return: the response's body, status and headers.
        :raises IncompleteResponse: it didn't arrive completely by the deadline, or is too large.
        """
        try:
            return self._send(deadline, method, url, headers, body)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise IncompleteResponse(type(error).__name__) from error

    def _send(
        self, deadline: Deadline, method: str, url: str, headers: Mapping[str, str] | None, body: Any
    ) -> tuple[bytes, int, Mapping[str, str]]:
        remaining = deadline.remaining()
        if remaining <= 0:
            raise TimeoutError
        response = self._pool.urlopen(
            method,
            url if self._sends_url else url.removeprefix(self._server),
            body=body,
            headers=dict(headers or {}),
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, remaining), read=remaining),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
        )
        try:
            data = _read(response, deadline)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return data, response.status, response.headers

    def close(self) -> None:
        """Close every idle connection."""
        self._pool.close()


def _read(response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > _MAX_RESPONSE_BYTES:
            raise ValueError("the response is too large")
        if deadline.remaining() <= 0:
            raise TimeoutError
    return bytes(body)

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
        self._pool: urllib3.PoolManager
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            self._pool = urllib3.ProxyManager(proxy, **options)
        else:
            self._pool = urllib3.PoolManager(**options)

    def request(
        self,
        deadline: Deadline,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request.

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
            url,
            body=body,
            headers=dict(headers or {}),
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, remaining), read=remaining),
            retries=False,
            redirect=False,
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
        self._pool.clear()


def _read(response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > _MAX_RESPONSE_BYTES:
            raise ValueError("the response is too large")
        if deadline.remaining() <= 0:
            raise TimeoutError
    return bytes(body)

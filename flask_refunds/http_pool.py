"""One HTTP request and its whole answer, by a deadline, however slowly the bytes come.

The usual timeouts bound each read, so an answer that comes one byte at a time never ends.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3

from .clock import Deadline

CONNECT_SECONDS = 3.0
_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_CHUNK = 64 * 1024
_POOL_SIZE = 128


class NoAnswer(Exception):
    """No whole answer came in time."""


class HTTPPool:
    """Connections to one server. Nothing is tried twice and no redirect is followed.

    :param base_url: the server, which decides whether the environment's ``HTTPS_PROXY`` serves.
    :param ca_certs: a file of the authorities to trust; ``None`` for the system's.
    """

    def __init__(self, base_url: str, *, ca_certs: str | None = None) -> None:
        options: dict[str, Any] = {
            "maxsize": _POOL_SIZE,
            "cert_reqs": "CERT_REQUIRED",
            "ca_certs": ca_certs,
        }
        parts = urlsplit(base_url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        self._pool: urllib3.PoolManager
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            self._pool = urllib3.ProxyManager(proxy, **options)
        else:
            self._pool = urllib3.PoolManager(**options)

    def exchange(
        self,
        deadline: Deadline,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request.

        :return: the answer's body, status and headers.
        :raises NoAnswer: it did not come whole by the deadline, or is too large.
        """
        try:
            return self._exchange(deadline, method, url, headers, body)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise NoAnswer(type(error).__name__) from error

    def _exchange(
        self, deadline: Deadline, method: str, url: str, headers: Mapping[str, str] | None, body: Any
    ) -> tuple[bytes, int, Mapping[str, str]]:
        left = deadline.left()
        if left <= 0:
            raise TimeoutError
        response = self._pool.urlopen(
            method,
            url,
            body=body,
            headers=dict(headers or {}),
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=left),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            answer = _read(response, deadline)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return answer, response.status, response.headers

    def close(self) -> None:
        """Close every idle connection."""
        self._pool.clear()


def _read(response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES:
            raise ValueError("the answer is too large")
        if deadline.left() <= 0:
            raise TimeoutError
    return bytes(body)

"""How bytes get to Stripe and back: one urllib3 pool, and no request without an end.

stripe-python's own transport bounds each read, so an answer that comes one byte at a time never ends; it
cannot be told per call how long there is; and it keeps a ``requests`` session per thread.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import stripe
import urllib3

from .deadline import Deadline

CONNECT_SECONDS = 3.0
_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_CHUNK = 64 * 1024
_POOL_SIZE = 64

_deadline: ContextVar[Deadline] = ContextVar("flask_refunds_stripe_deadline")


@contextmanager
def until(deadline: Deadline) -> Iterator[None]:
    """Every request made inside must be over by the deadline."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


class Transport(stripe.HTTPClient):
    """Carries stripe-python's requests, inside :func:`until`, and never tries one twice.

    :param api_base: where they go; decides whether the environment's proxy (``HTTPS_PROXY``, ``NO_PROXY``)
        serves.
    :param timeout: the longest to wait for any one answer, in seconds.
    """

    name = "flask_refunds"

    def __init__(self, api_base: str, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout
        self._pool = _make_pool(api_base)

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request and read its whole answer.

        :raises stripe.APIConnectionError: it did not come in time, or not at all.
        """
        overall = _deadline.get()
        deadline = Deadline(min(overall.at, overall.now() + self._timeout), overall.now)
        try:
            return self._exchange(deadline, method, url, headers, post_data)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise stripe.APIConnectionError(  # type: ignore[no-untyped-call]
                f"No answer from Stripe ({type(error).__name__})"
            ) from error

    def _exchange(
        self, deadline: Deadline, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any
    ) -> tuple[bytes, int, Mapping[str, str]]:
        left = deadline.left()
        if left <= 0:
            raise TimeoutError
        response = self._pool.urlopen(
            method.upper(),
            url,
            body=post_data,
            headers=dict(headers or {}),
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=left),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            body = _read(response, deadline)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return body, response.status, response.headers

    def close(self) -> None:
        """Close every idle connection."""
        self._pool.clear()


def _make_pool(api_base: str) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "maxsize": _POOL_SIZE,
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": stripe.ca_bundle_path,
    }
    parts = urlsplit(api_base)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


def _read(response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
    """The whole body, however slowly it comes, until the deadline."""
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES:
            raise ValueError("the answer is too large")
        if deadline.left() <= 0:
            raise TimeoutError
    return bytes(body)

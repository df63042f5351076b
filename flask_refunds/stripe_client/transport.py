"""The HTTP transport of Stripe's library: one connection pool, and a deadline for each request.

The library's own transport has no deadline per call, and keeps a ``requests`` session per thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import stripe

from ..clock import Deadline
from ..http_pool import HTTPPool, IncompleteResponse

_deadline: ContextVar[Deadline] = ContextVar("flask_refunds_stripe_deadline")


@contextmanager
def request_deadline(deadline: Deadline) -> Iterator[None]:
    """End every request made inside by the deadline."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


class Transport(stripe.HTTPClient):
    """Sends the requests of Stripe's library, inside :func:`request_deadline`, and never retries.

    :param api_base: the URL of Stripe's API.
    :param timeout: the time limit of one answer, in seconds.
    """

    name = "flask_refunds"

    def __init__(self, api_base: str, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout
        self._pool = HTTPPool(api_base, ca_certs=stripe.ca_bundle_path)

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request and return its complete answer.

        :raises stripe.APIConnectionError: it didn't arrive in time.
        """
        overall = _deadline.get()
        deadline = Deadline(min(overall.at, overall.now() + self._timeout), overall.now)
        try:
            return self._pool.request(deadline, method.upper(), url, headers, post_data)
        except IncompleteResponse as error:
            message = f"No answer from Stripe ({error})"
            raise stripe.APIConnectionError(message) from error  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close every idle connection."""
        self._pool.close()

"""How stripe-python's requests travel: over one pool of ours, each with an end.

Its own transport cannot be told per call how long there is, and keeps a ``requests`` session per thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import stripe

from ..clock import Deadline
from ..http_pool import HTTPPool, NoAnswer

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

    :param api_base: where they go.
    :param timeout: the longest to wait for any one answer, in seconds.
    """

    name = "flask_refunds"

    def __init__(self, api_base: str, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout
        self._pool = HTTPPool(api_base, ca_certs=stripe.ca_bundle_path)

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request and read its whole answer.

        :raises stripe.APIConnectionError: it did not come in time, or not at all.
        """
        overall = _deadline.get()
        deadline = Deadline(min(overall.at, overall.now() + self._timeout), overall.now)
        try:
            return self._pool.exchange(deadline, method.upper(), url, headers, post_data)
        except NoAnswer as error:
            message = f"No answer from Stripe ({error})"
            raise stripe.APIConnectionError(message) from error  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close every idle connection."""
        self._pool.close()

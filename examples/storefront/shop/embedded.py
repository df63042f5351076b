"""In-process replacements for services that aren't configured: mongomock and a Stripe sandbox."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask_refunds.testing import StripeSandbox

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REFUND_SETTLES_AFTER_SECONDS = 8.0
"""How long a refund stays pending, so that you can see it in the page."""

_CLOCK_INTERVAL_SECONDS = 1.0


def make_database() -> Any:
    """Return an empty in-memory database.

    :raises ModuleNotFoundError: mongomock isn't installed.
    """
    import mongomock

    return mongomock.MongoClient(tz_aware=True).shop


@contextmanager
def stripe_sandbox() -> Iterator[tuple[StripeSandbox, dict[str, Any]]]:
    """Run a Stripe sandbox; yield it and the config for it. It sends no events yet."""
    secret_key, webhook_secret = f"sk_test_{secrets.token_hex(16)}", f"whsec_{secrets.token_hex(16)}"
    config = {"STRIPE_SECRET_KEY": secret_key, "STRIPE_WEBHOOK_SECRET": webhook_secret}
    with (
        StripeSandbox(
            secret_key=secret_key, refund_settles_after=REFUND_SETTLES_AFTER_SECONDS, clock=_process_time
        ) as sandbox,
        _running_clock(sandbox),
    ):
        yield sandbox, config | {"STRIPE_API_BASE": sandbox.url}


def _process_time() -> float:
    """Return this process's time, which the demo's past moves."""
    return time.time()


@contextmanager
def _running_clock(sandbox: StripeSandbox) -> Iterator[None]:
    """Apply due status changes every second. By itself, the sandbox does so only when it gets a request."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(_CLOCK_INTERVAL_SECONDS):
            sandbox.advance(0)

    thread = threading.Thread(target=run, name="stripe-clock")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


class OneRequestAtATime:
    """WSGI middleware that runs one request at a time, because mongomock isn't atomic under threads.

    This can't deadlock: the sandbox responds to a payment or refund without waiting for the webhook.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Run the app while holding the lock."""
        with self._lock:
            return self._app(environ, start_response)

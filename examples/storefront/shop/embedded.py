"""What stands in for services that the environment does not name: mongomock, and a Stripe sandbox."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask_refunds.testing import StripeSandbox

from .settings import EVENTS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REFUND_SETTLES_AFTER_SECONDS = 8.0
"""Long enough to see a refund pending, short enough to wait for its end."""

_TICK_SECONDS = 1.0


def make_database() -> Any:
    """An empty database in this process.

    :raises ModuleNotFoundError: mongomock is not installed.
    """
    import mongomock

    return mongomock.MongoClient(tz_aware=True).shop


@contextmanager
def stripe_sandbox(webhook_url: str) -> Iterator[dict[str, Any]]:
    """A Stripe in this process, which delivers signed events.

    :param webhook_url: the shop's own.
    :return: the config that leads to it.
    """
    secret_key, webhook_secret = f"sk_test_{secrets.token_hex(16)}", f"whsec_{secrets.token_hex(16)}"
    with StripeSandbox(secret_key=secret_key, refund_settles_after=REFUND_SETTLES_AFTER_SECONDS) as sandbox:
        sandbox.add_webhook(webhook_url, webhook_secret, events=EVENTS)
        with _ticking(sandbox):
            yield {
                "STRIPE_SECRET_KEY": secret_key,
                "STRIPE_WEBHOOK_SECRET": webhook_secret,
                "STRIPE_API_BASE": sandbox.url,
            }


@contextmanager
def _ticking(sandbox: StripeSandbox) -> Iterator[None]:
    """Let what falls due happen by itself: the sandbox looks at its clock only when it is asked something."""
    stopped = threading.Event()

    def tick() -> None:
        while not stopped.wait(_TICK_SECONDS):
            sandbox.advance(0)

    thread = threading.Thread(target=tick, name="stripe-clock")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


class OneAtATime:
    """A WSGI middleware that lets one request in at a time: mongomock is not atomic under threads.

    No deadlock: the sandbox answers a payment or a refund without waiting for its event to be received.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._turn = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request when its turn comes."""
        with self._turn:
            return self._app(environ, start_response)

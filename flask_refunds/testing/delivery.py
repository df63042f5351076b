"""Delivery of events to webhook endpoints.

If an endpoint doesn't respond with 2xx, Stripe retries for up to three days
(https://docs.stripe.com/webhooks). The sandbox makes three attempts without a delay.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .account import Account
from .events import StoredEvent
from .objects import JsonObject
from .signatures import signed_event

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class WebhookEndpoint:
    """A webhook endpoint or event destination.

    :param events: the event types to send, or ``*`` for all.
    :param livemode: None for both modes.
    :param thin: whether to send thin events.
    :param connect: whether to send the events of connected accounts; otherwise those of the platform.
    :param api_version: the version of the events' objects; None for the account's default version.
    :param receive: called with each event, instead of a delivery over HTTP.
    """

    url: str
    secret: str
    events: tuple[str, ...] = ("*",)
    livemode: bool | None = None
    thin: bool = False
    connect: bool = False
    api_version: str | None = None
    receive: Callable[[JsonObject], None] | None = None

    def has_mode(self, livemode: bool) -> bool:
        """Return whether this endpoint receives events of this mode.

        Stripe also sends test events to the live endpoints of a platform
        (https://docs.stripe.com/connect/webhooks).
        """
        gets_test_events = self.connect and self.livemode is True
        return self.livemode in (None, livemode) or gets_test_events

    def payload(self, event: StoredEvent, account: Account) -> JsonObject | None:
        """Return what this endpoint receives for an event of an account, or None."""
        if not self.has_mode(account.livemode) or self.connect is (account.account_id is None):
            return None
        if "*" not in self.events and event.type not in self._types():
            return None
        version = self.api_version or account.api_version
        if self.thin:
            return None if event.is_about_release else event.load_thin()
        return event.load(version) if event.exists_in(version) else None

    def _types(self) -> set[str]:
        return {name.removeprefix("v1.") for name in self.events}


@dataclass(frozen=True)
class Delivery:
    """The result of a delivery. ``status`` is the last HTTP status, or None without a response."""

    event_id: str
    type: str
    url: str
    attempts: int
    status: int | None


class WebhookSender:
    """Posts events one at a time."""

    def __init__(self, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def send(self, event: Mapping[str, Any], url: str, secret: str, timestamp: int | None = None) -> int:
        """Post an event and return the HTTP status of the response.

        :raises OSError: the endpoint can't be reached.
        :raises http.client.HTTPException: the response isn't HTTP.
        """
        body, headers = signed_event(event, secret, timestamp=timestamp)
        parts = urlsplit(url)
        connect = http.client.HTTPSConnection
        if parts.scheme == "http":
            connect = http.client.HTTPConnection  # type: ignore[assignment]
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._connection = connect(parts.hostname or "", parts.port, timeout=self._timeout)
        with contextlib.closing(self._connection) as connection:
            connection.request("POST", target, body, {**headers, "User-Agent": "Stripe/1.0"})
            response = connection.getresponse()
            response.read()
            return response.status

    def interrupt(self) -> None:
        """Abort a request that another thread is sending."""
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class EventDispatcher:
    """A thread that delivers events in order."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[tuple[Mapping[str, Any], WebhookEndpoint]] = deque()
        self._undelivered = 0
        self._deliveries: list[Delivery] = []
        self._stopped = False
        self._sender = WebhookSender()
        self._thread: threading.Thread | None = None

    @property
    def deliveries(self) -> list[Delivery]:
        """The finished deliveries, including failed ones."""
        with self._changed:
            return list(self._deliveries)

    def enqueue(self, event: Mapping[str, Any], endpoint: WebhookEndpoint) -> None:
        """Add an event to the queue, and start the thread if it isn't running."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stripe-events", daemon=True)
                self._thread.start()
            self._queue.append((event, endpoint))
            self._undelivered += 1
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until all deliveries are finished.

        :return: False if ``timeout`` seconds passed first.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._undelivered == 0, timeout)

    def stop(self) -> None:
        """Stop the thread and drop the queued events. The next event starts a new thread."""
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._changed.notify_all()
        while self._thread is not None and self._thread.is_alive():
            # Repeat, because the thread may open its connection after an interrupt.
            self._sender.interrupt()
            self._thread.join(timeout=0.05)
        with self._changed:
            self._thread, self._stopped, self._undelivered = None, False, 0

    def clear(self) -> None:
        """Forget the finished deliveries."""
        with self._changed:
            self._deliveries.clear()

    def _run(self) -> None:
        while (queued := self._next()) is not None:
            delivery = self._deliver(*queued)
            with self._changed:
                self._deliveries.append(delivery)
                self._undelivered -= 1
                self._changed.notify_all()

    def _next(self) -> tuple[Mapping[str, Any], WebhookEndpoint] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._queue)
            return None if self._stopped else self._queue.popleft()

    def _deliver(self, event: Mapping[str, Any], endpoint: WebhookEndpoint) -> Delivery:
        status, attempts = None, 0
        while attempts < MAX_ATTEMPTS and not self._stopped and not _is_success(status):
            attempts += 1
            try:
                status = self._sender.send(event, endpoint.url, endpoint.secret)
            except (OSError, http.client.HTTPException):
                status = None
        return Delivery(event["id"], event["type"], endpoint.url, attempts, status)


def _is_success(status: int | None) -> bool:
    return status is not None and 200 <= status < 300

"""Sending events to webhook endpoints.

https://docs.stripe.com/webhooks: an endpoint that does not answer 2xx gets the event again. Stripe
tries for three days; here it is a few times, at once.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .signatures import signed_event

ATTEMPTS = 3


@dataclass(frozen=True)
class WebhookEndpoint:
    """Where events go: ``events`` are the types it wants, ``*`` for all; of one mode, or of both for None."""

    url: str
    secret: str
    events: tuple[str, ...] = ("*",)
    livemode: bool | None = None

    def is_of(self, livemode: bool) -> bool:
        """Whether this is an endpoint of a mode."""
        return self.livemode in (None, livemode)

    def wants(self, type_: str) -> bool:
        """Whether this endpoint gets events of this type."""
        return "*" in self.events or type_ in self.events


@dataclass(frozen=True)
class Delivery:
    """What became of an event: ``status`` is the last answer, None if there was none."""

    event_id: str
    type: str
    url: str
    attempts: int
    status: int | None


class WebhookSender:
    """Posts events one after the other, over one connection at a time."""

    def __init__(self, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def send(self, event: Mapping[str, Any], url: str, secret: str, timestamp: int | None = None) -> int:
        """Post an event.

        :return: the HTTP status that the endpoint answered.
        :raises OSError: when it cannot be reached.
        :raises http.client.HTTPException: when it does not answer in HTTP.
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
        """End what another thread is sending."""
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class EventDispatcher:
    """The thread that delivers to the endpoints, in the order of the events."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Mapping[str, Any], WebhookEndpoint]] = deque()
        self._undelivered = 0
        self._deliveries: list[Delivery] = []
        self._stopped = False
        self._sender = WebhookSender()
        self._thread: threading.Thread | None = None

    @property
    def deliveries(self) -> list[Delivery]:
        """What was delivered so far, or given up."""
        with self._changed:
            return list(self._deliveries)

    def post(self, event: Mapping[str, Any], endpoint: WebhookEndpoint) -> None:
        """Have an event delivered."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stripe-events", daemon=True)
                self._thread.start()
            self._waiting.append((event, endpoint))
            self._undelivered += 1
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until all is delivered or given up.

        :return: whether it was, within ``timeout`` seconds.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._undelivered == 0, timeout)

    def stop(self) -> None:
        """End the thread; what waits is not delivered. The next event starts it again."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        while self._thread is not None and self._thread.is_alive():
            # Again and again: the thread may have been about to open its connection.
            self._sender.interrupt()
            self._thread.join(timeout=0.05)
        with self._changed:
            self._thread, self._stopped, self._undelivered = None, False, 0

    def clear(self) -> None:
        """Forget what was delivered."""
        with self._changed:
            self._deliveries.clear()

    def _run(self) -> None:
        while (posted := self._next()) is not None:
            delivery = self._deliver(*posted)
            with self._changed:
                self._deliveries.append(delivery)
                self._undelivered -= 1
                self._changed.notify_all()

    def _next(self) -> tuple[Mapping[str, Any], WebhookEndpoint] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._waiting)
            return None if self._stopped else self._waiting.popleft()

    def _deliver(self, event: Mapping[str, Any], endpoint: WebhookEndpoint) -> Delivery:
        status, attempts = None, 0
        while attempts < ATTEMPTS and not self._stopped and not _accepted(status):
            attempts += 1
            try:
                status = self._sender.send(event, endpoint.url, endpoint.secret)
            except (OSError, http.client.HTTPException):
                status = None
        return Delivery(event["id"], event["type"], endpoint.url, attempts, status)


def _accepted(status: int | None) -> bool:
    return status is not None and 200 <= status < 300

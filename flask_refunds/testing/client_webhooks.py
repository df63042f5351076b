"""Deliver a sandbox's events to an app in this process, without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask

from .objects import JsonObject
from .sandbox import StripeSandbox
from .signatures import signed_event


class ClientWebhooks:
    """Delivers the events of a sandbox to the webhook of an app, as signed requests of a test client.

    Each event is delivered at once: after the request, or the change at Stripe, that caused it. Like Stripe,
    this delivers an event again if the app answered 5xx: with the next events.

    :param path: the path of the webhook. You can set it at any time.
    :param secret: the signing secret.
    """

    def __init__(self, app: Flask, stripe: StripeSandbox, *, path: str, secret: str) -> None:
        self.path = path
        self.automatic = True
        """Whether events are delivered at once. If it is False, call :meth:`deliver`."""
        self.pending: list[JsonObject] = []
        """The events that aren't delivered yet. You can reorder, remove and repeat them."""
        self.delivered: list[tuple[JsonObject, int]] = []
        """What was delivered, with the status of each answer."""
        self._app, self._secret = app, secret
        self._delivering = False
        stripe.add_webhook(path, secret, receive=self.pending.append)

    @contextmanager
    def held(self) -> Iterator[list[JsonObject]]:
        """Deliver nothing in a ``with`` block, and what is left in :attr:`pending` after it.

        ::

            with refunds.webhooks.held() as events:
                refunds.refund(purchase)
                events.reverse()
        """
        before, self.automatic = self.automatic, False
        try:
            yield self.pending
        finally:
            self.automatic = before
        self.deliver()

    def deliver(self) -> None:
        """Deliver the pending events now, in their order.

        :raises AssertionError: the app answered 4xx, which no later attempt would change.
        """
        if self._delivering:
            return  # the app's answer to an event caused another one, which is delivered next
        self._delivering, failed = True, []
        try:
            while self.pending:
                event = self.pending.pop(0)
                if self._post(event) >= 500:
                    failed.append(event)
        finally:
            self._delivering = False
            self.pending[:0] = failed

    def redeliver(self, *types: str) -> None:
        """Deliver again what was delivered, in the same order.

        :param types: the event types, such as ``refund.updated``; by default all.
        """
        self.pending.extend(_of_types((event for event, _ in self.delivered), types))
        self.deliver()

    def drop(self, *types: str) -> None:
        """Remove pending events, as if they got lost.

        :param types: the event types; by default all.
        """
        dropped = [event["id"] for event in _of_types(self.pending, types)]
        self.pending[:] = [event for event in self.pending if event["id"] not in dropped]

    def deliver_if_automatic(self) -> None:
        """Deliver the pending events, unless that is to be done by hand."""
        if self.automatic:
            self.deliver()

    def after_each_request(self, wsgi_app: Callable[..., Any]) -> Callable[..., Any]:
        """Return a WSGI app that delivers the events that a request caused, before its response is sent."""

        def respond(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            response = wsgi_app(environ, start_response)
            self.deliver_if_automatic()
            return response

        return respond

    def _post(self, event: JsonObject) -> int:
        body, headers = signed_event(event, self._secret)
        response = self._app.test_client(use_cookies=False).post(self.path, data=body, headers=headers)
        self.delivered.append((event, response.status_code))
        if 400 <= response.status_code < 500:
            raise AssertionError(
                f"The webhook {self.path} answered {response.status_code} to {event['type']}: {response.text}"
            )
        return response.status_code


def _of_types(events: Iterable[JsonObject], types: tuple[str, ...]) -> list[JsonObject]:
    return [event for event in events if not types or event["type"] in types]

"""The Stripe sandbox: a local version of Stripe's refunds API, with a clock, webhooks and faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from . import control_api
from .account import Account
from .api import Api, RateLimit
from .cards import find_card
from .clock import Clock
from .delivery import Delivery, EventDispatcher, WebhookEndpoint, WebhookSender
from .errors import ApiError
from .events import StoredEvent
from .faults import Fault, FaultPlan, Injected
from .http_server import Connection, HttpServer, Request
from .idempotency import IdempotencyKeys
from .objects import JsonObject, copy_json
from .request_handler import RequestHandler
from .request_log import ReceivedRequest, RequestLog


class StripeSandbox:
    """A local version of Stripe's refunds API on 127.0.0.1. Use it as a context manager.

    ::

        with StripeSandbox() as sandbox:
            stripe = StripeClient("sk_test_123", base_addresses={"api": sandbox.url})
            payment = sandbox.create_payment(2000)
            stripe.v1.refunds.create({"payment_intent": payment})
            assert sandbox.money_refunded(payment) == 2000

    All methods are thread-safe.

    :param port: the port to listen on; 0 for any free port.
    :param secret_key: the only accepted API key. By default, every well-formed secret or restricted key
        is accepted. The key decides whether a request is in live or test mode.
    :param enforce_amount_limit: False accepts refunds of more than the amount paid. A double refund then
        shows in :meth:`money_refunded`.
    :param rate_limit: requests per second before Stripe's 429 error; None for no limit.
    :param latency: seconds of real time between the arrival of a request and its execution.
    :param refund_settles_after: seconds on the sandbox's clock until a refund of an asynchronous test card
        changes its status.
    :param clock: returns seconds since the epoch; by default real time.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        secret_key: str | None = None,
        enforce_amount_limit: bool = True,
        rate_limit: int | None = None,
        latency: float = 0.0,
        refund_settles_after: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._port = port
        self._livemode = secret_key is not None and secret_key[3:8] == "live_"
        self._enforce_amount_limit = enforce_amount_limit
        self._refund_settles_after = refund_settles_after
        self._changed = threading.Condition()
        self._clock = Clock(clock)
        self._accounts = self._new_accounts()
        self._keys = IdempotencyKeys(self._clock)
        self._rate_limit = RateLimit(rate_limit, self._clock)
        self._faults = FaultPlan()
        self._request_log = RequestLog()
        self._dispatcher = EventDispatcher()
        self._endpoints: list[WebhookEndpoint] = []
        self._server: HttpServer | None = None
        self._handler = RequestHandler(
            Api(
                self._account, keys=self._keys, limit=self._rate_limit, now=self._clock, secret_key=secret_key
            ),
            faults=self._faults,
            request_log=self._request_log,
            changed=self._changed,
            apply_due_transitions=self._apply_due_transitions,
            latency=latency,
        )

    # Start and stop

    def start(self) -> StripeSandbox:
        """Start to listen, and return this sandbox.

        :raises OSError: the port is in use.
        :raises RuntimeError: the sandbox is already running.
        """
        if self._server is not None:
            raise RuntimeError("The sandbox is already running.")
        server = HttpServer(self._serve, port=self._port)
        server.start()
        self._server = server
        return self

    def stop(self) -> None:
        """Close all connections and end all threads. Payments, refunds and events can still be read."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        self._dispatcher.stop()

    def __enter__(self) -> StripeSandbox:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL: ``http://127.0.0.1:PORT``.

        :raises RuntimeError: the sandbox isn't running.
        """
        if self._server is None:
            raise RuntimeError("The sandbox isn't running. Call start(), or use it in a with statement.")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def latency(self) -> float:
        """Seconds between the arrival of a request and its execution. You can set it at any time."""
        return self._handler.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._handler.latency = seconds

    @property
    def rate_limit(self) -> int | None:
        """Requests per second before Stripe's 429 error. You can set it at any time."""
        return self._rate_limit.per_second

    @rate_limit.setter
    def rate_limit(self, per_second: int | None) -> None:
        self._rate_limit.per_second = per_second

    def reset(self) -> None:
        """Remove all payments, refunds, events, keys, faults, requests and webhooks, and reset the clock."""
        self._run_on_server(self._handler.drop_late, self._handler.close_hanging)
        self._dispatcher.stop()
        with self._changed:
            self._dispatcher.clear()
            self._endpoints.clear()
            self._faults.clear()
            self._keys.clear()
            self._rate_limit.clear()
            self._request_log.clear()
            self._clock.reset()
            self._accounts = self._new_accounts()
            self._changed.notify_all()

    # Payments and refunds

    def create_payment(
        self,
        amount: int,
        currency: str = "usd",
        card: str = "4242424242424242",
        metadata: Mapping[str, str] | None = None,
        *,
        livemode: bool | None = None,
    ) -> str:
        """Pay with a test card, without an HTTP request.

        :param amount: in minor units, at least 1.
        :param card: a card number, or an ID such as ``pm_card_pendingRefund``.
        :param livemode: by default, the mode of ``secret_key`` or else test mode.
        :return: the payment intent's ID. If the card is declined, the payment intent is unpaid.
        :raises ValueError: the amount or card is invalid.
        """
        test_card = find_card(card)
        if test_card is None:
            raise ValueError(f"Unknown card {card!r}. Use a card number or a pm_card_… ID.")
        if amount < 1:
            raise ValueError(f"The amount must be at least 1, not {amount}.")
        with self._changed:
            account = self._account(self._livemode if livemode is None else livemode)
            try:
                intent = account.create_payment_intent(
                    amount=amount,
                    currency=currency.lower(),
                    card=test_card,
                    confirm=True,
                    metadata=dict(metadata or {}),
                )
            except ApiError as declined:
                intent = declined.error["payment_intent"]
            self._changed.notify_all()
            return str(intent["id"])

    def payment_intent(self, payment_intent: str) -> JsonObject:
        """Return a copy of a payment intent.

        :raises LookupError: the ID is unknown.
        """
        return self._read(lambda account: account.payment_intent(payment_intent))

    def charge(self, payment_intent: str) -> JsonObject:
        """Return a copy of a payment intent's latest charge.

        :raises LookupError: the ID is unknown, or the payment intent has no charge.
        """
        charge = self.payment_intent(payment_intent)["latest_charge"]
        return self._read(lambda account: account.charge(charge))

    def refund(self, refund_id: str) -> JsonObject:
        """Return a copy of a refund.

        :raises LookupError: the ID is unknown.
        """
        return self._read(lambda account: account.refund(refund_id))

    def refunds(self, payment_intent: str | None = None) -> list[JsonObject]:
        """Return copies of a payment intent's refunds, or of all refunds; oldest first."""
        with self._changed:
            self._apply_due_transitions()
            found = [
                copy_json(refund)
                for account in self._accounts.values()
                for refund in account.refunds_of(payment_intent)
            ]
        return sorted(found, key=lambda refund: int(refund["created"]))

    def money_refunded(self, payment_intent: str) -> int:
        """Return the sum of the refunds that are neither failed nor canceled, in minor units."""
        with self._changed:
            self._apply_due_transitions()
            return sum(account.money_refunded(payment_intent) for account in self._accounts.values())

    def refund_in_dashboard(self, payment_intent: str, amount: int | None = None) -> JsonObject:
        """Refund as a Dashboard user does: without metadata and without an idempotency key.

        :param amount: in minor units; by default the full remaining amount.
        :return: a copy of the refund.
        :raises ApiError: Stripe would reject the refund.
        """
        return self._modify(
            lambda account: account.create_refund(payment_intent=payment_intent, amount=amount)
        )

    def settle(self, refund_id: str, status: str, failure_reason: str | None = None) -> JsonObject:
        """Change a refund's status to ``succeeded``, ``failed``, ``canceled``, …, and send the events.

        :param failure_reason: one of https://docs.stripe.com/refunds#failed-refunds
        :return: a copy of the refund.
        :raises LookupError: the ID is unknown.
        :raises ValueError: Stripe doesn't allow this change.
        """
        return self._modify(lambda account: account.settle(refund_id, status, failure_reason))

    def advance(self, seconds: float) -> None:
        """Move the clock forward, and apply the status changes that become due."""
        with self._changed:
            self._clock.advance(seconds)
            self._apply_due_transitions()
            self._changed.notify_all()

    def now(self) -> float:
        """Return the sandbox's time, in seconds since the epoch."""
        return self._clock()

    # Faults

    def inject(
        self,
        fault: Fault | str,
        *,
        method: str = "POST",
        path: str = "/v1/refunds",
        times: int | None = 1,
        after: int = 0,
    ) -> Injected:
        """Apply a fault to the next matching requests. At most one fault applies to a request.

        :param method: the HTTP method; ``*`` for any.
        :param path: a prefix, or a pattern such as ``/v1/*/confirm``.
        :param times: the number of requests; None for all requests until :meth:`clear_faults`.
        :param after: the number of matching requests that pass first.
        :return: the injected fault, which counts its ``hits``.
        :raises ValueError: the fault is unknown, or can't apply to these requests.
        """
        injected = Injected(Fault(fault), method, path, times, after)
        with self._changed:
            return self._faults.inject(injected)

    def clear_faults(self) -> None:
        """Remove all faults, close hanging connections, and execute the requests held by ``LATE``."""
        with self._changed:
            self._faults.clear()
        self._run_on_server(self._handler.close_hanging, self._handler.execute_late)

    def release(self) -> None:
        """Execute the requests held by :attr:`Fault.LATE`, and send their responses."""
        self._run_on_server(self._handler.execute_late)

    # Requests

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Copies of the last 200,000 requests, oldest first."""
        with self._changed:
            return self._request_log.find()

    def count_requests(self) -> dict[str, int]:
        """Return the number of requests by response status; ``none`` counts those without a response."""
        with self._changed:
            return self._request_log.count_by_status()

    def wait_for_requests(
        self,
        count: int,
        timeout: float = 5.0,
        *,
        method: str | None = None,
        path: str | None = None,
    ) -> list[ReceivedRequest]:
        """Wait until ``count`` matching requests have arrived, and return copies of them.

        Without latency, these requests have also been executed.

        :param method: the HTTP method; None for any.
        :param path: the exact path; None for any.
        :raises TimeoutError: fewer requests arrived within ``timeout`` seconds.
        """
        self.wait_until(lambda: self._request_log.count(method, path) >= count, timeout)
        with self._changed:
            return self._request_log.find(method, path)

    def wait_until(self, condition: Callable[[], object], timeout: float = 5.0) -> None:
        """Wait until ``condition()`` is true. It is evaluated after each change of the sandbox.

        :raises TimeoutError: it wasn't true within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(condition()), timeout):
                raise TimeoutError(f"The condition wasn't true within {timeout} s.")

    # Events

    @property
    def events(self) -> list[JsonObject]:
        """Copies of all events, oldest first."""
        with self._changed:
            self._apply_due_transitions()
            found = [event for account in self._accounts.values() for event in account.events]
        return [event.load() for event in sorted(found, key=lambda event: event.created)]

    def add_webhook(
        self, url: str, secret: str, events: Iterable[str] = ("*",), *, livemode: bool | None = None
    ) -> None:
        """Deliver all new events to a URL, with up to three attempts each.

        :param secret: the signing secret, ``whsec_…``.
        :param events: the event types to send; ``*`` for all.
        :param livemode: the mode of the events; None for both modes.
        """
        endpoint = WebhookEndpoint(url, secret, tuple(events), livemode)
        with self._changed:
            self._endpoints.append(endpoint)
            for account in self._accounts.values():
                if endpoint.has_mode(account.livemode):
                    account.add_webhook_endpoint(url, endpoint.events)

    def deliver(
        self, event: Mapping[str, Any], url: str, secret: str, *, timestamp: int | None = None
    ) -> int:
        """Deliver one event now, for example late, twice or out of order.

        :param timestamp: the time of the signature, in seconds since the epoch; None for now.
        :return: the HTTP status of the response.
        :raises OSError: the URL can't be reached.
        """
        return WebhookSender().send(event, url, secret, timestamp)

    @property
    def deliveries(self) -> list[Delivery]:
        """The finished deliveries to the webhooks, in order."""
        return self._dispatcher.deliveries

    def wait_delivered(self, timeout: float = 5.0) -> None:
        """Wait until all deliveries are finished, including failed ones.

        :raises TimeoutError: a delivery wasn't finished within ``timeout`` seconds.
        """
        if not self._dispatcher.wait(timeout):
            raise TimeoutError(f"Some events weren't delivered within {timeout} s.")

    # Internals

    def _serve(self, connection: Connection, request: Request) -> None:
        if request.path.startswith(control_api.PREFIX):
            connection.respond(control_api.respond(self, request))
        else:
            self._handler.handle(connection, request)

    def _account(self, livemode: bool) -> Account:
        return self._accounts[livemode]

    def _new_accounts(self) -> dict[bool, Account]:
        accounts = {
            livemode: Account(
                now=self._clock,
                livemode=livemode,
                enforce_amount_limit=self._enforce_amount_limit,
                refund_settles_after=self._refund_settles_after,
                on_event=partial(self._publish, livemode),
            )
            for livemode in (False, True)
        }
        accounts[False].other_mode, accounts[True].other_mode = accounts[True], accounts[False]
        return accounts

    def _publish(self, livemode: bool, event: StoredEvent) -> None:
        for endpoint in self._endpoints:
            if endpoint.has_mode(livemode) and endpoint.accepts(event.type):
                self._dispatcher.enqueue(event.load(), endpoint)

    def _apply_due_transitions(self) -> None:
        for account in self._accounts.values():
            account.apply_due_transitions()

    def _read(self, find: Callable[[Account], JsonObject]) -> JsonObject:
        with self._changed:
            self._apply_due_transitions()
            return self._in_either_mode(find)

    def _modify(self, change: Callable[[Account], JsonObject]) -> JsonObject:
        with self._changed:
            self._apply_due_transitions()
            changed = self._in_either_mode(change)
            self._changed.notify_all()
            return changed

    def _in_either_mode(self, action: Callable[[Account], JsonObject]) -> JsonObject:
        """Run an action on the account that has the object, in test or live mode."""
        for account in self._accounts.values():
            try:
                return dict(copy_json(action(account)))
            except ApiError as error:
                if error.status != 404:
                    raise
                missing = error
        raise LookupError(str(missing))

    def _run_on_server(self, *actions: Callable[[], None]) -> None:
        """Run functions on the server's thread, which owns the connections, and wait for them."""
        for action in actions:
            if self._server is not None:
                self._server.call(action)

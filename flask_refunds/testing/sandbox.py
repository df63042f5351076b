"""The Stripe sandbox: a local version of Stripe's refunds API, with a clock, webhooks and faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from . import control_api, state
from .account import Account
from .api import Api, RateLimit
from .api_versions import API_VERSION
from .controls import AccountControls
from .delivery import Delivery, EventDispatcher, WebhookEndpoint, WebhookSender
from .events import StoredEvent
from .faults import Fault, FaultNotUsed, FaultPlan, Injected
from .http_server import Connection, HttpServer, Request
from .idempotency import IdempotencyKeys
from .objects import JsonObject
from .request_handler import RequestHandler
from .request_log import ReceivedRequest, RequestLog
from .signatures import PING, make_event

_SOURCES = {False: "@self", True: "@accounts"}


class StripeSandbox(AccountControls):
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
    :param enforce_amount_limit: False accepts refunds of more than the amount captured. A double refund then
        shows in :meth:`money_refunded`.
    :param rate_limit: requests per second before Stripe's 429 error; None for no limit.
    :param latency: seconds of real time between the arrival of a request and its execution.
    :param refund_settles_after: seconds on the sandbox's clock until a refund of an asynchronous test card
        changes its status.
    :param api_version: the account's default API version, for requests without ``Stripe-Version``, events and
        the objects that this class returns.
    :param clock: returns seconds since the epoch; by default real time.
    :param on_request: called with each API request when it has its response, or won't get one. This is on the
        server's thread.
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
        api_version: str = API_VERSION,
        clock: Callable[[], float] = time.time,
        on_request: Callable[[ReceivedRequest], None] = lambda request: None,
    ) -> None:
        super().__init__(
            livemode=secret_key is not None and secret_key[3:8] == "live_",
            enforce_amount_limit=enforce_amount_limit,
            refund_settles_after=refund_settles_after,
            api_version=api_version,
            clock=clock,
        )
        self._port = port
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
            on_request=on_request,
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

    def dump(self) -> JsonObject:
        """Return all payments, refunds, events and idempotency keys as JSON, with the time."""
        with self._changed:
            self._apply_due_transitions()
            return {
                "now": self._clock(),
                "offset": self._clock.offset,
                "keys": state.dump_keys(self._keys),
                "accounts": [state.dump_account(self._accounts[livemode]) for livemode in (False, True)],
            }

    def load(self, dumped: JsonObject, *, at_its_time: bool = False) -> None:
        """Replace all payments, refunds, events and idempotency keys by those of :meth:`dump`.

        :param at_its_time: continue at the time of the dump; otherwise time has passed since then.
        """
        connected = {name for account in dumped["accounts"] for name in account["connected"]}
        with self._changed:
            self._clock.offset = dumped["offset"]
            if at_its_time:
                self._clock.set(dumped["now"])
            before, self._accounts = self._accounts, self._new_accounts()
            for livemode, account in before.items():
                self._accounts[livemode].webhook_endpoints = account.webhook_endpoints
                self._accounts[livemode].event_destinations = account.event_destinations
            self._keys.clear()
            state.load_keys(self._keys, dumped["keys"])
        for account_id in sorted(connected):
            self.connect_account(account_id)
        with self._changed:
            for livemode, saved in zip((False, True), dumped["accounts"], strict=True):
                state.load_account(self._accounts[livemode], saved)
            self._changed.notify_all()

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
        injected.remove = partial(self._remove_fault, injected)
        with self._changed:
            return self._faults.inject(injected)

    def fault(
        self,
        fault: Fault | str,
        *,
        method: str = "POST",
        path: str = "/v1/refunds",
        times: int | None = None,
        after: int = 0,
    ) -> Injected:
        """Apply a fault to all matching requests of a ``with`` block; see :meth:`inject`.

        ::

            with stripe.fault("response_lost"):
                refunds.refund(purchase)

        :raises FaultNotUsed: at the end of the block; no request got the fault, so the block didn't test it.
        """
        return self.inject(fault, method=method, path=path, times=times, after=after)

    def assert_faults_used(self) -> None:
        """Fail if a fault that was injected wasn't applied to any request yet.

        :raises FaultNotUsed: names these faults.
        """
        with self._changed:
            unused = self._faults.unused()
        if unused:
            raise FaultNotUsed(unused)

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

    @property
    def last_request(self) -> ReceivedRequest:
        """A copy of the latest POST request; requests that only read something don't count.

        :raises LookupError: there was none.
        """
        with self._changed:
            return self._request_log.last_post()

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
        version = self._accounts[False].api_version
        return [event.load(version) for event in self._stored_events() if event.exists_in(version)]

    @property
    def thin_events(self) -> list[JsonObject]:
        """Copies of the thin events about the same changes, oldest first."""
        return [event.load_thin() for event in self._stored_events() if not event.is_about_release]

    def add_webhook(
        self,
        url: str,
        secret: str,
        events: Iterable[str] = ("*",),
        *,
        livemode: bool | None = None,
        thin: bool = False,
        connect: bool = False,
        api_version: str | None = None,
        receive: Callable[[JsonObject], None] | None = None,
    ) -> None:
        """Deliver all new events to a URL, with up to three attempts each.

        :param secret: the signing secret, ``whsec_…``.
        :param events: the event types to send; ``*`` for all.
        :param livemode: the mode of the events; None for both modes. A live endpoint with ``connect`` also
            receives test events, as in Stripe.
        :param thin: send thin events (``v1.refund.updated``) instead of snapshots.
        :param connect: send the events of connected accounts instead of the platform's.
        :param api_version: the version of the events' objects; by default the account's.
        :param receive: called with each event instead, while the sandbox waits. It must only store the event.
        """
        endpoint = WebhookEndpoint(url, secret, tuple(events), livemode, thin, connect, api_version, receive)
        with self._changed:
            self._endpoints.append(endpoint)
            for account in self._accounts.values():
                if livemode in (None, account.livemode) and thin:
                    account.add_event_destination(url, endpoint.events, [_SOURCES[connect]])
                elif livemode in (None, account.livemode):
                    account.add_webhook_endpoint(url, endpoint.events, api_version)

    def ping(self, url: str) -> None:
        """Deliver the event that Stripe sends to test an event destination.

        :param url: the URL of an endpoint that receives thin events.
        """
        with self._changed:
            for endpoint in self._endpoints:
                if endpoint.thin and endpoint.url == url:
                    self._dispatcher.enqueue(self._new_ping(endpoint), endpoint)

    def deliver(
        self, event: Mapping[str, Any], url: str, secret: str, *, timestamp: int | None = None
    ) -> int:
        """Deliver one event now, for example late, twice or out of order.

        :param timestamp: the time of the signature, in seconds since the epoch; None for now.
        :return: the HTTP status of the response.
        :raises OSError: the URL can't be reached.
        """
        return WebhookSender().send(event, url, secret, timestamp)

    def redeliver(self, event_id: str) -> None:
        """Deliver an event again, to every webhook that gets it.

        :raises LookupError: the ID is unknown.
        """
        with self._changed:
            found = [account for account in self._all_accounts() if event_id in account.events.by_id]
            for account in found:
                self._publish(account, account.events.by_id[event_id])
        if not found:
            raise LookupError(f"No such event: '{event_id}'")
        self.after_change()

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

    def _stored_events(self) -> list[StoredEvent]:
        with self._changed:
            self._apply_due_transitions()
            found = [event for account in self._all_accounts() for event in account.events]
        return sorted(found, key=lambda event: event.sequence)

    def _remove_fault(self, injected: Injected) -> None:
        with self._changed:
            self._faults.remove(injected)

    def _new_ping(self, endpoint: WebhookEndpoint) -> JsonObject:
        account = self._accounts[endpoint.livemode or False]
        [subject] = [each for each in account.event_destinations if each["name"] == endpoint.url][-1:]
        return make_event(PING, subject, created=int(self._clock()), livemode=account.livemode)

    def _publish(self, account: Account, event: StoredEvent) -> None:
        for endpoint in self._endpoints:
            payload = endpoint.payload(event, account)
            if payload is not None and endpoint.receive is not None:
                endpoint.receive(payload)
            elif payload is not None:
                self._dispatcher.enqueue(payload, endpoint)

    def _run_on_server(self, *actions: Callable[[], None]) -> None:
        """Run functions on the server's thread, which owns the connections, and wait for them."""
        for action in actions:
            if self._server is not None:
                self._server.call(action)

"""A Stripe account on this machine, with its clock, its webhooks and its bad days."""

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
from .delivery import EventDispatcher, Delivery, WebhookSender, WebhookEndpoint
from .errors import ApiError
from .events import StoredEvent
from .faults import Fault, FaultPlan, Injected
from .idempotency import IdempotencyKeys
from .request_log import RequestLog, ReceivedRequest
from .objects import JsonObject, snapshot
from .request_handler import RequestHandler
from .http_server import Connection, HttpServer, Request


class StripeSandbox:
    """Stripe's refunds API on 127.0.0.1, to be used as a context manager.

    ::

        with StripeSandbox() as sandbox:
            stripe = StripeClient("sk_test_123", base_addresses={"api": sandbox.url})
            paid = sandbox.create_payment(2000)
            stripe.v1.refunds.create({"payment_intent": paid})
            assert sandbox.money_refunded(paid) == 2000

    Everything may be called from any thread.

    :param port: where to listen; 0 for any free port.
    :param secret_key: the only key that is accepted; by default every well-formed secret or
        restricted key is. The key says whether a request is in live or in test mode.
    :param enforce_amount_limit: False lets refunds exceed what was paid, so that a caller who pays
        twice shows in :meth:`money_refunded`.
    :param rate_limit: requests a second before 429 is answered; None for no limit.
    :param latency: seconds, really waited, between the arrival of a request and its execution.
    :param refund_settles_after: seconds, of the sandbox's clock, until a refund of Stripe's
        asynchronous test cards changes.
    :param clock: gives seconds since the epoch; real time by default.
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
        self._limit = RateLimit(rate_limit, self._clock)
        self._faults = FaultPlan()
        self._journal = RequestLog()
        self._courier = EventDispatcher()
        self._endpoints: list[WebhookEndpoint] = []
        self._server: HttpServer | None = None
        self._service = RequestHandler(
            Api(self._account, keys=self._keys, limit=self._limit, now=self._clock, secret_key=secret_key),
            faults=self._faults,
            journal=self._journal,
            changed=self._changed,
            run_due=self._run_due,
            latency=latency,
        )

    # Running

    def start(self) -> StripeSandbox:
        """Listen.

        :return: this sandbox.
        :raises OSError: when the port is taken.
        """
        if self._server is not None:
            raise RuntimeError("the sandbox runs already")
        server = HttpServer(self._serve, port=self._port)
        server.start()
        self._server = server
        return self

    def stop(self) -> None:
        """Hang up on everybody and end all threads. What the account holds can still be read."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        self._courier.stop()

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
        """Where Stripe is: ``http://127.0.0.1:PORT``.

        :raises RuntimeError: when the sandbox does not run.
        """
        if self._server is None:
            raise RuntimeError("the sandbox does not run: call start(), or use it in a with block")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def latency(self) -> float:
        """Seconds between the arrival of a request and its execution; may be set at any time."""
        return self._service.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._service.latency = seconds

    @property
    def rate_limit(self) -> int | None:
        """Requests a second before 429 is answered; may be set at any time."""
        return self._limit.per_second

    @rate_limit.setter
    def rate_limit(self, per_second: int | None) -> None:
        self._limit.per_second = per_second

    def reset(self) -> None:
        """As new: no payments, refunds, events, keys, faults, requests, webhooks or time passed."""
        self._do(self._service.forget, self._service.hang_up)
        self._courier.stop()
        with self._changed:
            self._courier.clear()
            self._endpoints.clear()
            self._faults.clear()
            self._keys.clear()
            self._limit.clear()
            self._journal.clear()
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
        """Pay with a test card, without a request.

        :param amount: in minor units, at least 1.
        :param card: a number, or an id such as ``pm_card_pendingRefund``.
        :param livemode: by default the mode of ``secret_key``, or test mode.
        :return: the id of the payment intent. A card that declines leaves it unpaid.
        """
        used = find_card(card)
        if used is None or amount < 1:
            raise ValueError(f"no payment of {amount} by {card}")
        with self._changed:
            account = self._account(self._livemode if livemode is None else livemode)
            try:
                intent = account.create_payment_intent(
                    amount=amount,
                    currency=currency.lower(),
                    card=used,
                    confirm=True,
                    metadata=dict(metadata or {}),
                )
            except ApiError as declined:
                intent = declined.error["payment_intent"]
            self._changed.notify_all()
            return str(intent["id"])

    def payment_intent(self, payment_intent: str) -> JsonObject:
        """A copy of a payment intent.

        :raises LookupError: when there is none with this id.
        """
        return self._read(lambda account: account.payment_intent(payment_intent))

    def charge(self, payment_intent: str) -> JsonObject:
        """A copy of a payment intent's latest charge.

        :raises LookupError: when there is none.
        """
        charge = self.payment_intent(payment_intent)["latest_charge"]
        return self._read(lambda account: account.charge(charge))

    def refund(self, refund_id: str) -> JsonObject:
        """A copy of a refund.

        :raises LookupError: when there is none with this id.
        """
        return self._read(lambda account: account.refund(refund_id))

    def refunds(self, payment_intent: str | None = None) -> list[JsonObject]:
        """Copies of a payment intent's refunds, or of all; oldest first."""
        with self._changed:
            self._run_due()
            found = [
                snapshot(refund)
                for account in self._accounts.values()
                for refund in account.refunds_of(payment_intent)
            ]
        return sorted(found, key=lambda refund: int(refund["created"]))

    def money_refunded(self, payment_intent: str) -> int:
        """What has been paid back, or is about to be: refunds neither failed nor canceled.

        :return: minor units.
        """
        with self._changed:
            self._run_due()
            return sum(it.money_refunded(payment_intent) for it in self._accounts.values())

    def refund_in_dashboard(self, payment_intent: str, amount: int | None = None) -> JsonObject:
        """Refund as somebody does who uses Stripe's Dashboard: without metadata or a key.

        :param amount: in minor units; by default all that is left.
        :return: a copy of the refund.
        :raises ApiError: when Stripe would refuse.
        """
        return self._change(
            lambda account: account.create_refund(payment_intent=payment_intent, amount=amount)
        )

    def settle(self, refund_id: str, status: str, failure_reason: str | None = None) -> JsonObject:
        """Let a refund become ``succeeded``, ``failed``, ``canceled``, …, and send the events.

        :param failure_reason: of https://docs.stripe.com/refunds#failed-refunds
        :return: a copy of the refund.
        :raises LookupError: when there is none with this id.
        :raises ValueError: when no refund could go that way.
        """
        return self._change(lambda account: account.settle(refund_id, status, failure_reason))

    def advance(self, seconds: float) -> None:
        """Move the clock forward, and let happen what falls due."""
        with self._changed:
            self._clock.advance(seconds)
            self._run_due()
            self._changed.notify_all()

    def now(self) -> float:
        """The sandbox's time, in seconds since the epoch."""
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
        """Have the next matching requests suffer a fault, each at most one.

        :param method: ``*`` for any.
        :param path: a prefix, or a pattern such as ``/v1/*/confirm``.
        :param times: how many requests; None for all, until :meth:`clear_faults`.
        :param after: how many matching requests to let pass first.
        :return: counts its ``hits``.
        """
        injected = Injected(Fault(fault), method, path, times, after)
        with self._changed:
            return self._faults.inject(injected)

    def clear_faults(self) -> None:
        """Forget all faults, hang up on who hangs, and execute what is late."""
        with self._changed:
            self._faults.clear()
        self._do(self._service.hang_up, self._service.release)

    def release(self) -> None:
        """Execute, and answer, the requests held by :attr:`Fault.LATE`."""
        self._do(self._service.release)

    # Watching

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests so far, or the last 200,000 of them, oldest first; copies."""
        with self._changed:
            return self._journal.find()

    def count_requests(self) -> dict[str, int]:
        """How many of those were answered with each status; ``none`` for those without an answer."""
        with self._changed:
            return self._journal.count_by_status()

    def wait_for_requests(
        self,
        count: int,
        timeout: float = 5.0,
        *,
        method: str | None = None,
        path: str | None = None,
    ) -> list[ReceivedRequest]:
        """Wait until so many requests have arrived.

        Without latency they are executed by then, and answered.

        :param method: count only these; None for all.
        :param path: count only these; exact, None for all.
        :return: copies of them.
        :raises TimeoutError: when fewer came within ``timeout`` seconds.
        """
        self.wait_until(lambda: self._journal.count(method, path) >= count, timeout)
        with self._changed:
            return self._journal.find(method, path)

    def wait_until(self, condition: Callable[[], object], timeout: float = 5.0) -> None:
        """Wait until a condition on this sandbox is true; it is tried after each change.

        :raises TimeoutError: when it was not within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(condition()), timeout):
                raise TimeoutError(f"not within {timeout} s")

    # Events

    @property
    def events(self) -> list[JsonObject]:
        """The events so far, oldest first; copies."""
        with self._changed:
            self._run_due()
            found = [event for it in self._accounts.values() for event in it.events]
        return [event.load() for event in sorted(found, key=lambda event: event.created)]

    def add_webhook(
        self, url: str, secret: str, events: Iterable[str] = ("*",), *, livemode: bool | None = None
    ) -> None:
        """Deliver events from now on, each tried three times until a 2xx is answered.

        :param secret: signs them, ``whsec_…``.
        :param events: the types wanted; ``*`` for all.
        :param livemode: whose events; None for those of both modes.
        """
        endpoint = WebhookEndpoint(url, secret, tuple(events), livemode)
        with self._changed:
            self._endpoints.append(endpoint)
            for account in self._accounts.values():
                if endpoint.is_of(account.livemode):
                    account.add_webhook_endpoint(url, endpoint.events)

    def deliver(
        self, event: Mapping[str, Any], url: str, secret: str, *, timestamp: int | None = None
    ) -> int:
        """Deliver an event here and now: late, twice, or out of order.

        :param timestamp: when it was signed, in seconds since the epoch; now if None.
        :return: the HTTP status answered.
        :raises OSError: when nobody answers.
        """
        return WebhookSender().send(event, url, secret, timestamp)

    @property
    def deliveries(self) -> list[Delivery]:
        """What came of the events for the endpoints added, in order."""
        return self._courier.deliveries

    def wait_delivered(self, timeout: float = 5.0) -> None:
        """Wait until every event is delivered, or given up.

        :raises TimeoutError: when one was not within ``timeout`` seconds.
        """
        if not self._courier.wait(timeout):
            raise TimeoutError(f"events still undelivered after {timeout} s")

    # Inside

    def _serve(self, connection: Connection, request: Request) -> None:
        if request.path.startswith(control_api.PREFIX):
            connection.respond(control_api.answer(self, request))
        else:
            self._service.serve(connection, request)

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
        accounts[False].twin, accounts[True].twin = accounts[True], accounts[False]
        return accounts

    def _publish(self, livemode: bool, event: StoredEvent) -> None:
        for endpoint in self._endpoints:
            if endpoint.is_of(livemode) and endpoint.wants(event.type):
                self._courier.post(event.load(), endpoint)

    def _run_due(self) -> None:
        for account in self._accounts.values():
            account.run_due()

    def _read(self, find: Callable[[Account], JsonObject]) -> JsonObject:
        with self._changed:
            self._run_due()
            return self._in_either(find)

    def _change(self, change: Callable[[Account], JsonObject]) -> JsonObject:
        with self._changed:
            self._run_due()
            changed = self._in_either(change)
            self._changed.notify_all()
            return changed

    def _in_either(self, do: Callable[[Account], JsonObject]) -> JsonObject:
        """In the account, test or live, that has the object."""
        for account in self._accounts.values():
            try:
                return dict(snapshot(do(account)))
            except ApiError as error:
                if error.status != 404:
                    raise
                missing = error
        raise LookupError(str(missing))

    def _do(self, *actions: Callable[[], None]) -> None:
        """On the server's thread, to which connections belong; done when this returns."""
        for action in actions:
            if self._server is not None:
                self._server.call(action)

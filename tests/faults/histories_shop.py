"""A shop and a Stripe sandbox in one thread without sockets, where any call can be killed at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import mongomock
import mongomock.collection
import stripe
from bson import ObjectId
from pymongo.errors import AutoReconnect
from werkzeug.test import TestResponse

from flask_refunds import extension
from flask_refunds.models import Refund
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.testing import StripeSandbox, signed_event
from flask_refunds.testing.account import FAILED_OR_CANCELED
from flask_refunds.testing.http_server import Connection, Request, Response
from tests.faults.environments import SECRET, SIGNALS, WEBHOOK_PATH
from tests.faults.invariants import Violation, find_violations, record_of
from tests.shop import STRIPE_KEY, Shop, make_app

BASE = "http://127.0.0.1:9"
PRICE = 1999
START = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)

KILLED_BEFORE, KILLED_AFTER = "killed before", "killed after"
DATABASE_UNSENT, DATABASE_LOST = "database unsent", "database lost"
FAILURES = (KILLED_BEFORE, KILLED_AFTER, DATABASE_UNSENT, DATABASE_LOST)

_OPERATIONS = ("aggregate", "find", "find_one_and_update", "insert_one", "update_many", "update_one")


class Killed(BaseException):
    """The process was killed. Like SIGKILL, no ``except Exception`` catches this."""


@dataclass
class CallFailure:
    """What happens to a call, and at which of its steps, from 0."""

    kind: str
    step: int


@dataclass
class Steps:
    """Counts the steps of a call, and applies its failure."""

    failure: CallFailure | None = None
    count: int = 0
    inside: bool = False
    killed: bool = False

    def take(self, action: Callable[[], Any], *, at_database: bool) -> Any:
        """Take a step. A step within another one isn't counted."""
        if self.failure is None or self.inside:
            return action()
        if self.killed:
            raise Killed
        fails = self.count == self.failure.step
        self.count += 1
        return self._fail(self.failure.kind, action, at_database) if fails else self._complete(action)

    def _fail(self, kind: str, action: Callable[[], Any], at_database: bool) -> Any:
        if kind in (DATABASE_UNSENT, DATABASE_LOST):
            if not at_database:
                return self._complete(action)
            if kind == DATABASE_LOST:
                self._complete(action)
            raise AutoReconnect("in this history")
        if kind == KILLED_AFTER:
            self._complete(action)
        self.killed = True
        raise Killed

    def _complete(self, action: Callable[[], Any]) -> Any:
        self.inside = True
        try:
            return action()
        finally:
            self.inside = False


_current_call = [Steps()]


def _take_step(action: Callable[[], Any], *, at_database: bool) -> Any:
    return _current_call[0].take(action, at_database=at_database)


@contextmanager
def call(failure: CallFailure | None) -> Iterator[None]:
    """Run the block as one call. If it is killed, the block ends without an error."""
    _current_call[0] = Steps(failure)
    try:
        yield
    except Killed:
        pass
    finally:
        _current_call[0] = Steps()


class _ResponseHolder(Connection):
    """Keeps the sandbox's response. It never waits: the connection counts as closed."""

    def __init__(self) -> None:
        self.response: Response | None = None

    @property
    def alive(self) -> bool:
        return False

    def respond(self, response: Response) -> None:
        self.response = response

    def write(self, raw: bytes) -> None:
        """Discard an incomplete response."""

    def close(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


class InProcessTransport(stripe.HTTPClient):
    """Passes requests to a sandbox that isn't listening."""

    name = "in process"

    def __init__(self) -> None:
        super().__init__()
        self.sandbox: StripeSandbox

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> Any:
        parts = urlsplit(url)
        lowered = {name.lower(): value for name, value in headers.items()}
        request = Request(method.upper(), parts.path, parts.query, lowered, (post_data or "").encode())
        holder = _ResponseHolder()
        _take_step(lambda: self.sandbox._handler.handle(holder, request), at_database=False)
        if holder.response is None:
            raise stripe.APIConnectionError("no answer")  # type: ignore[no-untyped-call]
        return holder.response.body, holder.response.status, dict(holder.response.headers)

    def close(self) -> None: ...


@dataclass
class Clock:
    """The time of both the shop and Stripe, which only changes when it is set."""

    seconds: float = 0.0

    def now(self) -> datetime:
        """Return the time for the library."""
        return START + timedelta(seconds=self.seconds)

    def timestamp(self) -> float:
        """Return the time for the sandbox."""
        return self.now().timestamp()


_clock = Clock()
_transport = InProcessTransport()
_gateway: list[Gateway] = []


def _connect(*_: Any, **options: Any) -> Gateway:
    if not _gateway:
        # Creating one takes four milliseconds, a third of the time of a history.
        _gateway.append(Gateway(STRIPE_KEY, BASE, retries=1, transport=_transport, sleep=lambda _: None))
    return _gateway[0]


@contextmanager
def in_process() -> Iterator[None]:
    """Connect every gateway to the sandbox of the latest shop, and count MongoDB operations as steps."""
    collection = mongomock.collection.Collection
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(Gateway, "connect", _connect))
        patches.enter_context(mock.patch.object(extension, "ServerClock", return_value=_clock.now))
        for name in _OPERATIONS:
            patches.enter_context(mock.patch.object(collection, name, _as_step(getattr(collection, name))))
        yield


def _as_step(operation: Callable[..., Any]) -> Callable[..., Any]:
    def take(*arguments: Any, **options: Any) -> Any:
        return _take_step(lambda: operation(*arguments, **options), at_database=True)

    return take


@dataclass
class Payment:
    """A payment and its purchases."""

    id: str
    purchases: list[ObjectId]


@dataclass
class SimulatedShop:
    """A shop, its Stripe sandbox, and all signals that its receivers got.

    :param limit: whether Stripe rejects refunds that exceed the payment.
    """

    limit: bool
    payments: list[Payment] = field(default_factory=list)
    signals: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        _clock.seconds = 0.0
        self.clock = _clock
        self.sandbox = StripeSandbox(enforce_amount_limit=self.limit, clock=_clock.timestamp)
        _transport.sandbox = self.sandbox
        self.db: Any = mongomock.MongoClient(tz_aware=True).shop
        app = make_app(REFUNDS_MONGO=self.db, STRIPE_API_BASE=BASE, STRIPE_WEBHOOK_SECRET=SECRET)
        self.shop = Shop(app, self.db)
        self.refunds = extension.get_refunds(app)
        self._headers = self.shop.headers()
        self._receiver = self._receive
        for signal in SIGNALS:
            signal.connect(self._receiver, sender=app)

    def _receive(self, app: Any, refund: Refund, **extra: Any) -> None:
        _take_step(lambda: self.signals.append((refund.id, refund.status.value)), at_database=False)

    # What can happen

    def pay(self, card: str, cart: int) -> Payment:
        """Create a payment for this many purchases."""
        payment = self.sandbox.create_payment(PRICE, card=card)
        self.payments.append(Payment(payment, [self.shop.add_purchase(payment) for _ in range(cart)]))
        return self.payments[-1]

    def refund(self, purchase: ObjectId, body: dict[str, Any] | None) -> TestResponse:
        """Request a refund as an admin."""
        return self.shop.refund(purchase, headers=self._headers, **({"json": body} if body else {}))

    def deliver(self, event: Mapping[str, Any]) -> TestResponse:
        """Send an event to the webhook."""
        body, headers = signed_event(event, SECRET)
        return self.shop.client.post(WEBHOOK_PATH, data=body, headers=headers)

    def reconcile(self) -> None:
        """Run one pass that includes recent changes, because no other call is in progress."""
        reconciler = self.refunds.reconciler
        reconciler.run(reconciler.find(timedelta(0)))

    def advance(self, seconds: float) -> None:
        """Advance the shop's and Stripe's time."""
        self.clock.seconds += seconds
        self.sandbox.advance(0)

    def clear_faults(self) -> None:
        """Remove all faults, and execute the requests that Stripe delayed."""
        self.sandbox.clear_faults()
        self.sandbox._handler.close_hanging()
        self.sandbox._handler.execute_late()

    @property
    def has_delayed_requests(self) -> bool:
        """Whether Stripe has requests that it hasn't executed yet."""
        return bool(self.sandbox._handler._late)

    # The current state

    def records(self, payment: str) -> list[dict[str, Any]]:
        """Return a payment's refund records, as stored."""
        return list(self.db.flask_refunds.find({"paymentIntent": payment}).sort("createdAt", 1))

    def active_refunds(self, payment: str) -> list[dict[str, Any]]:
        """Return the payment's refunds at Stripe that didn't fail."""
        return [it for it in self.sandbox.refunds(payment) if it["status"] not in FAILED_OR_CANCELED]

    def refunds_of_record(self, refund_id: str) -> list[dict[str, Any]]:
        """Return the refunds at Stripe that one record requested and that didn't fail."""
        active = self.active_refunds(refund_id.rpartition(":")[0])
        return [it for it in active if record_of(it) == refund_id]

    def find_violations(self, payment: Payment) -> list[Violation]:
        """Return the violations of a payment in its current state."""
        return find_violations(
            payment.id,
            at_stripe=self.sandbox.refunds(payment.id),
            captured=self.sandbox.payment_intent(payment.id)["amount_received"],
            records=self.records(payment.id),
            purchases=list(self.db.purchases.find({"_id": {"$in": payment.purchases}})),
            signals=self.signals,
        )

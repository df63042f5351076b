"""A shop and its Stripe in one thread, without a socket, in which any call can be killed at any step."""

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

import flask_refunds
from flask_refunds import extension
from flask_refunds.models import Refund
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.testing import StripeSandbox, signed_event
from flask_refunds.testing.account import FAILED_OR_CANCELED
from flask_refunds.testing.http_server import Connection, Request, Response
from tests.faults.invariants import Violation, violations
from tests.shop import Shop, make_app

SECRET = "whsec_of_the_histories_0123456789"
BASE = "http://127.0.0.1:9"
START = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)

KILLED_BEFORE, KILLED_AFTER = "killed before", "killed after"
DATABASE_UNSENT, DATABASE_LOST = "database unsent", "database lost"
ACCIDENTS = (KILLED_BEFORE, KILLED_AFTER, DATABASE_UNSENT, DATABASE_LOST)

_OPERATIONS = ("aggregate", "find", "find_one_and_update", "insert_one", "update_many", "update_one")
_SIGNALS = (
    flask_refunds.refund_succeeded,
    flask_refunds.refund_pending,
    flask_refunds.refund_failed,
    flask_refunds.refund_needs_review,
)


class Killed(BaseException):
    """The process is no more: nothing catches this, as nothing catches SIGKILL."""


@dataclass
class Accident:
    """What happens to a call, and at which of its steps, counted from 0."""

    what: str
    step: int


@dataclass
class Steps:
    """Counts a call's steps, and lets its accident happen."""

    accident: Accident | None = None
    taken: int = 0
    inside: bool = False
    over: bool = False

    def take(self, action: Callable[[], Any], *, at_database: bool) -> Any:
        """Take a step; a step within another is none."""
        if self.accident is None or self.inside:
            return action()
        if self.over:
            raise Killed
        hit = self.taken == self.accident.step
        self.taken += 1
        return self._suffer(self.accident.what, action, at_database) if hit else self._whole(action)

    def _suffer(self, what: str, action: Callable[[], Any], at_database: bool) -> Any:
        if what in (DATABASE_UNSENT, DATABASE_LOST):
            if at_database and what == DATABASE_LOST:
                self._whole(action)
            if at_database:
                raise AutoReconnect("in this history")
            return self._whole(action)
        if what == KILLED_AFTER:
            self._whole(action)
        self.over = True
        raise Killed

    def _whole(self, action: Callable[[], Any]) -> Any:
        self.inside = True
        try:
            return action()
        finally:
            self.inside = False


_under_way = [Steps()]


def _take(action: Callable[[], Any], *, at_database: bool) -> Any:
    return _under_way[0].take(action, at_database=at_database)


@contextmanager
def call(accident: Accident | None) -> Iterator[None]:
    """Everything inside is one call, the only one at its time; if it is killed, it is over."""
    _under_way[0] = Steps(accident)
    try:
        yield
    except Killed:
        pass
    finally:
        _under_way[0] = Steps()


class _Wire(Connection):
    """Where the sandbox writes its answer; nobody holds the line for long."""

    def __init__(self) -> None:
        self.answer: Response | None = None

    @property
    def alive(self) -> bool:
        return False

    def respond(self, response: Response) -> None:
        self.answer = response

    def write(self, raw: bytes) -> None:
        """What is no whole answer, is none."""

    def close(self) -> None:
        """There is nothing to close."""

    def abort(self) -> None:
        """There is nothing to close."""


class InProcess(stripe.HTTPClient):
    """Carries requests to a sandbox that does not listen."""

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
        wire = _Wire()
        _take(lambda: self.sandbox._handler.handle(wire, request), at_database=False)
        if wire.answer is None:
            raise stripe.APIConnectionError("no answer")  # type: ignore[no-untyped-call]
        answer = wire.answer
        return answer.body, answer.status, dict(answer.headers)

    def close(self) -> None: ...


@dataclass
class Clock:
    """One time for the shop and for Stripe, that stands still until it is moved."""

    seconds: float = 0.0

    def now(self) -> datetime:
        """For the library."""
        return START + timedelta(seconds=self.seconds)

    def timestamp(self) -> float:
        """For the sandbox."""
        return self.now().timestamp()


_clock = Clock()
_transport = InProcess()
_gateway: list[Gateway] = []


def _connect(*_: Any, **options: Any) -> Gateway:
    if not _gateway:
        # Four milliseconds each: as many as a third of a history.
        key = "sk_test_flaskRefundsTests0000000000"
        _gateway.append(Gateway(key, BASE, retries=1, transport=_transport, sleep=lambda _: None))
    return _gateway[0]


@contextmanager
def in_process() -> Iterator[None]:
    """Inside, every gateway reaches the sandbox of the shop made last, and MongoDB is counted in steps."""
    collection = mongomock.collection.Collection
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(Gateway, "connect", _connect))
        patches.enter_context(mock.patch.object(extension, "now", _clock.now))
        for name in _OPERATIONS:
            patches.enter_context(mock.patch.object(collection, name, _stepped(getattr(collection, name))))
        yield


def _stepped(operation: Callable[..., Any]) -> Callable[..., Any]:
    def stepped(*arguments: Any, **options: Any) -> Any:
        return _take(lambda: operation(*arguments, **options), at_database=True)

    return stepped


@dataclass
class Paid:
    """A payment, and the purchases that it paid."""

    payment: str
    purchases: list[ObjectId]


@dataclass
class World:
    """A shop, its Stripe, and all that its receivers heard.

    :param limit: whether Stripe refuses to refund more than was paid.
    """

    limit: bool
    paid: list[Paid] = field(default_factory=list)
    heard: list[tuple[str, str]] = field(default_factory=list)

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
        self._receiver = self._hear
        for signal in _SIGNALS:
            signal.connect(self._receiver, sender=app)

    def _hear(self, app: Any, refund: Refund, **extra: Any) -> None:
        _take(lambda: self.heard.append((refund.id, refund.status.value)), at_database=False)

    # What people, Stripe and time do

    def pay(self, card: str, cart: int) -> Paid:
        """Sell something."""
        payment = self.sandbox.create_payment(1999, card=card)
        self.paid.append(Paid(payment, [self.shop.add_purchase(payment) for _ in range(cart)]))
        return self.paid[-1]

    def refund(self, purchase: ObjectId, body: dict[str, Any] | None) -> TestResponse:
        """Ask for a refund, as the admin."""
        return self.shop.refund(purchase, headers=self._headers, **({"json": body} if body else {}))

    def deliver(self, event: Mapping[str, Any]) -> TestResponse:
        """Let Stripe call the webhook."""
        body, headers = signed_event(event, SECRET)
        return self.shop.client.post("/api/payments/webhook/refunds", data=body, headers=headers)

    def reconcile(self) -> None:
        """One pass, which leaves nothing to calls that may still be under way: there are none."""
        reconciler = self.refunds.reconciler
        reconciler.run(reconciler.find(timedelta(0)))

    def advance(self, seconds: float) -> None:
        """Let time pass, for all."""
        self.clock.seconds += seconds
        self.sandbox.advance(0)

    def clear_faults(self) -> None:
        """Stripe is well again, and executes what it had put off."""
        self.sandbox.clear_faults()
        self.sandbox._handler.close_hanging()
        self.sandbox._handler.execute_late()

    @property
    def is_late(self) -> bool:
        """Whether Stripe still has requests that it put off."""
        return bool(self.sandbox._handler._late)

    # What there is

    def rows(self, payment: str) -> list[dict[str, Any]]:
        """A payment's ledger, as it is stored."""
        return list(self.db.flask_refunds.find({"paymentIntent": payment}).sort("number", 1))

    def live(self, payment: str) -> list[dict[str, Any]]:
        """The payment's refunds that move money, or are about to."""
        return [it for it in self.sandbox.refunds(payment) if it["status"] not in FAILED_OR_CANCELED]

    def live_of(self, refund_id: str) -> list[dict[str, Any]]:
        """Those that one row asked for."""
        payment = refund_id.rpartition(":")[0]
        return [it for it in self.live(payment) if it["metadata"].get("refund_id") == refund_id]

    def violations(self, paid: Paid) -> list[Violation]:
        """What is wrong with a payment now."""
        return violations(
            paid.payment,
            at_stripe=self.sandbox.refunds(paid.payment),
            rows=self.rows(paid.payment),
            purchases=list(self.db.purchases.find({"_id": {"$in": paid.purchases}})),
            heard=self.heard,
        )

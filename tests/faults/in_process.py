"""The library's calls in one thread without sockets, where each can be killed or fail at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import product
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import mongomock.collection
import pymongo.collection
import stripe
from pymongo.errors import AutoReconnect

from flask_refunds import extension
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.testing import StripeSandbox
from flask_refunds.testing.http_server import Connection, Request, Response
from tests.shop import STRIPE_KEY

BASE = "http://127.0.0.1:9"
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


def take_step(action: Callable[[], Any], *, at_database: bool) -> Any:
    """Take a step of the current call, which may be the one that fails."""
    return _current_call[0].take(action, at_database=at_database)


@contextmanager
def call(failure: CallFailure | None) -> Iterator[None]:
    """Run the block as one call. If it is killed, or a receiver exits, it ends without an error."""
    _current_call[0] = Steps(failure)
    try:
        yield
    except (Killed, SystemExit):
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
        take_step(lambda: self.sandbox._handler.handle(holder, request), at_database=False)
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


clock = Clock()
_transport = InProcessTransport()
_gateway: list[Gateway] = []


def connect_sandbox(sandbox: StripeSandbox) -> None:
    """Send the requests of every gateway to this sandbox."""
    _transport.sandbox = sandbox


def current_sandbox() -> StripeSandbox:
    """Return the sandbox that requests are sent to."""
    return _transport.sandbox


def _connect(*_: Any, **options: Any) -> Gateway:
    if not _gateway:
        # Creating one takes four milliseconds, a third of the time of a history.
        _gateway.append(Gateway(STRIPE_KEY, BASE, retries=1, transport=_transport, sleep=lambda _: None))
    return _gateway[0]


@contextmanager
def in_process() -> Iterator[None]:
    """Connect every gateway to one sandbox, follow one clock, and count MongoDB operations as steps."""
    collections: tuple[Any, ...] = (mongomock.collection.Collection, pymongo.collection.Collection)
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(Gateway, "connect", _connect))
        patches.enter_context(mock.patch.object(extension, "ServerClock", return_value=clock.now))
        for collection, name in product(collections, _OPERATIONS):
            patches.enter_context(mock.patch.object(collection, name, _as_step(getattr(collection, name))))
        yield


def _as_step(operation: Callable[..., Any]) -> Callable[..., Any]:
    def take(*arguments: Any, **options: Any) -> Any:
        return take_step(lambda: operation(*arguments, **options), at_database=True)

    return take

"""The library's calls in one thread without sockets, where each can be killed or fail at any step."""

from __future__ import annotations

import contextvars
import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import mongomock.collection
import pymongo.collection
import stripe
from pymongo.errors import AutoReconnect

from flask_refunds import extension
from flask_refunds.bulk import runner
from flask_refunds.bulk.worker_pool import WorkerPool
from flask_refunds.clock import Deadline
from flask_refunds.storage import server_clock
from flask_refunds.storage.server_clock import ServerClock
from flask_refunds.stripe_client import gateway
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.testing import StripeSandbox
from flask_refunds.testing.http_server import Connection, Request, Response
from tests.shop import STRIPE_KEY

BASE = "http://127.0.0.1:9"
START = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)

KILLED_BEFORE, KILLED_AFTER = "killed before", "killed after"
DATABASE_UNSENT, DATABASE_LOST = "database unsent", "database lost"
FAILURES = (KILLED_BEFORE, KILLED_AFTER, DATABASE_UNSENT, DATABASE_LOST)
SUSPENDED = "suspended"
"""The process stops before a step, others act for longer than a lease, and then it continues."""

_OPERATIONS = ("aggregate", "find", "find_one_and_update", "insert_one", "update_many", "update_one")


class Killed(BaseException):
    """The process was killed. Like SIGKILL, no ``except Exception`` catches this."""


@dataclass
class CallFailure:
    """What happens to a call, and at which of its steps, from 0.

    :param meanwhile: what others do while it is suspended.
    """

    kind: str
    step: int
    meanwhile: str = "nothing"


@dataclass
class Steps:
    """Counts the steps of a call, and applies its failure.

    :param meanwhile: lets others act while the call is suspended.
    """

    failure: CallFailure | None = None
    meanwhile: Callable[[], None] = lambda: None
    count: int = 0
    inside: bool = False
    killed: bool = False

    def take(self, action: Callable[[], Any], *, at_database: bool) -> Any:
        """Take a step. A step within another one isn't counted."""
        if self.killed:
            raise Killed
        if self.failure is None or self.inside:
            return action()
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
        if kind == SUSPENDED:
            # Others have neither the time limits of this call nor its app.
            contextvars.Context().run(self.meanwhile)
            return self._complete(action)
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
def call(failure: CallFailure | None, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Run the block as one call. If it is killed, or a receiver exits, it ends without an error.

    :param meanwhile: lets others act while the call is suspended. Their calls can be within this one.
    """
    outer, _current_call[0] = _current_call[0], Steps(failure, meanwhile)
    try:
        yield
    except (Killed, SystemExit):
        pass
    finally:
        _current_call[0] = outer


def kill_current_call() -> None:
    """Kill the process of the current call.

    :raises Killed: always.
    """
    _current_call[0].killed = True
    raise Killed


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
        self.shows_date = True

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
        shown = dict(holder.response.headers)
        if not self.shows_date:
            shown.pop("Date", None)
        return holder.response.body, holder.response.status, shown

    def close(self) -> None: ...


@dataclass
class Clock:
    """The time, which only changes when it is set. The clocks of the shop's machines are years off.

    :param database_error: how many seconds the clock of MongoDB's primary is ahead of Stripe's.
    :param latest: the latest time that MongoDB has shown. What was stored then may wait until it is reached.
    """

    seconds: float = 0.0
    database_error: float = 0.0
    latest: float = 0.0

    def now(self) -> datetime:
        """Return MongoDB's time."""
        self.latest = max(self.latest, self.seconds + self.database_error)
        return START + timedelta(seconds=self.seconds + self.database_error)

    def timestamp(self) -> float:
        """Return Stripe's time."""
        return START.timestamp() + self.seconds

    def elapsed(self) -> float:
        """Return seconds on a machine's clock that never jumps."""
        return self.seconds

    def command(self, name: str) -> Mapping[str, Any]:
        """Answer as MongoDB does, when it is asked for its time."""
        assert name == "hello"
        return {"localTime": self.now()}


clock = Clock()
_transport = InProcessTransport()
_gateway: list[Gateway] = []


def connect_sandbox(sandbox: StripeSandbox) -> None:
    """Send the requests of every gateway to this sandbox."""
    _transport.sandbox = sandbox
    _transport.shows_date = True


def show_dates(shown: bool) -> None:
    """Let Stripe's answers have a ``Date``, or let a proxy remove it."""
    _transport.shows_date = shown


def current_sandbox() -> StripeSandbox:
    """Return the sandbox that requests are sent to."""
    return _transport.sandbox


def _connect(*_: Any, **options: Any) -> Gateway:
    if not _gateway:
        # Creating one takes four milliseconds, a third of the time of a history.
        _gateway.append(Gateway(STRIPE_KEY, BASE, retries=1, transport=_transport, sleep=lambda _: None))
    return copy.copy(_gateway[0])  # each process remembers Stripe's time itself


def _work_in_one_thread(pool: WorkerPool[Any, Any], items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
        if pool.stop_event.is_set():
            return
        with pool.context():
            result = pool.work(item)
        yield result


@contextmanager
def in_process() -> Iterator[None]:
    """Connect every gateway to one sandbox, follow one clock, and count MongoDB operations as steps."""
    collections: tuple[Any, ...] = (mongomock.collection.Collection, pymongo.collection.Collection)
    machine_time = SimpleNamespace(monotonic=clock.elapsed)
    with ExitStack() as patches:
        for target, name, replacement in (
            (Gateway, "connect", _connect),
            (gateway, "time", machine_time),
            (runner, "time", machine_time),
            (runner, "secrets", SimpleNamespace(randbelow=lambda limit: 0)),
            (WorkerPool, "results", _work_in_one_thread),
            (Deadline, "after", lambda seconds: Deadline(clock.elapsed() + seconds, clock.elapsed)),
            (mongomock.collection, "_copy_field", _copy_value),
            (server_clock, "is_server", lambda database: True),
            (extension, "ServerClock", lambda database: ServerClock(clock, clock.elapsed)),
        ):
            patches.enter_context(mock.patch.object(target, name, replacement))
        for collection, name in product(collections, _OPERATIONS):
            patches.enter_context(mock.patch.object(collection, name, _as_step(getattr(collection, name))))
        yield


def _copy_value(value: Any, container: type) -> Any:
    """Copy a part of a document. mongomock copies each immutable value too, which takes long."""
    if isinstance(value, dict):
        return container((key, _copy_value(item, container)) for key, item in value.items())
    if isinstance(value, list):
        return [_copy_value(item, container) for item in value]
    return value


def _as_step(operation: Callable[..., Any]) -> Callable[..., Any]:
    def take(*arguments: Any, **options: Any) -> Any:
        return take_step(lambda: operation(*arguments, **options), at_database=True)

    return take

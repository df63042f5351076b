"""The actors of a schedule: the library's own code, suspended before each of its steps.

An actor depends only on the results of its steps and on the time that it read. So it needs no suspended
thread: to find its next step, it runs again from the start with the results so far, and is suspended at the
first step without a result.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from types import GeneratorType, SimpleNamespace, TracebackType
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import mongomock
import stripe

from flask_refunds.clock import Deadline
from flask_refunds.core import reconcile, service, webhook_events
from flask_refunds.core.payments import PaymentResolver
from flask_refunds.core.reconcile import Reconciler
from flask_refunds.core.service import CallContext, RefundService
from flask_refunds.core.stripe_options import StripeOptions
from flask_refunds.core.stripe_sync import StripeSync
from flask_refunds.core.transitions import RefundTransitions
from flask_refunds.core.webhook_events import EventHandler
from flask_refunds.errors import RefundsError
from flask_refunds.instrumentation import Observers
from flask_refunds.log import LogEvent
from flask_refunds.models import Part, RefundRecord, RefundRequest
from flask_refunds.purchase_fields import PurchaseFields
from flask_refunds.signals import SignalSender
from flask_refunds.storage import ledger
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.purchases import Purchases
from flask_refunds.storage.reconcile_queue import ReconcileQueue
from flask_refunds.storage.references import References
from flask_refunds.stripe_client import gateway
from flask_refunds.stripe_client.gateway import Gateway
from tests.faults import environments
from tests.faults.schedules_state import (
    CART,
    EVENTS,
    KEY,
    LEDGER,
    PURCHASES,
    SIGNALS,
    START,
    STRIPE,
    Interned,
    Result,
    SharedState,
    Step,
    deterministic_ids,
)

LEASE = timedelta(seconds=60)


class Suspended(BaseException):
    """The actor's next step has no result yet. The library must not catch this."""


class UnexpectedBehavior(BaseException):
    """The library did something that the explorer doesn't model. The library must not catch this."""


@dataclass(frozen=True)
class CallerResult:
    """The result that an actor's caller got.

    :param kind: a status such as ``succeeded``, or the class of an error.
    :param refund_id: the refund that the response is about.
    :param stripe_called: whether the actor ever requested a refund from Stripe.
    """

    kind: str
    refund_id: str | None = None
    stripe_called: bool = False


@dataclass
class Run:
    """One run of an actor, up to the first step without a result."""

    name: str
    results: list[tuple[Result, int]]
    seconds: int
    taken: int = 0
    tokens: int = 0
    next_step: Step | None = None
    caller_result: CallerResult | None = None
    read_clock: bool = False
    stripe_called: bool = False
    acknowledged: frozenset[int] = frozenset()

    def take(self, step: Step) -> Any:
        """Return the result of a step, or suspend the actor before it."""
        if self.next_step is None and self.taken < len(self.results):
            result, self.seconds = self.results[self.taken]
            self.taken += 1
            self.read_clock = False
            self.stripe_called |= step.name == "POST"
            return result.replay()
        self.next_step = self.next_step or step
        raise Suspended

    def clock(self) -> datetime:
        """Return the time since the last step."""
        self.read_clock = True
        return START + timedelta(seconds=self.seconds)

    def token(self, _: int) -> str:
        """Return a lease token."""
        self.tokens += 1
        return f"{self.name}-{self.tokens}"


class _Cursor:
    """The result of a find, which takes its step when it is iterated."""

    def __init__(self, library: Library, place: int, criteria: Any, projection: Any) -> None:
        self._library = library
        self._place = place
        self._criteria = criteria
        self._projection = projection
        self._order: Any = None

    def limit(self, count: int) -> _Cursor:
        return self  # a schedule has few records

    def sort(self, key: str | list[tuple[str, int]], direction: int = 1) -> _Cursor:
        self._order = [(key, direction)] if isinstance(key, str) else key
        return self

    def __iter__(self) -> Iterator[Any]:
        step = Step(self._place, "find", (self._criteria, self._projection, self._order))
        return iter(self._library.run.take(step))


def _shorten(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what matters of an entry of a record's history, besides the number of entries.

    The judge also looks for reviews that were requested and closed again.
    """
    return {name: entry.get(name) for name in ("status", "actor", "review")}


class _Collection:
    """A collection whose operations are steps.

    :param by_document: the documents that an update of several documents updates one by one, like MongoDB.
    """

    def __init__(self, library: Library, place: int, name: str, by_document: tuple[Any, ...] = ()) -> None:
        self._library = library
        self._place = place
        self._by_document = by_document
        self.name = name

    def _take(self, name: str, *arguments: Any) -> Any:
        return self._library.run.take(Step(self._place, name, arguments))

    def find(self, criteria: Any, projection: Any = None) -> _Cursor:
        return _Cursor(self._library, self._place, criteria, projection)

    def find_one(self, criteria: Any) -> Any:
        return self._take("find_one", criteria)

    def aggregate(self, pipeline: Any) -> Any:
        return iter(self._take("aggregate", pipeline))

    def insert_one(self, document: Any) -> None:
        self._take("insert_one", document | {"history": [*map(_shorten, document["history"])]})

    def find_one_and_update(self, criteria: Any, update: Any, *, return_document: Any) -> Any:
        if "$push" in update:
            update = update | {"$push": {"history": _shorten(update["$push"]["history"])}}
        return self._take("find_one_and_update", criteria, update, return_document)

    def update_one(self, criteria: Any, update: Any) -> Any:
        return SimpleNamespace(modified_count=self._take("update_one", criteria, update))

    def update_many(self, criteria: Any, update: Any) -> Any:
        named = [it for it in self._by_document if it in criteria["_id"]["$in"]] if self._by_document else []
        each = [criteria | {"_id": document} for document in named] or [criteria]
        return SimpleNamespace(matched_count=sum(self._take("update_many", it, update) for it in each))

    def __getattr__(self, name: str) -> Any:
        raise UnexpectedBehavior(name)


class StepTransport(stripe.HTTPClient):
    """Makes each request to Stripe a step."""

    name = "steps"

    def __init__(self, library: Library) -> None:
        super().__init__()
        self._library = library

    def request(  # type: ignore[override]
        self, method: str, url: str, headers: Any, post_data: Any = None
    ) -> Any:
        parts = urlsplit(url)
        key = headers.get("Idempotency-Key") if method == "post" else None
        step = Step(STRIPE, method.upper(), (parts.path, parts.query, post_data or "", key))
        return self._library.run.take(step)

    def close(self) -> None: ...


class Library:
    """The library on top of steps, which belong to the actor of :attr:`run`.

    :param retries: of a request to Stripe without an answer.
    """

    run: Run

    def __init__(self, *, cart: int, retries: int) -> None:
        app = object()
        gateway = Gateway(
            KEY, "https://stripe.test", retries=retries, transport=StepTransport(self), sleep=lambda _: None
        )
        by_document = CART[:cart] if cart > 1 else ()
        records: Any = _Collection(self, LEDGER, "flask_refunds")
        purchase_documents: Any = _Collection(self, PURCHASES, "purchases", by_document)
        signal_sender = SignalSender(app)
        ledger = Ledger(records, self._clock, LEASE, signal_sender.has_listeners)
        queue = ReconcileQueue(records, self._clock)
        references = References(mongomock.MongoClient().shop.references)
        purchases = Purchases(purchase_documents, records, references, PurchaseFields())
        purchases.hold_sessions = lambda: False  # type: ignore[method-assign]
        payments = PaymentResolver(purchases, lambda: gateway)
        transitions = RefundTransitions(ledger, purchases, signal_sender, Observers())
        stripe_sync = StripeSync(ledger, purchases, payments, lambda: gateway, transitions)
        self.service = RefundService(
            ledger=ledger,
            purchases=purchases,
            payments=payments,
            options=StripeOptions({}, lambda: gateway),
            gateway=lambda: gateway,
            transitions=transitions,
            stripe_sync=stripe_sync,
            clock=self._clock,
        )
        self.events = EventHandler(stripe_sync, livemode=False)
        self.reconciler = Reconciler(
            ledger, queue, transitions, self.service, self._clock, signal_sender.has_listeners
        )
        self._receiver = self._receive
        for signal in environments.SIGNALS:
            signal.connect(self._receiver, sender=app)

    def _clock(self) -> datetime:
        return self.run.clock()

    def _receive(self, app: Any, refund: RefundRecord, **extra: Any) -> None:
        self.run.take(Step(SIGNALS, "receive", (refund.id, refund.status.value)))


Program = Callable[[Library], CallerResult]


@dataclass(frozen=True)
class Actor:
    """A name and what the actor does."""

    name: str
    program: Program = field(compare=False)


def admin(name: str, purchase: int = 0, part: Part | None = None, *, again: bool = False) -> Actor:
    """Return an admin who refunds a purchase, or a part of it, once.

    :param again: whether it is the same admin's second process, which makes the same call.
    """

    def program(library: Library) -> CallerResult:
        try:
            request = RefundRequest(requested_by=name, source="api", part=part)
            refund = library.service.refund(CART[purchase], request).refund
        except RefundsError as error:
            refund_id = error.refund.id if error.refund else None
            return CallerResult(type(error).__name__, refund_id, library.run.stripe_called)
        return CallerResult(refund.status.value, refund.id)

    return Actor(f"{name} again" if again else name, program)


def webhook(*numbers: int) -> Actor:
    """Return Stripe's delivery of events, one after the other, each when it exists.

    :param numbers: of the events, from the oldest.
    """

    def program(library: Library) -> CallerResult:
        for number in numbers:
            deliver(library, number)
        return CallerResult("delivered")

    return Actor(f"webhook{numbers}", program)


def deliver(library: Library, number: int) -> None:
    """Deliver an event. Stripe will resend it unless it is acknowledged."""
    run = library.run
    try:
        library.events.handle(run.take(Step(EVENTS, "deliver", (number,))))
        run.acknowledged |= {number}
    except RefundsError:
        pass


def reconciler(name: str = "reconcile") -> Actor:
    """Return one pass of ``flask refunds reconcile --older-than 0``."""

    def program(library: Library) -> CallerResult:
        try:
            report = library.reconciler.run(library.reconciler.find(timedelta(0)))
        except RefundsError:
            return CallerResult("unable")
        return CallerResult("errors" if report.counts["errors"] else "reconciled")

    return Actor(name, program)


@dataclass(frozen=True)
class ActorState:
    """The results that an actor received, and its next step.

    :param received: the number of each result, and the time when the actor read it.
    :param step: the number of the next step; ``None`` after the end or a crash.
    :param with_later_clock: the state if the actor had read the clock at its next time; ``None`` if it hasn't
        read the clock since its last step.
    """

    actor: int
    received: tuple[tuple[int, int], ...]
    started_at: int
    step: int | None
    caller_result: CallerResult | None
    with_later_clock: int | None
    acknowledged: frozenset[int]


@dataclass(frozen=True)
class _ActorKey:
    """All that an actor's future depends on: the position of its code, and its variables."""

    actor: int
    step: int | None
    caller_result: CallerResult | None
    frames: tuple[Any, ...]
    tokens: int
    stripe_called: bool
    acknowledged: frozenset[int]
    with_later_clock: int | None


class ActorStates:
    """The actors of a schedule, and all of their states so far.

    :param merge: whether two states are equal if the code is at the same position with the same variables.
        Otherwise they are equal only if the actor received the same results.
    """

    def __init__(
        self,
        actors: tuple[Actor, ...],
        shared: SharedState,
        library: Library,
        *,
        merge: bool,
        clock_times: tuple[int, ...],
    ) -> None:
        self._actors = actors
        self._next_time = dict(itertools.pairwise(clock_times))
        self._merge = merge
        self._shared = shared
        self._library = library
        self._states = Interned()
        self._known: dict[tuple[int, int, int], int] = {}
        self.start = tuple(self._run(actor, (), 0) for actor in range(len(actors)))

    def __getitem__(self, number: int) -> ActorState:
        state: ActorState = self._states[number]
        return state

    def resume(self, number: int, result: int, seconds: int) -> int:
        """Return an actor's state after its step returned this result at this time."""
        key = (number, result, seconds)
        after = self._known.get(key)
        if after is None:
            state = self[number]
            received = (*state.received, (result, seconds))
            after = self._known[key] = self._run(state.actor, received, state.started_at)
        return after

    def ended(self, acknowledged: frozenset[int]) -> int:
        """Return the state after the end or a crash, which is the same for all actors."""
        return self._states.number(ActorState(-1, (), 0, None, None, None, acknowledged))

    def _run(self, actor: int, received: tuple[tuple[int, int], ...], started_at: int) -> int:
        results = [(self._shared.results[result], seconds) for result, seconds in received]
        run = Run(self._actors[actor].name, results, started_at)
        frames = run_program(self._library, self._actors[actor].program, run)
        step = None if run.next_step is None else self._shared.step(run.next_step)
        later = self._run_with_later_clock(actor, received, started_at) if run.read_clock else None
        state = ActorState(actor, received, started_at, step, run.caller_result, later, run.acknowledged)
        if not self._merge:
            return self._states.number(state)
        key = _ActorKey(
            actor, step, run.caller_result, frames, run.tokens, run.stripe_called, run.acknowledged, later
        )
        return self._states.number(state, key)

    def _run_with_later_clock(
        self, actor: int, received: tuple[tuple[int, int], ...], started_at: int
    ) -> int | None:
        later = self._next_time.get(received[-1][1] if received else started_at)
        if later is None:
            return None
        if not received:
            return self._run(actor, received, later)
        return self._run(actor, (*received[:-1], (received[-1][0], later)), started_at)


def run_program(library: Library, program: Program, run: Run) -> tuple[Any, ...]:
    """Run an actor's program as far as its results reach.

    :return: the positions in the code where it was suspended, with the variables.
    """
    library.run = run
    with mock.patch.object(ledger, "secrets", SimpleNamespace(token_hex=run.token)):
        try:
            run.caller_result = program(library)
        except Suspended as suspended:
            return tuple(_read_frames(suspended.__traceback__))
    if run.taken != len(run.results):
        raise UnexpectedBehavior(f"{run.name} doesn't depend on its results alone")
    return ()


def _read_frames(traceback: TracebackType | None) -> Iterator[tuple[Any, ...]]:
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals["__name__"].startswith(("flask_refunds", __name__)):
            variables = tuple((name, _comparable(value)) for name, value in frame.f_locals.items())
            yield frame.f_code, traceback.tb_lasti, variables
        traceback = traceback.tb_next


def _comparable(value: Any) -> Any:
    """Return a comparable form of a variable's value, as far as the value can affect the program."""
    return _form_of(type(value))(value)


@cache
def _form_of(kind: type) -> Callable[[Any], Any]:
    """Return a function that returns the comparable form of such values."""
    if issubclass(kind, (list, tuple)):
        return lambda value: tuple(map(_comparable, value))
    if issubclass(kind, Mapping):
        return lambda value: tuple((_comparable(key), _comparable(each)) for key, each in value.items())
    if issubclass(kind, CallContext):
        return attrgetter("actor")
    if issubclass(kind, GeneratorType):
        return _frame_of_generator
    if issubclass(kind, (Deadline, Run)) or any("__call__" in vars(each) for each in kind.__mro__):
        return type
    if is_dataclass(kind):  # its repr may leave fields out
        names = [field.name for field in fields(kind)]
        return lambda value: (kind, tuple(_comparable(getattr(value, name)) for name in names))
    return type if kind.__repr__ is object.__repr__ else repr


def _frame_of_generator(generator: GeneratorType[Any, Any, Any]) -> tuple[Any, ...]:
    """Return where a generator is suspended, with its variables."""
    frame = generator.gi_frame
    return (generator.gi_code, *((frame.f_lasti, _comparable(frame.f_locals)) if frame else ()))


def _check_log_event(event: LogEvent, error: BaseException | None = None, /, **fields: object) -> None:
    """Raise an unexpected error that the library catches and logs. This replaces the log."""
    if event in _CAUGHT and not isinstance(error, RefundsError):
        raise UnexpectedBehavior(event.message) from error


_CAUGHT = frozenset({LogEvent.STRIPE_RESPONSE_INVALID, LogEvent.RECONCILE_FAILED})


@contextmanager
def patched_library() -> Iterator[None]:
    """Disable deadlines and logging, and make IDs deterministic."""
    loggers = [logging.getLogger(name) for name in ("flask_refunds", "stripe")]
    was_disabled = [logger.disabled for logger in loggers]
    with ExitStack() as patches:
        for module in (gateway, reconcile):
            patches.enter_context(mock.patch.object(module, "log_event", _check_log_event))
        patches.enter_context(mock.patch.object(service, "CALL_SECONDS", 1e9))
        patches.enter_context(mock.patch.object(webhook_events, "EVENT_SECONDS", 1e9))
        # The duration of the last request would make equal states differ.
        patches.enter_context(mock.patch.object(stripe, "enable_telemetry", False))
        patches.enter_context(deterministic_ids())
        for logger in loggers:
            logger.disabled = True
        try:
            yield
        finally:
            for logger, disabled in zip(loggers, was_disabled, strict=True):
                logger.disabled = disabled

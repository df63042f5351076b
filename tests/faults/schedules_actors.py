"""Those who act in a schedule: the library's own code, stopped before every step it takes.

An actor is a function of what its steps returned and of the time that it read. So he needs no thread that is
held up somewhere: to know his next step, he is run again from his start, is given the results that he had,
and is stopped at the first step for which there is none.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace, TracebackType
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import stripe

from flask_refunds.clock import Deadline
from flask_refunds.core import reconcile, service
from flask_refunds.core import webhook_events as events
from flask_refunds.core.reconcile import Reconciler
from flask_refunds.core.service import RefundService
from flask_refunds.core.stripe_sync import StripeSync
from flask_refunds.core.transitions import RefundTransitions
from flask_refunds.core.webhook_events import EventHandler
from flask_refunds.errors import RefundsError
from flask_refunds.log import LogEvent
from flask_refunds.models import Refund, RefundRequest
from flask_refunds.signals import (
    SignalSender,
    refund_failed,
    refund_needs_review,
    refund_pending,
    refund_succeeded,
)
from flask_refunds.storage import ledger
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.purchases import Purchases
from flask_refunds.stripe_client import gateway
from flask_refunds.stripe_client.gateway import Gateway
from tests.faults.schedules_state import (
    CART,
    EVENTS,
    FIELD,
    HEARD,
    KEY,
    PURCHASES,
    ROWS,
    START,
    STRIPE,
    Numbered,
    Result,
    Shared,
    Step,
    same_ids_each_time,
)

LEASE = timedelta(seconds=60)
_SIGNALS = (refund_succeeded, refund_pending, refund_failed, refund_needs_review)


class Stopped(BaseException):
    """The actor's next step is not decided yet. He must not notice: nothing of his catches this."""


class Unforeseen(BaseException):
    """The library did what no step stands for; past its own ``except Exception``."""


@dataclass(frozen=True)
class Told:
    """How an actor's work ended: what a caller was told.

    :param what: ``succeeded`` and the like for an outcome, or an error's class.
    :param refund_id: the refund that the answer is about.
    :param asked: whether he ever asked Stripe for a refund.
    """

    what: str
    refund_id: str | None = None
    asked: bool = False


@dataclass
class Run:
    """One run of an actor, up to the first step whose result is not known."""

    name: str
    results: list[tuple[Result, int]]
    seconds: int
    taken: int = 0
    tokens: int = 0
    next_step: Step | None = None
    told: Told | None = None
    read_clock: bool = False
    asked: bool = False
    acknowledged: frozenset[int] = frozenset()

    def take(self, step: Step) -> Any:
        """Take a step: get its result, or stop before it."""
        if self.next_step is None and self.taken < len(self.results):
            result, self.seconds = self.results[self.taken]
            self.taken += 1
            self.read_clock = False
            self.asked |= step.name == "POST"
            return result.give()
        self.next_step = self.next_step or step
        raise Stopped

    def clock(self) -> datetime:
        """The time since the last step."""
        self.read_clock = True
        return START + timedelta(seconds=self.seconds)

    def token(self, _: int) -> str:
        """An owner's token."""
        self.tokens += 1
        return f"{self.name}-{self.tokens}"


class _Cursor:
    """What a find is, before anybody looks at what it found."""

    def __init__(self, library: Library, place: int, criteria: Any, projection: Any) -> None:
        self._library = library
        self._place = place
        self._criteria = criteria
        self._projection = projection
        self._order: Any = None

    def sort(self, key: str | list[tuple[str, int]], direction: int = 1) -> _Cursor:
        self._order = [(key, direction)] if isinstance(key, str) else key
        return self

    def __iter__(self) -> Iterator[Any]:
        step = Step(self._place, "find", (self._criteria, self._projection, self._order))
        return iter(self._library.run.take(step))


_ENTRY: Mapping[str, Any] = {}
"""In place of each entry of a row's history: how many there are matters to the library, and nothing else."""


class _Collection:
    """A collection whose every operation is a step.

    :param by_document: what is updated in several documents is updated one by one, as MongoDB does it.
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
        self._take("insert_one", document | {"history": [_ENTRY]})

    def find_one_and_update(self, criteria: Any, update: Any, *, return_document: Any) -> Any:
        if "$push" in update:
            update = update | {"$push": {"history": _ENTRY}}
        return self._take("find_one_and_update", criteria, update, return_document)

    def update_one(self, criteria: Any, update: Any) -> Any:
        return SimpleNamespace(modified_count=self._take("update_one", criteria, update))

    def update_many(self, criteria: Any, update: Any) -> Any:
        each = [criteria | {"_id": document} for document in self._by_document] or [criteria]
        return SimpleNamespace(modified_count=sum(self._take("update_many", it, update) for it in each))

    def __getattr__(self, name: str) -> Any:
        raise Unforeseen(name)


class _Transport(stripe.HTTPClient):
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
    """The library, built on steps; whose they are, says :attr:`run`.

    :param retries: of a request to Stripe whose answer is missing.
    """

    run: Run

    def __init__(self, *, cart: int, retries: int) -> None:
        app = object()
        transport = _Transport(self)
        gateway = Gateway(
            KEY, "https://stripe.test", retries=retries, transport=transport, sleep=lambda _: None
        )
        by_document = CART[:cart] if cart > 1 else ()
        rows: Any = _Collection(self, ROWS, "refunds")
        purchases: Any = _Collection(self, PURCHASES, "purchases", by_document)
        the_ledger = Ledger(rows, self._clock, LEASE)
        the_purchases = Purchases(purchases, FIELD)
        transitions = RefundTransitions(the_ledger, the_purchases, SignalSender(app))
        stripe_sync = StripeSync(the_ledger, the_purchases, lambda: gateway, transitions)
        self.service = RefundService(
            ledger=the_ledger,
            purchases=the_purchases,
            gateway=lambda: gateway,
            transitions=transitions,
            stripe_sync=stripe_sync,
            clock=self._clock,
        )
        self.events = EventHandler(stripe_sync, livemode=False)
        self.reconciler = Reconciler(the_ledger, transitions, self.service, self._clock)
        self._receiver = self._hear
        for signal in _SIGNALS:
            signal.connect(self._receiver, sender=app)

    def _clock(self) -> datetime:
        return self.run.clock()

    def _hear(self, app: Any, refund: Refund, **extra: Any) -> None:
        self.run.take(Step(HEARD, "hear", (refund.id, refund.status.value)))


Program = Callable[[Library], Told]


@dataclass(frozen=True)
class Actor:
    """Somebody who acts, and what he does."""

    name: str
    program: Program = field(compare=False)


def admin(name: str, purchase: int = 0) -> Actor:
    """An admin who refunds a purchase once."""

    def program(library: Library) -> Told:
        try:
            ask = RefundRequest(requested_by=name, source="api")
            refund = library.service.refund(CART[purchase], ask).refund
        except RefundsError as error:
            refund_id = error.refund.id if error.refund else None
            return Told(type(error).__name__, refund_id, library.run.asked)
        return Told(refund.status.value, refund.id)

    return Actor(name, program)


def webhook(*numbers: int) -> Actor:
    """Stripe, delivering events one after the other, each once there is such an event.

    :param numbers: which, counted from the oldest.
    """

    def program(library: Library) -> Told:
        for number in numbers:
            deliver(library, number)
        return Told("delivered")

    return Actor(f"webhook{numbers}", program)


def deliver(library: Library, number: int) -> None:
    """Deliver an event; what is not answered 2xx, Stripe will send again."""
    run = library.run
    try:
        library.events.handle(run.take(Step(EVENTS, "deliver", (number,))))
        run.acknowledged |= {number}
    except RefundsError:
        pass


def reconciler(name: str = "reconcile") -> Actor:
    """One pass of ``flask refunds reconcile --older-than 0``."""

    def program(library: Library) -> Told:
        try:
            report = library.reconciler.run(library.reconciler.find(timedelta(0)))
        except RefundsError:
            return Told("unable")
        return Told("errors" if report.counts["errors"] else "reconciled")

    return Actor(name, program)


@dataclass(frozen=True)
class Local:
    """Where an actor stands: what he had, and what he waits for.

    :param had: the number of each result that he was given, and the time when he read it.
    :param step: the number of the step before which he stands; ``None`` once he is finished, or dead.
    :param later: where he would stand, had he read the clock only at its next moment; ``None`` where he has
        not read it since his last step.
    """

    actor: int
    had: tuple[tuple[int, int], ...]
    began: int
    step: int | None
    told: Told | None
    later: int | None
    acknowledged: frozenset[int]


@dataclass(frozen=True)
class _Standing:
    """All that an actor's future depends on: where his code stands, and what its variables are."""

    actor: int
    step: int | None
    told: Told | None
    frames: tuple[Any, ...]
    tokens: int
    asked: bool
    acknowledged: frozenset[int]
    later: int | None


class Cast:
    """The actors of a schedule, and every state that one of them was met in.

    :param merge: whether two are taken for one where their code stands at the same place with the same
        variables, though they came there differently; else only where they were given the same.
    """

    def __init__(
        self,
        actors: tuple[Actor, ...],
        shared: Shared,
        library: Library,
        *,
        merge: bool,
        moments: tuple[int, ...],
    ) -> None:
        self._actors = actors
        self._next_moment = dict(itertools.pairwise(moments))
        self._merge = merge
        self._shared = shared
        self._library = library
        self.locals = Numbered()
        self._known: dict[tuple[int, int, int], int] = {}
        self.start = tuple(self._local(actor, (), 0) for actor in range(len(actors)))

    def go_on(self, local: int, result: int, seconds: int) -> int:
        """Where an actor stands after his step returned this at that time."""
        key = (local, result, seconds)
        after = self._known.get(key)
        if after is None:
            at = self.locals[local]
            after = self._known[key] = self._local(at.actor, (*at.had, (result, seconds)), at.began)
        return after

    def over(self, acknowledged: frozenset[int]) -> int:
        """Where one stands who does nothing any more, dead or finished: all of them are alike."""
        return self.locals.number(Local(-1, (), 0, None, None, None, acknowledged))

    def _local(self, actor: int, had: tuple[tuple[int, int], ...], began: int) -> int:
        results = [(self._shared.results[result], seconds) for result, seconds in had]
        run = Run(self._actors[actor].name, results, began)
        frames = perform(self._library, self._actors[actor].program, run)
        step = None if run.next_step is None else self._shared.step(run.next_step)
        later = self._read_later(actor, had, began) if run.read_clock else None
        local = Local(actor, had, began, step, run.told, later, run.acknowledged)
        if not self._merge:
            return self.locals.number(local)
        standing = _Standing(actor, step, run.told, frames, run.tokens, run.asked, run.acknowledged, later)
        return self.locals.number(local, standing)

    def _read_later(self, actor: int, had: tuple[tuple[int, int], ...], began: int) -> int | None:
        moment = self._next_moment.get(had[-1][1] if had else began)
        if moment is None:
            return None
        if not had:
            return self._local(actor, had, moment)
        return self._local(actor, (*had[:-1], (had[-1][0], moment)), began)


def perform(library: Library, program: Program, run: Run) -> tuple[Any, ...]:
    """Run an actor as far as the results reach.

    :return: where the code stopped, and what its variables were.
    """
    library.run = run
    with mock.patch.object(ledger, "secrets", SimpleNamespace(token_hex=run.token)):
        try:
            run.told = program(library)
        except Stopped as stopped:
            return tuple(_stands(stopped.__traceback__))
    if run.taken != len(run.results):
        raise Unforeseen(f"{run.name} is no function of what he was given")
    return ()


def _stands(traceback: TracebackType | None) -> Iterator[tuple[Any, ...]]:
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals["__name__"].startswith(("flask_refunds", __name__)):
            variables = tuple((name, _plain(value)) for name, value in frame.f_locals.items())
            yield frame.f_code, traceback.tb_lasti, variables
        traceback = traceback.tb_next


def _plain(value: Any) -> Any:
    """What a variable holds, as far as it may decide anything."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(each) for each in value)
    if isinstance(value, Mapping):
        return tuple((_plain(key), _plain(each)) for key, each in value.items())
    if isinstance(value, (Deadline, Run)) or callable(value):
        return type(value)
    plain: Any = type(value).__repr__
    return type(value) if plain is object.__repr__ else repr(value)


def _is_foreseen(decision: LogEvent, error: BaseException | None = None, /, **facts: object) -> None:
    """In place of the log: where the library catches what it does not expect, it must not go unseen."""
    if decision in _CAUGHT and not isinstance(error, RefundsError):
        raise Unforeseen(decision.words) from error


_CAUGHT = frozenset({LogEvent.STRIPE_RESPONSE_INVALID, LogEvent.RECONCILE_FAILED})


@contextmanager
def undisturbed() -> Iterator[None]:
    """No deadline ends here, and nothing is logged a million times."""
    loggers = [logging.getLogger(name) for name in ("flask_refunds", "stripe")]
    was = [logger.disabled for logger in loggers]
    with ExitStack() as patches:
        for module in (gateway, reconcile):
            patches.enter_context(mock.patch.object(module, "decided", _is_foreseen))
        patches.enter_context(mock.patch.object(service, "CALL_SECONDS", 1e9))
        patches.enter_context(mock.patch.object(events, "EVENT_SECONDS", 1e9))
        patches.enter_context(same_ids_each_time())
        for logger in loggers:
            logger.disabled = True
        try:
            yield
        finally:
            for logger, disabled in zip(loggers, was, strict=True):
                logger.disabled = disabled

"""What the actors of a schedule share: the ledger, the purchases, Stripe, and what the receivers heard.

Each part is a value that is never changed. A step makes a new one of it, and equal ones are one, so that a
whole world is a tuple of small numbers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from unittest import mock

import bson
import mongomock
import stripe
from bson import CodecOptions, ObjectId
from pymongo.errors import AutoReconnect, DuplicateKeyError

from flask_refunds.testing import objects, signatures
from flask_refunds.testing.account import FAILED_OR_CANCELED, Account
from flask_refunds.testing.api import Api, RateLimit, store_response
from flask_refunds.testing.cards import find_card
from flask_refunds.testing.http_server import Request
from flask_refunds.testing.idempotency import IdempotencyKeys

START = datetime(2024, 3, 15, 10, 30, tzinfo=timezone.utc)
CART = (ObjectId("65f424a80000000000000001"), ObjectId("65f424a80000000000000002"))
FIELD = "stripePaymentIntentId"
KEY = "sk_test_schedules"
AMOUNT = 1999

ROWS, PURCHASES, STRIPE, HEARD, EVENTS = range(5)
PLACES = ("rows", "purchases", "stripe", "heard", "events")

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Step:
    """One thing that an actor asks of the world: a MongoDB operation, a Stripe request, a receiver's call."""

    place: int
    name: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{PLACES[self.place]}.{self.name}{self.arguments}"


@dataclass(frozen=True)
class Value:
    """A document, a list of them or a number, kept so that nobody can change it."""

    encoded: bytes

    @classmethod
    def of(cls, value: Any) -> Value:
        """Keep a value."""
        return cls(bson.encode({"value": value}))

    def give(self) -> Any:
        """A new copy of it."""
        return bson.decode(self.encoded, _CODEC)["value"]


@dataclass(frozen=True)
class Answer:
    """What Stripe answered."""

    status: int
    body: bytes

    def give(self) -> Any:
        """As a transport gives it to stripe-python."""
        return self.body.decode(), self.status, {"Request-Id": "req_1"}


@dataclass(frozen=True)
class Raised:
    """A step that ends in an exception."""

    kind: type[Exception]

    def give(self) -> Any:
        """Raise a new one."""
        raise self.kind("in this schedule")


Result = Value | Answer | Raised

THROTTLED = Answer(
    429,
    json.dumps({"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "x"}}).encode(),
)
NO_ANSWER = Raised(stripe.APIConnectionError)
NO_DATABASE = Raised(AutoReconnect)


class Numbered:
    """Values by number, equal ones under the same."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._values: list[Any] = []

    def number(self, value: Any, key: Hashable = None) -> int:
        """The number of a value; ``key`` says what it equals where it cannot say so itself."""
        found = self._numbers.setdefault(value if key is None else key, len(self._values))
        if found == len(self._values):
            self._values.append(value)
        return found

    def __getitem__(self, number: int) -> Any:
        return self._values[number]

    def __len__(self) -> int:
        return len(self._values)


@dataclass
class AtStripe:
    """An account and the idempotency keys that it knows. Never changed: :meth:`copy` is."""

    account: Account
    keys: IdempotencyKeys

    def copy(self) -> AtStripe:
        """One that may be changed."""
        account, keys = copy.deepcopy((self.account, self.keys))
        return AtStripe(account, keys)

    def key(self) -> str:
        """Equal where nothing that anybody could ask tells two of them apart."""
        tickets = {key: record.response for (_, key), record in self.keys._records.items()}
        events = [event.encoded for event in self.account.events]
        return repr((self.account.refunds_of(None), tickets, events))

    def ask(self, method: str, path: str, query: str, body: str, key: str | None) -> Answer:
        """Execute a request."""
        limit = RateLimit(None, _stripe_now)
        api = Api(lambda livemode: self.account, keys=self.keys, limit=limit, now=_stripe_now)
        headers = {"authorization": f"Bearer {KEY}"} | ({"idempotency-key": key} if key else {})
        accepted = api.accept(Request(method, path, query, headers, body.encode()), "req_1")
        answer = accepted.key_record.response if accepted.key_record else None
        if answer is None:
            answer = api.run(accepted, accepted.call)
            store_response(accepted, answer)
        return Answer(answer.status, answer.body)

    def news(self) -> list[dict[str, Any]]:
        """The events about refunds, oldest first; of the several about one change, one."""
        wanted = ("refund.created", "refund.updated", "refund.failed")
        events = [event.load() for event in self.account.events if event.type in wanted]
        return [event for event in events if not _is_told_twice(event)]

    def live(self) -> list[dict[str, Any]]:
        """Our refunds that move money, or are about to."""
        refunds = self.account.refunds_of(None)
        return [
            it for it in refunds if it["metadata"].get("refund_id") and it["status"] not in FAILED_OR_CANCELED
        ]


def _is_told_twice(event: Mapping[str, Any]) -> bool:
    return bool(event["type"] == "refund.updated" and event["data"]["object"]["status"] == "failed")


@dataclass
class _StripeClock:
    now: float = START.timestamp()


_stripe_clock = _StripeClock()


def _stripe_now() -> float:
    return _stripe_clock.now


class Shared:
    """Every value of every part of the world that was met so far, and what each step makes of it.

    :param card: what the payment was made with.
    :param limit: whether Stripe refuses to refund more than was paid.
    :param cart: how many purchases the payment paid.
    """

    def __init__(self, *, card: str, limit: bool, cart: int) -> None:
        self.parts = tuple(Numbered() for _ in PLACES)
        self.steps = Numbered()
        self.results = Numbered()
        self._known: dict[tuple[int, int, int], tuple[int, int]] = {}
        account = Account(now=_stripe_now, enforce_amount_limit=limit)
        paid = find_card(card)
        intent = account.create_payment_intent(amount=AMOUNT, currency="usd", card=paid, confirm=True)
        self.payment: str = intent["id"]
        purchases = [{"_id": each, FIELD: self.payment, "status": "completed"} for each in CART[:cart]]
        self.start = (
            self.parts[ROWS].number(()),
            self.parts[PURCHASES].number(_encode(purchases)),
            self._number_stripe(AtStripe(account, IdempotencyKeys(_stripe_now))),
            self.parts[HEARD].number(frozenset()),
        )

    def step(self, step: Step) -> int:
        """The number of a step."""
        return self.steps.number(step, (step.place, step.name, repr(step.arguments)))

    def do(self, step: int, part: int, seconds: int) -> tuple[int, int]:
        """Take a step.

        :param part: the part of the world that the step is about, as it is.
        :param seconds: the time, since the start.
        :return: the result, and the part as it then is.
        """
        done = self._known.get((step, part, seconds))
        if done is None:
            done = self._known[step, part, seconds] = self._do(self.steps[step], part, seconds)
        return done

    def change_stripe(self, part: int, seconds: int, change: Callable[[Account], Any]) -> int:
        """Let something happen at Stripe."""
        with _at(seconds):
            changed = self.parts[STRIPE][part].copy()
            _count_ids_from(len(changed.account.events.by_id))
            change(changed.account)
            return self._number_stripe(changed)

    def rows(self, part: int) -> list[dict[str, Any]]:
        """The ledger, or the purchases."""
        return _decode(self.parts[ROWS][part])

    def purchases(self, part: int) -> list[dict[str, Any]]:
        """The purchases, as they are stored."""
        return _decode(self.parts[PURCHASES][part])

    def stripe(self, part: int) -> AtStripe:
        """Stripe; not to be changed."""
        at_stripe: AtStripe = self.parts[STRIPE][part]
        return at_stripe

    def _do(self, step: Step, part: int, seconds: int) -> tuple[int, int]:
        value = self.parts[step.place][part]
        if step.place == HEARD:
            heard = self.parts[HEARD].number(value | {step.arguments})
            return self.results.number(Value.of(None)), heard
        if step.place == STRIPE:
            return self._ask_stripe(step, part, seconds)
        result, documents = _ask_mongo(PLACES[step.place], step, value)
        return self.results.number(result), self.parts[step.place].number(documents)

    def _ask_stripe(self, step: Step, part: int, seconds: int) -> tuple[int, int]:
        at_stripe = self.stripe(part)
        if step.name == "POST":
            at_stripe = at_stripe.copy()
        with _at(seconds):
            _count_ids_from(len(at_stripe.account.events.by_id))
            answer = at_stripe.ask(step.name, *step.arguments)
        after = self._number_stripe(at_stripe) if step.name == "POST" else part
        return self.results.number(answer), after

    def _number_stripe(self, at_stripe: AtStripe) -> int:
        return self.parts[STRIPE].number(at_stripe, at_stripe.key())


def _ask_mongo(name: str, step: Step, documents: Sequence[bytes]) -> tuple[Result, tuple[bytes, ...]]:
    collection: Any = mongomock.MongoClient(tz_aware=True).shop[name]
    if documents:
        collection.insert_many(_decode(documents))
    try:
        result: Result = Value.of(_OPERATIONS[step.name](collection, *step.arguments))
    except DuplicateKeyError:
        result = Raised(DuplicateKeyError)
    return result, _encode(collection.find().sort("_id", 1))


def _insert(collection: Any, document: Mapping[str, Any]) -> None:
    collection.insert_one(copy.deepcopy(document))


def _find(collection: Any, criteria: Any, projection: Any, order: Any) -> list[Any]:
    found = collection.find(criteria, projection)
    return list(found.sort(order) if order else found)


_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "aggregate": lambda collection, pipeline: list(collection.aggregate(pipeline)),
    "find": _find,
    "find_one": lambda collection, criteria: collection.find_one(criteria),
    "find_one_and_update": lambda collection, criteria, update, returned: collection.find_one_and_update(
        criteria, update, return_document=returned
    ),
    "insert_one": _insert,
    "update_many": lambda collection, criteria, update: (
        collection.update_many(criteria, update).modified_count
    ),
    "update_one": lambda collection, criteria, update: collection.update_one(criteria, update).modified_count,
}

WRITES = frozenset({"find_one_and_update", "insert_one", "update_many", "update_one"})


def _encode(documents: Any) -> tuple[bytes, ...]:
    return tuple(bson.encode(document) for document in documents)


def _decode(documents: Sequence[bytes]) -> list[dict[str, Any]]:
    return [bson.decode(document, _CODEC) for document in documents]


@dataclass
class _Ids:
    """Ids that depend on nothing but what there is already."""

    last: int = 0
    tokens: SimpleNamespace = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = SimpleNamespace(token_hex=self._next)

    def _next(self, _: int) -> str:
        self.last += 1
        return f"{self.last:04}"


_ids = _Ids()


def _count_ids_from(events: int) -> None:
    # No change makes a hundred ids, and each makes an event.
    _ids.last = 100 * events


@contextmanager
def _at(seconds: int) -> Iterator[None]:
    _stripe_clock.now = (START + timedelta(seconds=seconds)).timestamp()
    yield


@contextmanager
def same_ids_each_time() -> Iterator[None]:
    """Inside, whatever the sandbox makes up depends on what there is, and on nothing else."""
    with ExitStack() as patches:
        for module in (objects, signatures):
            patches.enter_context(mock.patch.object(module, "secrets", _ids.tokens))
        _count_ids_from(0)
        yield

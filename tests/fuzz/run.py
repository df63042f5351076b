"""schemathesis against the mounted blueprint, on a real MongoDB and the sandbox over HTTP."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pymongo
import schemathesis
from bson import ObjectId
from hypothesis import strategies as st
from schemathesis import engine
from schemathesis.core.failures import Failure
from schemathesis.engine import events
from schemathesis.engine.run import PhaseName
from schemathesis.transport.wsgi import WSGITransport

from flask_refunds.console import assets
from flask_refunds.testing import make_event, make_token
from tests.canaries import WEBHOOK_SECRET, Canaries, planted
from tests.fuzz.watch import CountingSandbox, Findings, Watch, Writes
from tests.hostile.webhooks import REFUND
from tests.shop import JWT_SECRET, PAID_AT, make_app

_SEND = WSGITransport.send
PREFIX = "/api/payments"
CARDS = ("4242424242424242", "4242424242424242", "4000000000007726", "4000000000000259")
PURCHASES = 600
_EXCUSES = (
    "from must be before to.",
    "Say page or after, not both.",
    "ten years apart",
    "nextCursor of another page",
    "that there is",
    "printable characters",
)
"""Words for what no schema can say."""


@dataclass
class Shop:
    """What the fuzzer is let loose on."""

    watch: Watch
    admin: str
    """His header."""
    purchases: list[str]
    intents: list[str]


@dataclass
class RefundResult:
    """What a run found."""

    seed: int
    seconds: float
    findings: Findings
    failures: list[str]
    """Of schemathesis's checks, and of ours among them."""
    canaries: Canaries
    overpaid: list[str]

    def violations(self) -> list[str]:
        return [*self.findings.all(), *self.failures, *self.canaries.hits, *self.overpaid]


@contextlib.contextmanager
def a_shop(uri: str) -> Iterator[Shop]:
    """A shop with purchases in every state, and an admin who made them all."""
    writes = Writes()
    with (
        pymongo.MongoClient(uri, tz_aware=True) as seeds,
        pymongo.MongoClient(uri, tz_aware=True, event_listeners=[writes]) as client,
        CountingSandbox() as sandbox,
        Canaries() as canaries,
    ):
        app = make_app(
            REFUNDS_MONGO=client.get_default_database(),
            STRIPE_API_BASE=sandbox.url,
            STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET,
        )
        database = seeds.get_default_database()
        admin = database.users.insert_one(dict(planted(role="admin"))).inserted_id
        intents = [sandbox.create_payment(100 + each, card=CARDS[each % 4]) for each in range(PURCHASES)]
        purchases = [_purchase(admin, intent, number) for number, intent in enumerate(intents)]
        for number, purchase in enumerate(purchases):
            if number % 20 == 0:
                purchase |= ({"status": "pending"}, {"stripePaymentIntentId": None})[number % 40 == 0]
            if number % 20 == 1:
                purchase |= {"stripePaymentIntentId": "pi_unknown"}
        database.purchases.insert_many(purchases)
        ids = [str(each["_id"]) for each in purchases]
        visitor = database.users.insert_one(dict(planted())).inserted_id
        watch = Watch(app, sandbox, writes, canaries, visitor=_bearer(visitor))
        yield Shop(watch, _bearer(admin), ids, intents)


def _bearer(user: ObjectId) -> str:
    return f"Bearer {make_token(str(user), secret=JWT_SECRET, expires_in=24 * 3600)}"


def _purchase(user: ObjectId, intent: str, number: int) -> dict[str, Any]:
    """Its id is the same in every run, because it says who asks for its refund (:class:`Watch`)."""
    purchase_id = ObjectId(f"65f424a8{number:016x}")
    made = {"_id": purchase_id, "user": user, "content": ObjectId(), "amount": 1.0, "createdAt": PAID_AT}
    return {**made, "status": "completed", "stripePaymentIntentId": intent}


def fuzz(shop: Shop, cases: int, seed: int) -> RefundResult:
    """Let schemathesis make at least so many requests; the first round tries every border of every schema."""
    began = time.monotonic()
    failures: list[str] = []
    rounds = 0
    while not rounds or shop.watch.findings.requests < cases:
        left = cases - shop.watch.findings.requests
        failures += _round(shop, seed + rounds, left, borders=not rounds)
        rounds += 1
    sandbox = shop.watch.sandbox
    overpaid = [
        f"{intent} was refunded {sandbox.money_refunded(intent)}"
        for number, intent in enumerate(shop.intents)
        if sandbox.money_refunded(intent) > 100 + number
    ]
    seconds = time.monotonic() - began
    return RefundResult(seed, seconds, shop.watch.findings, failures, shop.watch.canaries, overpaid)


def _round(shop: Shop, seed: int, left: int, *, borders: bool) -> list[str]:
    examples = max(5, min(100, left // 40))
    config = schemathesis.Config.from_dict(
        {
            "seed": seed,
            "base-url": f"http://localhost{PREFIX}",
            "headers": {"Authorization": shop.admin},
            "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
            "checks": {
                # Whether a good request is served is a matter of the purchase; `good_is_taken` looks closer.
                "positive_data_acceptance": {"expected-statuses": ["2xx", "308", "400", "403", "404", "409"]},
            },
            "phases": {
                "examples": {"enabled": borders},
                "coverage": {"enabled": borders},
                "stateful": {"generation": {"max-examples": examples}},
            },
        }
    )
    schema = schemathesis.openapi.from_wsgi(f"{PREFIX}/openapi.json", shop.watch, config=config)
    _give_real_ids(schema, shop)
    failures = []
    with patch.object(WSGITransport, "send", _send):
        for event in engine.from_schema(schema).execute():
            failures += _failures(event)
            if isinstance(event, events.ScenarioFinished) and event.phase is PhaseName.STATEFUL_TESTING:
                shop.watch.findings.linked += len(event.recorder.cases)
    return failures


def _failures(event: Any) -> list[str]:
    """What went wrong in a scenario, or with schemathesis itself."""
    if isinstance(event, (events.NonFatalError, events.FatalError)):
        return [f"schemathesis: {event.info.format(bold=str)}" if hasattr(event, "info") else str(event)]
    if not isinstance(event, events.ScenarioFinished):
        return []
    recorder = event.recorder
    return [
        _tell(check, recorder.interactions[case].request)
        for case, checks in recorder.checks.items()
        for check in checks
        if check.failure_info is not None and not _is_nothing(check, recorder.interactions[case].request)
    ]


def _is_nothing(check: Any, request: Any) -> bool:
    """Whether a body was called invalid that is white space, and so none."""
    refund = check.name == "negative_data_rejection" and "/admin/refund/" in request.uri
    return refund and not (request.body or b"x").strip()


def _send(transport: Any, case: Any, **options: Any) -> Any:
    """Send, without a network's settings: schemathesis 4.32 keeps them when it asks again without a token."""
    for name in ("max_redirects", "verify", "cert", "proxies"):
        options.pop(name, None)
    return _SEND(transport, case, **options)


def _tell(check: Any, request: Any) -> str:
    failure: Failure = check.failure_info.failure
    asked = f"{request.method} {request.uri} {(request.body or b'')[:200]!r}"
    return f"{check.name}: {failure.title}: {failure.message}: {asked}"


def _give_real_ids(schema: Any, shop: Shop) -> None:
    """Half of the ids are of what there is, and half of the events are about our payments."""
    real = {
        "purchaseId": st.sampled_from(shop.purchases),
        "paymentIntentId": st.sampled_from(shop.intents),
        "refundId": st.sampled_from(shop.intents).map("{}:1".format),
        "version": st.just(assets.content_version()),
        "name": st.sampled_from(["index.html", *assets.script_names()]),
    }

    @schema.hook
    def before_generate_path_parameters(context: Any, strategy: Any) -> Any:
        known = [name for name in real if f"{{{name}}}" in context.operation.path]
        if not known:
            return strategy
        return strategy | st.fixed_dictionaries({name: real[name] for name in known})

    @schema.hook
    def before_generate_body(context: Any, strategy: Any) -> Any:
        if context.operation.path != "/webhook/refunds":
            return strategy
        return strategy | st.builds(
            _event,
            st.sampled_from(shop.intents),
            st.sampled_from(("pending", "succeeded", "requires_action")),
            st.sampled_from(("refund.created", "refund.updated", "charge.refunded", "charge.refund.updated")),
        )


def _event(intent: str, status: str, kind: str) -> dict[str, Any]:
    refund = {**REFUND, "id": f"re_{intent}", "payment_intent": intent, "status": status, "amount": 1}
    return make_event(kind, {**refund, "metadata": {"refund_id": f"{intent}:1"}})


@schemathesis.check
def good_is_taken(ctx: Any, response: Any, case: Any) -> None:
    """What the document allows is not called an invalid request."""
    if case.meta is None or not case.meta.generation.mode.is_positive or "/webhook/" in case.path:
        return
    if response.status_code == 400 and response.json()["code"] == "invalid_request":
        words = response.json()["error"]
        assert any(excuse in words for excuse in _EXCUSES), words

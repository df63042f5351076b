"""Run Schemathesis against the blueprint, with a real MongoDB and the sandbox over HTTP."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pymongo
import schemathesis
from bson import ObjectId
from flask import Flask
from hypothesis import strategies as st
from schemathesis import engine
from schemathesis.core.failures import Failure
from schemathesis.engine import events
from schemathesis.engine.run import PhaseName
from schemathesis.transport.wsgi import WSGITransport

from flask_refunds.console import assets
from flask_refunds.testing import StripeSandbox, make_event, make_token
from tests.canaries import WEBHOOK_SECRET, Canaries, planted
from tests.fuzz.watch import CountingSandbox, Findings, Watch, Writes
from tests.hostile.webhooks import REFUND
from tests.shop import JWT_SECRET, PAID_AT, make_app

_SEND = WSGITransport.send
PREFIX = "/api/payments"
CARDS = ("4242424242424242", "4242424242424242", "4000000000007726", "4000000000000259")
PURCHASES = 600
RETURNED = 8
"""Of each 20 purchases, the one whose refund the bank has returned. Its card needs no time."""
ASKED = 12
"""Of each 20 purchases, the one whose refund waits for the customer."""
_EXPECTED_ERRORS = (
    "from must be before to.",
    "Use page or after, not both.",
    "ten years apart",
    "nextCursor of another page",
    "an existing day or time",
    "printable characters",
    "instructionsEmail must be an e-mail address",
)
"""Parts of the error messages for rules that a schema can't express."""


@dataclass
class Shop:
    """The shop to fuzz."""

    watch: Watch
    admin: str
    """The value of an admin's Authorization header."""
    purchases: list[str]
    intents: list[str]
    reviews: list[str]
    """The IDs of refunds that need review."""
    waiting: list[str]
    """The IDs of refunds that wait for the customer."""


@dataclass
class FuzzResult:
    """The result of a run."""

    seed: int
    seconds: float
    findings: Findings
    failures: list[str]
    """Failed checks, including :func:`accepts_documented_requests`."""
    canaries: Canaries
    overpaid: list[str]

    def violations(self) -> list[str]:
        return [*self.findings.all(), *self.failures, *self.canaries.hits, *self.overpaid]


@contextlib.contextmanager
def make_shop(uri: str) -> Iterator[Shop]:
    """Make a shop with purchases in every state."""
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
            REFUNDS_ALLOW_PARTIAL=True,
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
        returned = [number for number in range(PURCHASES) if number % 20 == RETURNED]
        reviews = _return_refunds(app, sandbox, admin, {ids[each]: intents[each] for each in returned})
        asked = {ids[each]: intents[each] for each in range(PURCHASES) if each % 20 == ASKED}
        waiting = _ask_customers(app, sandbox, admin, asked)
        visitor = database.users.insert_one(dict(planted())).inserted_id
        watch = Watch(app, sandbox, writes, canaries, visitor=_bearer(visitor))
        yield Shop(watch, _bearer(admin), ids, intents, reviews, waiting)


def _return_refunds(
    app: Flask, sandbox: StripeSandbox, admin: ObjectId, purchases: Mapping[str, str]
) -> list[str]:
    """Refund these purchases, let their banks return the money, and return the refunds' IDs."""
    client, headers = app.test_client(), {"Authorization": _bearer(admin)}
    for purchase, payment in purchases.items():
        assert client.post(f"{PREFIX}/admin/refund/{purchase}", headers=headers).status_code == 200
        sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    command = ["refunds", "reconcile", "--older-than", "0", "--full", "--rate", "1000"]
    assert app.test_cli_runner().invoke(args=command).exit_code == 1  # refunds need review
    return [f"{payment}:1" for payment in purchases.values()]


def _ask_customers(
    app: Flask, sandbox: StripeSandbox, admin: ObjectId, purchases: Mapping[str, str]
) -> list[str]:
    """Make refunds of these purchases that wait for the customer, and return their IDs."""
    client, headers = app.test_client(), {"Authorization": _bearer(admin)}
    for purchase in purchases:
        sandbox.inject("requires_action")
        assert client.post(f"{PREFIX}/admin/refund/{purchase}", headers=headers).status_code == 202
    return [f"{payment}:1" for payment in purchases.values()]


def _bearer(user: ObjectId) -> str:
    return f"Bearer {make_token(str(user), secret=JWT_SECRET, expires_in=24 * 3600)}"


def _purchase(user: ObjectId, intent: str, number: int) -> dict[str, Any]:
    """Return a purchase with the same ID in every run, on which the caller depends (:class:`Watch`)."""
    purchase_id = ObjectId(f"65f424a8{number:016x}")
    fields = {"_id": purchase_id, "user": user, "content": ObjectId(), "amount": 1.0, "createdAt": PAID_AT}
    return {**fields, "status": "completed", "stripePaymentIntentId": intent}


def fuzz(shop: Shop, cases: int, seed: int) -> FuzzResult:
    """Make at least this many requests. The first round tries the boundary values of every schema."""
    began = time.monotonic()
    failures: list[str] = []
    rounds = 0
    while not rounds or shop.watch.findings.requests < cases:
        remaining = cases - shop.watch.findings.requests
        failures += _round(shop, seed + rounds, remaining, boundaries=not rounds)
        rounds += 1
    sandbox = shop.watch.sandbox
    overpaid = [
        f"{intent} was refunded {sandbox.money_refunded(intent)}"
        for number, intent in enumerate(shop.intents)
        if sandbox.money_refunded(intent) > 100 + number
    ]
    seconds = time.monotonic() - began
    return FuzzResult(seed, seconds, shop.watch.findings, failures, shop.watch.canaries, overpaid)


def _round(shop: Shop, seed: int, remaining: int, *, boundaries: bool) -> list[str]:
    examples = max(5, min(100, remaining // 40))
    config = schemathesis.Config.from_dict(
        {
            "seed": seed,
            "base-url": f"http://localhost{PREFIX}",
            "headers": {"Authorization": shop.admin},
            "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
            "checks": {
                # Whether a valid request succeeds depends on the purchase.
                "positive_data_acceptance": {"expected-statuses": ["2xx", "308", "400", "403", "404", "409"]},
            },
            "phases": {
                "examples": {"enabled": boundaries},
                "coverage": {"enabled": boundaries},
                "stateful": {"generation": {"max-examples": examples}},
            },
        }
    )
    schema = schemathesis.openapi.from_wsgi(f"{PREFIX}/openapi.json", shop.watch, config=config)
    _use_existing_ids(schema, shop)
    failures = []
    with patch.object(WSGITransport, "send", _send):
        for event in engine.from_schema(schema).execute():
            failures += _failures(event)
            if isinstance(event, events.ScenarioFinished) and event.phase is PhaseName.STATEFUL_TESTING:
                shop.watch.findings.linked += len(event.recorder.cases)
    return failures


def _failures(event: Any) -> list[str]:
    """Return the failures of a scenario, or the error of Schemathesis itself."""
    if isinstance(event, (events.NonFatalError, events.FatalError)):
        return [f"schemathesis: {event.info.format(bold=str)}" if hasattr(event, "info") else str(event)]
    if not isinstance(event, events.ScenarioFinished):
        return []
    recorder = event.recorder
    return [
        _describe(check, recorder.interactions[case].request)
        for case, checks in recorder.checks.items()
        for check in checks
        if check.failure_info is not None and not _is_blank_body(check, recorder.interactions[case].request)
    ]


def _is_blank_body(check: Any, request: Any) -> bool:
    """Return whether the check expects white space to be rejected, which counts as no body."""
    refund = check.name == "negative_data_rejection" and "/admin/refund/" in request.uri
    return refund and not (request.body or b"x").strip()


def _send(transport: Any, case: Any, **options: Any) -> Any:
    """Send without network options, which Schemathesis 4.32 keeps when it retries without a token."""
    for name in ("max_redirects", "verify", "cert", "proxies"):
        options.pop(name, None)
    return _SEND(transport, case, **options)


def _describe(check: Any, request: Any) -> str:
    failure: Failure = check.failure_info.failure
    shown = f"{request.method} {request.uri} {(request.body or b'')[:200]!r}"
    return f"{check.name}: {failure.title}: {failure.message}: {shown}"


def _use_existing_ids(schema: Any, shop: Shop) -> None:
    """Use existing IDs in half of the requests, our payments in half of the events, and no amount in half of
    the refunds: what is left of a payment is rarely guessed.
    """
    existing = {
        "purchaseId": st.sampled_from(shop.purchases),
        "paymentIntentId": st.sampled_from(shop.intents),
        "refundId": st.sampled_from(shop.intents).map("{}:1".format),
        "version": st.just(assets.content_version()),
        "name": st.sampled_from(["index.html", *assets.script_names()]),
    }

    @schema.hook
    def before_generate_path_parameters(context: Any, strategy: Any) -> Any:
        if context.operation.path.endswith("/resolve"):
            return strategy | st.fixed_dictionaries({"refundId": st.sampled_from(shop.reviews)})
        if context.operation.path.endswith("/cancel"):
            return strategy | st.fixed_dictionaries({"refundId": st.sampled_from(shop.waiting)})
        known = [name for name in existing if f"{{{name}}}" in context.operation.path]
        if not known:
            return strategy
        return strategy | st.fixed_dictionaries({name: existing[name] for name in known})

    @schema.hook
    def before_generate_body(context: Any, strategy: Any) -> Any:
        if "/admin/refund/" in context.operation.path:
            return strategy | st.fixed_dictionaries({"reason": st.sampled_from([None, "duplicate"])})
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
def accepts_documented_requests(ctx: Any, response: Any, case: Any) -> None:
    """Check that a request that the document allows isn't called invalid."""
    if case.meta is None or not case.meta.generation.mode.is_positive or "/webhook/" in case.path:
        return
    if response.status_code == 400 and response.json()["code"] == "invalid_request":
        message = response.json()["error"]
        # A schema's integers include 5.0, and amounts of money are strict.
        has_float = isinstance(case.body, dict) and any(isinstance(it, float) for it in case.body.values())
        assert has_float or any(expected in message for expected in _EXPECTED_ERRORS), message

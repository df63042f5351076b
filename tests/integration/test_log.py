"""One record a decision, in a fixed vocabulary, and no secret nor person in any, whatever happens.

Everything runs once, with the root logger at DEBUG, and canaries wherever a secret or a person could be.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pymongo
import pytest
from pymongo.errors import DuplicateKeyError
from werkzeug.test import TestResponse

from flask_refunds import bulk_refund, refund_pending, refund_succeeded
from flask_refunds.extension import get_refunds, observe
from flask_refunds.log import LogEvent
from flask_refunds.testing import StripeSandbox, make_event, make_token, signed_event
from tests.integration.test_reconcile import age, reconcile
from tests.mongod import TestServer, failing
from tests.mount.keys import bad_tokens
from tests.shop import Shop, make_app

JWT_SECRET = "canary-jwt-secret-that-is-long-enough-for-hs256"
STRIPE_KEY = "sk_test_canaryStripeKey0123456789"
WEBHOOK_SECRET = "whsec_canaryWebhookSecret0123456789"
MONGO_PASSWORD = "canary-mongo-password"
EMAIL = "canary.person@mail.example"
SAID = "canary-words-of-an-exception"
SECRETS = (JWT_SECRET, STRIPE_KEY, WEBHOOK_SECRET, MONGO_PASSWORD)
CANARY = re.compile("canary", re.IGNORECASE)
DISPUTED, PENDING = "4000000000000259", "4000000000007726"
PATH = "/api/payments/webhook/refunds"
DOCS = Path(__file__).parents[2] / "docs" / "logging.md"


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self, *names: str) -> list[str]:
        """What a host's formatter makes of these loggers' records, traces and extras included."""
        return [
            f"{logging.Formatter().format(record)}\n{vars(record)}"
            for record in self.records
            if record.name.startswith(names)
        ]

    def facts(self) -> list[dict[str, Any]]:
        """What our records have for a JSON formatter."""
        return [vars(record)["refunds"] for record in self.records if record.name == "flask_refunds"]

    def clear(self) -> list[dict[str, Any]]:
        """What our records had since the last time."""
        facts = self.facts()[self._seen :]
        self._seen += len(facts)
        return facts

    _seen = 0


class Story:
    """A shop full of canaries, and every answer that it gave."""

    def __init__(self, database: Any, sandbox: StripeSandbox, recorder: Recorder) -> None:
        self.database = database
        self.sandbox = sandbox
        self.recorder = recorder
        self.shop = self._open(REFUNDS_MONGO=self.database)
        self.shop.db.users.update_one({}, {"$set": {"name": "Canary Person", "email": EMAIL}})
        self.tokens: list[str] = []
        self.statuses: set[int] = set()

    def _open(self, **config: Any) -> Shop:
        app = make_app(
            STRIPE_API_BASE=self.sandbox.url,
            STRIPE_SECRET_KEY=STRIPE_KEY,
            JWT_SECRET_KEY=JWT_SECRET,
            STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET,
            REFUNDS_STRIPE_RETRIES=0,
            **config,
        )
        return CanaryShop(app, self.database)

    def expect(self, response: TestResponse, status: int, *decisions: LogEvent) -> list[dict[str, Any]]:
        """Check an answer, and that just these decisions were log_records of it, in this order."""
        self.statuses.add(response.status_code)
        assert response.status_code == status, response.text
        return self.log_records(*decisions)

    def log_records(self, *decisions: LogEvent) -> list[dict[str, Any]]:
        """Check that just these decisions were log_records since the last time."""
        facts = self.recorder.clear()
        assert [each["event"] for each in facts] == [each.event for each in decisions]
        return facts

    def buy(self, **card: str) -> tuple[str, Any]:
        """A completed purchase, and its payment."""
        payment = self.sandbox.create_payment(1999, **card)
        return payment, self.shop.add_purchase(payment, giftMessage="canary-gift-message")

    def refund(self, purchase: Any, shop: Shop | None = None, **options: Any) -> TestResponse:
        """The admin's call, with a note."""
        body = {"reason": "duplicate", "note": f"canary-note for {EMAIL}"}
        return (shop or self.shop).refund(purchase, json=body, **options)

    def send(self, event: dict[str, Any], secret: str = WEBHOOK_SECRET) -> TestResponse:
        """An event with canaries in it."""
        event["data"]["object"]["metadata"] = {
            **(event["data"]["object"].get("metadata") or {}),
            "private": "canary-metadata",
        }
        body, headers = signed_event(event, secret, timestamp=int(time.time()))
        return self.shop.client.post(PATH, data=body, headers=headers)

    # The scenes.

    def good_refunds(self) -> None:
        payment, purchase = self.buy()
        opened, settled = self.expect(
            self.refund(purchase), 200, LogEvent.REFUND_CREATED, LogEvent.REFUND_STATUS_CHANGED
        )
        by = f"api:{self.shop.admin_id}"
        assert opened == {
            "event": "refund_created",
            "refund_id": f"{payment}:1",
            "actor": by,
            "reason": "duplicate",
        }
        assert settled.pop("stripe_request_id").startswith("req_")
        assert settled.pop("stripe_refund_id").startswith("re_")
        assert settled == {
            "event": "refund_status",
            "refund_id": f"{payment}:1",
            "status": "succeeded",
            "code": None,
            "amount": 1999,
            "currency": "usd",
            "actor": by,
        }
        self.expect(self.refund(purchase), 400)
        _, purchase = self.buy(card=PENDING)
        self.expect(self.refund(purchase), 202, LogEvent.REFUND_CREATED, LogEvent.REFUND_STATUS_CHANGED)

    def refused_refunds(self) -> None:
        payment, purchase = self.buy(card=DISPUTED)
        _, refused = self.expect(
            self.refund(purchase), 400, LogEvent.REFUND_CREATED, LogEvent.REFUND_REJECTED
        )
        assert refused.pop("stripe_request_id").startswith("req_")
        assert refused == {
            "event": "refund_rejected",
            "refund_id": f"{payment}:1",
            "code": "charge_disputed",
            "actor": f"api:{self.shop.admin_id}",
        }
        for fault, status in [("rate_limited", 503), ("key_rejected", 500), ("key_forbidden", 500)]:
            self.sandbox.inject(fault, times=4)
            _, purchase = self.buy()
            log_records = (LogEvent.REFUND_CREATED, LogEvent.REFUND_REJECTED, LogEvent.REQUEST_FAILED)
            self.expect(self.refund(purchase), status, *log_records)
            self.sandbox.clear_faults()
        self.expect(self.shop.refund("0" * 24), 404)
        self.expect(self.shop.refund(purchase, json={"canary": 1}), 400)
        self.expect(self.shop.refund(purchase, data=b"canary{"), 400)

    def unknown_outcomes(self) -> None:
        self.sandbox.inject("wrong_object")
        log_records = (LogEvent.REFUND_CREATED, LogEvent.STRIPE_RESPONSE_INVALID, LogEvent.OUTCOME_UNKNOWN)
        self.expect(self.refund(self.buy()[1]), 202, *log_records)
        payment, purchase = self.buy()
        for first in (LogEvent.REFUND_CREATED, LogEvent.REFUND_RESUMED):
            self.sandbox.inject("drop_before")
            self.expect(self.refund(purchase), 202, first, LogEvent.OUTCOME_UNKNOWN)
        hold = datetime.now(timezone.utc) + timedelta(minutes=1)
        self.shop.db.flask_refunds.update_one({"_id": f"{payment}:1"}, {"$set": {"leaseExpiresAt": hold}})
        self.expect(self.refund(purchase), 409)
        age(self.shop, minutes=2)
        self.expect(self.refund(purchase), 200, LogEvent.REFUND_RESUMED, LogEvent.REFUND_STATUS_CHANGED)

    def database_failures(self) -> None:
        for command in ("find", "aggregate", "insert"):
            _, purchase = self.buy()
            with failing(self.database, command):
                [log_records] = self.expect(self.refund(purchase), 500, LogEvent.REQUEST_FAILED)
            assert (log_records["code"], log_records["error"]) == (
                "database_unavailable",
                "DatabaseUnavailable",
            )
        _, purchase = self.buy()
        with failing(self.database, "findAndModify"):
            self.expect(self.refund(purchase), 202, LogEvent.REFUND_CREATED, LogEvent.LEDGER_UPDATE_FAILED)
        _, purchase = self.buy()
        self.sandbox.inject("drop_before")
        with failing(self.database, "update"):
            told3 = (LogEvent.REFUND_CREATED, LogEvent.OUTCOME_UNKNOWN, LogEvent.LEASE_RELEASE_FAILED)
            self.expect(self.refund(purchase), 202, *told3)
        uri = f"mongodb://shop:{MONGO_PASSWORD}@127.0.0.1:1/shop"
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            away = self._open(REFUNDS_MONGO=client.shop)
            self.expect(self.refund(purchase, away), 500, LogEvent.REQUEST_FAILED)

    def receivers(self) -> None:
        def broken(*args: Any, **payload: Any) -> None:
            raise DuplicateKeyError(SAID, 11000, {"keyValue": {"email": EMAIL}})

        def silent(*args: Any, **payload: Any) -> None: ...

        with refund_succeeded.connected_to(broken, sender=self.shop.app):
            log_records = (LogEvent.REFUND_CREATED, LogEvent.REFUND_STATUS_CHANGED, LogEvent.RECEIVER_FAILED)
            [*_, failed] = self.expect(self.refund(self.buy()[1]), 200, *log_records)
        assert (failed["signal"], failed["error"]) == ("refund-succeeded", "DuplicateKeyError")
        with refund_pending.connected_to(silent, sender=self.shop.app):
            _, purchase = self.buy(card=PENDING)
            with failing(self.database, "update"):
                log_records = (
                    LogEvent.REFUND_CREATED,
                    LogEvent.REFUND_STATUS_CHANGED,
                    LogEvent.SIGNAL_REDELIVERY_SCHEDULED,
                )
                self.expect(self.refund(purchase), 202, *log_records)
            self.sandbox.inject("drop_before", method="GET", path="/v1/refunds/*")
            [told3] = self.expect(self.refund(purchase), 202, LogEvent.STRIPE_REQUEST_FAILED)
            unsaid = self.shop.db.flask_refunds.find_one({"purchaseIds": purchase})["_id"]
            assert told3 == {
                "event": "stripe_request_failed",
                "refund_id": unsaid,
                "code": "APIConnectionError",
            }

    def observers(self) -> None:
        class Broken:
            def refund_changed(self, refund: Any) -> None:
                raise ValueError(SAID)

            def stripe_request_finished(self, request: str, outcome: str, seconds: float) -> None: ...

        observed = self._open(REFUNDS_MONGO=self.database)
        observe(observed.app, Broken())
        log_records = (LogEvent.REFUND_CREATED, LogEvent.OBSERVER_FAILED, LogEvent.REFUND_STATUS_CHANGED)
        [_, failed, _] = self.expect(self.refund(self.buy()[1], observed), 200, *log_records)
        assert failed["error"] == "ValueError"

    def bulk_runs(self) -> None:
        def stumble(*args: Any) -> None:
            raise DuplicateKeyError(SAID, 11000, {"keyValue": {"email": EMAIL}})

        shop = self._open(REFUNDS_MONGO=self.database)
        bulk = get_refunds(shop.app).bulk
        bulk._patience = -1
        bulk._service = SimpleNamespace(refund=stumble)  # type: ignore[assignment]
        _, purchase = self.buy()
        with shop.app.app_context():
            assert bulk_refund("recall", [purchase]).counts == {"unknown": 1}
        [log_records] = self.log_records(LogEvent.BULK_ITEM_FAILED)
        assert log_records == {
            "event": "bulk_item_failed",
            "purchase_id": str(purchase),
            "error": "DuplicateKeyError",
        }

    def callers(self) -> None:
        for what, (authorization, why) in self._bad_authorizations().items():
            headers = {"Authorization": authorization} if authorization else {}
            [log_records] = self.expect(self.refund(ID, headers=headers), 401, LogEvent.AUTHENTICATION_FAILED)
            expected = {"event": "not_authenticated", "why": why, "endpoint": "refunds.refund_purchase"}
            assert log_records == expected, what
        user = self.shop.add_user(name="Canary User", email=EMAIL)
        [log_records] = self.expect(
            self.refund(ID, headers=self.shop.headers(user)), 403, LogEvent.ADMIN_REQUIRED
        )
        assert log_records["identity"] == str(user)
        by_email = self._open(REFUNDS_MONGO=self.database, REFUNDS_USER_FIELDS={"id": "email"})
        headers = by_email.headers(EMAIL)
        self.database.users.update_many({"email": EMAIL}, {"$set": {"role": "user"}})
        [log_records] = self.expect(self.refund(ID, by_email, headers=headers), 403, LogEvent.ADMIN_REQUIRED)
        assert re.fullmatch("sha256-[0-9a-f]{12}", log_records["identity"])
        self.database.users.update_many({"email": EMAIL}, {"$set": {"role": "admin"}})
        self.expect(
            self.refund(self.buy()[1], by_email, headers=headers),
            200,
            LogEvent.REFUND_CREATED,
            LogEvent.REFUND_STATUS_CHANGED,
        )

        def judge(user: Any) -> bool:
            raise RuntimeError(SAID, user)

        strange = self._open(REFUNDS_MONGO=self.database, REFUNDS_IS_ADMIN=judge)
        self.expect(self.refund(ID, strange), 500, LogEvent.REQUEST_FAILED)

    def _bad_authorizations(self) -> dict[str, tuple[str, str]]:
        shop = self.shop
        gone = shop.headers("64b5f2c8e13e4a5b6c7d8e9f")["Authorization"]
        expired = shop.headers(expires_in=-60)["Authorization"]
        forged = shop.headers()["Authorization"][:-6] + "AAAAAA"
        whole = {
            "none": ("", "missing"),
            "basic": ("Basic Y2FuYXJ5OmNhbmFyeQ==", "malformed"),
            "junk": ("Bearer canary.canary.canary", "malformed"),
            "gone": (gone, "user_not_found"),
            "expired": (expired, "expired"),
            "forged": (forged, "signature"),
        }
        self.tokens += [each.partition(" ")[2] for each, _ in whole.values() if len(each) > 40]
        return whole

    def bad_tokens(self) -> None:
        """All that there are: whichever check they fail, what they hold is not log_records."""
        for token in bad_tokens(str(self.shop.admin_id)).values():
            self.tokens += [token] if len(token) > 40 else []
            # As a server hands it on, for no client would send some of them.
            environ = {"HTTP_AUTHORIZATION": "Bearer " + token.encode().decode("latin-1")}
            self.refund(ID, headers={}, environ_overrides=environ)
        assert {each["event"] for each in self.recorder.clear()} == {"not_authenticated"}

    def events(self) -> None:
        payment, purchase = self.buy(card=PENDING)
        self.expect(self.refund(purchase), 202, LogEvent.REFUND_CREATED, LogEvent.REFUND_STATUS_CHANGED)
        self.sandbox.settle(self.sandbox.refunds(payment)[0]["id"], "succeeded")
        event = self.sandbox.events[-1]
        _, log_records = self.expect(
            self.send(event), 200, LogEvent.REFUND_STATUS_CHANGED, LogEvent.WEBHOOK_PROCESSED
        )
        assert log_records == {
            "event": "webhook_processed",
            "event_id": event["id"],
            "event_type": event["type"],
        }
        self.sandbox.settle(self.sandbox.refunds(payment)[0]["id"], "failed")
        told3 = (LogEvent.REFUND_STATUS_CHANGED, LogEvent.REFUND_NEEDS_REVIEW, LogEvent.WEBHOOK_PROCESSED)
        self.expect(self.send(self.sandbox.events[-1]), 200, *told3)
        dashboard, _ = self.buy()
        made = self.sandbox.refund_in_dashboard(dashboard)
        told2 = (LogEvent.EXTERNAL_REFUND_RECORDED, LogEvent.WEBHOOK_PROCESSED)
        recorded, _ = self.expect(self.send(make_event("refund.created", made)), 200, *told2)
        assert (recorded["refund_id"], recorded["actor"]) == (f"{dashboard}:1", "webhook")
        other = make_event("customer.created", {"id": "cus_1", "email": EMAIL})
        self.expect(self.send(other), 200, LogEvent.WEBHOOK_IGNORED)
        for wrong, secret, why in [
            (make_event("refund.created", made), "whsec_canaryOfSomebodyElse", "signature"),
            (make_event("refund.created", made, livemode=True), WEBHOOK_SECRET, "mode"),
            (make_event("refund.created", {**made, "amount": "canary"}), WEBHOOK_SECRET, "malformed"),
            (make_event("Canary Type", made, livemode=True), WEBHOOK_SECRET, "mode"),
        ]:
            [refused] = self.expect(self.send(wrong, secret), 400, LogEvent.WEBHOOK_REJECTED)
            assert refused["why"] == why
            believed = why != "signature"
            assert refused["event_id"] == (wrong["id"] if believed else None)
            spoken = believed and wrong["type"] == "refund.created"
            assert refused["event_type"] == (wrong["type"] if spoken else None)

    def people(self) -> None:
        payment, purchase = self.buy()
        self.sandbox.inject("drop_before")
        self.expect(self.refund(purchase), 202, LogEvent.REFUND_CREATED, LogEvent.OUTCOME_UNKNOWN)
        age(self.shop, hours=24)
        self.sandbox.advance(25 * 3600)
        with failing(self.database, "findAndModify"):
            reconcile(self.shop)
        assert "reconcile_failed" in {each["event"] for each in self.recorder.clear()}
        reconcile(self.shop)
        assert "refund_needs_review" in {each["event"] for each in self.recorder.clear()}
        runner = self.shop.app.test_cli_runner()
        command = ["refunds", "resolve", f"{payment}:1", "--failed", "--comment", "canary-why", "--actor"]
        assert runner.invoke(args=[*command, EMAIL]).exit_code == 0
        [resolved] = self.log_records(LogEvent.REFUND_RESOLVED)
        assert re.fullmatch("cli:sha256-[0-9a-f]{12}", resolved["actor"])


class CanaryShop(Shop):
    def headers(self, user_id: Any = None, **options: Any) -> dict[str, str]:
        token = make_token(str(user_id or self.admin_id), secret=JWT_SECRET, **options)
        return {"Authorization": f"Bearer {token}"}


ID = "0" * 24
SCENES: list[Callable[[Story], None]] = [
    Story.good_refunds,
    Story.refused_refunds,
    Story.unknown_outcomes,
    Story.database_failures,
    Story.receivers,
    Story.bulk_runs,
    Story.observers,
    Story.callers,
    Story.bad_tokens,
    Story.events,
    Story.people,
]


@pytest.fixture(scope="module")
def story(mongo_server: TestServer) -> Iterator[Story]:
    """Everything that can happen, with everybody's logger at DEBUG."""
    recorder, root = Recorder(), logging.getLogger()
    level = root.level
    root.addHandler(recorder)
    root.setLevel(logging.DEBUG)
    uri = mongo_server.uri(f"refunds_test_{uuid.uuid4().hex[:12]}")
    try:
        with (
            StripeSandbox(secret_key=STRIPE_KEY) as sandbox,
            pymongo.MongoClient[dict[str, Any]](uri, tz_aware=True) as client,
        ):
            story = Story(client.get_default_database(), sandbox, recorder)
            for scene in SCENES:
                scene(story)
            yield story
            client.drop_database(story.database.name)
    finally:
        root.removeHandler(recorder)
        root.setLevel(level)


def test_everything_happened(story: Story) -> None:
    assert story.statuses == {200, 202, 400, 401, 403, 404, 409, 500, 503}
    assert {each["event"] for each in story.recorder.facts()} == {each.event for each in LogEvent}


def test_our_records_hold_no_canary(story: Story) -> None:
    texts = story.recorder.texts("flask_refunds")
    assert [text for text in texts if CANARY.search(text)] == []
    assert [text for text in texts if any(token in text for token in story.tokens)] == []


def test_nobody_s_records_hold_a_secret(story: Story) -> None:
    """At DEBUG, Stripe's logger shows parameters and answers, and PyMongo's documents: no key, no token."""
    texts = story.recorder.texts("")
    for secret in (*SECRETS, *story.tokens):
        assert [text for text in texts if secret in text] == []


def test_only_pymongo_s_records_hold_documents(story: Story) -> None:
    texts = [
        text
        for text in story.recorder.texts("stripe", "urllib3", "flask_refunds", "werkzeug", "asyncio")
        if "canary-note" in text or EMAIL in text or "canary-gift" in text
    ]
    assert texts == []
    assert any("canary-note" in text for text in story.recorder.texts("pymongo.command"))


def test_facts_are_flat_and_documented(story: Story) -> None:
    vocabulary = _documented()
    for facts in story.recorder.facts():
        assert all(value is None or isinstance(value, (str, int)) for value in facts.values())
        assert json.loads(json.dumps(facts)) == facts
        assert facts.keys() - {"event"} <= vocabulary[facts["event"]][1], facts


def test_the_documented_vocabulary_is_the_real_one() -> None:
    documented = {event: level for event, (level, _) in _documented().items()}
    assert documented == {each.event: logging.getLevelName(each.level) for each in LogEvent}


def _documented() -> dict[str, tuple[str, set[str]]]:
    """The table of docs/logging.md: event -> its level and facts."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|[^|]*\| ([^|]*) \|$", DOCS.read_text(), re.MULTILINE)
    return {event: (level, set(re.findall(r"`(\w+)`", facts))) for event, level, facts in rows}


def test_a_record_is_read_without_a_formatter_of_ours(story: Story) -> None:
    [record, *_] = [each for each in story.recorder.records if each.name == "flask_refunds"]
    text = record.getMessage()
    assert text.startswith("A refund is written down, and Stripe is asked next: refund_id=pi_")
    assert "None" not in text

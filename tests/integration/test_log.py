"""Every log event, and no secret or personal data in any of them.

The scenario runs once, with the root logger at DEBUG. Secrets and personal data in it contain "canary".
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
from tests.integration.unfinished import age, reconcile
from tests.mongod import TestServer, failing
from tests.mount.keys import bad_tokens
from tests.shop import Shop, make_app

JWT_SECRET = "canary-jwt-secret-that-is-long-enough-for-hs256"
STRIPE_KEY = "sk_test_canaryStripeKey0123456789"
WEBHOOK_SECRET = "whsec_canaryWebhookSecret0123456789"
MONGO_PASSWORD = "canary-mongo-password"
EMAIL = "canary.person@mail.example"
MESSAGE = "canary-message-of-an-exception"
SECRETS = (JWT_SECRET, STRIPE_KEY, WEBHOOK_SECRET, MONGO_PASSWORD)
CANARY = re.compile("canary", re.IGNORECASE)
REFUNDED = (LogEvent.REFUND_CREATED, LogEvent.REFUND_STATUS_CHANGED)
DISPUTED, PENDING = "4000000000000259", "4000000000007726"
PATH = "/api/payments/webhook/refunds"
DOCS = Path(__file__).parents[2] / "docs" / "logging.md"


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []
        self._returned = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self, *names: str) -> list[str]:
        """Return these loggers' records as text, with their tracebacks and extra fields."""
        return [
            f"{logging.Formatter().format(record)}\n{vars(record)}"
            for record in self.records
            if record.name.startswith(names)
        ]

    def fields(self) -> list[dict[str, Any]]:
        """Return the fields of the library's records, as a JSON formatter gets them."""
        return [vars(record)["refunds"] for record in self.records if record.name == "flask_refunds"]

    def new_fields(self) -> list[dict[str, Any]]:
        """Return the fields of the library's records since the last call."""
        fields = self.fields()[self._returned :]
        self._returned += len(fields)
        return fields


class Scenario:
    """A shop whose secrets and personal data contain "canary", and everything that can be logged there."""

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

    def expect(self, response: TestResponse, status: int, *events: LogEvent) -> list[dict[str, Any]]:
        """Check a response and that exactly these events were logged, and return their fields."""
        self.statuses.add(response.status_code)
        assert response.status_code == status, response.text
        return self.expect_events(*events)

    def expect_events(self, *events: LogEvent) -> list[dict[str, Any]]:
        """Check that exactly these events were logged since the last call, and return their fields."""
        fields = self.recorder.new_fields()
        assert [each["event"] for each in fields] == [each.event for each in events]
        return fields

    def buy(self, **card: str) -> tuple[str, Any]:
        """Return a payment and its completed purchase."""
        payment = self.sandbox.create_payment(1999, **card)
        return payment, self.shop.add_purchase(payment, giftMessage="canary-gift-message")

    def refund(self, purchase: Any, shop: Shop | None = None, **options: Any) -> TestResponse:
        """Request a refund with a note, as the admin."""
        body = {"reason": "duplicate", "note": f"canary-note for {EMAIL}"}
        return (shop or self.shop).refund(purchase, json=body, **options)

    def send(self, event: dict[str, Any], secret: str = WEBHOOK_SECRET) -> TestResponse:
        """Send a webhook event that contains a canary."""
        event["data"]["object"]["metadata"] = {
            **(event["data"]["object"].get("metadata") or {}),
            "private": "canary-metadata",
        }
        body, headers = signed_event(event, secret, timestamp=int(time.time()))
        return self.shop.client.post(PATH, data=body, headers=headers)

    def good_refunds(self) -> None:
        payment, purchase = self.buy()
        created, settled = self.expect(self.refund(purchase), 200, *REFUNDED)
        common = {"refund_id": f"{payment}:1", "actor": f"api:{self.shop.admin_id}"}
        assert created == {"event": "refund_created", "reason": "duplicate", **common}
        assert settled.pop("stripe_request_id").startswith("req_")
        assert settled.pop("stripe_refund_id").startswith("re_")
        assert settled == {
            "event": "refund_status_changed",
            "status": "succeeded",
            "code": None,
            "amount": 1999,
            "currency": "usd",
            **common,
        }
        self.expect(self.refund(purchase), 400)
        _, purchase = self.buy(card=PENDING)
        self.expect(self.refund(purchase), 202, *REFUNDED)

    def rejected_refunds(self) -> None:
        payment, purchase = self.buy(card=DISPUTED)
        _, rejected = self.expect(
            self.refund(purchase), 400, LogEvent.REFUND_CREATED, LogEvent.REFUND_REJECTED
        )
        assert rejected.pop("stripe_request_id").startswith("req_")
        assert rejected == {
            "event": "refund_rejected",
            "refund_id": f"{payment}:1",
            "code": "charge_disputed",
            "actor": f"api:{self.shop.admin_id}",
        }
        for fault, status in [("rate_limited", 503), ("key_rejected", 500), ("key_forbidden", 500)]:
            self.sandbox.inject(fault, times=4)
            _, purchase = self.buy()
            events = (LogEvent.REFUND_CREATED, LogEvent.REFUND_REJECTED, LogEvent.REQUEST_FAILED)
            self.expect(self.refund(purchase), status, *events)
            self.sandbox.clear_faults()
        self.expect(self.shop.refund("0" * 24), 404)
        self.expect(self.shop.refund(purchase, json={"canary": 1}), 400)
        self.expect(self.shop.refund(purchase, data=b"canary{"), 400)

    def unknown_outcomes(self) -> None:
        self.sandbox.inject("wrong_object")
        events = (LogEvent.REFUND_CREATED, LogEvent.STRIPE_RESPONSE_INVALID, LogEvent.OUTCOME_UNKNOWN)
        self.expect(self.refund(self.buy()[1]), 202, *events)
        payment, purchase = self.buy()
        for first in (LogEvent.REFUND_CREATED, LogEvent.REFUND_RESUMED):
            self.sandbox.inject("request_lost")
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
                [fields] = self.expect(self.refund(purchase), 500, LogEvent.REQUEST_FAILED)
            assert (fields["code"], fields["error"]) == ("database_unavailable", "DatabaseUnavailable")
        _, purchase = self.buy()
        with failing(self.database, "findAndModify"):
            self.expect(self.refund(purchase), 202, LogEvent.REFUND_CREATED, LogEvent.LEDGER_UPDATE_FAILED)
        _, purchase = self.buy()
        self.sandbox.inject("request_lost")
        with failing(self.database, "update"):
            events = (LogEvent.REFUND_CREATED, LogEvent.OUTCOME_UNKNOWN, LogEvent.LEASE_RELEASE_FAILED)
            self.expect(self.refund(purchase), 202, *events)
        uri = f"mongodb://shop:{MONGO_PASSWORD}@127.0.0.1:1/shop"
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            unreachable = self._open(REFUNDS_MONGO=client.shop)
            self.expect(self.refund(purchase, unreachable), 500, LogEvent.REQUEST_FAILED)

    def receivers(self) -> None:
        def broken(*args: Any, **payload: Any) -> None:
            raise DuplicateKeyError(MESSAGE, 11000, {"keyValue": {"email": EMAIL}})

        def working(*args: Any, **payload: Any) -> None: ...

        with refund_succeeded.connected_to(broken, sender=self.shop.app):
            events = (*REFUNDED, LogEvent.RECEIVER_FAILED)
            [*_, failed] = self.expect(self.refund(self.buy()[1]), 200, *events)
        assert (failed["signal"], failed["error"]) == ("refund-succeeded", "DuplicateKeyError")
        with refund_pending.connected_to(working, sender=self.shop.app):
            external = make_event("refund.created", self.sandbox.dashboard_refund(self.buy(card=PENDING)[0]))
            with failing(self.database, "update"):
                events = (LogEvent.EXTERNAL_REFUND_RECORDED, LogEvent.SIGNAL_REDELIVERY_SCHEDULED)
                self.expect(self.send(external), 200, *events, LogEvent.WEBHOOK_PROCESSED)
            _, purchase = self.buy(card=PENDING)
            self.expect(self.refund(purchase), 202, *REFUNDED)
            self.sandbox.inject("request_lost", method="GET", path="/v1/refunds/*")
            [fields] = self.expect(self.refund(purchase), 202, LogEvent.STRIPE_REQUEST_FAILED)
            refund_id = self.shop.db.flask_refunds.find_one({"purchaseIds": purchase})["_id"]
            assert fields == {
                "event": "stripe_request_failed",
                "refund_id": refund_id,
                "code": "connection_failed",
            }

    def observers(self) -> None:
        class Broken:
            def refund_changed(self, refund: Any) -> None:
                raise ValueError(MESSAGE)

            def stripe_request_finished(self, request: str, outcome: str, seconds: float) -> None: ...

        observed = self._open(REFUNDS_MONGO=self.database)
        observe(observed.app, Broken())
        events = (LogEvent.REFUND_CREATED, LogEvent.OBSERVER_FAILED, LogEvent.REFUND_STATUS_CHANGED)
        [_, failed, _] = self.expect(self.refund(self.buy()[1], observed), 200, *events)
        assert failed["error"] == "ValueError"

    def bulk_runs(self) -> None:
        def broken(*args: Any) -> None:
            raise DuplicateKeyError(MESSAGE, 11000, {"keyValue": {"email": EMAIL}})

        shop = self._open(REFUNDS_MONGO=self.database)
        bulk = get_refunds(shop.app).bulk
        bulk._retry_seconds = -1
        bulk._service = SimpleNamespace(refund=broken)  # type: ignore[assignment]
        _, purchase = self.buy()
        with shop.app.app_context():
            assert bulk_refund("recall", [purchase]).counts == {"unknown": 1}
        [fields] = self.expect_events(LogEvent.BULK_ITEM_FAILED)
        assert fields == {
            "event": "bulk_item_failed",
            "purchase_id": str(purchase),
            "error": "DuplicateKeyError",
        }

    def callers(self) -> None:
        for name, (authorization, reason) in self._bad_authorizations().items():
            headers = {"Authorization": authorization} if authorization else {}
            [fields] = self.expect(self.refund(ID, headers=headers), 401, LogEvent.AUTHENTICATION_FAILED)
            expected = {"event": "authentication_failed", "reason": reason}
            assert fields == {**expected, "endpoint": "refunds.refund_purchase"}, name
        user = self.shop.add_user(name="Canary User", email=f"other-{EMAIL}")
        headers = self.shop.headers(user)
        [fields] = self.expect(self.refund(ID, headers=headers), 403, LogEvent.ADMIN_REQUIRED)
        assert fields["identity"] == str(user)
        by_email = self._open(REFUNDS_MONGO=self.database, REFUNDS_USER_FIELDS={"id": "email"})
        headers = by_email.headers(EMAIL)
        self.database.users.update_many({"email": EMAIL}, {"$set": {"role": "user"}})
        [fields] = self.expect(self.refund(ID, by_email, headers=headers), 403, LogEvent.ADMIN_REQUIRED)
        assert re.fullmatch("sha256-[0-9a-f]{12}", fields["identity"])
        self.database.users.update_many({"email": EMAIL}, {"$set": {"role": "admin"}})
        self.expect(self.refund(self.buy()[1], by_email, headers=headers), 200, *REFUNDED)

        def broken(user: Any) -> bool:
            raise RuntimeError(MESSAGE, user)

        by_session = self._open(REFUNDS_MONGO=self.database, REFUNDS_CURRENT_USER=lambda: {"_id": EMAIL})
        headers = {"Origin": "https://canary.example", "Sec-Fetch-Site": "cross-site"}
        [fields] = self.expect(self.refund(ID, by_session, headers=headers), 403, LogEvent.CROSS_SITE_REQUEST)
        assert fields.keys() == {"event", "endpoint"}
        broken_rule = self._open(REFUNDS_MONGO=self.database, REFUNDS_IS_ADMIN=broken)
        self.expect(self.refund(ID, broken_rule), 500, LogEvent.REQUEST_FAILED)

    def _bad_authorizations(self) -> dict[str, tuple[str, str]]:
        shop = self.shop
        gone = shop.headers("64b5f2c8e13e4a5b6c7d8e9f")["Authorization"]
        expired = shop.headers(expires_in=-60)["Authorization"]
        forged = shop.headers()["Authorization"][:-6] + "AAAAAA"
        authorizations = {
            "none": ("", "missing"),
            "basic": ("Basic Y2FuYXJ5OmNhbmFyeQ==", "malformed"),
            "junk": ("Bearer canary.canary.canary", "malformed"),
            "gone": (gone, "user_not_found"),
            "expired": (expired, "expired"),
            "forged": (forged, "signature"),
        }
        self.tokens += [each.partition(" ")[2] for each, _ in authorizations.values() if len(each) > 40]
        return authorizations

    def bad_tokens(self) -> None:
        """Send every bad token: none of them is logged, whichever check it fails."""
        for token in bad_tokens(str(self.shop.admin_id)).values():
            self.tokens += [token] if len(token) > 40 else []
            # As a WSGI server passes it, because clients can't send some of them.
            environ = {"HTTP_AUTHORIZATION": "Bearer " + token.encode().decode("latin-1")}
            self.refund(ID, headers={}, environ_overrides=environ)
        assert {each["event"] for each in self.recorder.new_fields()} == {"authentication_failed"}

    def webhooks(self) -> None:
        payment, purchase = self.buy(card=PENDING)
        self.expect(self.refund(purchase), 202, *REFUNDED)
        self.sandbox.settle(self.sandbox.refunds(payment)[0]["id"], "succeeded")
        event = self.sandbox.events[-1]
        events = (LogEvent.REFUND_STATUS_CHANGED, LogEvent.WEBHOOK_PROCESSED)
        _, fields = self.expect(self.send(event), 200, *events)
        ids = {"event_id": event["id"], "event_type": event["type"]}
        assert fields == {"event": "webhook_processed", **ids}
        self.sandbox.settle(self.sandbox.refunds(payment)[0]["id"], "failed")
        events = (LogEvent.REFUND_STATUS_CHANGED, LogEvent.REFUND_NEEDS_REVIEW, LogEvent.WEBHOOK_PROCESSED)
        self.expect(self.send(self.sandbox.events[-1]), 200, *events)
        external, _ = self.buy()
        made = self.sandbox.dashboard_refund(external)
        events = (LogEvent.EXTERNAL_REFUND_RECORDED, LogEvent.WEBHOOK_PROCESSED)
        recorded, _ = self.expect(self.send(make_event("refund.created", made)), 200, *events)
        assert (recorded["refund_id"], recorded["actor"]) == (f"{external}:{made['id']}", "webhook")
        other = make_event("customer.created", {"id": "cus_1", "email": EMAIL})
        self.expect(self.send(other), 200, LogEvent.WEBHOOK_IGNORED)
        for wrong, secret, reason in [
            (make_event("refund.created", made), "whsec_canaryOfAnotherEndpoint", "signature"),
            ({**make_event("refund.created", made), "livemode": "canary"}, WEBHOOK_SECRET, "malformed"),
        ]:
            [rejected] = self.expect(self.send(wrong, secret), 400, LogEvent.WEBHOOK_REJECTED)
            assert rejected["reason"] == reason
            signed = reason != "signature"
            assert rejected["event_id"] == (wrong["id"] if signed else None)
            assert rejected["event_type"] == (wrong["type"] if signed else None)
        for kind, logged in [("refund.created", "refund.created"), ("Canary Type", None)]:
            foreign = make_event(kind, made, livemode=True)
            [ignored] = self.expect(self.send(foreign), 200, LogEvent.WEBHOOK_IGNORED)
            assert (ignored["event_id"], ignored["event_type"]) == (foreign["id"], logged)
        for changed in ({"id": "canary"}, {"object": "canary"}):
            unusable = make_event("refund.created", {**made, **changed})
            self.expect(self.send(unusable), 200, LogEvent.WEBHOOK_IGNORED)

    def reviews(self) -> None:
        payment, purchase = self.buy()
        self.sandbox.inject("request_lost")
        self.expect(self.refund(purchase), 202, LogEvent.REFUND_CREATED, LogEvent.OUTCOME_UNKNOWN)
        age(self.shop, hours=24)
        self.sandbox.advance(25 * 3600)
        with failing(self.database, "findAndModify"):
            reconcile(self.shop)
        assert "reconcile_failed" in {each["event"] for each in self.recorder.new_fields()}
        self.database.flask_refunds.insert_one(
            {"review": {"since": datetime.now(timezone.utc)}, "note": EMAIL}
        )
        reconcile(self.shop)
        events = {each["event"] for each in self.recorder.new_fields()}
        assert {"refund_needs_review", "record_unreadable"} <= events
        two_days_ago = datetime.now(timezone.utc) - timedelta(days=2)
        self.database["flask_refunds.state"].update_one(
            {"_id": "refunds"}, {"$set": {"fullCompletedAt": two_days_ago}}
        )
        self.sandbox.inject("unreadable_response", method="GET", path="/v1/refunds", times=None)
        reconcile(self.shop)
        assert "full_sweep_overdue" in {each["event"] for each in self.recorder.new_fields()}
        self.sandbox.clear_faults()
        two_minutes_ago = datetime.now(timezone.utc) - timedelta(minutes=2)
        self.database.flask_refunds.update_one(
            {"_id": f"{payment}:1"}, {"$set": {"leaseExpiresAt": two_minutes_ago}}
        )
        runner = self.shop.app.test_cli_runner()
        command = ["refunds", "resolve", f"{payment}:1", "--failed", "--comment", "canary-comment", "--actor"]
        assert runner.invoke(args=[*command, EMAIL]).exit_code == 0
        [resolved] = self.expect_events(LogEvent.REFUND_RESOLVED)
        assert re.fullmatch("cli:sha256-[0-9a-f]{12}", resolved["actor"])


class CanaryShop(Shop):
    def headers(self, user_id: Any = None, **options: Any) -> dict[str, str]:
        token = make_token(str(user_id or self.admin_id), secret=JWT_SECRET, **options)
        return {"Authorization": f"Bearer {token}"}


ID = "0" * 24
STEPS: list[Callable[[Scenario], None]] = [
    Scenario.good_refunds,
    Scenario.rejected_refunds,
    Scenario.unknown_outcomes,
    Scenario.database_failures,
    Scenario.receivers,
    Scenario.bulk_runs,
    Scenario.observers,
    Scenario.callers,
    Scenario.bad_tokens,
    Scenario.webhooks,
    Scenario.reviews,
]


@pytest.fixture(scope="module")
def scenario(mongo_server: TestServer) -> Iterator[Scenario]:
    """The scenario after every step, with every logger at DEBUG."""
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
            scenario = Scenario(client.get_default_database(), sandbox, recorder)
            for step in STEPS:
                step(scenario)
            yield scenario
            client.drop_database(scenario.database.name)
    finally:
        root.removeHandler(recorder)
        root.setLevel(level)


def test_every_status_and_event_occurs(scenario: Scenario) -> None:
    assert scenario.statuses == {200, 202, 400, 401, 403, 404, 409, 500, 503}
    assert {each["event"] for each in scenario.recorder.fields()} == {each.event for each in LogEvent}


def test_library_logs_no_secret_and_no_personal_data(scenario: Scenario) -> None:
    texts = scenario.recorder.texts("flask_refunds")
    assert [text for text in texts if CANARY.search(text)] == []
    assert [text for text in texts if any(token in text for token in scenario.tokens)] == []


def test_no_logger_at_debug_logs_a_key_or_token(scenario: Scenario) -> None:
    """At DEBUG, Stripe's logger shows parameters and responses, and PyMongo's shows documents."""
    texts = scenario.recorder.texts("")
    for secret in (*SECRETS, *scenario.tokens):
        assert [text for text in texts if secret in text] == []


def test_only_pymongo_at_debug_logs_documents(scenario: Scenario) -> None:
    texts = [
        text
        for text in scenario.recorder.texts("stripe", "urllib3", "flask_refunds", "werkzeug", "asyncio")
        if "canary-note" in text or EMAIL in text or "canary-gift" in text
    ]
    assert texts == []
    assert any("canary-note" in text for text in scenario.recorder.texts("pymongo.command"))


def test_fields_are_flat_and_documented(scenario: Scenario) -> None:
    documented = _documented()
    for fields in scenario.recorder.fields():
        assert all(value is None or isinstance(value, (str, int)) for value in fields.values())
        assert json.loads(json.dumps(fields)) == fields
        assert fields.keys() - {"event"} <= documented[fields["event"]][1], fields


def test_documented_events_and_levels_are_the_real_ones() -> None:
    documented = {event: level for event, (level, _) in _documented().items()}
    assert documented == {each.event: logging.getLevelName(each.level) for each in LogEvent}


def _documented() -> dict[str, tuple[str, set[str]]]:
    """Return the level and the fields of each event in the table of docs/logging.md."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|[^|]*\| ([^|]*) \|$", DOCS.read_text(), re.MULTILINE)
    return {event: (level, set(re.findall(r"`(\w+)`", fields))) for event, level, fields in rows}


def test_record_is_readable_with_a_plain_formatter(scenario: Scenario) -> None:
    [record, *_] = [each for each in scenario.recorder.records if each.name == "flask_refunds"]
    text = record.getMessage()
    message = "Refund record created; the request to Stripe follows"
    assert text.startswith(f"{message}: event=refund_created refund_id=pi_")
    assert "None" not in text


def test_plain_text_has_the_event_by_which_the_documentation_names_it(scenario: Scenario) -> None:
    records = [each for each in scenario.recorder.records if each.name == "flask_refunds"]
    assert records
    for record in records:
        assert f": event={record.__dict__['refunds']['event']}" in record.getMessage()

"""Events, their signatures and their delivery."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe
from sandbox_caller import Caller

from flask_refunds.testing import StripeSandbox, make_event, signed_event

SECRET = "whsec_test"
PAYING = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


def types(sandbox: StripeSandbox) -> list[str]:
    return [event["type"] for event in sandbox.events]


class Receiver:
    """A host's webhook: keeps what it is sent, and answers as told."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, dict[str, str]]] = []
        self.statuses: list[int] = []
        self.arrived = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((body, dict(self.headers)))
                receiver.arrived.set()
                receiver.may_answer.wait()
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?a=b"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body, _ in self.received]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.thread.start()
    yield receiver
    receiver.may_answer.set()
    receiver.server.shutdown()
    receiver.thread.join()
    receiver.server.server_close()


class TestEmitting:
    def test_paying(self, sandbox: StripeSandbox, paid: str) -> None:
        assert types(sandbox) == PAYING

    def test_declined(self, sandbox: StripeSandbox) -> None:
        sandbox.create_payment(5, card="4000000000000002")

        assert types(sandbox) == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]

    def test_disputed(self, sandbox: StripeSandbox) -> None:
        paid = sandbox.create_payment(5, card="4000000000000259")

        assert types(sandbox) == [*PAYING, "charge.dispute.created"]
        dispute = sandbox.events[-1]["data"]["object"]
        assert (dispute["payment_intent"], dispute["amount"]) == (paid, 5)

    def test_refunding(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        answer = stripe_api.post("/v1/refunds", {"payment_intent": paid}, key="k")

        assert types(sandbox) == [*PAYING, "refund.created", "charge.refunded"]
        created, refunded = sandbox.events[3:]
        assert created["id"].startswith("evt_")
        assert created["data"] == {"object": answer.json}
        assert created["request"] == {"id": answer.headers["Request-Id"], "idempotency_key": "k"}
        assert (created["livemode"], created["api_version"]) == (False, "2026-10-28.endive")
        assert refunded["data"]["object"]["amount_refunded"] == 2000

    def test_settling(self, sandbox: StripeSandbox) -> None:
        sandbox.refund_in_dashboard(sandbox.create_payment(5, card="pm_card_pendingRefund"))
        sandbox.advance(3600)

        assert types(sandbox)[5:] == ["refund.updated", "charge.refund.updated"]
        updated = sandbox.events[-1]
        assert updated["data"]["object"]["status"] == "succeeded"
        assert updated["data"]["previous_attributes"] == {"pending_reason": "processing", "status": "pending"}
        assert updated["request"] == {"id": None, "idempotency_key": None}

    def test_failing(self, sandbox: StripeSandbox) -> None:
        sandbox.refund_in_dashboard(sandbox.create_payment(5, card="pm_card_refundFail"))
        sandbox.advance(3600)

        assert types(sandbox)[5:] == ["refund.updated", "charge.refund.updated", "refund.failed"]
        assert sandbox.events[-1]["data"]["object"]["status"] == "failed"

    def test_canceling(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        sandbox.inject("requires_action")
        refund = stripe_api.post("/v1/refunds", {"payment_intent": paid}).json
        stripe_api.post(f"/v1/refunds/{refund['id']}/cancel")

        assert types(sandbox)[5:] == ["refund.updated", "charge.refund.updated"]
        assert sandbox.events[-1]["data"]["object"]["status"] == "canceled"

    def test_an_event_is_what_was_then(self, sandbox: StripeSandbox, paid: str) -> None:
        sandbox.settle(sandbox.refund_in_dashboard(paid)["id"], "failed")

        created = next(event for event in sandbox.events if event["type"] == "refund.created")
        assert created["data"]["object"]["status"] == "succeeded"

    def test_a_replay_emits_nothing(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        for _ in range(2):
            stripe_api.post("/v1/refunds", {"payment_intent": paid}, key="k")

        assert types(sandbox).count("refund.created") == 1

    def test_reading_them(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        sandbox.refund_in_dashboard(paid)
        one = sandbox.events[-1]

        assert stripe_api.get(f"/v1/events/{one['id']}").json == one
        assert stripe_api.get("/v1/events", {"limit": 1}).json["data"] == [one]
        assert stripe_api.get("/v1/events", {"type": "charge.refunded"}).json["data"] == [one]
        some = stripe_api.get("/v1/events", {"types[]": "refund.created", "limit": 2}).json["data"]
        assert [event["type"] for event in some] == ["refund.created"]


class TestSigning:
    def test_as_documented(self) -> None:
        body, headers = signed_event({"id": "evt_1"}, SECRET, timestamp=12345)

        signature = hmac.new(SECRET.encode(), b"12345." + body, hashlib.sha256).hexdigest()
        assert headers == {"Stripe-Signature": f"t=12345,v1={signature}", "Content-Type": "application/json"}
        assert json.loads(body) == {"id": "evt_1"}

    def test_stripe_verifies_it(self) -> None:
        event = make_event("refund.updated", {"id": "re_1", "object": "refund"}, livemode=True)
        body, headers = signed_event(event, SECRET)

        verified = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
        assert verified.to_dict() == event

    @pytest.mark.parametrize(("secret", "timestamp"), [("whsec_other", None), (SECRET, 1_000_000)])
    def test_stripe_refuses_another_secret_and_an_old_one(self, secret: str, timestamp: int | None) -> None:
        body, headers = signed_event(make_event("x", {}), secret, timestamp=timestamp)

        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)

    def test_what_an_event_says(self) -> None:
        event = make_event(
            "refund.updated",
            {"id": "re_1"},
            previous_attributes={"status": "pending"},
            event_id="evt_1",
            created=5,
            request_id="req_1",
            idempotency_key="k",
        )

        assert event == {
            "id": "evt_1",
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": 5,
            "data": {"object": {"id": "re_1"}, "previous_attributes": {"status": "pending"}},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": "req_1", "idempotency_key": "k"},
            "type": "refund.updated",
        }


class TestDelivering:
    def test_all_in_order(self, sandbox: StripeSandbox, receiver: Receiver) -> None:
        sandbox.add_webhook(receiver.url, SECRET)
        sandbox.refund_in_dashboard(sandbox.create_payment(5))

        sandbox.wait_delivered()

        assert receiver.events() == sandbox.events
        body, headers = receiver.received[-1]
        verified = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
        assert verified.type == "charge.refunded"
        assert headers["Content-Type"] == "application/json"

    def test_only_what_is_wanted(self, sandbox: StripeSandbox, receiver: Receiver) -> None:
        sandbox.add_webhook(receiver.url, SECRET, events=["refund.created", "refund.failed"])
        sandbox.refund_in_dashboard(sandbox.create_payment(5, card="pm_card_refundFail"))
        sandbox.advance(3600)
        sandbox.wait_delivered()

        assert [event["type"] for event in receiver.events()] == ["refund.created", "refund.failed"]

    def test_again_until_it_is_accepted(self, sandbox: StripeSandbox, receiver: Receiver, paid: str) -> None:
        receiver.statuses = [500, 301]
        sandbox.add_webhook(receiver.url, SECRET, events=["refund.created"])
        sandbox.refund_in_dashboard(paid)
        sandbox.wait_delivered()

        assert len({event["id"] for event in receiver.events()}) == 1
        assert [(it.type, it.attempts, it.status) for it in sandbox.deliveries] == [
            ("refund.created", 3, 200)
        ]

    def test_but_not_for_ever(self, sandbox: StripeSandbox, receiver: Receiver, paid: str) -> None:
        receiver.statuses = [500] * 10
        sandbox.add_webhook(receiver.url, SECRET, events=["refund.created"])
        sandbox.refund_in_dashboard(paid)
        sandbox.wait_delivered()

        assert [(it.attempts, it.status) for it in sandbox.deliveries] == [(3, 500)]

    def test_nobody_there(self, sandbox: StripeSandbox, paid: str) -> None:
        sandbox.add_webhook("http://127.0.0.1:1/", SECRET, events=["refund.created"])
        sandbox.refund_in_dashboard(paid)
        sandbox.wait_delivered()

        assert [(it.attempts, it.status) for it in sandbox.deliveries] == [(3, None)]

    def test_by_hand(self, sandbox: StripeSandbox, receiver: Receiver, paid: str) -> None:
        receiver.statuses = [418, 200]
        event = sandbox.events[0]

        assert sandbox.deliver(event, receiver.url, SECRET) == 418
        assert sandbox.deliver(event, receiver.url, SECRET, timestamp=5) == 200
        assert receiver.events() == [event, event]
        assert receiver.received[1][1]["Stripe-Signature"].startswith("t=5,v1=")

    def test_stopping_does_not_wait_for_a_slow_host(self, receiver: Receiver) -> None:
        receiver.may_answer.clear()
        with StripeSandbox() as sandbox:
            sandbox.add_webhook(receiver.url, SECRET)
            sandbox.create_payment(5)
            assert receiver.arrived.wait(5)
            with pytest.raises(TimeoutError):
                sandbox.wait_delivered(timeout=0.01)
            began = time.monotonic()

        assert time.monotonic() - began < 5
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("stripe-")]

    def test_a_reset_forgets_the_endpoints(self, sandbox: StripeSandbox, receiver: Receiver) -> None:
        sandbox.add_webhook(receiver.url, SECRET)
        sandbox.create_payment(5)
        sandbox.wait_delivered()
        receiver.received.clear()

        sandbox.reset()
        sandbox.create_payment(5)
        sandbox.wait_delivered()

        assert (receiver.received, sandbox.deliveries) == ([], [])

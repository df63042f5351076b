"""Each fault: what the caller sees, whether money moved, and what a retry with the same key gets."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator

import pytest
from sandbox_caller import Answer, Caller

from flask_refunds.testing import Fault, StripeSandbox

EXECUTED = {
    Fault.DROP_AFTER,
    Fault.HANG_AFTER,
    Fault.ERROR_500_AFTER,
    Fault.GARBAGE,
    Fault.TRUNCATED,
    Fault.EMPTY,
    Fault.WRONG_OBJECT,
    Fault.SLOW_DRIP,
    Fault.PENDING,
    Fault.REQUIRES_ACTION,
}
REFUNDED_IN_VAIN = {Fault.FAILED, Fault.CANCELED}
UNFINISHED = {Fault.HANG_BEFORE, Fault.HANG_AFTER, Fault.LATE, Fault.SLOW_DRIP}
ANSWERED_WITH_AN_ERROR = {
    Fault.ERROR_500: (500, None, "api_error"),
    Fault.ERROR_500_AFTER: (500, None, "api_error"),
    Fault.ERROR_503: (503, None, "api_error"),
    Fault.RATE_LIMITED: (429, "rate_limit", "invalid_request_error"),
    Fault.LOCK_TIMEOUT: (429, "lock_timeout", "invalid_request_error"),
    Fault.CONFLICT: (409, "idempotency_key_in_use", "invalid_request_error"),
    Fault.KEY_REJECTED: (401, None, "invalid_request_error"),
    Fault.KEY_FORBIDDEN: (403, None, "invalid_request_error"),
    Fault.CARD_ERROR: (402, "card_declined", "card_error"),
    Fault.INSUFFICIENT_BALANCE: (400, "balance_insufficient", "invalid_request_error"),
}
STORED_ERRORS = {
    Fault.ERROR_500: 500,
    Fault.ERROR_500_AFTER: 500,
    Fault.CARD_ERROR: 402,
    Fault.INSUFFICIENT_BALANCE: 400,
}


def refund(stripe_api: Caller, paid: str, key: str = "k") -> Answer:
    return stripe_api.post("/v1/refunds", {"payment_intent": paid}, key=key)


@pytest.fixture
def victim(sandbox: StripeSandbox) -> Iterator[Caller]:
    """A caller whose connection may break."""
    with contextlib.closing(Caller(sandbox.url)) as caller:
        yield caller


def suffer(sandbox: StripeSandbox, victim: Caller, paid: str) -> None:
    """Send a refund, and do not stay for what comes of it."""
    body = f"payment_intent={paid}"
    headers = {
        "Authorization": "Bearer sk_test_123",
        "Idempotency-Key": "k",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    seen = len(sandbox.requests)
    victim.connection.request("POST", "/v1/refunds", body, headers)
    sandbox.wait_for_requests(seen + 1)


@pytest.mark.parametrize("fault", Fault)
def test_executed_or_not(
    sandbox: StripeSandbox, stripe_api: Caller, victim: Caller, paid: str, fault: Fault
) -> None:
    injected = sandbox.inject(fault)

    suffer(sandbox, victim, paid)

    assert injected.hits == 1
    assert sandbox.requests[0].fault is fault
    executed = fault in EXECUTED
    assert sandbox.money_refunded(paid) == (2000 if executed else 0)
    assert len(sandbox.refunds(paid)) == (1 if executed or fault in REFUNDED_IN_VAIN else 0)
    types = {event["type"] for event in sandbox.events}
    assert ("refund.created" in types) == (executed or fault in REFUNDED_IN_VAIN)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.LATE])
def test_a_retry_makes_it_one_refund_or_repeats_the_error(
    sandbox: StripeSandbox, stripe_api: Caller, victim: Caller, paid: str, fault: Fault
) -> None:
    sandbox.inject(fault)
    suffer(sandbox, victim, paid)
    before = sandbox.refunds(paid)

    retry = refund(stripe_api, paid)

    assert retry.status == STORED_ERRORS.get(fault, 200)
    assert len(sandbox.refunds(paid)) == (0 if fault in STORED_ERRORS and not before else 1)
    if before and retry.status == 200:
        assert retry.json["id"] == before[0]["id"]
    assert (retry.headers.get("Idempotent-Replayed") == "true") == (bool(before) or fault in STORED_ERRORS)


@pytest.mark.parametrize("fault", ANSWERED_WITH_AN_ERROR)
def test_errors(sandbox: StripeSandbox, stripe_api: Caller, paid: str, fault: Fault) -> None:
    sandbox.inject(fault)

    answer = refund(stripe_api, paid)

    error = answer.error
    assert (answer.status, error.get("code"), error["type"]) == ANSWERED_WITH_AN_ERROR[fault]
    assert answer.headers["Request-Id"] == sandbox.requests[0].request_id
    assert sandbox.requests[0].status == answer.status


def test_what_a_rate_limit_says_and_a_lock_does_not(
    sandbox: StripeSandbox, stripe_api: Caller, paid: str
) -> None:
    sandbox.inject("rate_limited")
    sandbox.inject("lock_timeout")

    limit, lock = refund(stripe_api, paid), refund(stripe_api, paid)

    assert limit.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    assert "Stripe-Rate-Limited-Reason" not in lock.headers
    assert lock.headers["Stripe-Should-Retry"] == "true"


def test_a_stored_500_says_that_a_retry_is_in_vain(
    sandbox: StripeSandbox, stripe_api: Caller, paid: str
) -> None:
    sandbox.inject("error_500")

    assert refund(stripe_api, paid).headers["Stripe-Should-Retry"] == "false"
    assert refund(stripe_api, paid).headers["Stripe-Should-Retry"] == "false"
    assert refund(stripe_api, paid, "another").status == 200


def test_a_gateway_speaks_html(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    sandbox.inject("error_502_html")

    answer = refund(stripe_api, paid)

    assert (answer.status, answer.headers["Content-Type"]) == (502, "text/html")
    assert b"<html>" in answer.raw


@pytest.mark.parametrize("fault", [Fault.DROP_BEFORE, Fault.DROP_AFTER])
def test_dropped(sandbox: StripeSandbox, victim: Caller, paid: str, fault: Fault) -> None:
    sandbox.inject(fault)

    with pytest.raises(http.client.RemoteDisconnected):
        refund(victim, paid)
    assert sandbox.requests[0].status is None


@pytest.mark.parametrize("fault", [Fault.HANG_BEFORE, Fault.HANG_AFTER])
def test_hanging(sandbox: StripeSandbox, victim: Caller, paid: str, fault: Fault) -> None:
    sandbox.inject(fault)
    suffer(sandbox, victim, paid)
    wire = victim.connection.sock

    wire.settimeout(0.05)
    with pytest.raises(TimeoutError):
        wire.recv(1)
    sandbox.clear_faults()

    wire.settimeout(5)
    assert wire.recv(1) == b""
    assert sandbox.requests[0].status is None


def test_late_is_executed_though_the_caller_left(sandbox: StripeSandbox, victim: Caller, paid: str) -> None:
    sandbox.inject("late")
    suffer(sandbox, victim, paid)
    victim.close()
    assert sandbox.refunds(paid) == []

    sandbox.release()

    assert sandbox.money_refunded(paid) == 2000


def test_what_is_late_when_all_is_reset_never_happens(
    sandbox: StripeSandbox, victim: Caller, paid: str
) -> None:
    sandbox.inject("late")
    suffer(sandbox, victim, paid)

    sandbox.reset()
    sandbox.release()

    assert sandbox.events == []
    assert victim.connection.sock.recv(1) == b""


def test_garbage(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    sandbox.inject("garbage")

    answer = refund(stripe_api, paid)

    assert answer.status == 200
    with pytest.raises(ValueError, match="decode"):
        answer.json  # noqa: B018


def test_empty(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    sandbox.inject("empty")

    answer = refund(stripe_api, paid)
    assert (answer.status, answer.raw) == (200, b"")


def test_truncated(sandbox: StripeSandbox, victim: Caller, paid: str) -> None:
    sandbox.inject("truncated")

    with pytest.raises(http.client.IncompleteRead):
        refund(victim, paid)
    assert sandbox.requests[0].status == 200


def test_wrong_object(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    sandbox.inject("wrong_object")

    answer = refund(stripe_api, paid)
    assert (answer.status, answer.json["object"]) == (200, "customer")


def test_slow_drip(sandbox: StripeSandbox, victim: Caller, paid: str) -> None:
    sandbox.inject("slow_drip")
    suffer(sandbox, victim, paid)

    response = victim.connection.getresponse()
    first = [response.read(1) for _ in range(3)]
    sandbox.clear_faults()

    assert (response.status, first) == (200, [b"{", b'"', b"i"])
    with pytest.raises(http.client.IncompleteRead):
        response.read()


@pytest.mark.parametrize(
    ("fault", "events"),
    [
        ("pending", ["refund.created", "charge.refunded"]),
        ("requires_action", ["refund.created", "charge.refunded"]),
        ("failed", ["refund.created", "refund.failed"]),
        ("canceled", ["refund.created"]),
    ],
)
def test_statuses(
    sandbox: StripeSandbox, stripe_api: Caller, paid: str, fault: str, events: list[str]
) -> None:
    sandbox.inject(fault)

    answer = refund(stripe_api, paid)

    assert (answer.status, answer.json["status"]) == (200, fault)
    assert bool(answer.json["failure_reason"]) == (fault in ("failed", "canceled"))
    assert bool(answer.json["next_action"]) == (fault == "requires_action")
    assert [event["type"] for event in sandbox.events][3:] == events


def test_pending_for_lack_of_funds_succeeds_later(
    sandbox: StripeSandbox, stripe_api: Caller, paid: str
) -> None:
    sandbox.inject("pending")
    assert refund(stripe_api, paid).json["pending_reason"] == "insufficient_funds"

    sandbox.advance(3600)

    assert sandbox.refunds(paid)[0]["status"] == "succeeded"


class TestPlanning:
    def statuses(self, stripe_api: Caller, count: int) -> list[int]:
        return [stripe_api.get("/v1/refunds").status for _ in range(count)]

    def test_how_often_and_after_how_many(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        sandbox.inject("error_503", method="GET", after=1, times=2)

        assert self.statuses(stripe_api, 5) == [200, 503, 503, 200, 200]

    def test_always(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        injected = sandbox.inject("error_503", method="GET", times=None)

        assert self.statuses(stripe_api, 3) == [503] * 3
        assert injected.hits == 3
        sandbox.clear_faults()
        assert self.statuses(stripe_api, 1) == [200]

    def test_one_after_the_other(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        sandbox.inject("error_503", method="GET")
        sandbox.inject("key_forbidden", method="GET")
        sandbox.inject("key_rejected", method="*", after=3)

        assert self.statuses(stripe_api, 5) == [503, 403, 200, 401, 200]

    def test_only_what_matches(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        sandbox.inject("error_503", path="/v1/*/confirm", times=None)

        assert refund(stripe_api, paid).status == 200
        assert stripe_api.post(f"/v1/payment_intents/{paid}/confirm").status == 503
        assert stripe_api.get("/v1/balance").status == 200

    def test_a_path_is_a_prefix(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        done = sandbox.refund_in_dashboard(paid)
        sandbox.inject("error_503", method="GET", path="/v1/refunds")

        assert stripe_api.get(f"/v1/refunds/{done['id']}").status == 503

    @pytest.mark.parametrize(
        ("fault", "where"),
        [("nonsense", {}), ("failed", {"method": "GET"}), ("pending", {"path": "/v1/charges"})],
    )
    def test_what_cannot_be(self, sandbox: StripeSandbox, fault: str, where: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=fault):
            sandbox.inject(fault, method=where.get("method", "POST"), path=where.get("path", "/v1/refunds"))


@pytest.mark.parametrize("fault", sorted(UNFINISHED))
def test_stopping_ends_what_is_unfinished(fault: Fault) -> None:
    with StripeSandbox() as sandbox, contextlib.closing(Caller(sandbox.url)) as victim:
        paid = sandbox.create_payment(2000)
        sandbox.inject(fault)
        suffer(sandbox, victim, paid)
        wire = victim.connection.sock
        money = sandbox.money_refunded(paid)
        sandbox.stop()
        wire.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while wire.recv(1024):
                pass

        assert sandbox.money_refunded(paid) == money
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", victim.connection.port))

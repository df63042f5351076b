"""Faults: the response, whether money moved, and the response to a retry with the same key."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator

import pytest

from flask_refunds.testing import (
    OUTCOME_UNKNOWN,
    REFUSED,
    RETRYABLE,
    Cards,
    Fault,
    FaultNotUsed,
    StripeSandbox,
)
from flask_refunds.testing.faults import FORCED_STATUSES
from tests.testing.http_client import HttpClient, HttpResponse

EXECUTED = {
    Fault.RESPONSE_LOST,
    Fault.TIMEOUT_AFTER_REFUND,
    Fault.SERVER_ERROR_AFTER,
    Fault.UNREADABLE_RESPONSE,
    Fault.TRUNCATED_RESPONSE,
    Fault.EMPTY_RESPONSE,
    Fault.WRONG_OBJECT,
    Fault.ENDLESS_RESPONSE,
    Fault.PENDING,
    Fault.REQUIRES_ACTION,
}
CREATED_AS_UNPAID = {Fault.FAILED, Fault.CANCELED}
UNFINISHED = {Fault.TIMEOUT_BEFORE_REFUND, Fault.TIMEOUT_AFTER_REFUND, Fault.LATE, Fault.ENDLESS_RESPONSE}
ERROR_RESPONSES = {
    Fault.SERVER_ERROR_BEFORE: (500, None, "api_error"),
    Fault.SERVER_ERROR_AFTER: (500, None, "api_error"),
    Fault.SERVICE_UNAVAILABLE: (503, None, "api_error"),
    Fault.RATE_LIMITED: (429, "rate_limit", "invalid_request_error"),
    Fault.LOCK_TIMEOUT: (429, "lock_timeout", "invalid_request_error"),
    Fault.CONFLICT: (409, "idempotency_key_in_use", "invalid_request_error"),
    Fault.KEY_REJECTED: (401, None, "invalid_request_error"),
    Fault.KEY_EXPIRED: (401, "api_key_expired", "invalid_request_error"),
    Fault.KEY_FORBIDDEN: (403, None, "invalid_request_error"),
    Fault.CARD_ERROR: (402, "card_declined", "card_error"),
    Fault.INSUFFICIENT_BALANCE: (400, "balance_insufficient", "invalid_request_error"),
}
STORED_ERRORS = {
    Fault.SERVER_ERROR_BEFORE: 500,
    Fault.SERVER_ERROR_AFTER: 500,
    Fault.CARD_ERROR: 402,
    Fault.INSUFFICIENT_BALANCE: 400,
}


def refund(stripe_api: HttpClient, payment: str, key: str = "k") -> HttpResponse:
    return stripe_api.post("/v1/refunds", {"payment_intent": payment}, key=key)


@pytest.fixture
def faulty_client(sandbox: StripeSandbox) -> Iterator[HttpClient]:
    """A client whose connection the fault may break."""
    with contextlib.closing(HttpClient(sandbox.url)) as client:
        yield client


def send_without_reading(sandbox: StripeSandbox, faulty_client: HttpClient, payment: str) -> None:
    """Send a refund request, and wait for its arrival but not for its response."""
    body = f"payment_intent={payment}"
    headers = {
        "Authorization": "Bearer sk_test_123",
        "Idempotency-Key": "k",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    before = len(sandbox.requests)
    faulty_client.connection.request("POST", "/v1/refunds", body, headers)
    sandbox.wait_for_requests(before + 1)


@pytest.mark.parametrize("fault", Fault)
def test_fault_executes_request_or_not(
    sandbox: StripeSandbox, stripe_api: HttpClient, faulty_client: HttpClient, payment: str, fault: Fault
) -> None:
    injected = sandbox.inject(fault)

    send_without_reading(sandbox, faulty_client, payment)

    assert injected.hits == 1
    assert sandbox.requests[0].fault is fault
    executed = fault in EXECUTED
    assert sandbox.money_refunded(payment) == (2000 if executed else 0)
    assert len(sandbox.refunds(payment)) == (1 if executed or fault in CREATED_AS_UNPAID else 0)
    types = {event["type"] for event in sandbox.events}
    assert ("refund.created" in types) == (executed or fault in CREATED_AS_UNPAID)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.LATE])
def test_retry_after_fault_makes_one_refund_or_replays_error(
    sandbox: StripeSandbox, stripe_api: HttpClient, faulty_client: HttpClient, payment: str, fault: Fault
) -> None:
    sandbox.inject(fault)
    send_without_reading(sandbox, faulty_client, payment)
    before = sandbox.refunds(payment)

    retry = refund(stripe_api, payment)

    assert retry.status == STORED_ERRORS.get(fault, 200)
    assert len(sandbox.refunds(payment)) == (0 if fault in STORED_ERRORS and not before else 1)
    if before and retry.status == 200:
        assert retry.json["id"] == before[0]["id"]
    assert (retry.headers.get("Idempotent-Replayed") == "true") == (bool(before) or fault in STORED_ERRORS)


@pytest.mark.parametrize("fault", ERROR_RESPONSES)
def test_error_fault_returns_stripe_error(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str, fault: Fault
) -> None:
    sandbox.inject(fault)

    response = refund(stripe_api, payment)

    error = response.error
    assert (response.status, error.get("code"), error["type"]) == ERROR_RESPONSES[fault]
    assert response.headers["Request-Id"] == sandbox.requests[0].request_id
    assert sandbox.requests[0].status == response.status


def test_rate_limit_and_lock_timeout_differ_in_headers(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    sandbox.inject("rate_limited")
    sandbox.inject("lock_timeout")

    limit, lock = refund(stripe_api, payment), refund(stripe_api, payment)

    assert limit.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    assert "Stripe-Rate-Limited-Reason" not in lock.headers
    assert lock.headers["Stripe-Should-Retry"] == "true"


def test_stored_500_has_should_retry_false(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    sandbox.inject("server_error_before")

    assert refund(stripe_api, payment).headers["Stripe-Should-Retry"] == "false"
    assert refund(stripe_api, payment).headers["Stripe-Should-Retry"] == "false"
    assert refund(stripe_api, payment, "another").status == 200


def test_bad_gateway_returns_html(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    sandbox.inject("bad_gateway")

    response = refund(stripe_api, payment)

    assert (response.status, response.headers["Content-Type"]) == (502, "text/html")
    assert b"<html>" in response.raw


@pytest.mark.parametrize("fault", [Fault.REQUEST_LOST, Fault.RESPONSE_LOST])
def test_dropped_request_gets_no_response(
    sandbox: StripeSandbox, faulty_client: HttpClient, payment: str, fault: Fault
) -> None:
    sandbox.inject(fault)

    with pytest.raises(http.client.RemoteDisconnected):
        refund(faulty_client, payment)
    assert sandbox.requests[0].status is None


@pytest.mark.parametrize("fault", [Fault.TIMEOUT_BEFORE_REFUND, Fault.TIMEOUT_AFTER_REFUND])
def test_hanging_request_is_closed_by_clear_faults(
    sandbox: StripeSandbox, faulty_client: HttpClient, payment: str, fault: Fault
) -> None:
    sandbox.inject(fault)
    send_without_reading(sandbox, faulty_client, payment)
    sock = faulty_client.connection.sock

    sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    sandbox.clear_faults()

    sock.settimeout(5)
    assert sock.recv(1) == b""
    assert sandbox.requests[0].status is None


def test_late_request_is_executed_after_client_disconnected(
    sandbox: StripeSandbox, faulty_client: HttpClient, payment: str
) -> None:
    sandbox.inject("late")
    send_without_reading(sandbox, faulty_client, payment)
    faulty_client.close()
    assert sandbox.refunds(payment) == []

    sandbox.release()

    assert sandbox.money_refunded(payment) == 2000


def test_late_request_is_dropped_by_reset(
    sandbox: StripeSandbox, faulty_client: HttpClient, payment: str
) -> None:
    sandbox.inject("late")
    send_without_reading(sandbox, faulty_client, payment)

    sandbox.reset()
    sandbox.release()

    assert sandbox.events == []
    assert faulty_client.connection.sock.recv(1) == b""


def test_garbage_response_is_not_json(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    sandbox.inject("unreadable_response")

    response = refund(stripe_api, payment)

    assert response.status == 200
    with pytest.raises(ValueError, match="decode"):
        response.json  # noqa: B018


def test_empty_response_has_no_body(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    sandbox.inject("empty_response")

    response = refund(stripe_api, payment)
    assert (response.status, response.raw) == (200, b"")


def test_truncated_response_is_incomplete(
    sandbox: StripeSandbox, faulty_client: HttpClient, payment: str
) -> None:
    sandbox.inject("truncated_response")

    with pytest.raises(http.client.IncompleteRead):
        refund(faulty_client, payment)
    assert sandbox.requests[0].status == 200


def test_wrong_object_response_is_a_customer(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    sandbox.inject("wrong_object")

    response = refund(stripe_api, payment)
    assert (response.status, response.json["object"]) == (200, "customer")


def test_slow_drip_response_never_ends(
    sandbox: StripeSandbox, faulty_client: HttpClient, payment: str
) -> None:
    sandbox.inject("endless_response")
    send_without_reading(sandbox, faulty_client, payment)

    response = faulty_client.connection.getresponse()
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
def test_forced_status_is_returned_with_its_events(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str, fault: str, events: list[str]
) -> None:
    sandbox.inject(fault)

    response = refund(stripe_api, payment)

    assert (response.status, response.json["status"]) == (200, fault)
    assert bool(response.json["failure_reason"]) == (fault in ("failed", "canceled"))
    assert bool(response.json["next_action"]) == (fault == "requires_action")
    assert [event["type"] for event in sandbox.events][3:] == events


def test_pending_for_insufficient_funds_succeeds_later(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    sandbox.inject("pending")
    assert refund(stripe_api, payment).json["pending_reason"] == "insufficient_funds"

    sandbox.advance(3600)

    assert sandbox.refunds(payment)[0]["status"] == "succeeded"


class TestFaultPlan:
    def statuses(self, stripe_api: HttpClient, count: int) -> list[int]:
        return [stripe_api.get("/v1/refunds").status for _ in range(count)]

    def test_after_and_times_select_requests(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        sandbox.inject("service_unavailable", method="GET", after=1, times=2)

        assert self.statuses(stripe_api, 5) == [200, 503, 503, 200, 200]

    def test_times_none_applies_until_cleared(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        injected = sandbox.inject("service_unavailable", method="GET", times=None)

        assert self.statuses(stripe_api, 3) == [503] * 3
        assert injected.hits == 3
        sandbox.clear_faults()
        assert self.statuses(stripe_api, 1) == [200]

    def test_faults_apply_one_per_request_in_order(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        sandbox.inject("service_unavailable", method="GET")
        sandbox.inject("key_forbidden", method="GET")
        sandbox.inject("key_rejected", method="*", after=3)

        assert self.statuses(stripe_api, 5) == [503, 403, 200, 401, 200]

    def test_path_pattern_matches(self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
        sandbox.inject("service_unavailable", path="/v1/*/confirm", times=None)

        assert refund(stripe_api, payment).status == 200
        assert stripe_api.post(f"/v1/payment_intents/{payment}/confirm").status == 503
        assert stripe_api.get("/v1/balance").status == 200

    def test_path_without_wildcard_is_a_prefix(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        made = sandbox.dashboard_refund(payment)
        sandbox.inject("service_unavailable", method="GET", path="/v1/refunds")

        assert stripe_api.get(f"/v1/refunds/{made['id']}").status == 503

    @pytest.mark.parametrize(
        ("fault", "where"),
        [("nonsense", {}), ("failed", {"method": "GET"}), ("pending", {"path": "/v1/charges"})],
    )
    def test_unknown_or_unsuitable_fault_is_value_error(
        self, sandbox: StripeSandbox, fault: str, where: dict[str, str]
    ) -> None:
        with pytest.raises(ValueError, match=fault):
            sandbox.inject(fault, method=where.get("method", "POST"), path=where.get("path", "/v1/refunds"))


@pytest.mark.parametrize("fault", sorted(UNFINISHED))
def test_stop_ends_unfinished_request(fault: Fault) -> None:
    with StripeSandbox() as sandbox, contextlib.closing(HttpClient(sandbox.url)) as faulty_client:
        payment = sandbox.create_payment(2000)
        sandbox.inject(fault)
        send_without_reading(sandbox, faulty_client, payment)
        sock = faulty_client.connection.sock
        refunded = sandbox.money_refunded(payment)
        sandbox.stop()
        sock.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(1024):
                pass

        assert sandbox.money_refunded(payment) == refunded
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", faulty_client.connection.port))


def test_fault_of_a_block_applies_to_all_its_requests_and_ends_with_it(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    with sandbox.fault("service_unavailable") as fault:
        for _ in range(3):
            assert stripe_api.post("/v1/refunds", {"payment_intent": payment}).status == 503
    assert fault.hits == 3
    assert stripe_api.post("/v1/refunds", {"payment_intent": payment}).status == 200


def test_fault_that_no_request_gets_is_an_error_at_the_end_of_its_block(
    sandbox: StripeSandbox, stripe_api: HttpClient
) -> None:
    with (
        pytest.raises(FaultNotUsed, match=r"rate_limited \(GET /v1/charges\)"),
        sandbox.fault("rate_limited", method="GET", path="/v1/charges"),
    ):
        stripe_api.get("/v1/refunds")
    sandbox.assert_faults_used()
    with pytest.raises(KeyError, match="own"), sandbox.fault("rate_limited"):
        raise KeyError("own")


def test_faults_are_used_once_a_request_got_them(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    sandbox.inject("rate_limited", times=2)
    sandbox.inject("card_error")
    with pytest.raises(FaultNotUsed, match=r"rate_limited.*card_error"):
        sandbox.assert_faults_used()
    stripe_api.post("/v1/refunds", {"payment_intent": payment})
    with pytest.raises(FaultNotUsed, match=r"fault: card_error"):
        sandbox.assert_faults_used()
    sandbox.clear_faults()
    sandbox.assert_faults_used()


def test_wrong_name_lists_the_right_ones(sandbox: StripeSandbox) -> None:
    with pytest.raises(
        ValueError, match=r"Unknown fault 'drop_after'\. Valid faults: request_lost, .*canceled"
    ):
        sandbox.fault("drop_after")


def test_groups_have_every_fault_once_that_has_one_meaning() -> None:
    grouped = [*OUTCOME_UNKNOWN, *REFUSED, *RETRYABLE]
    assert len(grouped) == len(set(grouped))
    assert set(Fault) - set(grouped) == {Fault.LATE, *FORCED_STATUSES}


def test_fault_is_shown_as_its_name() -> None:
    assert f"{Fault.RESPONSE_LOST} {Fault.RESPONSE_LOST!s}" == "response_lost response_lost"


@pytest.mark.parametrize("card", Cards)
def test_named_card_is_one_of_the_test_cards(sandbox: StripeSandbox, card: Cards) -> None:
    paid = card not in (Cards.AUTHENTICATION_REQUIRED, Cards.DECLINED, Cards.INSUFFICIENT_FUNDS)
    payment = sandbox.create_payment(700, card=card)
    assert (sandbox.payment_intent(payment)["status"] == "succeeded") is paid


def test_unknown_card_lists_the_named_ones(sandbox: StripeSandbox) -> None:
    with pytest.raises(ValueError, match=r"'refund_pending'\. Use Cards\.SUCCEEDS, Cards\.REFUND_PENDING, "):
        sandbox.create_payment(700, card="refund_pending")


def test_last_request_is_the_last_post(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    with pytest.raises(LookupError, match="no POST request"):
        _ = sandbox.last_request
    stripe_api.post("/v1/refunds", {"payment_intent": payment})
    stripe_api.get("/v1/refunds")
    assert sandbox.last_request.params == {"payment_intent": payment}

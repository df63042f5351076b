"""HTTP, authentication, rate limit, lifecycle and control API of the sandbox."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time

import pytest

from flask_refunds.testing import StripeSandbox
from tests.testing.http_client import HttpClient

FORM = "application/x-www-form-urlencoded"


def exchange_bytes(sandbox: StripeSandbox, sent: bytes) -> bytes:
    """Send bytes, and return everything received until the sandbox closes the connection."""
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(sent)
        received = b""
        while part := sock.recv(65536):
            received += part
    return received


class TestApiKeys:
    @pytest.mark.parametrize("key", ["sk_test_1", "rk_test_aB1", "sk_live_1", "rk_live_1"])
    def test_well_formed_key_is_accepted(self, sandbox: StripeSandbox, key: str) -> None:
        with contextlib.closing(HttpClient(sandbox.url, key)) as client:
            assert client.get("/v1/balance").json["livemode"] == ("live" in key)

    def test_key_in_basic_authentication_is_accepted(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        basic = base64.b64encode(b"sk_test_1:").decode()

        assert stripe_api.get("/v1/balance", Authorization=f"Basic {basic}").status == 200

    @pytest.mark.parametrize(
        ("authorization", "message"),
        [
            ("", "You did not provide an API key."),
            ("Bearer ", "You did not provide an API key."),
            ("Digest x", "You did not provide an API key."),
            ("Basic *", "You did not provide an API key."),
            ("Bearer sk_prod_abcdefgh1234", "Invalid API Key provided: sk_prod_********1234"),
            ("Bearer secret", "Invalid API Key provided: ********"),
            ("Bearer pk_test_1", "This API call cannot be made with a publishable API key."),
        ],
    )
    def test_missing_or_invalid_key_is_401(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorization: str, message: str
    ) -> None:
        response = stripe_api.get("/v1/balance", Authorization=authorization)

        assert response.status == 401
        assert response.error["message"].startswith(message)
        assert response.error["type"] == "invalid_request_error"
        assert response.headers["Request-Id"].startswith("req_")
        assert response.headers["WWW-Authenticate"] == 'Basic realm="Stripe"'

    def test_other_key_than_configured_is_401(self) -> None:
        with (
            StripeSandbox(secret_key="sk_live_mine") as sandbox,
            contextlib.closing(HttpClient(sandbox.url, "sk_live_mine")) as accepted,
            contextlib.closing(HttpClient(sandbox.url, "sk_live_other")) as other,
        ):
            payment = sandbox.create_payment(5)
            assert accepted.post("/v1/refunds", {"payment_intent": payment}).status == 200
            refused = other.get("/v1/balance")

        assert refused.status == 401
        assert refused.error["message"] == "Invalid API Key provided: sk_live_********"


class TestResponseHeaders:
    def test_every_response_has_request_id_and_version(self, stripe_api: HttpClient) -> None:
        for response in (stripe_api.get("/v1/balance"), stripe_api.get("/v1/nowhere")):
            assert response.headers["Request-Id"].startswith("req_")
            assert response.headers["Stripe-Version"] == "2026-10-28.endive"
            assert response.headers["Content-Type"] == "application/json"

    def test_requested_version_is_returned(self, stripe_api: HttpClient) -> None:
        response = stripe_api.get("/v1/balance", stripe_version="2024-06-20")

        assert response.headers["Stripe-Version"] == "2024-06-20"


class TestRequests:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("GET", "/v1/customers"),
            ("DELETE", "/v1/refunds"),
            ("POST", "/v1/refunds/"),
            ("POST", "/v1/balance"),
            ("PUT", "/v1/refunds"),
        ],
    )
    def test_unknown_route_is_404(self, stripe_api: HttpClient, method: str, path: str) -> None:
        response = stripe_api.send(method, path, None)

        assert response.status == 404
        assert response.error["message"].startswith(f"Unrecognized request URL ({method}: {path})")

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [(b'{"amount": 5}', "application/json"), (b"\xff\xfe", FORM), (b"a=1", "text/plain")],
    )
    def test_body_that_is_not_a_form_is_400(
        self, stripe_api: HttpClient, body: bytes, content_type: str
    ) -> None:
        response = stripe_api.send("POST", "/v1/refunds", body, Content_Type=content_type)

        assert response.status == 400
        assert "check that your POST content type" in response.error["message"]

    def test_head_response_has_no_body(self, sandbox: StripeSandbox) -> None:
        response = exchange_bytes(sandbox, b"HEAD /v1/balance HTTP/1.1\r\nConnection: close\r\n\r\n")

        assert response.startswith(b"HTTP/1.1 401")
        assert response.endswith(b"\r\n\r\n")

    def test_connection_is_kept_open(self, stripe_api: HttpClient) -> None:
        stripe_api.get("/v1/balance")
        sock = stripe_api.connection.sock
        stripe_api.post("/v1/refunds")

        assert stripe_api.connection.sock is sock is not None

    @pytest.mark.parametrize("closing", [b"Connection: close\r\n\r\n", b"connection: Close\r\n\r\n"])
    def test_connection_close_header_closes_connection(self, sandbox: StripeSandbox, closing: bytes) -> None:
        response = exchange_bytes(sandbox, b"GET /v1/balance HTTP/1.1\r\nHost: x\r\n" + closing)

        assert response.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"\r\nConnection: close\r\n" in response

    def test_pipelined_requests_are_all_answered(self, sandbox: StripeSandbox) -> None:
        one = b"GET /_sandbox/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /_sandbox/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

        assert exchange_bytes(sandbox, one * 20 + last).count(b"HTTP/1.1 200 OK") == 21

    def test_request_in_single_bytes_is_parsed(self, sandbox: StripeSandbox, payment: str) -> None:
        body = f"payment_intent={payment}".encode()
        head = (
            f"POST /v1/refunds HTTP/1.1\r\nAuthorization: Bearer sk_test_1\r\nContent-Length: {len(body)}\r\n"
        )
        host, port = sandbox.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in head.encode() + b"\r\n" + body:
                sock.sendall(bytes([byte]))
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert sandbox.money_refunded(payment) == 2000

    @pytest.mark.parametrize(
        "sent",
        [
            b"nonsense\r\n\r\n",
            b"GET /\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000,
        ],
    )
    def test_malformed_http_is_400(self, sandbox: StripeSandbox, stripe_api: HttpClient, sent: bytes) -> None:
        assert exchange_bytes(sandbox, sent).startswith(b"HTTP/1.1 400 Bad Request")
        assert stripe_api.get("/v1/balance").status == 200

    def test_requests_are_logged(self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
        response = stripe_api.post("/v1/refunds", {"payment_intent": payment, "metadata[a]": "b"}, key="k")
        stripe_api.get("/v1/refunds", {"limit": 3}, idempotency_key="ignored")
        stripe_api.send("POST", "/v1/refunds", b"{}", Content_Type="application/json")

        first, second, third = sandbox.requests
        assert (first.method, first.path, first.status, first.idempotency_key) == (
            "POST",
            "/v1/refunds",
            200,
            "k",
        )
        assert first.params == {"payment_intent": payment, "metadata": {"a": "b"}}
        assert first.request_id == response.headers["Request-Id"]
        assert (second.method, second.params, second.idempotency_key) == ("GET", {"limit": "3"}, None)
        assert (third.params, third.status) == ({}, 400)

    def test_request_of_disconnected_client_is_executed_without_status(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        sandbox.latency = 0.05
        stripe_api.connection.request(
            "POST", "/v1/refunds", f"payment_intent={payment}", {"Authorization": "Bearer sk_test_1"}
        )
        sandbox.wait_for_requests(1)
        stripe_api.close()

        sandbox.wait_until(lambda: sandbox.money_refunded(payment) == 2000)
        assert sandbox.requests[0].status is None


class TestRateLimit:
    def test_requests_above_limit_are_429(self) -> None:
        now = [1_000_000.0]
        with (
            StripeSandbox(rate_limit=2, clock=lambda: now[0]) as sandbox,
            contextlib.closing(HttpClient(sandbox.url)) as stripe_api,
        ):
            statuses = [stripe_api.get("/v1/balance").status for _ in range(3)]
            refused = stripe_api.get("/v1/balance")
            now[0] += 1
            statuses += [stripe_api.get("/v1/balance").status for _ in range(3)]
            sandbox.rate_limit = None
            statuses.append(stripe_api.get("/v1/balance").status)

        assert statuses == [200, 200, 429, 200, 200, 429, 200]
        assert (refused.error["code"], refused.error["type"]) == ("rate_limit", "invalid_request_error")
        assert refused.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
        assert "Retry-After" not in refused.headers

    def test_429_moves_no_money(self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
        sandbox.rate_limit = 0
        assert stripe_api.post("/v1/refunds", {"payment_intent": payment}, key="k").status == 429
        assert sandbox.money_refunded(payment) == 0


def test_latency_applies_to_concurrent_requests_in_parallel() -> None:
    with StripeSandbox(latency=0.2) as sandbox:
        payment = sandbox.create_payment(2000)

        def refund() -> None:
            with contextlib.closing(HttpClient(sandbox.url)) as client:
                client.post("/v1/refunds", {"payment_intent": payment, "amount": 1})

        threads = [threading.Thread(target=refund) for _ in range(20)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.monotonic() - started

        assert sandbox.money_refunded(payment) == 20
    assert 0.2 <= elapsed < 2


def test_responses_are_not_delayed_by_nagle(stripe_api: HttpClient) -> None:
    stripe_api.get("/v1/balance")
    started = time.monotonic()
    for _ in range(25):
        stripe_api.get("/v1/balance")

    assert time.monotonic() - started < 25 * 0.04


class TestLifecycle:
    def test_stop_leaves_no_threads(self) -> None:
        before = set(threading.enumerate())
        sandbox = StripeSandbox()
        with sandbox, contextlib.closing(HttpClient(sandbox.url)) as stripe_api:
            payment = sandbox.create_payment(2000)
            sandbox.inject("timeout_before_refund")
            stripe_api.connection.request(
                "POST", "/v1/refunds", f"payment_intent={payment}", {"Authorization": "Bearer sk_test_1"}
            )
            sandbox.wait_for_requests(1)

        assert set(threading.enumerate()) == before

    def test_state_is_readable_after_stop(self) -> None:
        with StripeSandbox() as sandbox:
            payment = sandbox.create_payment(2000)
            sandbox.dashboard_refund(payment)

        assert sandbox.money_refunded(payment) == 2000
        with pytest.raises(RuntimeError, match="isn't running"):
            sandbox.url  # noqa: B018

    def test_sandbox_can_be_started_again(self) -> None:
        sandbox = StripeSandbox()
        for _ in range(2):
            with sandbox, contextlib.closing(HttpClient(sandbox.url)) as stripe_api:
                assert stripe_api.get("/v1/balance").status == 200
        sandbox.stop()

    def test_start_while_running_is_an_error(self, sandbox: StripeSandbox) -> None:
        with pytest.raises(RuntimeError, match="already running"):
            sandbox.start()

    def test_port_in_use_is_an_error(self, sandbox: StripeSandbox) -> None:
        port = int(sandbox.url.rpartition(":")[2])

        with pytest.raises(OSError, match="in use"):
            StripeSandbox(port=port).start()

    def test_advance_moves_forward_only(self, sandbox: StripeSandbox) -> None:
        before = sandbox.now()
        sandbox.advance(100)

        assert sandbox.now() - before >= 100
        with pytest.raises(ValueError, match="0 or more"):
            sandbox.advance(-1)

    def test_wait_for_requests_times_out(self, sandbox: StripeSandbox) -> None:
        with pytest.raises(TimeoutError):
            sandbox.wait_for_requests(1, timeout=0.01)


class TestControlApi:
    def test_health_needs_no_key_and_is_not_logged(self, sandbox: StripeSandbox) -> None:
        with contextlib.closing(HttpClient(sandbox.url, None)) as client:
            assert client.get("/_sandbox/health").json == {"status": "ok"}
        assert sandbox.requests == []

    def test_payments_are_created_and_refunds_listed(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        params = {"amount": 700, "currency": "eur", "card": "pm_card_pendingRefund", "count": 3}
        ids = stripe_api.post("/_sandbox/payments", params).json["ids"]
        sandbox.dashboard_refund(ids[1])

        found = stripe_api.get("/_sandbox/refunds", {"payment_intent": ids[1]}).json["data"]
        not_refunded = stripe_api.get("/_sandbox/refunds", {"payment_intent": ids[0]}).json["data"]

        assert len(set(ids)) == 3
        assert [(each["amount"], each["currency"], each["status"]) for each in found] == [
            (700, "eur", "pending")
        ]
        assert not_refunded == []
        assert len(stripe_api.get("/_sandbox/refunds").json["data"]) == 1

    @pytest.mark.parametrize(
        "params", [{}, {"amount": "x"}, {"amount": 5, "card": "pm_x"}, {"amount": 5, "a": 1}]
    )
    def test_invalid_payment_is_400(self, stripe_api: HttpClient, params: dict[str, object]) -> None:
        assert stripe_api.post("/_sandbox/payments", params).status == 400

    def test_unknown_route_is_404(self, stripe_api: HttpClient) -> None:
        assert stripe_api.get("/_sandbox/nowhere").status == 404

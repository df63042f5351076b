"""HTTP as Stripe speaks it."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time

import pytest
from sandbox_caller import Caller

from flask_refunds.testing import StripeSandbox

FORM = "application/x-www-form-urlencoded"


def raw_answer(sandbox: StripeSandbox, sent: bytes) -> bytes:
    """What comes back, until the sandbox hangs up."""
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as wire:
        wire.sendall(sent)
        received = b""
        while part := wire.recv(65536):
            received += part
    return received


class TestKeys:
    @pytest.mark.parametrize("key", ["sk_test_1", "rk_test_aB1", "sk_live_1", "rk_live_1"])
    def test_every_well_formed_key_is_good(self, sandbox: StripeSandbox, key: str) -> None:
        with contextlib.closing(Caller(sandbox.url, key)) as caller:
            assert caller.get("/v1/balance").json["livemode"] == ("live" in key)

    def test_basic_authentication(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        basic = base64.b64encode(b"sk_test_1:").decode()

        assert stripe_api.get("/v1/balance", Authorization=f"Basic {basic}").status == 200

    @pytest.mark.parametrize(
        ("authorization", "words"),
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
    def test_no_key(self, sandbox: StripeSandbox, stripe_api: Caller, authorization: str, words: str) -> None:
        answer = stripe_api.get("/v1/balance", Authorization=authorization)

        assert answer.status == 401
        assert answer.error["message"].startswith(words)
        assert answer.error["type"] == "invalid_request_error"
        assert answer.headers["Request-Id"].startswith("req_")
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="Stripe"'

    def test_the_only_key(self) -> None:
        with (
            StripeSandbox(secret_key="sk_live_mine") as sandbox,
            contextlib.closing(Caller(sandbox.url, "sk_live_mine")) as mine,
            contextlib.closing(Caller(sandbox.url, "sk_live_other")) as other,
        ):
            paid = sandbox.create_payment(5)
            assert mine.post("/v1/refunds", {"payment_intent": paid}).status == 200
            refused = other.get("/v1/balance")

        assert refused.status == 401
        assert refused.error["message"] == "Invalid API Key provided: sk_live_********"


class TestHeaders:
    def test_every_answer_says_who_and_which_version(self, stripe_api: Caller) -> None:
        for answer in (stripe_api.get("/v1/balance"), stripe_api.get("/v1/nowhere")):
            assert answer.headers["Request-Id"].startswith("req_")
            assert answer.headers["Stripe-Version"] == "2026-10-28.endive"
            assert answer.headers["Content-Type"] == "application/json"

    def test_the_version_asked_for(self, stripe_api: Caller) -> None:
        answer = stripe_api.get("/v1/balance", stripe_version="2024-06-20")

        assert answer.headers["Stripe-Version"] == "2024-06-20"


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
    def test_unknown(self, stripe_api: Caller, method: str, path: str) -> None:
        answer = stripe_api.send(method, path, None)

        assert answer.status == 404
        assert answer.error["message"].startswith(f"Unrecognized request URL ({method}: {path})")

    @pytest.mark.parametrize(
        ("body", "kind"),
        [(b'{"amount": 5}', "application/json"), (b"\xff\xfe", FORM), (b"a=1", "text/plain")],
    )
    def test_a_body_that_is_no_form(self, stripe_api: Caller, body: bytes, kind: str) -> None:
        answer = stripe_api.send("POST", "/v1/refunds", body, Content_Type=kind)

        assert answer.status == 400
        assert "check that your POST content type" in answer.error["message"]

    def test_head_has_no_body(self, sandbox: StripeSandbox) -> None:
        answer = raw_answer(sandbox, b"HEAD /v1/balance HTTP/1.1\r\nConnection: close\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 401")
        assert answer.endswith(b"\r\n\r\n")

    def test_a_connection_is_kept(self, stripe_api: Caller) -> None:
        stripe_api.get("/v1/balance")
        wire = stripe_api.connection.sock
        stripe_api.post("/v1/refunds")

        assert stripe_api.connection.sock is wire is not None

    @pytest.mark.parametrize("closing", [b"Connection: close\r\n\r\n", b"connection: Close\r\n\r\n"])
    def test_unless_the_caller_wants_it_closed(self, sandbox: StripeSandbox, closing: bytes) -> None:
        answer = raw_answer(sandbox, b"GET /v1/balance HTTP/1.1\r\nHost: x\r\n" + closing)

        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"\r\nConnection: close\r\n" in answer

    def test_pipelined(self, sandbox: StripeSandbox) -> None:
        one = b"GET /_sandbox/health HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /_sandbox/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

        assert raw_answer(sandbox, one * 20 + last).count(b"HTTP/1.1 200 OK") == 21

    def test_in_pieces(self, sandbox: StripeSandbox, paid: str) -> None:
        body = f"payment_intent={paid}".encode()
        head = (
            f"POST /v1/refunds HTTP/1.1\r\nAuthorization: Bearer sk_test_1\r\nContent-Length: {len(body)}\r\n"
        )
        host, port = sandbox.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in head.encode() + b"\r\n" + body:
                wire.sendall(bytes([byte]))
            assert wire.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert sandbox.money_refunded(paid) == 2000

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
    def test_what_is_no_http(self, sandbox: StripeSandbox, stripe_api: Caller, sent: bytes) -> None:
        assert raw_answer(sandbox, sent).startswith(b"HTTP/1.1 400 Bad Request")
        assert stripe_api.get("/v1/balance").status == 200

    def test_the_log(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        answer = stripe_api.post("/v1/refunds", {"payment_intent": paid, "metadata[a]": "b"}, key="k")
        stripe_api.get("/v1/refunds", {"limit": 3}, idempotency_key="ignored")
        stripe_api.send("POST", "/v1/refunds", b"{}", Content_Type="application/json")

        first, second, third = sandbox.requests
        assert (first.method, first.path, first.status, first.idempotency_key) == (
            "POST",
            "/v1/refunds",
            200,
            "k",
        )
        assert first.params == {"payment_intent": paid, "metadata": {"a": "b"}}
        assert first.request_id == answer.headers["Request-Id"]
        assert (second.method, second.params, second.idempotency_key) == ("GET", {"limit": "3"}, None)
        assert (third.params, third.status) == ({}, 400)

    def test_a_caller_who_leaves_is_not_answered(
        self, sandbox: StripeSandbox, stripe_api: Caller, paid: str
    ) -> None:
        sandbox.latency = 0.05
        stripe_api.connection.request(
            "POST", "/v1/refunds", f"payment_intent={paid}", {"Authorization": "Bearer sk_test_1"}
        )
        sandbox.wait_for_requests(1)
        stripe_api.close()

        sandbox.wait_until(lambda: sandbox.money_refunded(paid) == 2000)
        assert sandbox.requests[0].status is None


class TestRateLimit:
    def test_so_many_in_a_second(self) -> None:
        now = [1_000_000.0]
        with (
            StripeSandbox(rate_limit=2, clock=lambda: now[0]) as sandbox,
            contextlib.closing(Caller(sandbox.url)) as stripe_api,
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

    def test_a_429_stores_nothing(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        sandbox.rate_limit = 0
        assert stripe_api.post("/v1/refunds", {"payment_intent": paid}, key="k").status == 429
        assert sandbox.money_refunded(paid) == 0


def test_latency_is_really_waited_by_all_at_once() -> None:
    with StripeSandbox(latency=0.2) as sandbox:
        paid = sandbox.create_payment(2000)

        def refund() -> None:
            with contextlib.closing(Caller(sandbox.url)) as caller:
                caller.post("/v1/refunds", {"payment_intent": paid, "amount": 1})

        threads = [threading.Thread(target=refund) for _ in range(20)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began

        assert sandbox.money_refunded(paid) == 20
    assert 0.2 <= took < 2


def test_an_answer_is_not_delayed_by_nagle(stripe_api: Caller) -> None:
    stripe_api.get("/v1/balance")
    began = time.monotonic()
    for _ in range(25):
        stripe_api.get("/v1/balance")

    assert time.monotonic() - began < 25 * 0.04


class TestRunning:
    def test_nothing_is_left_behind(self) -> None:
        before = set(threading.enumerate())
        sandbox = StripeSandbox()
        with sandbox, contextlib.closing(Caller(sandbox.url)) as stripe_api:
            paid = sandbox.create_payment(2000)
            sandbox.inject("hang_before")
            stripe_api.connection.request(
                "POST", "/v1/refunds", f"payment_intent={paid}", {"Authorization": "Bearer sk_test_1"}
            )
            sandbox.wait_for_requests(1)

        assert set(threading.enumerate()) == before

    def test_what_happened_can_be_read_afterwards(self) -> None:
        with StripeSandbox() as sandbox:
            paid = sandbox.create_payment(2000)
            sandbox.refund_in_dashboard(paid)

        assert sandbox.money_refunded(paid) == 2000
        with pytest.raises(RuntimeError, match="does not run"):
            sandbox.url  # noqa: B018

    def test_again(self) -> None:
        sandbox = StripeSandbox()
        for _ in range(2):
            with sandbox, contextlib.closing(Caller(sandbox.url)) as stripe_api:
                assert stripe_api.get("/v1/balance").status == 200
        sandbox.stop()

    def test_not_twice_at_a_time(self, sandbox: StripeSandbox) -> None:
        with pytest.raises(RuntimeError, match="runs already"):
            sandbox.start()

    def test_a_port_that_is_taken(self, sandbox: StripeSandbox) -> None:
        port = int(sandbox.url.rpartition(":")[2])

        with pytest.raises(OSError, match="in use"):
            StripeSandbox(port=port).start()

    def test_time_moves_forward(self, sandbox: StripeSandbox) -> None:
        before = sandbox.now()
        sandbox.advance(100)

        assert sandbox.now() - before >= 100
        with pytest.raises(ValueError, match="forward"):
            sandbox.advance(-1)

    def test_waiting_in_vain(self, sandbox: StripeSandbox) -> None:
        with pytest.raises(TimeoutError):
            sandbox.wait_for_requests(1, timeout=0.01)


class TestControl:
    """For a caller in another process."""

    def test_health(self, sandbox: StripeSandbox) -> None:
        with contextlib.closing(Caller(sandbox.url, None)) as caller:
            assert caller.get("/_sandbox/health").json == {"status": "ok"}
        assert sandbox.requests == []

    def test_payments_and_refunds(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        params = {"amount": 700, "currency": "eur", "card": "pm_card_pendingRefund", "count": 3}
        ids = stripe_api.post("/_sandbox/payments", params).json["ids"]
        sandbox.refund_in_dashboard(ids[1])

        found = stripe_api.get("/_sandbox/refunds", {"payment_intent": ids[1]}).json["data"]
        none = stripe_api.get("/_sandbox/refunds", {"payment_intent": ids[0]}).json["data"]

        assert len(set(ids)) == 3
        assert [(it["amount"], it["currency"], it["status"]) for it in found] == [(700, "eur", "pending")]
        assert none == []
        assert len(stripe_api.get("/_sandbox/refunds").json["data"]) == 1

    @pytest.mark.parametrize(
        "params", [{}, {"amount": "x"}, {"amount": 5, "card": "pm_x"}, {"amount": 5, "a": 1}]
    )
    def test_bad_payments(self, stripe_api: Caller, params: dict[str, object]) -> None:
        assert stripe_api.post("/_sandbox/payments", params).status == 400

    def test_unknown(self, stripe_api: Caller) -> None:
        assert stripe_api.get("/_sandbox/nowhere").status == 404

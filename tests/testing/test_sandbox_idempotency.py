"""Idempotency keys: https://docs.stripe.com/api/idempotent_requests"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter

import pytest

from flask_refunds.testing import StripeSandbox
from tests.testing.http_client import HttpClient, HttpResponse


def refund(stripe_api: HttpClient, payment: str, key: str | None = "k", **params: object) -> HttpResponse:
    return stripe_api.post("/v1/refunds", {"payment_intent": payment, **params}, key=key)


def test_retry_with_same_key_replays_first_response(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    first = refund(stripe_api, payment, amount=100)
    again = refund(stripe_api, payment, amount=100)

    assert again.raw == first.raw
    assert sandbox.money_refunded(payment) == 100
    assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"] == "k"
    assert first.headers["Original-Request"] == first.headers["Request-Id"]
    assert again.headers["Original-Request"] == first.headers["Request-Id"] != again.headers["Request-Id"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"


def test_replayed_response_keeps_old_status_after_refund_changed(
    sandbox: StripeSandbox, stripe_api: HttpClient
) -> None:
    payment = sandbox.create_payment(2000, card="pm_card_pendingRefund")
    refund(stripe_api, payment)
    sandbox.advance(3600)

    assert refund(stripe_api, payment).json["status"] == "pending"


@pytest.mark.parametrize("key", [None, "other"])
def test_request_without_key_or_with_other_key_makes_another_refund(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str, key: str | None
) -> None:
    refund(stripe_api, payment, amount=100)
    refund(stripe_api, payment, key=key, amount=100)

    assert sandbox.money_refunded(payment) == 200


def test_same_key_with_other_parameters_is_idempotency_error(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    refund(stripe_api, payment, amount=100)

    response = refund(stripe_api, payment, amount=101)

    assert response.status == 400
    assert response.error["type"] == "idempotency_error"
    assert "same parameters" in response.error["message"]
    assert sandbox.money_refunded(payment) == 100


def test_same_key_on_other_endpoint_is_idempotency_error(stripe_api: HttpClient, payment: str) -> None:
    one, other = (f"/v1/refunds/{refund(stripe_api, payment, None, amount=1).json['id']}" for _ in range(2))
    stripe_api.post(one, {"metadata[a]": "b"}, key="k")

    response = stripe_api.post(other, {"metadata[a]": "b"}, key="k")

    assert response.status == 400
    assert response.error["type"] == "idempotency_error"
    assert f"('{other}' vs '{one}')" in response.error["message"]


def test_error_from_endpoint_is_stored(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    done = sandbox.dashboard_refund(payment)
    first = refund(stripe_api, payment)
    sandbox.settle(done["id"], "failed")

    again = refund(stripe_api, payment)

    assert first.error["code"] == "charge_already_refunded"
    assert (again.status, again.raw) == (400, first.raw)
    assert refund(stripe_api, payment, key="new").status == 200


def test_error_before_endpoint_is_not_stored(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    with contextlib.closing(HttpClient(sandbox.url, "nonsense")) as unauthenticated:
        assert refund(unauthenticated, payment).status == 401
    assert refund(stripe_api, payment, color="red").status == 400
    sandbox.rate_limit = 0
    assert refund(stripe_api, payment).status == 429
    sandbox.rate_limit = None

    assert refund(stripe_api, payment).status == 200


def test_key_expires_24_hours_after_first_use(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    refund(stripe_api, payment, amount=100)
    sandbox.advance(23 * 3600)
    refund(stripe_api, payment, amount=100)
    sandbox.advance(3590)
    assert refund(stripe_api, payment, amount=100).headers["Idempotent-Replayed"] == "true"

    sandbox.advance(10)
    assert "Idempotent-Replayed" not in refund(stripe_api, payment, amount=100).headers
    assert sandbox.money_refunded(payment) == 200


def test_same_key_in_test_and_live_mode_is_independent(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    live_payment = sandbox.create_payment(2000, livemode=True)
    refund(stripe_api, payment)

    with contextlib.closing(HttpClient(sandbox.url, "sk_live_1")) as live:
        first, again = refund(live, live_payment), refund(live, live_payment)

    assert first.status == 200
    assert again.raw == first.raw
    assert sandbox.money_refunded(live_payment) == 2000


def test_key_on_get_is_ignored(stripe_api: HttpClient, payment: str) -> None:
    refund(stripe_api, payment)

    response = stripe_api.get("/v1/balance", idempotency_key="k")

    assert response.status == 200
    assert "Idempotency-Key" not in response.headers


def test_key_longer_than_255_characters_is_rejected(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    assert refund(stripe_api, payment, "k" * 256).status == 400
    assert sandbox.money_refunded(payment) == 0
    assert refund(stripe_api, payment, "k" * 255).status == 200


def test_key_of_running_request_is_conflict(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    sandbox.inject("late")
    responses: list[HttpResponse] = []
    with contextlib.closing(HttpClient(sandbox.url)) as slow:
        thread = threading.Thread(target=lambda: responses.append(refund(slow, payment)))
        thread.start()
        sandbox.wait_for_requests(1)
        in_use = refund(stripe_api, payment)
        sandbox.release()
        thread.join()

    assert (in_use.status, in_use.error["code"]) == (409, "idempotency_key_in_use")
    assert responses[0].status == 200
    assert refund(stripe_api, payment).raw == responses[0].raw
    assert sandbox.money_refunded(payment) == 2000


class TestConcurrentRequests:
    def send_concurrently(
        self, sandbox: StripeSandbox, keys: list[str], payment: str, **params: object
    ) -> list[HttpResponse]:
        responses: list[HttpResponse] = []
        barrier = threading.Barrier(len(keys))

        def send(key: str) -> None:
            with contextlib.closing(HttpClient(sandbox.url)) as client:
                barrier.wait()
                responses.append(refund(client, payment, key, **params))

        threads = [threading.Thread(target=send, args=(key,)) for key in keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return responses

    @pytest.mark.parametrize("latency", [0.0, 0.05])
    def test_one_key_makes_one_refund(self, sandbox: StripeSandbox, payment: str, latency: float) -> None:
        sandbox.latency = latency

        responses = self.send_concurrently(sandbox, ["k"] * 64, payment, amount=10)

        assert sandbox.money_refunded(payment) == 10
        assert len({response.raw for response in responses if response.status == 200}) == 1
        assert {response.status for response in responses} <= {200, 409}
        assert (409 in {response.status for response in responses}) == (latency > 0)

    def test_different_keys_refund_at_most_amount_paid(self, sandbox: StripeSandbox, payment: str) -> None:
        responses = self.send_concurrently(sandbox, [str(n) for n in range(64)], payment, amount=500)

        assert Counter(response.status for response in responses) == {200: 4, 400: 60}
        assert sandbox.money_refunded(payment) == 2000

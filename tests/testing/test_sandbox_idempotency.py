"""Idempotency keys: https://docs.stripe.com/api/idempotent_requests"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter

import pytest
from sandbox_caller import Answer, Caller

from flask_refunds.testing import StripeSandbox


def refund(stripe_api: Caller, paid: str, key: str | None = "k", **params: object) -> Answer:
    return stripe_api.post("/v1/refunds", {"payment_intent": paid, **params}, key=key)


def test_a_retry_gets_the_first_answer(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    first = refund(stripe_api, paid, amount=100)
    again = refund(stripe_api, paid, amount=100)

    assert again.raw == first.raw
    assert sandbox.money_refunded(paid) == 100
    assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"] == "k"
    assert first.headers["Original-Request"] == first.headers["Request-Id"]
    assert again.headers["Original-Request"] == first.headers["Request-Id"] != again.headers["Request-Id"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"


def test_the_first_answer_stands_whatever_became_of_the_refund(
    sandbox: StripeSandbox, stripe_api: Caller
) -> None:
    paid = sandbox.create_payment(2000, card="pm_card_pendingRefund")
    refund(stripe_api, paid)
    sandbox.advance(3600)

    assert refund(stripe_api, paid).json["status"] == "pending"


@pytest.mark.parametrize("key", [None, "other"])
def test_without_the_key_it_is_another_refund(
    sandbox: StripeSandbox, stripe_api: Caller, paid: str, key: str | None
) -> None:
    refund(stripe_api, paid, amount=100)
    refund(stripe_api, paid, key=key, amount=100)

    assert sandbox.money_refunded(paid) == 200


def test_other_parameters_are_an_error(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    refund(stripe_api, paid, amount=100)

    answer = refund(stripe_api, paid, amount=101)

    assert answer.status == 400
    assert answer.error["type"] == "idempotency_error"
    assert "same parameters" in answer.error["message"]
    assert sandbox.money_refunded(paid) == 100


def test_another_endpoint_is_an_error(stripe_api: Caller, paid: str) -> None:
    one, other = (f"/v1/refunds/{refund(stripe_api, paid, None, amount=1).json['id']}" for _ in range(2))
    stripe_api.post(one, {"metadata[a]": "b"}, key="k")

    answer = stripe_api.post(other, {"metadata[a]": "b"}, key="k")

    assert answer.status == 400
    assert answer.error["type"] == "idempotency_error"
    assert f"('{other}' vs '{one}')" in answer.error["message"]


def test_refusals_by_the_endpoint_are_stored(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    done = sandbox.refund_in_dashboard(paid)
    first = refund(stripe_api, paid)
    sandbox.settle(done["id"], "failed")

    again = refund(stripe_api, paid)

    assert first.error["code"] == "charge_already_refunded"
    assert (again.status, again.raw) == (400, first.raw)
    assert refund(stripe_api, paid, key="new").status == 200


def test_refusals_before_the_endpoint_are_not(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    with contextlib.closing(Caller(sandbox.url, "nonsense")) as stranger:
        assert refund(stranger, paid).status == 401
    assert refund(stripe_api, paid, colour="red").status == 400
    sandbox.rate_limit = 0
    assert refund(stripe_api, paid).status == 429
    sandbox.rate_limit = None

    assert refund(stripe_api, paid).status == 200


def test_keys_are_forgotten_a_day_after_their_first_use(
    sandbox: StripeSandbox, stripe_api: Caller, paid: str
) -> None:
    refund(stripe_api, paid, amount=100)
    sandbox.advance(23 * 3600)
    refund(stripe_api, paid, amount=100)
    sandbox.advance(3590)
    assert refund(stripe_api, paid, amount=100).headers["Idempotent-Replayed"] == "true"

    sandbox.advance(10)
    assert "Idempotent-Replayed" not in refund(stripe_api, paid, amount=100).headers
    assert sandbox.money_refunded(paid) == 200


def test_keys_of_test_and_live_mode_are_apart(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    live_paid = sandbox.create_payment(2000, livemode=True)
    refund(stripe_api, paid)

    with contextlib.closing(Caller(sandbox.url, "sk_live_1")) as live:
        first, again = refund(live, live_paid), refund(live, live_paid)

    assert first.status == 200
    assert again.raw == first.raw
    assert sandbox.money_refunded(live_paid) == 2000


def test_a_get_takes_no_key(stripe_api: Caller, paid: str) -> None:
    refund(stripe_api, paid)

    answer = stripe_api.get("/v1/balance", idempotency_key="k")

    assert answer.status == 200
    assert "Idempotency-Key" not in answer.headers


def test_long_keys_are_refused(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    assert refund(stripe_api, paid, "k" * 256).status == 400
    assert sandbox.money_refunded(paid) == 0
    assert refund(stripe_api, paid, "k" * 255).status == 200


def test_while_the_first_runs_its_key_is_in_use(
    sandbox: StripeSandbox, stripe_api: Caller, paid: str
) -> None:
    sandbox.inject("late")
    answers: list[Answer] = []
    with contextlib.closing(Caller(sandbox.url)) as slow:
        thread = threading.Thread(target=lambda: answers.append(refund(slow, paid)))
        thread.start()
        sandbox.wait_for_requests(1)
        in_use = refund(stripe_api, paid)
        sandbox.release()
        thread.join()

    assert (in_use.status, in_use.error["code"]) == (409, "idempotency_key_in_use")
    assert answers[0].status == 200
    assert refund(stripe_api, paid).raw == answers[0].raw
    assert sandbox.money_refunded(paid) == 2000


class TestTogether:
    """64 callers at once."""

    def all_at_once(
        self, sandbox: StripeSandbox, keys: list[str], paid: str, **params: object
    ) -> list[Answer]:
        answers: list[Answer] = []
        gate = threading.Barrier(len(keys))

        def call(key: str) -> None:
            with contextlib.closing(Caller(sandbox.url)) as caller:
                gate.wait()
                answers.append(refund(caller, paid, key, **params))

        threads = [threading.Thread(target=call, args=(key,)) for key in keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    @pytest.mark.parametrize("latency", [0.0, 0.05])
    def test_one_key_is_one_refund(self, sandbox: StripeSandbox, paid: str, latency: float) -> None:
        sandbox.latency = latency

        answers = self.all_at_once(sandbox, ["k"] * 64, paid, amount=10)

        assert sandbox.money_refunded(paid) == 10
        assert len({answer.raw for answer in answers if answer.status == 200}) == 1
        assert {answer.status for answer in answers} <= {200, 409}
        assert (409 in {answer.status for answer in answers}) == (latency > 0)

    def test_other_keys_refund_no_more_than_was_paid(self, sandbox: StripeSandbox, paid: str) -> None:
        answers = self.all_at_once(sandbox, [str(n) for n in range(64)], paid, amount=500)

        assert Counter(answer.status for answer in answers) == {200: 4, 400: 60}
        assert sandbox.money_refunded(paid) == 2000

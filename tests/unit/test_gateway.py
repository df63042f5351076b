"""Gateway: what Stripe's responses, and their absence, mean for the money."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.clock import Deadline
from flask_refunds.errors import (
    KeyRejected,
    OutcomeUnknown,
    PermissionMissing,
    RateLimited,
    RequestRejected,
    StripeCallError,
)
from flask_refunds.models import RefundStatus, StripeRefund
from flask_refunds.stripe_client.gateway import Gateway
from tests.unit.stripe_stub import PAYMENT, StubTransport, error_object, lost, refund_key, refund_object

KEY = refund_key()
REQUEST = {"payment_intent": PAYMENT, "metadata": {"refund_id": KEY}}
CREATE = ("POST", "/v1/refunds")
RETRIEVE = ("GET", "/v1/refunds/re_1")


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def create(
    *answers: Any, retries: int = 1, in_doubt: bool = False, within: float = 10.0
) -> tuple[StripeRefund | StripeCallError, StubTransport]:
    """Create a refund; a created one that an earlier attempt may have made is read again."""
    clock = Clock()
    script = [(*CREATE, answer) for answer in answers]
    if (in_doubt or len(answers) > 1) and not isinstance(answers[-1], Exception) and answers[-1][0] == 200:
        script.append((*RETRIEVE, answers[-1]))
    stub = StubTransport(script)
    gateway = Gateway("sk_test_1", "https://stripe.test", retries=retries, transport=stub, sleep=clock.sleep)
    try:
        return gateway.create_refund(REQUEST, KEY, Deadline(within, clock), in_doubt=in_doubt), stub
    except StripeCallError as answer:
        return answer, stub
    finally:
        stub.assert_done()


def test_every_attempt_sends_the_same_request_and_key() -> None:
    refund, stub = create(lost(), (200, refund_object()))
    assert isinstance(refund, StripeRefund)
    first, second, _ = stub.sent
    assert first.params == second.params == {"payment_intent": PAYMENT, "metadata[refund_id]": KEY}
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == KEY


def test_id_with_special_characters_is_one_path_segment() -> None:
    stub = StubTransport([("GET", "/v1/refunds/re_1%2Fcancel%3Fx%3D1", (200, refund_object()))])
    gateway = Gateway("sk_test_1", "https://stripe.test", retries=0, transport=stub)
    gateway.retrieve_refund("re_1/cancel?x=1", Deadline.after(10))
    stub.assert_done()


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (400, error_object("charge_disputed"), RequestRejected),
        (402, error_object("card_declined", "card_error"), RequestRejected),
        (404, error_object("resource_missing"), RequestRejected),
        (401, error_object("", "invalid_request_error"), KeyRejected),
        (403, error_object("", "invalid_request_error"), PermissionMissing),
        (429, error_object("rate_limit"), RateLimited),
        (429, error_object("lock_timeout"), RateLimited),
        (409, error_object("idempotency_key_in_use", "idempotency_error"), OutcomeUnknown),
        (400, error_object("", "idempotency_error"), OutcomeUnknown),
        (500, error_object("", "api_error"), OutcomeUnknown),
        (503, "<html>", OutcomeUnknown),
        (403, "<html>a proxy's</html>", OutcomeUnknown),
        (400, "{}", OutcomeUnknown),
        (404, '{"error": "not found"}', OutcomeUnknown),
        (302, "", OutcomeUnknown),
        (200, "", OutcomeUnknown),
        (200, "[]", OutcomeUnknown),
        (200, "null", OutcomeUnknown),
        (200, "\xff", OutcomeUnknown),
        (200, {"object": "list", "data": []}, OutcomeUnknown),
        (200, refund_object(status="a new status"), OutcomeUnknown),
        (200, refund_object(status=None), OutcomeUnknown),
        (200, refund_object(amount="1999"), OutcomeUnknown),
        (200, refund_object(amount=True), OutcomeUnknown),
        (200, refund_object(payment_intent="pi_another"), OutcomeUnknown),
        (200, refund_object(metadata={"refund_id": "pi_1:2"}), OutcomeUnknown),
        (200, refund_object(metadata={}), OutcomeUnknown),
    ],
)
def test_response_is_interpreted_by_status_and_body(
    status: int, body: Any, meaning: type[StripeCallError]
) -> None:
    answer, _ = create((status, body), retries=0)
    assert type(answer) is meaning


@pytest.mark.parametrize(
    "later", [(429, error_object("rate_limit")), (401, error_object("")), (403, error_object(""))]
)
@pytest.mark.parametrize("earlier", ["in this call", "in another call"])
def test_rate_limit_or_rejected_key_after_a_lost_attempt_is_unknown(later: Any, earlier: str) -> None:
    if earlier == "in this call":
        answer, _ = create(lost(), later)
    else:
        answer, _ = create(later, retries=0, in_doubt=True)
    assert type(answer) is OutcomeUnknown


def test_rejection_after_a_lost_attempt_is_final() -> None:
    answer, _ = create(lost(), (400, error_object("charge_disputed")))
    assert type(answer) is RequestRejected
    assert answer.code == "charge_disputed"
    assert answer.request_id == "req_2"


def test_rejected_key_is_neither_retried_nor_quoted() -> None:
    answer, stub = create(
        (401, error_object("", message="Invalid API Key provided: sk_test_****1")), retries=5
    )
    assert isinstance(answer, KeyRejected)
    assert "sk_" not in answer.message
    assert len(stub.sent) == 1


def test_no_attempt_starts_after_the_deadline() -> None:
    answer, stub = create(lost(), lost(), retries=5, within=0.6)
    assert type(answer) is OutcomeUnknown
    assert len(stub.sent) == 2


def test_expanded_payment_intent_is_parsed() -> None:
    refund, _ = create((200, refund_object(payment_intent={"id": PAYMENT, "object": "payment_intent"})))
    assert isinstance(refund, StripeRefund)
    assert refund.payment_intent == PAYMENT


def test_failed_refund_has_stripes_failure_reason() -> None:
    refund, _ = create((200, refund_object(status="failed", failure_reason="lost_or_stolen_card")))
    assert isinstance(refund, StripeRefund)
    assert refund.status is RefundStatus.FAILED
    assert refund.failure is not None
    assert refund.failure.code == "lost_or_stolen_card"


def test_list_has_all_pages_oldest_first() -> None:
    def page(*ids: str, has_more: bool) -> Any:
        return 200, {"object": "list", "data": [refund_object(id=each) for each in ids], "has_more": has_more}

    path = ("GET", "/v1/refunds")
    stub = StubTransport(
        [(*path, page("re_3", "re_2", has_more=True)), (*path, page("re_1", has_more=False))]
    )
    gateway = Gateway("sk_test_1", "https://stripe.test", retries=0, transport=stub)
    found, unreadable = gateway.list_refunds(PAYMENT, Deadline.after(10))
    assert unreadable == []
    assert [refund.id for refund in found] == ["re_1", "re_2", "re_3"]
    assert stub.sent[0].params == {"payment_intent": PAYMENT, "limit": "100", "expand[0]": "data.charge"}
    assert stub.sent[1].params["starting_after"] == "re_2"


@pytest.mark.parametrize("odd", [{}, None, refund_object(id=8), refund_object(metadata=["refund_id"])])
def test_list_with_an_item_that_may_be_any_refund_raises(odd: Any) -> None:
    answer = (200, {"object": "list", "data": [refund_object(), odd], "has_more": False})
    stub = StubTransport([("GET", "/v1/refunds", answer)])
    gateway = Gateway("sk_test_1", "https://stripe.test", retries=0, transport=stub)
    with pytest.raises(OutcomeUnknown):
        gateway.list_refunds(PAYMENT, Deadline.after(10))


@pytest.mark.parametrize("status", [None, "reversing"])
def test_list_item_with_unknown_status_is_unreadable_and_the_others_are_not(status: str | None) -> None:
    items = [refund_object(id="re_2"), refund_object(id="re_1", status=status)]
    answer = (200, {"object": "list", "data": items, "has_more": False})
    stub = StubTransport([("GET", "/v1/refunds", answer)])
    gateway = Gateway("sk_test_1", "https://stripe.test", retries=0, transport=stub)
    refunds, unreadable = gateway.list_refunds(PAYMENT, Deadline.after(10))
    assert [refund.id for refund in refunds] == ["re_2"]
    assert [(each.id, each.refund_id) for each in unreadable] == [("re_1", KEY)]


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (4711, "No.", ("invalid_request", "No.")),
        ({"a": 1}, None, ("invalid_request", "Stripe gave no reason.")),
        ("charge_disputed", "half \ud83d of a pair", ("charge_disputed", "half ? of a pair")),
        ("x" * 9000, "y" * 9000, ("x" * 500, "y" * 500)),
    ],
)
def test_error_texts_are_storable_and_bounded(code: Any, message: Any, expected: tuple[str, str]) -> None:
    error = {"error": {"code": code, "message": message, "type": "invalid_request_error"}}
    answer, _ = create((400, error), retries=0)
    assert isinstance(answer, RequestRejected)
    assert (answer.code, answer.message) == expected


def test_replayed_answer_is_replaced_by_a_fresh_read() -> None:
    pending, failed = refund_object(status="pending"), refund_object(status="failed")
    stub = StubTransport([(*CREATE, lost()), (*CREATE, (200, pending)), (*RETRIEVE, (200, failed))])
    gateway = Gateway("sk_test_1", "https://stripe.test", retries=1, transport=stub, sleep=lambda _: None)
    refund = gateway.create_refund(REQUEST, KEY, Deadline.after(10), in_doubt=False)
    assert refund.status is RefundStatus.FAILED


@pytest.mark.parametrize(
    "answer", [lost(), (404, error_object("resource_missing")), (429, error_object("x"))]
)
def test_replayed_answer_without_a_fresh_read_is_unknown(answer: Any) -> None:
    stub = StubTransport([(*CREATE, (200, refund_object())), (*RETRIEVE, answer)])
    gateway = Gateway("sk_test_1", "https://stripe.test", retries=0, transport=stub, sleep=lambda _: None)
    with pytest.raises(OutcomeUnknown):
        gateway.create_refund(REQUEST, KEY, Deadline.after(10), in_doubt=True)


def test_rejected_expansion_says_nothing_about_the_refund() -> None:
    error = {"error": {"code": "x", "message": "No.", "type": "invalid_request_error", "param": "expand"}}
    answer, _ = create((400, error), retries=0)
    assert type(answer) is OutcomeUnknown

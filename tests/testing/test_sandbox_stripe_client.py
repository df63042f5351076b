"""stripe-python works with the sandbox as with Stripe."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import stripe

from flask_refunds.testing import StripeSandbox

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # stripe-python never closes its pool


@pytest.fixture
def client(sandbox: StripeSandbox) -> stripe.StripeClient:
    http = stripe.RequestsClient(timeout=1)
    return stripe.StripeClient("sk_test_1", base_addresses={"api": sandbox.url}, http_client=http)


def create(client: stripe.StripeClient, payment: str, key: str = "k", **params: Any) -> stripe.Refund:
    sent: Any = {"payment_intent": payment, **params}
    return client.v1.refunds.create(sent, {"idempotency_key": key})


def test_client_pays_and_refunds(sandbox: StripeSandbox, client: stripe.StripeClient) -> None:
    intent = client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "confirm": True,
            "payment_method": "pm_card_visa",
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "metadata": {"order": "7"},
            "expand": ["latest_charge"],
        }
    )
    refund = create(client, intent.id, metadata={"refund_id": "7:1"}, reason="duplicate", expand=["charge"])

    assert isinstance(intent.latest_charge, stripe.Charge)
    assert isinstance(refund.charge, stripe.Charge)
    assert (refund.status, refund.to_dict()["metadata"]) == ("succeeded", {"refund_id": "7:1"})
    assert sandbox.money_refunded(intent.id) == 2000


def test_client_reads_every_object(sandbox: StripeSandbox, client: stripe.StripeClient, payment: str) -> None:
    ids = [create(client, payment, str(n), amount=1).id for n in range(25)]

    listed = client.v1.refunds.list({"payment_intent": payment, "limit": 10})
    assert [refund.id for refund in listed.auto_paging_iter()] == ids[::-1]
    assert client.v1.refunds.retrieve(ids[3]).id == ids[3]
    assert client.v1.refunds.update(ids[3], {"metadata": {"a": "b"}}).to_dict()["metadata"] == {"a": "b"}
    assert client.v1.payment_intents.retrieve(payment).status == "succeeded"
    assert client.v1.charges.retrieve(sandbox.charge(payment)["id"]).amount_refunded == 25
    assert client.v1.events.retrieve(sandbox.events[0]["id"]).type == "payment_intent.created"
    assert client.v1.balance.retrieve().available[0].amount == 1975


def test_client_cancels_refund(sandbox: StripeSandbox, client: stripe.StripeClient, payment: str) -> None:
    sandbox.inject("requires_action")
    refund = create(client, payment)

    assert client.v1.refunds.cancel(refund.id).status == "canceled"


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("request_lost", stripe.APIConnectionError, None),
        ("response_lost", stripe.APIConnectionError, None),
        ("server_error_before", stripe.APIError, 500),
        ("server_error_after", stripe.APIError, 500),
        ("bad_gateway", stripe.APIError, 502),
        ("service_unavailable", stripe.APIError, 503),
        ("rate_limited", stripe.RateLimitError, 429),
        ("lock_timeout", stripe.RateLimitError, 429),
        ("conflict", stripe.APIError, 409),
        ("truncated_response", stripe.APIConnectionError, None),
        ("empty_response", stripe.APIError, 200),
        ("key_rejected", stripe.AuthenticationError, 401),
        ("key_forbidden", stripe.PermissionError, 403),
        ("card_error", stripe.CardError, 402),
        ("insufficient_balance", stripe.InvalidRequestError, 400),
    ],
)
def test_fault_raises_matching_stripe_error(
    sandbox: StripeSandbox,
    client: stripe.StripeClient,
    payment: str,
    fault: str,
    error: type[stripe.StripeError],
    status: int | None,
) -> None:
    sandbox.inject(fault)

    with pytest.raises(error) as raised:
        create(client, payment)

    assert type(raised.value) is error
    assert raised.value.http_status == status


def test_garbage_raises_decode_error(
    sandbox: StripeSandbox, client: stripe.StripeClient, payment: str
) -> None:
    sandbox.inject("unreadable_response")

    with pytest.raises(UnicodeDecodeError):
        create(client, payment)


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        ("server_error_before", 1),
        ("service_unavailable", 2),
        ("lock_timeout", 2),
        ("conflict", 2),
        ("response_lost", 2),
    ],
)
def test_client_retries_only_retryable_faults(
    sandbox: StripeSandbox, payment: str, fault: str, requests: int
) -> None:
    client = stripe.StripeClient(
        "sk_test_1",
        base_addresses={"api": sandbox.url},
        http_client=stripe.RequestsClient(timeout=1),
        max_network_retries=1,
    )
    sandbox.inject(fault)

    with pytest.raises(stripe.APIError) if requests == 1 else contextlib.nullcontext():
        create(client, payment)
    assert len(sandbox.requests) == requests
    assert sandbox.money_refunded(payment) == (0 if requests == 1 else 2000)


def test_reused_key_with_other_parameters_raises_idempotency_error(
    client: stripe.StripeClient, payment: str
) -> None:
    create(client, payment, amount=1)

    with pytest.raises(stripe.IdempotencyError):
        create(client, payment, amount=2)


def test_rejected_refund_raises_error_with_code_and_request_id(
    sandbox: StripeSandbox, client: stripe.StripeClient, payment: str
) -> None:
    sandbox.dashboard_refund(payment)

    with pytest.raises(stripe.InvalidRequestError) as raised:
        create(client, payment)
    assert raised.value.code == "charge_already_refunded"
    assert raised.value.request_id == sandbox.requests[0].request_id

"""Authorization and capture: https://docs.stripe.com/payments/place-a-hold-on-a-payment-method and
https://docs.stripe.com/payments/multicapture
"""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.testing import ApiError, StripeSandbox
from tests.testing.http_client import HttpClient, HttpResponse


@pytest.fixture
def authorized(sandbox: StripeSandbox) -> str:
    """The ID of a payment intent with 100 USD authorized and nothing captured."""
    return sandbox.create_payment(10_000, capture="manual")


def capture(stripe_api: HttpClient, payment: str, **params: object) -> HttpResponse:
    return stripe_api.post(f"/v1/payment_intents/{payment}/capture", params)


def refund(stripe_api: HttpClient, payment: str, **params: object) -> HttpResponse:
    return stripe_api.post("/v1/refunds", {"payment_intent": payment, **params})


def types_after(sandbox: StripeSandbox, before: int) -> list[str]:
    return [event["type"] for event in sandbox.events][before:]


def pick(item: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(item[name] for name in names)


AMOUNTS = ("amount", "amount_captured", "amount_refunded", "captured", "refunded")
INTENT = ("status", "amount_capturable", "amount_received")


class TestAuthorization:
    def test_manual_capture_only_authorizes(self, sandbox: StripeSandbox, authorized: str) -> None:
        assert pick(sandbox.payment_intent(authorized), *INTENT) == ("requires_capture", 10_000, 0)
        assert pick(sandbox.charge(authorized), *AMOUNTS) == (10_000, 0, 0, False, False)
        assert types_after(sandbox, 1) == ["charge.succeeded", "payment_intent.amount_capturable_updated"]

    def test_manual_capture_by_api_only_authorizes(self, stripe_api: HttpClient) -> None:
        params = {"amount": 500, "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
        intent = stripe_api.post("/v1/payment_intents", {**params, "capture_method": "manual"}).json

        assert pick(intent, "capture_method", *INTENT) == ("manual", "requires_capture", 500, 0)

    def test_unknown_capture_method_is_value_error(self, sandbox: StripeSandbox) -> None:
        with pytest.raises(ValueError, match="'later'"):
            sandbox.create_payment(500, capture="later")  # type: ignore[arg-type]

    def test_uncaptured_payment_cannot_be_refunded(self, stripe_api: HttpClient, authorized: str) -> None:
        response = refund(stripe_api, authorized)

        assert (response.status, response.error["code"]) == (400, "payment_intent_unexpected_state")

    def test_uncaptured_payment_adds_nothing_to_balance(
        self, stripe_api: HttpClient, authorized: str
    ) -> None:
        assert stripe_api.get("/v1/balance").json["available"][0]["amount"] == 0

    def test_authorized_payment_cannot_be_confirmed_again(
        self, stripe_api: HttpClient, authorized: str
    ) -> None:
        response = stripe_api.post(f"/v1/payment_intents/{authorized}/confirm")

        assert response.error["code"] == "payment_intent_unexpected_state"


class TestCapture:
    def test_capture_without_amount_captures_everything(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorized: str
    ) -> None:
        intent = capture(stripe_api, authorized).json

        assert pick(intent, *INTENT) == ("succeeded", 0, 10_000)
        assert pick(sandbox.charge(authorized), *AMOUNTS) == (10_000, 10_000, 0, True, False)

    def test_partial_capture_releases_the_rest(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorized: str
    ) -> None:
        before = len(sandbox.events)

        intent = capture(stripe_api, authorized, amount_to_capture=4000).json

        assert pick(intent, *INTENT) == ("succeeded", 0, 4000)
        assert pick(sandbox.charge(authorized), *AMOUNTS) == (10_000, 4000, 0, True, False)
        assert sandbox.refunds(authorized) == []
        assert types_after(sandbox, before) == [
            "charge.updated",
            "payment_intent.amount_capturable_updated",
            "charge.captured",
            "payment_intent.succeeded",
        ]

    def test_refund_is_at_most_what_was_captured(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorized: str
    ) -> None:
        sandbox.capture(authorized, 4000)

        too_much = refund(stripe_api, authorized, amount=4001)
        full = refund(stripe_api, authorized)
        again = refund(stripe_api, authorized, amount=1)

        assert (too_much.status, too_much.error["param"]) == (400, "amount")
        assert full.json["amount"] == sandbox.money_refunded(authorized) == 4000
        assert again.error["code"] == "charge_already_refunded"
        assert pick(sandbox.charge(authorized), *AMOUNTS) == (10_000, 4000, 4000, True, True)

    @pytest.mark.parametrize(
        ("amount", "code"),
        [(10_001, "amount_too_large"), (0, "amount_too_small"), (-1, "amount_too_small"), ("x", None)],
    )
    def test_invalid_amount_is_rejected(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorized: str, amount: object, code: str
    ) -> None:
        response = capture(stripe_api, authorized, amount_to_capture=amount)

        assert (response.status, response.error["param"]) == (400, "amount_to_capture")
        assert response.error["code"] in (code, "parameter_invalid_integer")
        assert sandbox.payment_intent(authorized)["amount_capturable"] == 10_000

    def test_captured_payment_cannot_be_captured_again(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        response = capture(stripe_api, payment)

        assert (response.status, response.error["code"]) == (400, "payment_intent_unexpected_state")
        assert "already been captured" in response.error["message"]
        with pytest.raises(ApiError, match="already been captured"):
            sandbox.capture(payment)


class TestSeveralCaptures:
    """Amounts as in the example of https://docs.stripe.com/payments/multicapture, times ten."""

    def test_capture_that_is_not_final_keeps_the_rest_authorized(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorized: str
    ) -> None:
        first = capture(stripe_api, authorized, amount_to_capture=7000, final_capture="false").json
        charge = sandbox.charge(authorized)
        last = capture(stripe_api, authorized, amount_to_capture=2000, final_capture="true").json

        assert pick(first, *INTENT) == ("requires_capture", 3000, 7000)
        assert pick(charge, *AMOUNTS) == (10_000, 7000, 0, False, False)
        assert pick(last, *INTENT) == ("succeeded", 0, 9000)
        assert pick(sandbox.charge(authorized), *AMOUNTS) == (10_000, 9000, 0, True, False)

    def test_refund_between_captures_leaves_charge_not_refunded_until_final_capture(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorized: str
    ) -> None:
        """``refunded`` needs the final capture and a refund of everything received (#refunds)."""
        sandbox.capture(authorized, 7000, final=False)
        refunded = refund(stripe_api, authorized).json
        between = sandbox.charge(authorized)
        sandbox.capture(authorized, 0)

        assert refunded["amount"] == 7000
        assert pick(between, *AMOUNTS) == (10_000, 7000, 7000, False, False)
        assert pick(sandbox.charge(authorized), *AMOUNTS) == (10_000, 7000, 7000, True, True)

    def test_second_capture_after_full_refund_can_be_refunded(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorized: str
    ) -> None:
        sandbox.capture(authorized, 3000, final=False)
        refund(stripe_api, authorized)
        sandbox.capture(authorized, 2000)

        assert sandbox.charge(authorized)["refunded"] is False
        assert refund(stripe_api, authorized).json["amount"] == 2000
        assert sandbox.money_refunded(authorized) == 5000

    def test_every_capture_sends_charge_updated(self, sandbox: StripeSandbox, authorized: str) -> None:
        before = len(sandbox.events)

        sandbox.capture(authorized, 1000, final=False)

        updated, capturable = sandbox.events[before:]
        assert (updated["type"], updated["data"]["object"]["amount_captured"]) == ("charge.updated", 1000)
        assert capturable["type"] == "payment_intent.amount_capturable_updated"
        assert capturable["data"]["previous_attributes"] == {"amount_capturable": 10_000}


class TestCancel:
    def test_canceled_authorization_moves_no_money(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorized: str
    ) -> None:
        before = len(sandbox.events)
        params = {"cancellation_reason": "requested_by_customer"}

        intent = stripe_api.post(f"/v1/payment_intents/{authorized}/cancel", params).json

        assert pick(intent, *INTENT) == ("canceled", 0, 0)
        assert (intent["cancellation_reason"], intent["canceled_at"]) == (
            "requested_by_customer",
            int(sandbox.now()),
        )
        assert pick(sandbox.charge(authorized), *AMOUNTS) == (10_000, 0, 0, False, False)
        assert (sandbox.refunds(authorized), sandbox.money_refunded(authorized)) == ([], 0)
        assert types_after(sandbox, before) == ["payment_intent.canceled"]

    def test_canceled_payment_cannot_be_refunded_captured_or_canceled(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, authorized: str
    ) -> None:
        sandbox.cancel_payment(authorized)

        for response in (
            refund(stripe_api, authorized),
            capture(stripe_api, authorized),
            stripe_api.post(f"/v1/payment_intents/{authorized}/cancel"),
        ):
            assert (response.status, response.error["code"]) == (400, "payment_intent_unexpected_state")

    def test_expired_authorization_sends_charge_expired(
        self, sandbox: StripeSandbox, authorized: str
    ) -> None:
        before = len(sandbox.events)

        intent = sandbox.cancel_payment(authorized, reason="expired")

        assert intent["cancellation_reason"] == "expired"
        assert types_after(sandbox, before) == ["charge.expired", "payment_intent.canceled"]

    def test_canceling_after_a_partial_capture_keeps_what_was_captured(
        self, sandbox: StripeSandbox, authorized: str
    ) -> None:
        """A partially captured payment intent becomes succeeded (multicapture#final-capture)."""
        sandbox.capture(authorized, 2500, final=False)

        assert pick(sandbox.cancel_payment(authorized), *INTENT) == ("succeeded", 0, 2500)

    def test_paid_payment_cannot_be_canceled(self, stripe_api: HttpClient, payment: str) -> None:
        response = stripe_api.post(f"/v1/payment_intents/{payment}/cancel")

        assert response.error["code"] == "payment_intent_unexpected_state"

    def test_unpaid_payment_intent_is_canceled(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        declined = sandbox.create_payment(500, card="pm_card_visa_chargeDeclined")

        assert stripe_api.post(f"/v1/payment_intents/{declined}/cancel").json["status"] == "canceled"

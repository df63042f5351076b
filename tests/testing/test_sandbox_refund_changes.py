"""How a refund changes after it was made.

Sources: https://docs.stripe.com/refunds#failed-refunds, https://docs.stripe.com/refunds#tracing-refunds,
https://docs.stripe.com/api/refunds/object and the Refund type of stripe-python 16.1.
"""

from __future__ import annotations

import pytest

from flask_refunds.testing import StripeSandbox
from tests.testing.http_client import HttpClient

EMAIL = "customer@example.org"


def new_refund(sandbox: StripeSandbox, status: str = "succeeded") -> str:
    return str(sandbox.dashboard_refund(sandbox.create_payment(2000), status=status)["id"])


class TestTransitions:
    @pytest.mark.parametrize(
        "statuses",
        [
            ["pending", "succeeded", "failed"],
            ["pending", "requires_action", "pending", "succeeded"],
            ["succeeded", "requires_action", "pending", "succeeded", "failed"],
            ["succeeded", "requires_action", "failed"],
            ["requires_action", "canceled"],
            ["pending", "failed"],
        ],
    )
    def test_documented_transitions_are_possible(self, sandbox: StripeSandbox, statuses: list[str]) -> None:
        refund = new_refund(sandbox, statuses[0])

        for status in statuses[1:]:
            assert sandbox.settle(refund, status)["status"] == status

    @pytest.mark.parametrize(("first", "then"), [("failed", "succeeded"), ("canceled", "requires_action")])
    def test_failed_and_canceled_are_final(self, sandbox: StripeSandbox, first: str, then: str) -> None:
        refund = new_refund(sandbox, first)

        with pytest.raises(ValueError, match=f"can't change from {first}"):
            sandbox.settle(refund, then)

    def test_time_until_a_pending_refund_settles_can_be_changed(self, sandbox: StripeSandbox) -> None:
        assert sandbox.refund_settles_after == 3600.0
        sandbox.refund_settles_after = 60.0
        refund = sandbox.dashboard_refund(sandbox.create_payment(2000, card="4000000000007726"))["id"]
        sandbox.advance(59)
        assert sandbox.refund(refund)["status"] == "pending"
        sandbox.advance(1)
        assert sandbox.refund(refund)["status"] == "succeeded"

    def test_succeeded_refund_fails_weeks_later(self, sandbox: StripeSandbox) -> None:
        refund = new_refund(sandbox)
        sandbox.advance(30 * 86400)

        failed = sandbox.settle(refund, "failed", "lost_or_stolen_card")

        assert (failed["failure_reason"], sandbox.money_refunded(failed["payment_intent"])) == (
            "lost_or_stolen_card",
            0,
        )
        assert failed["failure_balance_transaction"] != failed["balance_transaction"]
        assert [event["type"] for event in sandbox.events][-3:] == [
            "refund.updated",
            "charge.refund.updated",
            "refund.failed",
        ]

    @pytest.mark.parametrize(
        "reason",
        [
            "lost_or_stolen_card",
            "expired_or_canceled_card",
            "charge_for_pending_refund_disputed",
            "insufficient_funds",
            "declined",
            "merchant_request",
            "unknown",
        ],
    )
    def test_every_documented_failure_reason_can_be_given(self, sandbox: StripeSandbox, reason: str) -> None:
        assert sandbox.settle(new_refund(sandbox), "failed", reason)["failure_reason"] == reason

    @pytest.mark.parametrize("first", ["succeeded", "pending"])
    def test_returned_refund_requires_action_again(self, sandbox: StripeSandbox, first: str) -> None:
        refund = new_refund(sandbox, first)
        sandbox.advance(600)

        returned = sandbox.return_refund(refund)

        details = returned["next_action"]["display_details"]
        assert (returned["status"], returned["pending_reason"]) == ("requires_action", None)
        assert details["email_sent"]["email_sent_at"] == int(sandbox.now())
        assert details["expires_at"] == int(sandbox.now()) + 45 * 86400
        previous = sandbox.events[-1]["data"]["previous_attributes"]
        assert (previous["status"], previous["next_action"]) == (first, None)

    def test_returned_refund_can_be_canceled_by_api(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        refund = new_refund(sandbox)
        refused = stripe_api.post(f"/v1/refunds/{refund}/cancel")
        sandbox.return_refund(refund)

        canceled = stripe_api.post(f"/v1/refunds/{refund}/cancel").json

        assert refused.status == 400
        assert (canceled["status"], sandbox.money_refunded(canceled["payment_intent"])) == ("canceled", 0)


class TestFieldsThatChange:
    def test_reference_arrives_without_a_change_of_status(self, sandbox: StripeSandbox) -> None:
        refund = new_refund(sandbox)
        before = sandbox.refund(refund)["destination_details"]["card"]

        changed = sandbox.assign_reference(refund, "74123450000")

        assert (before["reference"], before["reference_status"]) == (None, "pending")
        assert changed["destination_details"] == {
            "card": {
                "reference": "74123450000",
                "reference_status": "available",
                "reference_type": "acquirer_reference_number",
                "type": "refund",
            },
            "type": "card",
        }
        assert changed["status"] == "succeeded"
        event = sandbox.events[-2]
        assert (event["type"], list(event["data"]["previous_attributes"])) == (
            "refund.updated",
            ["destination_details"],
        )

    def test_bank_without_reference_makes_it_unavailable(self, sandbox: StripeSandbox) -> None:
        changed = sandbox.assign_reference(new_refund(sandbox), None)

        assert changed["destination_details"]["card"]["reference_status"] == "unavailable"

    @pytest.mark.parametrize("reason", ["processing", "insufficient_funds", "charge_pending"])
    def test_documented_pending_reason_is_shown(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, reason: str
    ) -> None:
        refund = new_refund(sandbox, "pending")
        sandbox.set_refund(refund, pending_reason=reason)

        assert stripe_api.get(f"/v1/refunds/{refund}").json["pending_reason"] == reason

    def test_pending_refund_that_is_settled_has_no_pending_reason(self, sandbox: StripeSandbox) -> None:
        refund = new_refund(sandbox, "pending")
        assert sandbox.refund(refund)["pending_reason"] == "insufficient_funds"

        assert sandbox.settle(refund, "succeeded")["pending_reason"] is None

    @pytest.mark.parametrize(
        "fields",
        [
            {"status": None},
            {"status": "on_its_way"},
            {"amount": "many", "currency": None},
            {"object": "customer"},
            {"receipt_number": "1234-5678"},
            {"charge": "ch_unknown", "metadata": None},
        ],
    )
    def test_set_refund_shows_any_value_alone_and_in_lists(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str, fields: dict[str, object]
    ) -> None:
        other = sandbox.dashboard_refund(payment, 500)
        refund = sandbox.dashboard_refund(payment, 700)

        sandbox.set_refund(refund["id"], **fields)

        expected = {**refund, **fields}
        assert stripe_api.get(f"/v1/refunds/{refund['id']}").json == expected
        listed = stripe_api.get("/v1/refunds", {"payment_intent": payment}).json["data"]
        assert listed == [expected, other]
        assert sandbox.events[-2]["data"]["object"] == expected

    def test_money_refunded_knows_the_amount_of_an_unreadable_refund(
        self, sandbox: StripeSandbox, payment: str
    ) -> None:
        refund = sandbox.dashboard_refund(payment, 700)["id"]

        sandbox.set_refund(refund, amount=None, status=None)
        assert sandbox.money_refunded(payment) == sandbox.charge(payment)["amount_refunded"] == 700
        sandbox.set_refund(refund, status="failed")
        assert sandbox.money_refunded(payment) == sandbox.charge(payment)["amount_refunded"] == 0

    @pytest.mark.parametrize("field", ["id", "created"])
    def test_identity_of_a_refund_cannot_be_set(self, sandbox: StripeSandbox, field: str) -> None:
        with pytest.raises(ValueError, match="can't change"):
            sandbox.set_refund(new_refund(sandbox), **{field: None})

    def test_refund_without_status_can_be_settled(self, sandbox: StripeSandbox) -> None:
        refund = new_refund(sandbox)
        sandbox.set_refund(refund, status=None)

        assert sandbox.settle(refund, "failed")["status"] == "failed"


class TestPaymentMethodsWithoutReturnPath:
    """Stripe asks the customer for account details by email: https://docs.stripe.com/payments/konbini."""

    @pytest.mark.parametrize(
        ("method", "destination"),
        [
            ("konbini", "jp_bank_transfer"),
            ("promptpay", "th_bank_transfer"),
            ("boleto", "br_bank_transfer"),
            ("customer_balance", "eu_bank_transfer"),
        ],
    )
    def test_refund_needs_email_and_waits_for_the_customer(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, method: str, destination: str
    ) -> None:
        params = {"payment_intent": sandbox.create_payment(2000, "jpy", method=method)}

        refused = stripe_api.post("/v1/refunds", params)
        refund = stripe_api.post("/v1/refunds", {**params, "instructions_email": EMAIL}).json

        assert (refused.status, refused.error["param"]) == (400, "instructions_email")
        assert (refund["status"], refund["instructions_email"]) == ("requires_action", EMAIL)
        assert refund["next_action"]["display_details"]["email_sent"]["email_sent_to"] == EMAIL
        details = {"reference": None, "reference_status": "pending"}
        assert refund["destination_details"] == {destination: details, "type": destination}

    def test_dashboard_refund_with_email_waits_for_the_customer(self, sandbox: StripeSandbox) -> None:
        payment = sandbox.create_payment(2000, "jpy", method="konbini")

        refund = sandbox.dashboard_refund(payment, instructions_email=EMAIL)

        assert (refund["status"], refund["instructions_email"]) == ("requires_action", EMAIL)

    def test_other_payment_method_is_refunded_at_once(self, sandbox: StripeSandbox) -> None:
        refund = sandbox.dashboard_refund(sandbox.create_payment(2000, method="paypal"))

        assert (refund["status"], refund["destination_details"]["type"]) == ("succeeded", "paypal")


class TestDisputes:
    def test_disputed_payment_refuses_refunds(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        dispute = sandbox.dispute(payment, reason="product_not_received")
        response = stripe_api.post("/v1/refunds", {"payment_intent": payment})

        assert (dispute["reason"], dispute["status"]) == ("product_not_received", "needs_response")
        assert sandbox.charge(payment)["disputed"] is True
        assert (response.status, response.error["code"]) == (400, "charge_disputed")
        assert sandbox.events[-1]["type"] == "charge.dispute.created"

    def test_dispute_fails_pending_refund(self, sandbox: StripeSandbox, payment: str) -> None:
        """The reason is documented for a dispute while the refund is pending (#failed-refunds)."""
        pending = sandbox.dashboard_refund(payment, 500, status="pending")["id"]
        succeeded = sandbox.dashboard_refund(payment, 300)["id"]

        sandbox.dispute(payment)

        assert sandbox.refund(pending)["failure_reason"] == "charge_for_pending_refund_disputed"
        assert sandbox.refund(succeeded)["status"] == "succeeded"

    @pytest.mark.parametrize("by_card", [True, False])
    def test_inquiry_allows_refunds(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, by_card: bool
    ) -> None:
        card = "pm_card_createDisputeInquiry" if by_card else "pm_card_visa"
        payment = sandbox.create_payment(2000, card=card)
        if not by_card:
            sandbox.dispute(payment, inquiry=True)

        assert sandbox.charge(payment)["disputed"] is True
        assert stripe_api.post("/v1/refunds", {"payment_intent": payment}).status == 200

    def test_authorized_payment_is_disputed_after_its_capture(
        self, sandbox: StripeSandbox, stripe_api: HttpClient
    ) -> None:
        payment = sandbox.create_payment(2000, card="pm_card_createDispute", capture="manual")
        assert sandbox.charge(payment)["disputed"] is False

        sandbox.capture(payment)

        assert stripe_api.post("/v1/refunds", {"payment_intent": payment}).error["code"] == "charge_disputed"


class TestHide:
    def test_hidden_payment_is_404_in_every_request(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        refund = sandbox.dashboard_refund(payment, 500)["id"]
        charge = sandbox.charge(payment)["id"]

        sandbox.hide(payment)

        for response in (
            stripe_api.get(f"/v1/payment_intents/{payment}"),
            stripe_api.get(f"/v1/charges/{charge}"),
            stripe_api.get(f"/v1/refunds/{refund}"),
            stripe_api.get("/v1/refunds", {"payment_intent": payment}),
            stripe_api.get("/v1/refunds", {"charge": charge}),
            stripe_api.post("/v1/refunds", {"payment_intent": payment}),
        ):
            assert (response.status, response.error["code"]) == (404, "resource_missing")
        assert stripe_api.get("/v1/refunds").json["data"] == []
        assert sandbox.refund(refund)["status"] == "succeeded"

    def test_hidden_refund_is_missing_from_the_list_of_its_payment(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        hidden, shown = (sandbox.dashboard_refund(payment, 500)["id"] for _ in range(2))

        sandbox.hide(hidden)

        listed = stripe_api.get("/v1/refunds", {"payment_intent": payment}).json["data"]
        assert [refund["id"] for refund in listed] == [shown]
        assert stripe_api.get(f"/v1/refunds/{hidden}").error["message"] == f"No such refund: '{hidden}'"
        sandbox.unhide()
        assert stripe_api.get(f"/v1/refunds/{hidden}").status == 200

    def test_unknown_payment_cannot_be_hidden(self, sandbox: StripeSandbox) -> None:
        with pytest.raises(LookupError, match="pi_x"):
            sandbox.hide("pi_x")

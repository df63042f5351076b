"""Stripe's rules for refunds."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from flask_refunds.testing import ApiError, StripeSandbox
from tests.testing.http_client import HttpClient

DOCUMENTED_FIELDS = {
    "id",
    "object",
    "amount",
    "balance_transaction",
    "charge",
    "created",
    "currency",
    "customer",
    "customer_account",
    "destination_details",
    "failure_balance_transaction",
    "failure_reason",
    "instructions_email",
    "metadata",
    "next_action",
    "payment_intent",
    "payment_method",
    "pending_reason",
    "reason",
    "receipt_number",
    "source_transfer_reversal",
    "status",
    "transfer_reversal",
}


class TestCreateRefund:
    def test_refund_without_amount_is_full_and_has_documented_fields(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        params = {
            "payment_intent": payment,
            "reason": "duplicate",
            "metadata[refund_id]": "pi:1",
            "metadata[name]": "ä b&c",
        }

        refund = stripe_api.post("/v1/refunds", params).json

        assert set(refund) == DOCUMENTED_FIELDS
        assert refund["object"] == "refund"
        assert refund["id"].startswith("re_")
        assert (refund["amount"], refund["currency"]) == (2000, "usd")
        assert refund["status"] == "succeeded"
        assert refund["payment_intent"] == payment
        assert refund["reason"] == "duplicate"
        assert refund["metadata"] == {"refund_id": "pi:1", "name": "ä b&c"}
        assert sandbox.refunds(payment) == [refund]
        assert sandbox.money_refunded(payment) == 2000

    def test_refund_updates_charge(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        stripe_api.post("/v1/refunds", {"payment_intent": payment, "amount": 500})
        half = sandbox.charge(payment)
        stripe_api.post("/v1/refunds", {"payment_intent": payment})
        full = sandbox.charge(payment)

        assert (half["amount_refunded"], half["refunded"]) == (500, False)
        assert (full["amount_refunded"], full["refunded"]) == (2000, True)

    def test_refund_by_charge_finds_payment_intent(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        charge = sandbox.payment_intent(payment)["latest_charge"]

        assert stripe_api.post("/v1/refunds", {"charge": charge}).json["payment_intent"] == payment

    def test_refund_ids_are_unique(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        payment = sandbox.create_payment(50)

        ids = {
            stripe_api.post("/v1/refunds", {"payment_intent": payment, "amount": 1}).json["id"]
            for _ in range(50)
        }

        assert len(ids) == 50

    @pytest.mark.parametrize(
        "name",
        [
            "currency",
            "customer",
            "instructions_email",
            "origin",
            "refund_application_fee",
            "reverse_transfer",
        ],
    )
    def test_documented_parameter_is_accepted(self, stripe_api: HttpClient, payment: str, name: str) -> None:
        values = {"currency": "usd", "origin": "customer_balance", "instructions_email": "a@example.com"}
        value = values.get(name, "false")

        assert stripe_api.post("/v1/refunds", {"payment_intent": payment, name: value}).status == 200


class TestRejectedRefund:
    def rejected(
        self, stripe_api: HttpClient, sandbox: StripeSandbox, params: dict[str, Any]
    ) -> dict[str, Any]:
        before = sandbox.refunds()
        response = stripe_api.post("/v1/refunds", params)
        assert response.status == 400
        assert sandbox.refunds() == before
        return response.error

    def test_refunded_charge_is_rejected(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        sandbox.dashboard_refund(payment)

        error = self.rejected(stripe_api, sandbox, {"payment_intent": payment})

        assert error["code"] == "charge_already_refunded"
        assert error["type"] == "invalid_request_error"
        assert error["message"] == f"Charge {sandbox.charge(payment)['id']} has already been refunded."
        assert error["doc_url"].endswith("/error-codes/charge-already-refunded")
        assert sandbox.requests[-1].request_id in error["request_log_url"]

    def test_amount_above_remaining_is_rejected(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        sandbox.dashboard_refund(payment, 1500)

        error = self.rejected(stripe_api, sandbox, {"payment_intent": payment, "amount": 501})

        assert error["message"] == (
            "Refund amount ($5.01) is greater than unrefunded amount on charge ($5.00)"
        )
        assert error["param"] == "amount"

    def test_message_shows_yen_without_decimals(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        yen = sandbox.create_payment(500, "JPY")

        error = self.rejected(stripe_api, sandbox, {"payment_intent": yen, "amount": 501})

        assert "(¥501)" in error["message"]

    def test_unpaid_payment_intent_is_rejected(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        declined = sandbox.create_payment(2000, card="4000000000000002")

        error = self.rejected(stripe_api, sandbox, {"payment_intent": declined})

        assert error["code"] == "payment_intent_unexpected_state"
        assert error["message"] == (
            f"This PaymentIntent ({declined}) does not have a successful charge to refund."
        )

    def test_disputed_charge_is_rejected(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        disputed = sandbox.create_payment(2000, card="pm_card_createDispute")

        error = self.rejected(stripe_api, sandbox, {"payment_intent": disputed})

        assert error["code"] == "charge_disputed"

    def test_unknown_payment_intent_is_404(self, stripe_api: HttpClient) -> None:
        response = stripe_api.post("/v1/refunds", {"payment_intent": "pi_x"})

        assert response.status == 404
        assert response.error["code"] == "resource_missing"
        assert response.error["param"] == "payment_intent"
        assert response.error["message"] == "No such payment_intent: 'pi_x'"

    def test_live_key_with_test_payment_is_404_and_hints_at_mode(
        self, sandbox: StripeSandbox, payment: str
    ) -> None:
        with contextlib.closing(HttpClient(sandbox.url, "sk_live_123")) as live:
            response = live.post("/v1/refunds", {"payment_intent": payment})

        assert response.status == 404
        assert "a similar object exists in test mode" in response.error["message"]
        assert sandbox.money_refunded(payment) == 0

    @pytest.mark.parametrize(
        ("params", "code", "param"),
        [
            ({"amount": "0"}, "parameter_invalid_integer", "amount"),
            ({"amount": "-5"}, "parameter_invalid_integer", "amount"),
            ({"amount": "1.5"}, "parameter_invalid_integer", "amount"),
            ({"amount": "100000000"}, "amount_too_large", "amount"),
            ({"reason": "because"}, None, "reason"),
            ({"reason": ""}, None, "reason"),
            ({"color": "red"}, "parameter_unknown", "color"),
            ({"payment_intent[id]": "x"}, None, "payment_intent"),
            ({"a]b[": "x"}, "parameter_unknown", "a]b["),
            ({"metadata": "x"}, None, "metadata"),
            ({"metadata[a][b]": "x"}, None, "metadata"),
            ({"metadata[a]": "x" * 501}, None, "metadata"),
            ({f"metadata[{'k' * 41}]": "x"}, None, "metadata"),
            ({f"metadata[{n}]": "x" for n in range(51)}, None, "metadata"),
            ({"reverse_transfer": "yes"}, None, "reverse_transfer"),
            ({"currency": "dollars"}, None, "currency"),
            ({"origin": "here"}, None, "origin"),
            ({"expand[]": "balance_transaction"}, None, "expand"),
            ({"expand": "charge"}, None, "expand"),
            ({"charge": "ch_1"}, None, None),
        ],
    )
    def test_invalid_parameter_is_rejected(
        self,
        sandbox: StripeSandbox,
        stripe_api: HttpClient,
        payment: str,
        params: dict[str, str],
        code: str | None,
        param: str | None,
    ) -> None:
        sent = params if "payment_intent[id]" in params else {"payment_intent": payment, **params}

        error = self.rejected(stripe_api, sandbox, sent)

        assert (error.get("code"), error.get("param")) == (code, param)

    @pytest.mark.parametrize("params", [{}, {"payment_intent": ""}])
    def test_missing_payment_intent_and_charge_is_rejected(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, params: dict[str, str]
    ) -> None:
        error = self.rejected(stripe_api, sandbox, params)

        assert error["code"] in ("parameter_missing", "parameter_invalid_empty")

    def test_second_full_refund_is_accepted_without_amount_limit(self) -> None:
        with StripeSandbox(enforce_amount_limit=False) as sandbox:
            payment = sandbox.create_payment(2000)
            with contextlib.closing(HttpClient(sandbox.url)) as stripe_api:
                statuses = [
                    stripe_api.post("/v1/refunds", {"payment_intent": payment}).status for _ in range(2)
                ]

            assert statuses == [200, 200]
            assert sandbox.money_refunded(payment) == 4000


class TestTestCards:
    def test_pending_refund_card_succeeds_later(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        payment = sandbox.create_payment(2000, card="4000000000007726")
        refund = stripe_api.post("/v1/refunds", {"payment_intent": payment}).json
        assert (refund["status"], refund["pending_reason"]) == ("pending", "processing")

        sandbox.advance(3599)
        assert sandbox.refund(refund["id"])["status"] == "pending"
        sandbox.advance(1)

        settled = stripe_api.get(f"/v1/refunds/{refund['id']}").json
        assert (settled["status"], settled["pending_reason"]) == ("succeeded", None)
        assert sandbox.money_refunded(payment) == 2000

    def test_refund_fail_card_fails_later(self, sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
        payment = sandbox.create_payment(2000, card="pm_card_refundFail")
        refund = stripe_api.post("/v1/refunds", {"payment_intent": payment}).json
        assert refund["status"] == "succeeded"

        sandbox.advance(3600)

        failed = stripe_api.get(f"/v1/refunds/{refund['id']}").json
        assert failed["status"] == "failed"
        assert failed["failure_reason"] == "expired_or_canceled_card"
        assert failed["failure_balance_transaction"].startswith("txn_")
        assert sandbox.money_refunded(payment) == 0
        assert sandbox.charge(payment)["refunded"] is False
        assert stripe_api.post("/v1/refunds", {"payment_intent": payment}).status == 200

    def test_request_applies_due_transition(self) -> None:
        now = [1_000_000.0]
        with StripeSandbox(clock=lambda: now[0], refund_settles_after=10) as sandbox:
            payment = sandbox.create_payment(2000, card="pm_card_pendingRefund")
            refund = sandbox.dashboard_refund(payment)
            now[0] += 10
            with contextlib.closing(HttpClient(sandbox.url)) as stripe_api:
                assert stripe_api.get(f"/v1/refunds/{refund['id']}").json["status"] == "succeeded"

    def test_unknown_card_is_value_error(self, sandbox: StripeSandbox) -> None:
        with pytest.raises(ValueError, match="pm_unknown"):
            sandbox.create_payment(2000, card="pm_unknown")


class TestRefundChanges:
    def test_metadata_is_merged_and_empty_values_remove_keys(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        refund = stripe_api.post(
            "/v1/refunds", {"payment_intent": payment, "metadata[a]": "1", "metadata[b]": "2"}
        )
        url = f"/v1/refunds/{refund.json['id']}"

        changed = stripe_api.post(url, {"metadata[a]": "", "metadata[c]": "3"}).json
        untouched = stripe_api.post(url).json
        emptied = stripe_api.post(url, {"metadata": ""}).json
        rejected = stripe_api.post(url, {"amount": "1"})

        assert changed["metadata"] == untouched["metadata"] == {"b": "2", "c": "3"}
        assert emptied["metadata"] == {}
        assert rejected.error["code"] == "parameter_unknown"

    def test_only_refund_that_requires_action_can_be_canceled(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
    ) -> None:
        sandbox.inject("requires_action")
        params = {"payment_intent": payment, "instructions_email": "me@example.com"}
        waiting = stripe_api.post("/v1/refunds", params).json
        cancel = f"/v1/refunds/{waiting['id']}/cancel"

        canceled = stripe_api.post(cancel)
        again = stripe_api.post(cancel)

        sent = waiting["next_action"]["display_details"]["email_sent"]
        assert sent["email_sent_to"] == "me@example.com"
        assert (canceled.json["status"], canceled.json["failure_reason"]) == ("canceled", "merchant_request")
        assert again.status == 400
        assert sandbox.money_refunded(payment) == 0

    @pytest.mark.parametrize(
        ("first", "then"),
        [
            ("pending", "succeeded"),
            ("pending", "failed"),
            ("pending", "requires_action"),
            ("requires_action", "canceled"),
            ("requires_action", "pending"),
        ],
    )
    def test_settle_changes_status(
        self, sandbox: StripeSandbox, stripe_api: HttpClient, payment: str, first: str, then: str
    ) -> None:
        sandbox.inject(first)
        refund = stripe_api.post("/v1/refunds", {"payment_intent": payment}).json
        assert refund["status"] == first

        assert sandbox.settle(refund["id"], then)["status"] == then
        assert (sandbox.money_refunded(payment) == 0) == (then in ("failed", "canceled"))

    @pytest.mark.parametrize(
        ("first", "then"), [("failed", "succeeded"), ("succeeded", "pending"), ("pending", "x")]
    )
    def test_settle_rejects_impossible_change(
        self, sandbox: StripeSandbox, payment: str, first: str, then: str
    ) -> None:
        card = "pm_card_visa" if first != "pending" else "pm_card_pendingRefund"
        refund = sandbox.dashboard_refund(sandbox.create_payment(5, card=card))
        if first == "failed":
            sandbox.settle(refund["id"], "failed", "lost_or_stolen_card")

        with pytest.raises(ValueError, match="can't change from"):
            sandbox.settle(refund["id"], then)

    def test_settled_refund_skips_delayed_transition(self, sandbox: StripeSandbox) -> None:
        refund = sandbox.dashboard_refund(sandbox.create_payment(5, card="pm_card_pendingRefund"))
        sandbox.settle(refund["id"], "failed", "lost_or_stolen_card")
        sandbox.advance(10_000)

        found = sandbox.refund(refund["id"])
        assert (found["status"], found["failure_reason"]) == ("failed", "lost_or_stolen_card")


def test_refund_in_dashboard_is_rejected_by_same_rules(sandbox: StripeSandbox, payment: str) -> None:
    refund = sandbox.dashboard_refund(payment)

    with pytest.raises(ApiError, match="already been refunded"):
        sandbox.dashboard_refund(payment)
    assert refund["metadata"] == {}


def test_reset_removes_everything(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    stripe_api.post("/v1/refunds", {"payment_intent": payment}, key="k")
    sandbox.inject("server_error_before", times=None)
    sandbox.advance(1000)

    sandbox.reset()

    assert (sandbox.refunds(), sandbox.requests, sandbox.events) == ([], [], [])
    again = sandbox.create_payment(5)
    assert stripe_api.post("/v1/refunds", {"payment_intent": again}, key="k").status == 200

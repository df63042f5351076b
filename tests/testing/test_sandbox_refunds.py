"""Stripe's rules about refunds."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from sandbox_caller import Caller

from flask_refunds.testing import ApiError, StripeSandbox

DOCUMENTED_FIELDS = {
    "id",
    "object",
    "amount",
    "balance_transaction",
    "charge",
    "created",
    "currency",
    "destination_details",
    "failure_balance_transaction",
    "failure_reason",
    "metadata",
    "next_action",
    "payment_intent",
    "pending_reason",
    "reason",
    "receipt_number",
    "source_transfer_reversal",
    "status",
    "transfer_reversal",
}


class TestCreating:
    def test_refunds_all_that_was_paid(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        params = {
            "payment_intent": paid,
            "reason": "duplicate",
            "metadata[refund_id]": "pi:1",
            "metadata[who]": "ä b&c",
        }

        refund = stripe_api.post("/v1/refunds", params).json

        assert set(refund) == DOCUMENTED_FIELDS
        assert refund["object"] == "refund"
        assert refund["id"].startswith("re_")
        assert (refund["amount"], refund["currency"]) == (2000, "usd")
        assert refund["status"] == "succeeded"
        assert refund["payment_intent"] == paid
        assert refund["reason"] == "duplicate"
        assert refund["metadata"] == {"refund_id": "pi:1", "who": "ä b&c"}
        assert sandbox.refunds(paid) == [refund]
        assert sandbox.money_refunded(paid) == 2000

    def test_marks_the_charge(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        stripe_api.post("/v1/refunds", {"payment_intent": paid, "amount": 500})
        half = sandbox.charge(paid)
        stripe_api.post("/v1/refunds", {"payment_intent": paid})
        full = sandbox.charge(paid)

        assert (half["amount_refunded"], half["refunded"]) == (500, False)
        assert (full["amount_refunded"], full["refunded"]) == (2000, True)

    def test_by_charge(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        charge = sandbox.payment_intent(paid)["latest_charge"]

        assert stripe_api.post("/v1/refunds", {"charge": charge}).json["payment_intent"] == paid

    def test_ids_are_unique(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        paid = sandbox.create_payment(50)

        ids = {
            stripe_api.post("/v1/refunds", {"payment_intent": paid, "amount": 1}).json["id"]
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
    def test_takes_every_documented_parameter(self, stripe_api: Caller, paid: str, name: str) -> None:
        value = {"currency": "usd", "origin": "customer_balance"}.get(name, "true")

        assert stripe_api.post("/v1/refunds", {"payment_intent": paid, name: value}).status == 200


class TestRefusing:
    def refused(self, stripe_api: Caller, sandbox: StripeSandbox, params: dict[str, Any]) -> dict[str, Any]:
        before = sandbox.refunds()
        answer = stripe_api.post("/v1/refunds", params)
        assert answer.status == 400
        assert sandbox.refunds() == before
        return answer.error

    def test_what_is_refunded_already(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        sandbox.refund_in_dashboard(paid)

        error = self.refused(stripe_api, sandbox, {"payment_intent": paid})

        assert error["code"] == "charge_already_refunded"
        assert error["type"] == "invalid_request_error"
        assert error["message"] == f"Charge {sandbox.charge(paid)['id']} has already been refunded."
        assert error["doc_url"].endswith("/error-codes/charge-already-refunded")
        assert sandbox.requests[-1].request_id in error["request_log_url"]

    def test_more_than_what_is_left(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        sandbox.refund_in_dashboard(paid, 1500)

        error = self.refused(stripe_api, sandbox, {"payment_intent": paid, "amount": 501})

        assert error["message"] == (
            "Refund amount ($5.01) is greater than unrefunded amount on charge ($5.00)"
        )
        assert error["param"] == "amount"

    def test_words_a_currency_without_decimals(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        yen = sandbox.create_payment(500, "JPY")

        error = self.refused(stripe_api, sandbox, {"payment_intent": yen, "amount": 501})

        assert "(¥501)" in error["message"]

    def test_what_was_never_paid(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        declined = sandbox.create_payment(2000, card="4000000000000002")

        error = self.refused(stripe_api, sandbox, {"payment_intent": declined})

        assert error["code"] == "payment_intent_unexpected_state"
        assert error["message"] == (
            f"This PaymentIntent ({declined}) does not have a successful charge to refund."
        )

    def test_what_was_charged_back(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        disputed = sandbox.create_payment(2000, card="pm_card_createDispute")

        error = self.refused(stripe_api, sandbox, {"payment_intent": disputed})

        assert error["code"] == "charge_disputed"

    def test_what_is_not_there(self, stripe_api: Caller) -> None:
        answer = stripe_api.post("/v1/refunds", {"payment_intent": "pi_x"})

        assert answer.status == 404
        assert answer.error["code"] == "resource_missing"
        assert answer.error["param"] == "payment_intent"
        assert answer.error["message"] == "No such payment_intent: 'pi_x'"

    def test_live_what_was_paid_in_test_mode(self, sandbox: StripeSandbox, paid: str) -> None:
        with contextlib.closing(Caller(sandbox.url, "sk_live_123")) as live:
            answer = live.post("/v1/refunds", {"payment_intent": paid})

        assert answer.status == 404
        assert "a similar object exists in test mode" in answer.error["message"]
        assert sandbox.money_refunded(paid) == 0

    @pytest.mark.parametrize(
        ("params", "code", "param"),
        [
            ({"amount": "0"}, "parameter_invalid_integer", "amount"),
            ({"amount": "-5"}, "parameter_invalid_integer", "amount"),
            ({"amount": "1.5"}, "parameter_invalid_integer", "amount"),
            ({"amount": "100000000"}, "amount_too_large", "amount"),
            ({"reason": "because"}, None, "reason"),
            ({"reason": ""}, None, "reason"),
            ({"colour": "red"}, "parameter_unknown", "colour"),
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
    def test_bad_parameters(
        self,
        sandbox: StripeSandbox,
        stripe_api: Caller,
        paid: str,
        params: dict[str, str],
        code: str | None,
        param: str | None,
    ) -> None:
        given = params if "payment_intent[id]" in params else {"payment_intent": paid, **params}

        error = self.refused(stripe_api, sandbox, given)

        assert (error.get("code"), error.get("param")) == (code, param)

    @pytest.mark.parametrize("params", [{}, {"payment_intent": ""}])
    def test_nothing_to_refund(
        self, sandbox: StripeSandbox, stripe_api: Caller, params: dict[str, str]
    ) -> None:
        error = self.refused(stripe_api, sandbox, params)

        assert error["code"] in ("parameter_missing", "parameter_invalid_empty")

    def test_not_without_the_limit_so_that_a_double_payer_shows(self) -> None:
        with StripeSandbox(enforce_amount_limit=False) as sandbox:
            paid = sandbox.create_payment(2000)
            with contextlib.closing(Caller(sandbox.url)) as stripe_api:
                twice = [stripe_api.post("/v1/refunds", {"payment_intent": paid}).status for _ in range(2)]

            assert twice == [200, 200]
            assert sandbox.money_refunded(paid) == 4000


class TestCards:
    def test_pending_then_succeeded(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        paid = sandbox.create_payment(2000, card="4000000000007726")
        refund = stripe_api.post("/v1/refunds", {"payment_intent": paid}).json
        assert (refund["status"], refund["pending_reason"]) == ("pending", "processing")

        sandbox.advance(3599)
        assert sandbox.refund(refund["id"])["status"] == "pending"
        sandbox.advance(1)

        settled = stripe_api.get(f"/v1/refunds/{refund['id']}").json
        assert (settled["status"], settled["pending_reason"]) == ("succeeded", None)
        assert sandbox.money_refunded(paid) == 2000

    def test_succeeded_then_failed(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        paid = sandbox.create_payment(2000, card="pm_card_refundFail")
        refund = stripe_api.post("/v1/refunds", {"payment_intent": paid}).json
        assert refund["status"] == "succeeded"

        sandbox.advance(3600)

        failed = stripe_api.get(f"/v1/refunds/{refund['id']}").json
        assert failed["status"] == "failed"
        assert failed["failure_reason"] == "expired_or_canceled_card"
        assert failed["failure_balance_transaction"].startswith("txn_")
        assert sandbox.money_refunded(paid) == 0
        assert sandbox.charge(paid)["refunded"] is False
        assert stripe_api.post("/v1/refunds", {"payment_intent": paid}).status == 200

    def test_time_settles_what_a_request_finds_due(self) -> None:
        now = [1_000_000.0]
        with StripeSandbox(clock=lambda: now[0], refund_settles_after=10) as sandbox:
            paid = sandbox.create_payment(2000, card="pm_card_pendingRefund")
            refund = sandbox.refund_in_dashboard(paid)
            now[0] += 10
            with contextlib.closing(Caller(sandbox.url)) as stripe_api:
                assert stripe_api.get(f"/v1/refunds/{refund['id']}").json["status"] == "succeeded"

    @pytest.mark.parametrize(
        ("card", "decline_code"),
        [
            ("4000000000000002", "generic_decline"),
            ("4000000000009995", "insufficient_funds"),
            ("5500000000000004", "test_mode_live_card"),
        ],
    )
    def test_declined(self, stripe_api: Caller, card: str, decline_code: str) -> None:
        params = {
            "amount": 2000,
            "currency": "usd",
            "confirm": "true",
            "payment_method_data[type]": "card",
            "payment_method_data[card][number]": card,
            "payment_method_data[card][exp_month]": 12,
            "payment_method_data[card][exp_year]": 2040,
            "payment_method_data[card][cvc]": "123",
        }

        answer = stripe_api.post("/v1/payment_intents", params)

        assert answer.status == 402
        assert answer.error["type"] == "card_error"
        assert (answer.error["code"], answer.error["decline_code"]) == ("card_declined", decline_code)
        assert answer.error["payment_intent"]["status"] == "requires_payment_method"

    def test_an_unknown_card_pays_nothing(self, sandbox: StripeSandbox) -> None:
        with pytest.raises(ValueError, match="pm_nobody"):
            sandbox.create_payment(2000, card="pm_nobody")


class TestPaying:
    def test_confirmed_at_once(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        params = {
            "amount": 2000,
            "currency": "EUR",
            "payment_method": "pm_card_visa",
            "confirm": "true",
            "metadata[order]": "7",
            "description": "A book",
            "receipt_email": "a@example.com",
            "return_url": "https://example.com/",
            "off_session": "true",
            "capture_method": "automatic",
            "automatic_payment_methods[enabled]": "true",
            "expand[]": "latest_charge",
        }

        intent = stripe_api.post("/v1/payment_intents", params).json

        assert intent["status"] == "succeeded"
        assert intent["currency"] == "eur"
        assert intent["latest_charge"]["metadata"] == {"order": "7"}
        assert intent["latest_charge"]["payment_intent"] == intent["id"]
        assert sandbox.payment_intent(intent["id"])["latest_charge"] == intent["latest_charge"]["id"]

    def test_confirmed_later(self, stripe_api: Caller) -> None:
        params = {"amount": 2000, "currency": "usd", "payment_method_types[]": "card"}
        intent = stripe_api.post("/v1/payment_intents", params).json
        confirm = f"/v1/payment_intents/{intent['id']}/confirm"

        bare = stripe_api.post(confirm)
        done = stripe_api.post(confirm, {"payment_method": "pm_card_visa"})
        again = stripe_api.post(confirm)

        assert intent["status"] == "requires_payment_method"
        assert bare.error["code"] == "payment_intent_unexpected_state"
        assert done.json["status"] == "succeeded"
        assert again.error["code"] == "payment_intent_unexpected_state"

    def test_another_card_after_a_decline(self, sandbox: StripeSandbox, stripe_api: Caller) -> None:
        declined = sandbox.create_payment(2000, card="4000000000000002")

        confirm = f"/v1/payment_intents/{declined}/confirm"
        assert stripe_api.post(confirm, {"payment_method": "pm_card_visa"}).status == 200
        assert stripe_api.post("/v1/refunds", {"payment_intent": declined}).status == 200

    @pytest.mark.parametrize(
        ("params", "param"),
        [
            ({"currency": "usd"}, "amount"),
            ({"amount": "5"}, "currency"),
            ({"amount": "5", "currency": "usd", "payment_method": "pm_nobody"}, "payment_method"),
            ({"amount": "5", "currency": "usd", "capture_method": "manual"}, "capture_method"),
            ({"amount": "5", "currency": "usd", "payment_method_data": "x"}, "payment_method_data"),
            ({"amount": "5", "currency": "usd", "payment_method_data[type]": "card"}, "number"),
        ],
    )
    def test_bad_parameters(self, stripe_api: Caller, params: dict[str, str], param: str) -> None:
        answer = stripe_api.post("/v1/payment_intents", params)

        assert answer.status in (400, 402, 404)
        assert answer.error["param"] == param


class TestChanging:
    def test_metadata(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        refund = stripe_api.post(
            "/v1/refunds", {"payment_intent": paid, "metadata[a]": "1", "metadata[b]": "2"}
        )
        url = f"/v1/refunds/{refund.json['id']}"

        changed = stripe_api.post(url, {"metadata[a]": "", "metadata[c]": "3"}).json
        untouched = stripe_api.post(url).json
        emptied = stripe_api.post(url, {"metadata": ""}).json
        refused = stripe_api.post(url, {"amount": "1"})

        assert changed["metadata"] == untouched["metadata"] == {"b": "2", "c": "3"}
        assert emptied["metadata"] == {}
        assert refused.error["code"] == "parameter_unknown"

    def test_only_what_waits_for_the_customer_can_be_canceled(
        self, sandbox: StripeSandbox, stripe_api: Caller, paid: str
    ) -> None:
        sandbox.inject("requires_action")
        params = {"payment_intent": paid, "instructions_email": "me@example.com"}
        waiting = stripe_api.post("/v1/refunds", params).json
        cancel = f"/v1/refunds/{waiting['id']}/cancel"

        canceled = stripe_api.post(cancel)
        again = stripe_api.post(cancel)

        sent = waiting["next_action"]["display_details"]["email_sent"]
        assert sent["email_sent_to"] == "me@example.com"
        assert (canceled.json["status"], canceled.json["failure_reason"]) == ("canceled", "merchant_request")
        assert again.status == 400
        assert sandbox.money_refunded(paid) == 0

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
    def test_settle(
        self, sandbox: StripeSandbox, stripe_api: Caller, paid: str, first: str, then: str
    ) -> None:
        sandbox.inject(first)
        refund = stripe_api.post("/v1/refunds", {"payment_intent": paid}).json
        assert refund["status"] == first

        assert sandbox.settle(refund["id"], then)["status"] == then
        assert (sandbox.money_refunded(paid) == 0) == (then in ("failed", "canceled"))

    @pytest.mark.parametrize(
        ("first", "then"), [("failed", "succeeded"), ("succeeded", "pending"), ("pending", "x")]
    )
    def test_settle_refuses_what_never_happens(
        self, sandbox: StripeSandbox, paid: str, first: str, then: str
    ) -> None:
        card = "pm_card_visa" if first != "pending" else "pm_card_pendingRefund"
        refund = sandbox.refund_in_dashboard(sandbox.create_payment(5, card=card))
        if first == "failed":
            sandbox.settle(refund["id"], "failed", "lost_or_stolen_card")

        with pytest.raises(ValueError, match="cannot become"):
            sandbox.settle(refund["id"], then)

    def test_a_settled_refund_stays_as_it_is_when_its_time_comes(self, sandbox: StripeSandbox) -> None:
        refund = sandbox.refund_in_dashboard(sandbox.create_payment(5, card="pm_card_pendingRefund"))
        sandbox.settle(refund["id"], "failed", "lost_or_stolen_card")
        sandbox.advance(10_000)

        found = sandbox.refund(refund["id"])
        assert (found["status"], found["failure_reason"]) == ("failed", "lost_or_stolen_card")


class TestReading:
    @pytest.fixture
    def five(self, sandbox: StripeSandbox, paid: str) -> list[str]:
        """Ids of five refunds of one payment, newest first; another payment is refunded, too."""
        ids = []
        for _ in range(5):
            ids.append(sandbox.refund_in_dashboard(paid, 10)["id"])
            sandbox.advance(100)
        sandbox.refund_in_dashboard(sandbox.create_payment(1))
        return ids[::-1]

    def ids(self, stripe_api: Caller, **params: object) -> tuple[list[str], bool]:
        page = stripe_api.get("/v1/refunds", params).json
        assert (page["object"], page["url"]) == ("list", "/v1/refunds")
        return [refund["id"] for refund in page["data"]], page["has_more"]

    def test_newest_first(self, stripe_api: Caller, paid: str, five: list[str]) -> None:
        assert self.ids(stripe_api, payment_intent=paid) == (five, False)

    def test_of_a_charge(
        self, sandbox: StripeSandbox, stripe_api: Caller, paid: str, five: list[str]
    ) -> None:
        assert self.ids(stripe_api, charge=sandbox.charge(paid)["id"]) == (five, False)

    def test_of_everything(self, stripe_api: Caller, five: list[str]) -> None:
        assert self.ids(stripe_api)[0][1:] == five

    def test_of_what_is_not_there(self, stripe_api: Caller) -> None:
        assert stripe_api.get("/v1/refunds", {"payment_intent": "pi_x"}).status == 404

    def test_pages(self, stripe_api: Caller, paid: str, five: list[str]) -> None:
        of = {"payment_intent": paid, "limit": 2}
        assert self.ids(stripe_api, **of) == (five[:2], True)
        assert self.ids(stripe_api, **of, starting_after=five[1]) == (five[2:4], True)
        assert self.ids(stripe_api, **of, starting_after=five[3]) == (five[4:], False)
        assert self.ids(stripe_api, **of, ending_before=five[3]) == (five[1:3], True)
        assert self.ids(stripe_api, **of, ending_before=five[2]) == (five[:2], False)

    def test_ten_on_a_page_unless_told(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        for _ in range(11):
            sandbox.refund_in_dashboard(paid, 1)

        assert [len(ids) for ids in (self.ids(stripe_api)[0], self.ids(stripe_api, limit=100)[0])] == [10, 11]

    def test_by_time(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str, five: list[str]) -> None:
        middle = sandbox.refund(five[2])["created"]
        found = {
            name: self.ids(stripe_api, payment_intent=paid, **{f"created{name}": middle})[0]
            for name in ("", "[gt]", "[gte]", "[lt]", "[lte]")
        }
        assert found == {
            "": five[2:3],
            "[gt]": five[:2],
            "[gte]": five[:3],
            "[lt]": five[3:],
            "[lte]": five[2:],
        }

    @pytest.mark.parametrize(
        "params",
        [
            {"limit": 0},
            {"limit": 101},
            {"limit": "x"},
            {"starting_after": "re_x"},
            {"created[around]": 5},
            {"created": "now"},
            {"status": "pending"},
        ],
    )
    def test_bad_parameters(self, stripe_api: Caller, params: dict[str, object]) -> None:
        assert stripe_api.get("/v1/refunds", params).status in (400, 404)

    def test_expanding(self, stripe_api: Caller, paid: str, five: list[str]) -> None:
        params = {"expand[0]": "charge.payment_intent", "expand[1]": "payment_intent"}
        refund = stripe_api.get(f"/v1/refunds/{five[0]}", params).json
        page = stripe_api.get("/v1/refunds", {"expand[]": "data.charge", "limit": 1}).json

        assert refund["charge"]["payment_intent"]["id"] == refund["payment_intent"]["id"] == paid
        assert page["data"][0]["charge"]["object"] == "charge"

    def test_objects_that_are_not_there(self, stripe_api: Caller) -> None:
        for path in ("refunds/re_x", "charges/ch_x", "payment_intents/pi_x", "events/evt_x"):
            answer = stripe_api.get(f"/v1/{path}")
            assert (answer.status, answer.error["code"]) == (404, "resource_missing")

    def test_charges(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        charge = sandbox.charge(paid)

        assert stripe_api.get(f"/v1/charges/{charge['id']}").json == charge

    def test_the_balance(self, sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
        sandbox.refund_in_dashboard(paid, 300)
        sandbox.create_payment(7, "eur")

        balance = stripe_api.get("/v1/balance").json
        assert [(it["currency"], it["amount"]) for it in balance["available"]] == [("eur", 7), ("usd", 1700)]

    def test_copies_do_not_reach_the_account(self, sandbox: StripeSandbox, paid: str) -> None:
        refund = sandbox.refund_in_dashboard(paid)
        refund["metadata"]["mine"] = "x"
        sandbox.refunds(paid)[0]["status"] = "failed"

        assert (sandbox.refund(refund["id"])["metadata"], sandbox.money_refunded(paid)) == ({}, 2000)

    def test_in_python_what_is_not_there_is_a_lookup_error(self, sandbox: StripeSandbox) -> None:
        for read in (sandbox.refund, sandbox.payment_intent, sandbox.charge, sandbox.refund_in_dashboard):
            with pytest.raises(LookupError, match="No such"):
                read("x")
        assert (sandbox.refunds("pi_x"), sandbox.money_refunded("pi_x")) == ([], 0)


def test_the_dashboard_is_refused_like_everybody(sandbox: StripeSandbox, paid: str) -> None:
    refund = sandbox.refund_in_dashboard(paid)

    with pytest.raises(ApiError, match="already been refunded"):
        sandbox.refund_in_dashboard(paid)
    assert refund["metadata"] == {}


def test_reset(sandbox: StripeSandbox, stripe_api: Caller, paid: str) -> None:
    stripe_api.post("/v1/refunds", {"payment_intent": paid}, key="k")
    sandbox.inject("error_500", times=None)
    sandbox.advance(1000)

    sandbox.reset()

    assert (sandbox.refunds(), sandbox.requests, sandbox.events) == ([], [], [])
    again = sandbox.create_payment(5)
    assert stripe_api.post("/v1/refunds", {"payment_intent": again}, key="k").status == 200

"""Every cause that Stripe documents has advice, and the sentences for customers are true."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import stripe

from flask_refunds import Failure, Refund, RefundDetails, RefundStatus, advise, customer_message
from flask_refunds.advice import FAILED, KEY_CODES, PENDING, REJECTED, goes_to, hint_of
from flask_refunds.models import Card, Payment
from flask_refunds.stripe_client.parsing import parse_disputes
from tests.unit.refund_harness import make_refund

STATUSES = Path(__file__).parents[2] / "docs" / "statuses.md"
SENT_AT = datetime(2026, 3, 5, 23, 30, tzinfo=timezone.utc)
DESTINATIONS = sorted(
    inspect.get_annotations(stripe.Refund.DestinationDetails, eval_str=False).keys() - {"type"}
)
"""Where the installed version of Stripe's library says that refunds can go."""


def refund(status: str, code: str | None = None, *, is_at_stripe: bool = True, **details: Any) -> Refund:
    return replace(
        make_refund(
            status=RefundStatus(status),
            amount=1950,
            currency="eur",
            settled_at=SENT_AT,
            stripe_refund_id="re_1" if is_at_stripe else None,
            failure=Failure(code, "x") if code else None,
        ),
        details=RefundDetails(**details),
    )


def documented(field: str) -> set[str]:
    """The values that Stripe's own library documents for a field of refunds."""
    source = inspect.getsource(stripe.Refund)
    [text] = re.findall(rf'\n    {field}: .*?"""(.*?)"""', source, re.DOTALL)
    return set(re.findall(r"`(\w+)`", text))


def test_every_failure_reason_of_stripe_has_advice() -> None:
    assert len(documented("failure_reason")) >= 7
    assert documented("failure_reason") == set(FAILED)


def test_every_pending_reason_of_stripe_has_advice() -> None:
    assert len(documented("pending_reason")) >= 3
    assert documented("pending_reason") == set(PENDING)


@pytest.mark.parametrize("code", FAILED)
def test_failed_refund_has_the_advice_of_its_reason(code: str) -> None:
    assert advise(refund("failed", code)) == FAILED[code]


def test_unknown_reasons_have_general_advice() -> None:
    assert advise(refund("failed", "moon_phase")) == FAILED["unknown"]
    assert advise(refund("pending", pending_reason="moon_phase")) == PENDING["processing"]
    assert advise(refund("pending")) == PENDING["processing"]
    assert advise(refund("failed", "moon_phase", is_at_stripe=False)).money == "No money was sent."


@pytest.mark.parametrize(("mode", "key"), [("live", "a test key"), ("test", "a live key")])
def test_payment_of_the_other_mode_is_named(mode: str, key: str) -> None:
    message = f"No such charge: 'ch_7'; a similar object exists in {mode} mode, but a key of another mode."
    of_refund = refund("failed", "resource_missing", is_at_stripe=False)
    of_refund = replace(of_refund, failure=Failure("resource_missing", message))
    assert f"in {mode} mode, and your key is {key}" in advise(of_refund).happened
    assert hint_of(advise(of_refund)).endswith(advise(of_refund).action)


def test_codes_about_the_key_say_how_to_get_access() -> None:
    assert len(KEY_CODES) == 4
    for code in KEY_CODES:
        assert re.search("STRIPE_SECRET_KEY|Give the key|Connect the account", REJECTED[code].action)


@pytest.mark.parametrize("code", ["charge_for_pending_refund_disputed", "charge_disputed"])
def test_disputed_payment_must_not_be_refunded_again(code: str) -> None:
    of_refund = refund("failed", code, is_at_stripe=code != "charge_disputed")
    assert advise(of_refund).action.startswith("Don't refund")
    assert "Answer the dispute" in advise(of_refund).action
    assert "your bank decides" in customer_message(of_refund)


@pytest.mark.parametrize("status", RefundStatus)
def test_every_status_has_advice_and_a_message(status: RefundStatus) -> None:
    shown = refund(status.value)
    assert all(advise(shown))
    assert 1 <= customer_message(shown).count(". ") + 1 <= 4
    assert "19.50 EUR" in customer_message(shown)
    assert "None" not in customer_message(replace(shown, amount=None, settled_at=None))


def test_message_names_the_card_the_day_the_time_and_the_reference() -> None:
    shown = refund("succeeded", destination="card", is_reversal=False, reference="7492")
    assert customer_message(shown) == (
        "We sent your refund of 19.50 EUR on 5 March 2026 to the card that you paid with. It usually shows "
        "within 5 to 10 business days, depending on your bank. Your bank can find it by the reference 7492."
    )


def test_reversal_promises_no_credit() -> None:
    message = customer_message(refund("succeeded", destination="card", is_reversal=True))
    assert "the original charge vanishes" in message
    assert "We sent" not in message
    assert "credit" in advise(refund("succeeded", is_reversal=True)).action


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_message_is_about_the_payment_method(destination: str) -> None:
    message = customer_message(refund("succeeded", destination=destination))
    assert ("card" in message.replace("Scalapay", "")) == (destination == "card")
    assert "_" not in message
    is_at_bank = destination == "card" or destination.endswith("_bank_transfer")
    assert ("depending on your bank." in message) == is_at_bank


def test_there_are_many_payment_methods() -> None:
    assert {"card", "klarna", "paypal", "eu_bank_transfer", "customer_cash_balance"} <= set(DESTINATIONS)
    assert len(DESTINATIONS) > 30


def test_pay_later_services_do_not_send_money_to_the_bank_first() -> None:
    assert "lowers what you still owe" in customer_message(refund("succeeded", destination="klarna"))


def test_message_says_what_the_customer_sees_in_their_currency() -> None:
    shown = refund("succeeded", presentment_amount=3100, presentment_currency="jpy")
    assert "You will see it as 3100 JPY." in customer_message(shown)
    assert "see it as" not in customer_message(
        refund("succeeded", presentment_amount=1950, presentment_currency="eur")
    )


def test_customer_who_must_act_learns_where_and_until_when() -> None:
    asked = refund(
        "requires_action",
        action_email="ann@example.com",
        action_email_sent_at=SENT_AT,
        action_expires_at=datetime(2026, 4, 19, tzinfo=timezone.utc),
    )
    assert "the e-mail from Stripe of 5 March 2026 to ann@example.com by 19 April 2026" in customer_message(
        asked
    )


def test_message_does_not_tell_the_customer_about_the_balance() -> None:
    for shown in (
        refund("pending", pending_reason="insufficient_funds"),
        refund("failed", "insufficient_funds"),
    ):
        assert "balance" not in customer_message(shown)


def test_documentation_has_the_same_sentences() -> None:
    lines = [line.strip("| ").split(" | ") for line in STATUSES.read_text().splitlines()]
    shown = [line for line in lines if len(line) == 4 and line[0] != "Code"]
    tables = (PENDING, FAILED, REJECTED)
    assert shown == [[f"`{code}`", *advice] for table in tables for code, advice in table.items()]


def paid_by(method: str | None, card: Card | None = None) -> Payment:
    return Payment("pi_1", 500, 0, "eur", False, card, method=method)


@pytest.mark.parametrize(
    ("payment", "target"),
    [
        (paid_by("card", Card("visa", "4242")), "back to the Visa card ending in 4242."),
        (paid_by("card", Card("mastercard", "4444")), "back to the Mastercard ending in 4444."),
        (paid_by("card", Card("amex", "0005")), "back to the American Express card ending in 0005."),
        (paid_by("card", Card("a_new_brand", "0001")), "back to the card ending in 0001."),
        (paid_by("card"), "back to the card that paid."),
        (paid_by("sepa_debit"), "back to the bank account that paid."),
        (paid_by("boleto"), "to a bank account, for which Stripe asks the customer by e-mail."),
        (paid_by("klarna"), "to Klarna, which lowers what the customer owes or pays it out."),
        (paid_by("paypal"), "back through PayPal."),
        (paid_by("ideal"), "back through iDEAL."),
        (paid_by("a_new_one"), "back through A new one."),
        (paid_by(None), "back to the payment method that the customer used."),
    ],
)
def test_sentence_says_where_the_money_goes(payment: Payment, target: str) -> None:
    assert goes_to(payment) == f"The money goes {target}"


@pytest.mark.parametrize(
    ("disputes", "meaning"),
    [
        ([], None),
        ([("warning_needs_response", True)], "inquiry"),
        ([("warning_under_review", False)], "inquiry"),
        ([("warning_closed", False)], "inquiry"),
        ([("needs_response", True)], "inquiry"),
        ([("needs_response", False)], "chargeback"),
        ([("under_review", False)], "chargeback"),
        ([("lost", False)], "chargeback"),
        ([("won", False)], "chargeback"),
        ([("prevented", False)], "chargeback"),
        ([("warning_closed", True), ("lost", False)], "chargeback"),
    ],
)
def test_disputes_are_told_apart_by_status_and_whether_a_refund_is_possible(
    disputes: list[tuple[str, bool]], meaning: str | None
) -> None:
    data = [{"status": status, "is_charge_refundable": refundable} for status, refundable in disputes]
    assert parse_disputes({"data": data}, None) == meaning


@pytest.mark.parametrize("odd", [{}, {"data": None}, {"data": [{}]}, {"data": [5]}])
def test_list_that_is_not_of_disputes_is_not_guessed(odd: dict[str, Any]) -> None:
    with pytest.raises((LookupError, TypeError)):
        parse_disputes(odd, None)

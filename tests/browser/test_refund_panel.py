"""A refund in the payment view: its details, the advice, the answer for the customer, and the history."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.browser.sample_data import CARD_PENDING, add_purchase
from tests.browser.test_accessibility import assert_accessible_in_every_window
from tests.integration.unfinished import reconcile
from tests.shop import Shop

TRACE = "74920011234567890123456"

pytestmark = pytest.mark.usefixtures("stripe_webhook")


def open_payment(admin_page: AdminPage, payment: str) -> Any:
    """Load the payment view again, and return its refund."""
    admin_page.open(f"#/payment/{payment}")
    admin_page.page.reload()
    panel = admin_page.page.get_by_role("article")
    panel.wait_for()
    return panel


def assert_shows(panel: Any, *sentences: str) -> None:
    text = " ".join(panel.inner_text().split())
    for sentence in sentences:
        assert sentence in text


def clipboard(admin_page: AdminPage) -> str:
    admin_page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    text: str = admin_page.page.evaluate("() => navigator.clipboard.readText()")
    return text


def test_reference_arrives_and_the_answer_with_it_is_copied(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(1950, "eur")
    add_purchase(shop, payment)
    add_purchase(shop, sandbox.create_payment(700), "Bonsai", "Ben Sato")
    admin_page.search("ADA@shop.example".lower())
    admin_page.wait_for_count(1)
    admin_page.open_refund_dialog("Pruning")
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    admin_page.dialog.get_by_role("button", name="Copy the answer").wait_for()
    assert_shows(open_payment(admin_page, payment), "Not there yet: it can take up to 7 business days")

    sandbox.assign_reference(sandbox.refunds(payment)[0]["id"], TRACE)
    sandbox.wait_delivered()
    panel = open_payment(admin_page, payment)
    answer = panel.locator("blockquote").inner_text()
    assert answer.endswith(f"Your bank can find it by the reference {TRACE}.")
    assert_shows(panel, f"Bank reference {TRACE} arrived", "acquirer reference number (ARN)")
    admin_page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel.get_by_role("button", name="Copy the answer").click()
    panel.get_by_text("Copied").wait_for()
    assert clipboard(admin_page) == answer
    assert_accessible_in_every_window(admin_page.page)


def test_text_is_copied_without_the_clipboard_api(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    """Browsers offer it over HTTPS only."""
    payment = sandbox.create_payment(1950, "eur")
    shop.refund(add_purchase(shop, payment))
    sandbox.assign_reference(sandbox.refunds(payment)[0]["id"], TRACE)
    sandbox.wait_delivered()
    panel = open_payment(admin_page, payment)
    admin_page.page.evaluate(
        "() => Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})"
    )
    panel.get_by_role("button", name="Copy the bank reference").click()
    panel.get_by_text("Copied").wait_for()
    assert panel.get_by_role("button", name="Copy the bank reference").evaluate(
        "(button) => button === document.activeElement"
    )
    admin_page.page.evaluate("() => delete navigator.clipboard")
    assert clipboard(admin_page) == TRACE


def test_facts_that_stripe_tells_are_shown(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1950, "eur")
    shop.refund(add_purchase(shop, payment), json={"note": "Called twice."})
    [refund] = sandbox.refunds(payment)
    details = refund["destination_details"]
    details["card"]["type"] = "reversal"
    sandbox.set_refund(
        refund["id"],
        destination_details=details,
        receipt_number="2784-1123",
        presentment_details={"presentment_amount": 1777, "presentment_currency": "gbp"},
    )
    sandbox.wait_delivered()
    panel = open_payment(admin_page, payment)
    assert_shows(
        panel,
        "Reversal: the charge vanishes from the statement, without a separate credit",
        "Receipt 2784-1123",
        "Customer sees £17.77",
        f"Taken from balance {refund['balance_transaction']}",
        "Internal note Called twice.",
        "What to do Tell the customer to look for the charge",
    )
    # Stripe's answer to the call, and what its event added.
    assert panel.locator(".history li").count() == 3
    assert_shows(
        panel, "Stripe reversed the charge. Receipt number 2784-1123 arrived. The customer sees £17.77"
    )


def test_pending_refund_says_why_and_what_to_do(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(1950, "eur", card=CARD_PENDING)
    shop.refund(add_purchase(shop, payment))
    sandbox.set_refund(sandbox.refunds(payment)[0]["id"], pending_reason="charge_pending")
    sandbox.wait_delivered()
    panel = open_payment(admin_page, payment)
    assert_shows(panel, "Why pending the payment hasn't settled yet", "What to do Wait.")
    assert panel.get_by_text("Bank reference").count() == 0


def test_history_names_who_found_a_refund_from_elsewhere(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payments = [sandbox.create_payment(1950) for _ in range(2)]
    for payment in payments:
        add_purchase(shop, payment)
    sandbox.dashboard_refund(payments[0])
    sandbox.wait_delivered()
    panel = open_payment(admin_page, payments[0])
    assert_shows(panel, "Stripe reported a refund from outside this shop: succeeded")
    result = shop.flask(
        "refund",
        str(shop.db.purchases.find_one({"stripePaymentIntentId": payments[1]})["_id"]),
        "--yes",
        "--actor",
        "lee",
    )
    assert result.exit_code == 0, result.output
    reconcile(shop)
    panel = open_payment(admin_page, payments[1])
    history = panel.locator(".history")
    assert_shows(history, "Requested by lee, command line", "Stripe answered: it succeeded")

"""Canceling a refund that waits for the customer, in the admin page."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.browser.sample_data import add_purchase
from tests.browser.test_accessibility import assert_accessible_in_every_window
from tests.shop import Shop

pytestmark = pytest.mark.usefixtures("stripe_webhook")


def waiting_refund(shop: Shop, sandbox: StripeSandbox) -> tuple[str, Any]:
    """Make a refund that waits for the customer, and return its payment and its purchase."""
    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    with sandbox.fault("requires_action"):
        assert shop.refund(purchase).status_code == 202
    return payment, purchase


def open_form(admin_page: AdminPage, payment: str) -> Any:
    admin_page.open(f"#/payment/{payment}")
    panel = admin_page.page.get_by_role("article")
    panel.get_by_text("Cancel refund…").click()
    panel.get_by_label("Why").fill("Paid in cash.")
    return panel


def test_refund_that_waits_for_the_customer_is_canceled(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, purchase = waiting_refund(shop, sandbox)
    panel = open_form(admin_page, payment)
    text = panel.inner_text()
    assert "Follow Stripe's e-mail of" in text
    assert "customer@example.com, until" in text
    assert_accessible_in_every_window(admin_page.page)
    panel.get_by_role("button", name="Cancel the refund").click()
    admin_page.page.get_by_role("log").get_by_text("Refund of $48.00 canceled").wait_for()
    panel.locator("h3 [data-status=canceled]").wait_for()
    assert admin_page.page.evaluate("() => document.activeElement.tagName") == "ARTICLE"
    history = panel.locator(".history")
    history.get_by_text("Cancellation requested by Ann, admin page").wait_for()
    history.get_by_text("Paid in cash.").wait_for()
    assert panel.get_by_text("Cancel refund…").count() == 0
    assert [each["status"] for each in sandbox.refunds(payment)] == ["canceled"]
    assert shop.status_of(purchase) == "completed"
    admin_page.page.get_by_role("button", name="Refund: Pruning").wait_for()


def test_refund_that_the_customer_answered_meanwhile_is_not_canceled(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _ = waiting_refund(shop, sandbox)
    panel = open_form(admin_page, payment)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    sandbox.wait_delivered()
    panel.get_by_role("button", name="Cancel the refund").click()
    panel.get_by_text("Only a refund that waits for the customer").wait_for()
    assert [each["status"] for each in sandbox.refunds(payment)] == ["succeeded"]


def test_returned_refund_is_canceled_from_its_review(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    shop.refund(purchase)
    sandbox.return_refund(sandbox.refunds(payment)[0]["id"])
    sandbox.wait_delivered()
    admin_page.open("#/reviews")
    review = admin_page.page.get_by_role("listitem").filter(has_text=payment)
    review.get_by_text("Ask the customer to follow Stripe's e-mail").wait_for()
    review.get_by_text("Cancel refund…").click()
    review.get_by_label("Why").fill("Paid by bank transfer.")
    review.get_by_role("button", name="Cancel the refund").click()
    review.locator("[data-status=canceled]").wait_for()
    review.get_by_text("Review closed.").wait_for()
    assert review.get_by_text("Close this review").count() == 0
    assert_accessible_in_every_window(admin_page.page)
    assert shop.status_of(purchase) == "completed"

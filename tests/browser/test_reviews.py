"""Resolving reviews in the admin page."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.browser.sample_data import add_purchase, add_samples
from tests.browser.test_accessibility import assert_accessible_in_every_window
from tests.integration.unfinished import age, reconcile
from tests.shop import Shop


def open_review(admin_page: AdminPage, payment: str) -> Any:
    """Open the form of the review of this payment's refund, and return the review."""
    admin_page.open("#/reviews")
    review = admin_page.page.get_by_role("listitem").filter(has_text=payment)
    review.get_by_text("Close this review").click()
    return review


def unknown_outcome(shop: Shop, sandbox: StripeSandbox) -> str:
    """Make a refund that Stripe never got, let it need review, and return its payment."""
    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    injected = sandbox.inject("request_lost", times=None)
    assert shop.refund(purchase).status_code == 202
    assert injected.hits
    sandbox.clear_faults()
    age(shop, hours=30)
    reconcile(shop)
    age(shop, minutes=2)
    return payment


@pytest.mark.usefixtures("stripe_webhook")
def test_review_is_closed_with_a_comment(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = add_samples(shop, sandbox)
    review = open_review(admin_page, payment)
    close = review.get_by_role("button", name="Close the review")
    assert close.is_disabled()
    assert review.get_by_label("Decision").count() == 0
    review.get_by_label("What you found").fill("Paid by bank transfer.")
    close.click()
    review.get_by_text("Review closed.").wait_for()
    assert admin_page.page.evaluate("() => document.activeElement.tagName") == "LI"
    admin_page.page.get_by_role("link", name="Reviews", exact=True).wait_for()
    [record] = [each for each in shop.records() if each["paymentIntent"] == payment]
    assert record["review"] is None
    assert record["history"][-1]["comment"] == "Paid by bank transfer."
    assert record["history"][-1]["actor"] == f"api:{shop.admin_id}"
    admin_page.page.reload()
    admin_page.page.get_by_text("No refunds need review.").wait_for()


def test_unknown_outcome_is_given_up(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = unknown_outcome(shop, sandbox)
    review = open_review(admin_page, payment)
    review.get_by_label("What you found").fill("Not in the Dashboard.")
    review.get_by_role("button", name="Close the review").click()
    review.get_by_text("Review closed.").wait_for()
    [record] = shop.records()
    assert (record["status"], record["review"]) == ("failed", None)
    assert sandbox.refunds(payment) == []


def test_unknown_outcome_is_refunded_again(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = unknown_outcome(shop, sandbox)
    review = open_review(admin_page, payment)
    assert_accessible_in_every_window(admin_page.page)
    review.get_by_label("Decision").select_option("retry")
    review.get_by_label("What you found").fill("Not in the Dashboard.")
    review.get_by_role("button", name="Refund again").click()
    review.get_by_text("$48.00 is on its way to the customer").wait_for()
    assert [each["amount"] for each in sandbox.refunds(payment)] == [4800]


def test_refund_again_with_an_unknown_outcome_can_be_repeated(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = unknown_outcome(shop, sandbox)
    review = open_review(admin_page, payment)
    review.get_by_label("Decision").select_option("retry")
    review.get_by_label("What you found").fill("Not in the Dashboard.")
    with sandbox.fault("request_lost", method="POST", times=None):
        review.get_by_role("button", name="Refund again").click()
        review.get_by_text("Outcome unknown.").wait_for()
    review.get_by_role("button", name="Refund again").click()
    review.get_by_text("$48.00 is on its way to the customer").wait_for()
    assert [each["amount"] for each in sandbox.refunds(payment)] == [4800]


@pytest.mark.usefixtures("stripe_webhook")
@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "Sending it again is safe."),
        (401, "Sign in, then send it again."),
        (504, "Sending it again is safe."),
    ],
)
def test_decision_without_an_answer_can_be_sent_again(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, status: int, text: str
) -> None:
    review = open_review(admin_page, add_samples(shop, sandbox))
    answer = {
        "status": status,
        "json": {"error": "No", "code": "not_authenticated"} if status == 401 else None,
    }

    def lose(route: Any) -> None:
        if status == 0:
            route.abort()
        else:
            route.fulfill(**answer)

    admin_page.page.route("**/resolve", lose)
    review.get_by_label("What you found").fill("Paid by bank transfer.")
    review.get_by_role("button", name="Close the review").click()
    review.get_by_text(text).wait_for()
    admin_page.page.unroute("**/resolve")
    if status == 401:
        admin_page.sign_in()
    review.get_by_role("button", name="Close the review").click()
    review.get_by_text("Review closed.").wait_for()


def test_unreadable_stripe_asks_for_a_look_at_the_dashboard(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = unknown_outcome(shop, sandbox)
    review = open_review(admin_page, payment)
    sandbox.inject("service_unavailable", method="GET", path="/v1/refunds", times=None)
    review.get_by_label("What you found").fill("Not in the Dashboard.")
    review.get_by_role("button", name="Close the review").click()
    review.get_by_text("Nothing was changed.").wait_for()
    review.get_by_label("I looked in Stripe's Dashboard").check()
    review.get_by_role("button", name="Close the review").click()
    review.get_by_text("Review closed.").wait_for()


@pytest.mark.usefixtures("stripe_webhook")
def test_decision_that_a_colleague_made_first_is_rejected(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = add_samples(shop, sandbox)
    review = open_review(admin_page, payment)
    result = shop.flask("resolve", f"{payment}:1", "--dismiss", "--comment", "A colleague's.")
    assert result.exit_code == 0, result.output
    review.get_by_label("What you found").fill("Mine.")
    review.get_by_role("button", name="Close the review").click()
    review.get_by_text("doesn't need review").wait_for()

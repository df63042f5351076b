"""Refunding in the admin page, with each outcome that a refund can have."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.browser.sample_data import CARD_PENDING, add_purchase
from tests.browser.test_accessibility import assert_accessible_in_every_window
from tests.shop import Shop


def open_dialog(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> tuple[str, Any]:
    """Add a purchase for $48.00 and open its refund dialog.

    :return: the payment and the purchase.
    """
    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    admin_page.open()
    admin_page.open_refund_dialog("Pruning")
    return payment, purchase


def test_search_and_refund_of_two_purchases_paid_together(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800, "usd")
    both = [add_purchase(shop, payment, title) for title in ("Pruning", "Grafting")]
    add_purchase(shop, sandbox.create_payment(100), "Bonsai", "Ben Sato")

    admin_page.search("ada@shop.example")
    admin_page.wait_for_count(2)
    admin_page.open_refund_dialog("Pruning")

    preview = admin_page.dialog.inner_text()
    for text in (
        "Refund $48.00?",
        "Ada Okafor, ada@shop.example",
        "Visa •••• 4242",
        "All of them",
    ):
        assert text in preview
    hint = admin_page.dialog.locator("#reason-hint .note")
    admin_page.dialog.get_by_label("Reason").select_option("fraudulent")
    hint.wait_for()
    admin_page.dialog.get_by_label("Reason").select_option("duplicate")
    hint.wait_for(state="detached")
    admin_page.note.fill("Bought it twice.")
    assert sandbox.refunds() == []
    admin_page.submit_button.click()

    admin_page.wait_for_result("succeeded")
    assert admin_page.submit_button.count() == 0
    link = admin_page.dialog.get_by_role("link")
    assert link.get_attribute("href") == f"https://dashboard.stripe.com/test/payments/{payment}"
    admin_page.dialog.get_by_role("button", name="Close").click()
    for title in ("Pruning", "Grafting"):
        admin_page.wait_for_status(title, "refunded")
    assert [shop.status_of(each) for each in both] == ["refunded", "refunded"]
    [refund] = shop.records()
    assert (refund["reason"], refund["note"]) == ("duplicate", "Bought it twice.")
    assert sandbox.money_refunded(payment) == 4800


def disputed_dialog(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, *, inquiry: bool) -> str:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    sandbox.dispute(payment, inquiry=inquiry)
    admin_page.open()
    admin_page.row("Pruning").get_by_role("button", name="Refund").click()
    return payment


def test_disputed_payment_cannot_be_refunded(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = disputed_dialog(admin_page, shop, sandbox, inquiry=False)
    admin_page.dialog.get_by_text("The customer disputed this payment with their bank.").wait_for()
    link = admin_page.dialog.get_by_role("link", name="View in Stripe")
    assert link.get_attribute("href") == f"https://dashboard.stripe.com/test/payments/{payment}"
    assert admin_page.dialog.get_by_role("button").all_inner_texts() == ["Close"]
    assert_accessible_in_every_window(admin_page.page)


def test_inquiry_of_the_bank_warns_and_can_be_refunded(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = disputed_dialog(admin_page, shop, sandbox, inquiry=True)
    admin_page.dialog.get_by_text("The customer's bank asks about this payment.").wait_for()
    assert_accessible_in_every_window(admin_page.page)
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert sandbox.money_refunded(payment) == 4800


def test_dispute_whose_kind_is_not_known_stops(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    with sandbox.fault("key_forbidden", method="GET", path="/v1/disputes"):
        disputed_dialog(admin_page, shop, sandbox, inquiry=True)
        admin_page.dialog.get_by_text("Stripe doesn't tell how far the dispute is.").wait_for()
    assert admin_page.dialog.get_by_role("button").all_inner_texts() == ["Close"]


def test_payment_method_without_a_way_back_asks_for_an_address(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800, "jpy", method="konbini")
    add_purchase(shop, payment)
    admin_page.open()
    admin_page.open_refund_dialog("Pruning")
    field = admin_page.dialog.get_by_label("Customer's e-mail address")
    assert field.input_value() == "ada@shop.example"
    assert admin_page.submit_button.is_enabled()
    field.fill("ada")
    assert admin_page.submit_button.is_disabled()
    field.fill("ada@new.example")
    assert_accessible_in_every_window(admin_page.page)
    admin_page.submit_button.click()
    admin_page.wait_for_result("requires_action")
    [refund] = sandbox.refunds(payment)
    assert refund["instructions_email"] == "ada@new.example"


def test_dialog_says_where_the_money_goes_and_how_much_it_is(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    open_dialog(admin_page, shop, sandbox)
    text = "This is a full refund. The money goes back to the Visa card ending in 4242."
    admin_page.dialog.get_by_text(text).wait_for()
    admin_page.dialog.get_by_text("within 5 to 10 business days").wait_for()


def test_purchase_with_a_text_id_and_no_date_is_refunded(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    content = shop.db.contents.insert_one({"title": "Pruning"}).inserted_id
    purchase = {"_id": "order 17/ä?#", "content": content, "status": "completed"}
    shop.db.purchases.insert_one(purchase | {"stripePaymentIntentId": sandbox.create_payment(4800)})
    admin_page.open()
    admin_page.open_refund_dialog("Pruning")
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert shop.db.purchases.find_one({"_id": "order 17/ä?#"})["status"] == "refunded"


@pytest.mark.usefixtures("stripe_webhook")
def test_pending_refund_updates_the_page_when_it_succeeds(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800, card=CARD_PENDING)
    add_purchase(shop, payment)
    admin_page.open()
    admin_page.open_refund_dialog("Pruning")
    admin_page.submit_button.click()
    admin_page.wait_for_result("pending")
    admin_page.dialog.get_by_role("button", name="Close").click()
    admin_page.row("Pruning").get_by_text("Refund pending").wait_for()

    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")

    admin_page.page.get_by_role("log").get_by_text("Refund of $48.00 succeeded.").wait_for()
    admin_page.wait_for_status("Pruning", "refunded")


def test_pending_refund_is_resumed_and_not_repeated(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800, card=CARD_PENDING)
    purchase = add_purchase(shop, payment)
    admin_page.open()
    button = admin_page.row("Pruning").get_by_role("button", name="Refund")
    button.wait_for()
    shop.refund(purchase)  # a colleague's
    button.click()
    admin_page.dialog.get_by_role("heading", name="Refund in progress").wait_for()
    admin_page.submit_button.click()
    admin_page.wait_for_result("pending")
    assert len(sandbox.refunds(payment)) == 1


@pytest.mark.usefixtures("stripe_webhook")
def test_pending_refund_updates_the_page_after_another_sign_in(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800, card=CARD_PENDING)
    add_purchase(shop, payment)
    admin_page.open()
    admin_page.open_refund_dialog("Pruning")
    admin_page.submit_button.click()
    admin_page.wait_for_result("pending")
    admin_page.dialog.get_by_role("button", name="Close").click()
    expired = shop.headers(expires_in=-10)["Authorization"].removeprefix("Bearer ")
    admin_page.page.evaluate("token => sessionStorage.setItem('flask_refunds.token', token)", expired)
    admin_page.page.get_by_text("Your session expired.").wait_for()
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    admin_page.sign_in()
    admin_page.page.get_by_role("log").get_by_text("Refund of $48.00 succeeded.").wait_for()
    admin_page.wait_for_status("Pruning", "refunded")


@pytest.mark.usefixtures("stripe_webhook")
@pytest.mark.parametrize(("status", "title"), [("failed", "Refund failed."), ("succeeded", "Refunded.")])
def test_hint_of_an_open_refund_goes_when_it_settles(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, status: str, title: str
) -> None:
    payment = sandbox.create_payment(4800, card=CARD_PENDING)
    add_purchase(shop, payment)
    admin_page.open()
    admin_page.open_refund_dialog("Pruning")

    def add_hint(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | {"hint": "Your key lacks a permission."})

    admin_page.page.route("**/admin/refund/*", add_hint)
    admin_page.submit_button.click()
    admin_page.dialog.get_by_text("Your key lacks a permission.").wait_for()
    sandbox.settle(sandbox.refunds(payment)[0]["id"], status)
    admin_page.wait_for_result(status)
    admin_page.dialog.get_by_text(title, exact=True).wait_for()
    assert admin_page.dialog.get_by_text("Your key lacks a permission.").count() == 0


REFUND = {"amount": 4800, "currency": "usd", "settledAt": "2026-07-08T10:00:00Z", "failure": None}
FAILURE = {"failure": {"code": "insufficient_funds", "message": "Insufficient funds"}}
RESULTS = [
    (0, None, None, "No response", "may or may not have been made", "Try again"),
    (200, "succeeded", None, "Refunded", "$48.00 is on its way to the customer", None),
    (202, "pending", None, "Refund pending", "Stripe accepted the refund of $48.00", None),
    (202, "requires_action", None, "Waiting for the customer", "Stripe needs the customer's details", None),
    (202, "processing", None, "Outcome unknown", "may or may not have been made", "Try again"),
    (200, "failed", None, "Refund failed", "Insufficient funds. Nothing was refunded.", None),
    (200, "canceled", None, "Refund canceled", "Insufficient funds. Nothing was refunded.", None),
    (400, "failed", "refund_failed", "Refund failed", "Insufficient funds. Nothing was", "Try again"),
    (400, "succeeded", "purchase_not_refundable", "Already refunded", "No second refund was made.", None),
    (
        400,
        None,
        "purchase_not_refundable",
        "Only completed purchases can be refunded",
        "isn't completed",
        None,
    ),
    (400, None, "invalid_request", "This purchase can't be refunded", "The server's message.", None),
    (401, None, "not_authenticated", "Sign in to refund", "your input is kept", "Refund now"),
    (403, None, "admin_required", "Admin access required", "not as an admin", None),
    (403, None, "cross_site_request", "Request rejected", "Nothing was refunded.", None),
    (429, None, "rejected_elsewhere", "Request rejected", "Most likely, nothing was sent", "Try again"),
    (404, None, "purchase_not_found", "Purchase not found", "no longer exists", None),
    (409, None, "refund_in_progress", "Refund already in progress", "in 5 seconds", "Check again"),
    (503, None, "stripe_rate_limited", "Stripe is busy", "The server's message. Wait 5", "Try again"),
    (
        500,
        None,
        "stripe_key_rejected",
        "Stripe rejected the server's key",
        "The server's message. Tell your developers, then try again.",
        "Try again",
    ),
    (500, None, "database_unavailable", "Server error", "The server's message", "Try again"),
]


def test_notification_of_a_refund_that_stripe_never_made_has_no_amount(admin_page: AdminPage) -> None:
    module = admin_page.page.locator("link[href$='/messages.js']").evaluate("link => link.href")
    refund = REFUND | FAILURE | {"amount": None, "currency": None, "status": "failed"}
    text = admin_page.page.evaluate(
        "async ([url, refund]) => (await import(url)).describeChange(refund)", [module, refund]
    )
    assert text == "A refund failed: Insufficient funds. Nothing was refunded."


def describe(admin_page: AdminPage, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the page says about results."""
    module = admin_page.page.locator("link[href$='/messages.js']").evaluate("link => link.href")
    described: list[dict[str, Any]] = admin_page.page.evaluate(
        "async ([url, results]) => results.map((await import(url)).describeResult)", [module, results]
    )
    return described


def test_each_result_has_its_message_and_next_action(admin_page: AdminPage) -> None:
    results, expected = [], []
    for status, refund_status, code, title, _, button in RESULTS:
        refund = REFUND | FAILURE | {"status": refund_status} if refund_status else None
        message = "The server's message"
        results.append(
            {"status": status, "code": code, "refund": refund, "message": message, "retryAfter": 5}
        )
        expected.append((title, button))
    described = describe(admin_page, results)
    assert [(each["title"], each["button"]) for each in described] == expected
    for each, (*_, text, _) in zip(described, RESULTS, strict=True):
        assert text in each["text"]


@pytest.mark.parametrize(
    ("code", "button"),
    [
        ("charge_already_refunded", None),
        ("charge_disputed", None),
        ("charge_for_pending_refund_disputed", None),
        ("expired_or_canceled_card", None),
        ("payment_intent_unexpected_state", None),
        ("resource_missing", None),
        ("parameter_missing", "Look again"),
        ("lock_timeout", "Try again"),
        ("some_new_code", "Try again"),
    ],
)
def test_failure_offers_another_try_only_where_it_can_work(
    admin_page: AdminPage, code: str, button: str | None
) -> None:
    failure = {"code": code, "message": "The reason"}
    advice = {"happened": "This happened.", "money": "It is here.", "action": "Do that."}
    refund = REFUND | {"status": "failed", "stripeRefundId": None, "failure": failure, "advice": advice}
    hint = "This happened. Do that."
    result = {"status": 400, "code": "refund_failed", "refund": refund, "hint": hint}
    [described] = describe(admin_page, [result])
    assert described["button"] == button
    assert described["text"] == "This happened. Stripe says: The reason. It is here. Do that."


def test_unknown_outcome_says_what_the_key_lacks(admin_page: AdminPage) -> None:
    refund = REFUND | {"status": "processing"}
    result = {"status": 202, "refund": refund, "hint": "Your key lacks a permission."}
    [described] = describe(admin_page, [result])
    assert described["text"].startswith("Your key lacks a permission. Trying again is safe")


@pytest.mark.parametrize(
    ("result", "title"),
    [
        ({"status": 202, "refund": {"status": "processing"}}, "Outcome unknown"),
        (
            {"status": 400, "code": "purchase_not_refundable", "refund": {"status": "failed"}},
            "Only completed purchases can be refunded",
        ),
        ({"status": 500, "code": "stripe_key_rejected", "message": "No"}, "Stripe rejected the server's key"),
        ({"status": 400, "code": "payment_unknown", "message": "No"}, "This purchase can't be refunded"),
    ],
)
def test_hint_of_an_answer_is_shown(admin_page: AdminPage, result: dict[str, Any], title: str) -> None:
    [described] = describe(admin_page, [result | {"hint": "The key has expired."}])
    assert described["title"] == title
    assert "The key has expired." in described["text"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("insufficient_balance", "refund_failed"),
        ("response_lost", "processing"),
        ("key_rejected", "stripe_key_rejected"),
        ("rate_limited", "stripe_rate_limited"),
    ],
)
def test_failed_request_can_be_repeated(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, fault: str, code: str
) -> None:
    payment, purchase = open_dialog(admin_page, shop, sandbox)
    sandbox.inject(fault, times=None)
    admin_page.submit_button.click()
    admin_page.wait_for_result(code)
    assert shop.status_of(purchase) == "completed"
    sandbox.clear_faults()
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert sandbox.money_refunded(payment) == 4800


def test_refund_that_waits_for_the_customer_has_no_next_action(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    open_dialog(admin_page, shop, sandbox)
    sandbox.inject("requires_action")
    admin_page.submit_button.click()
    admin_page.wait_for_result("requires_action")
    assert admin_page.submit_button.count() == 0


@pytest.mark.parametrize("fault", ["request_lost", "rate_limited"])
def test_preview_loads_again_after_stripe_was_unreachable(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, fault: str
) -> None:
    add_purchase(shop, sandbox.create_payment(4800))
    admin_page.open()
    sandbox.inject(fault, method="GET", path="/v1/payment_intents", times=1)
    admin_page.row("Pruning").get_by_role("button", name="Refund").click()
    admin_page.dialog.get_by_role("alert").wait_for()
    assert admin_page.submit_button.count() == 0
    admin_page.dialog.get_by_role("button", name="Try again").click()
    admin_page.dialog.get_by_role("heading", name="Refund $48.00?").wait_for()


def test_payment_that_stripe_does_not_know_offers_no_other_try(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    add_purchase(shop, "pi_of_another_account")
    admin_page.open()
    admin_page.row("Pruning").get_by_role("button", name="Refund").click()
    admin_page.dialog.get_by_role("alert").get_by_text("Stripe doesn't know").wait_for()
    assert admin_page.dialog.get_by_role("button").all_inner_texts() == ["Close"]


def test_purchase_that_a_colleague_refunded_says_so(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    purchase = add_purchase(shop, sandbox.create_payment(4800))
    admin_page.open()
    button = admin_page.row("Pruning").get_by_role("button", name="Refund")
    button.wait_for()
    shop.refund(purchase)
    button.click()
    admin_page.dialog.get_by_role("alert").get_by_text("refunded or changed meanwhile").wait_for()


def test_request_lost_before_the_server_can_be_repeated(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _ = open_dialog(admin_page, shop, sandbox)
    admin_page.page.route("**/admin/refund/*", lambda route: route.abort())
    admin_page.submit_button.click()
    admin_page.wait_for_result("no_response")
    admin_page.page.unroute("**/admin/refund/*")
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert len(sandbox.refunds(payment)) == 1


def test_response_lost_after_the_refund_is_repeated_without_a_second_refund(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _ = open_dialog(admin_page, shop, sandbox)
    with admin_page.losing_responses():
        admin_page.submit_button.click()
        admin_page.wait_for_result("no_response")
    admin_page.submit_button.click()
    admin_page.wait_for_result("purchase_not_refundable")
    assert sandbox.money_refunded(payment) == 4800


def test_error_page_of_a_proxy_counts_as_no_response(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    open_dialog(admin_page, shop, sandbox)
    error_page = {"status": 504, "content_type": "text/html", "body": "<h1>504</h1>"}
    admin_page.page.route("**/admin/refund/*", lambda route: route.fulfill(**error_page))
    admin_page.submit_button.click()
    admin_page.wait_for_result("no_response")


def test_double_click_sends_one_request(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = open_dialog(admin_page, shop, sandbox)
    sandbox.latency = 0.3
    calls: list[str] = []
    admin_page.page.on("request", lambda request: request.method == "POST" and calls.append(request.url))
    admin_page.submit_button.dblclick(force=True)
    admin_page.wait_for_result("succeeded")
    assert len(calls) == 1
    assert len(sandbox.refunds(payment)) == 1


def test_second_tab_shows_that_the_refund_is_in_progress(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    admin_page.open()
    other = admin_page.new_tab()
    for tab in (admin_page, other):
        tab.open_refund_dialog("Pruning")
    sandbox.latency = 3.5
    admin_page.submit_button.click()
    admin_page.dialog.locator("form[aria-busy=true]").wait_for()
    other.submit_button.click()
    other.wait_for_result("refund_in_progress")
    admin_page.wait_for_result("succeeded")
    sandbox.latency = 0.0
    other.submit_button.click()
    other.wait_for_result("purchase_not_refundable")
    assert len(sandbox.refunds(payment)) == 1
    other.assert_no_errors()


def test_slow_refund_continues_after_the_dialog_is_closed(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    open_dialog(admin_page, shop, sandbox)
    sandbox.latency = 7.0
    admin_page.submit_button.click()
    admin_page.dialog.get_by_text("You can close this window").wait_for()
    assert admin_page.submit_button.is_disabled()
    admin_page.page.keyboard.press("Escape")
    admin_page.dialog.wait_for(state="hidden")
    admin_page.page.get_by_role("log").get_by_text("Refunded.").wait_for()
    admin_page.wait_for_status("Pruning", "refunded")


def test_expired_token_keeps_the_input_until_the_next_sign_in(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    open_dialog(admin_page, shop, sandbox)
    admin_page.note.fill("A long story.")
    expired = shop.headers(expires_in=-10)["Authorization"].removeprefix("Bearer ")
    admin_page.page.evaluate("token => sessionStorage.setItem('flask_refunds.token', token)", expired)
    admin_page.submit_button.click()
    admin_page.page.get_by_text("Your session expired. Your input is kept.").wait_for()
    assert sandbox.refunds() == []
    admin_page.sign_in()
    admin_page.wait_for_result("not_authenticated")
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert shop.records()[0]["note"] == "A long story."


def test_user_who_is_not_an_admin_cannot_refund(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    _, purchase = open_dialog(admin_page, shop, sandbox)
    shop.db.users.update_one({"_id": shop.admin_id}, {"$set": {"role": "user"}})
    admin_page.submit_button.click()
    admin_page.wait_for_result("admin_required")
    assert shop.status_of(purchase) == "completed"

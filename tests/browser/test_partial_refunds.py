"""Refunding a part of a payment in the admin page."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.browser.conftest import WEBHOOK_SECRET
from tests.browser.sample_data import CARD_PENDING, add_purchase
from tests.browser.test_accessibility import assert_accessible_in_every_window
from tests.shop import Shop, make_app


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(
        REFUNDS_MONGO=database,
        STRIPE_API_BASE=sandbox.url,
        STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET,
        REFUNDS_ALLOW_PARTIAL=True,
    )
    return Shop(app, database)


def amount_field(admin_page: AdminPage) -> Any:
    return admin_page.dialog.get_by_label("Amount")


def open_dialog(admin_page: AdminPage) -> None:
    admin_page.open()
    admin_page.open_refund_dialog("Pruning")


def refund_part(admin_page: AdminPage, amount: str, *, closes: bool = False) -> None:
    """Refund a part in the open dialog, and wait until it has succeeded."""
    amount_field(admin_page).fill(amount)
    if closes:
        admin_page.dialog.get_by_label("Close the purchase").check()
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")


def close_dialog(admin_page: AdminPage) -> None:
    admin_page.dialog.get_by_role("button", name="Close").click()
    admin_page.dialog.wait_for(state="hidden")


def test_part_and_then_the_rest_are_refunded(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(2999)
    purchase = add_purchase(shop, payment)
    open_dialog(admin_page)
    assert amount_field(admin_page).input_value() == "29.99"
    assert admin_page.dialog.get_by_text("is left").count() == 0
    amount_field(admin_page).fill("5")
    admin_page.dialog.get_by_text("$24.99 is left after this refund.").wait_for()
    admin_page.dialog.get_by_role("heading", name="Refund $5.00?").wait_for()
    assert admin_page.submit_button.inner_text() == "Refund $5.00"
    refund_part(admin_page, "5,00")
    close_dialog(admin_page)
    admin_page.row("Pruning").get_by_text("$5.00 refunded").wait_for()
    assert (shop.status_of(purchase), sandbox.money_refunded(payment)) == ("completed", 500)

    open_dialog(admin_page)
    admin_page.row("Pruning").get_by_text("$5.00 refunded").wait_for()
    admin_page.dialog.get_by_text("$5.00 already refunded").wait_for()
    assert amount_field(admin_page).input_value() == "24.99"
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    close_dialog(admin_page)
    admin_page.wait_for_status("Pruning", "refunded")
    assert (shop.status_of(purchase), sandbox.money_refunded(payment)) == ("refunded", 2999)


def test_part_can_close_its_purchase(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(2999)
    purchase = add_purchase(shop, payment)
    open_dialog(admin_page)
    refund_part(admin_page, "20.01", closes=True)
    close_dialog(admin_page)
    admin_page.wait_for_status("Pruning", "refunded")
    assert (shop.status_of(purchase), sandbox.money_refunded(payment)) == ("refunded", 2001)
    admin_page.open(f"#/payment/{payment}")
    admin_page.page.get_by_text("Closed with this part").wait_for()


@pytest.mark.parametrize("amount", ["", "0", "0.00", "48.01", "1.234", "-5", "5e1", "five", "1.000,00"])
def test_amount_that_cannot_be_refunded_disables_the_button(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, amount: str
) -> None:
    add_purchase(shop, sandbox.create_payment(4800))
    open_dialog(admin_page)
    amount_field(admin_page).fill(amount)
    admin_page.dialog.get_by_text("Enter an amount of at most 48.00.").wait_for()
    assert admin_page.submit_button.is_disabled()
    amount_field(admin_page).fill("48.00")
    admin_page.dialog.get_by_role("heading", name="Refund $48.00?").wait_for()
    assert admin_page.submit_button.is_enabled()


@pytest.mark.parametrize(
    ("currency", "typed", "multiple"),
    [("kwd", "1.234", "0.010"), ("ugx", "1.50", "1.00"), ("isk", "0,01", "1.00")],
)
def test_amount_that_stripe_does_not_pay_in_this_currency_disables_the_button(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, currency: str, typed: str, multiple: str
) -> None:
    add_purchase(shop, sandbox.create_payment(4800, currency))
    open_dialog(admin_page)
    amount_field(admin_page).fill(typed)
    admin_page.dialog.get_by_text(f", a multiple of {multiple}.").wait_for()
    assert admin_page.submit_button.is_disabled()


@pytest.mark.parametrize(
    ("currency", "total", "shown", "typed", "part"),
    [
        ("jpy", 4800, "4800", "1", 1),
        ("kwd", 4800, "4.800", "1.23", 1230),
        ("isk", 4800, "48.00", "12", 1200),
        ("huf", 4800, "48.00", "47.99", 4799),
    ],
)
def test_amount_has_the_decimals_of_its_currency(
    admin_page: AdminPage,
    shop: Shop,
    sandbox: StripeSandbox,
    currency: str,
    total: int,
    shown: str,
    typed: str,
    part: int,
) -> None:
    payment = sandbox.create_payment(total, currency)
    add_purchase(shop, payment)
    open_dialog(admin_page)
    assert amount_field(admin_page).input_value() == shown
    refund_part(admin_page, typed)
    assert sandbox.money_refunded(payment) == part


def test_part_of_a_cart_belongs_to_one_purchase(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(9600)
    both = [add_purchase(shop, payment, title) for title in ("Pruning", "Grafting")]
    open_dialog(admin_page)
    warning = admin_page.dialog.get_by_text("All of them will be refunded.")
    warning.wait_for()
    amount_field(admin_page).fill("1.00")
    warning.wait_for(state="detached")
    admin_page.dialog.get_by_text("It is for “Pruning”: the other purchases keep their status.").wait_for()
    assert_accessible_in_every_window(admin_page.page)
    refund_part(admin_page, "48.00", closes=True)
    assert [shop.status_of(each) for each in both] == ["refunded", "completed"]


def test_amount_is_chosen_again_after_another_refund(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    open_dialog(admin_page)
    other_part = {"amount": 1000, "refundable": 4800, "note": "A colleague's."}
    assert shop.refund(purchase, json=other_part).status_code == 200
    amount_field(admin_page).fill("5.00")
    admin_page.submit_button.click()
    admin_page.wait_for_result("refundable_changed")
    assert sandbox.money_refunded(payment) == 1000
    assert admin_page.submit_button.inner_text() == "Look again"
    admin_page.submit_button.click()
    amount_field(admin_page).wait_for()
    assert amount_field(admin_page).input_value() == "38.00"
    refund_part(admin_page, "5.00")
    assert sandbox.money_refunded(payment) == 1500


@pytest.mark.usefixtures("stripe_webhook")
@pytest.mark.parametrize("titles", [["Pruning"], ["Pruning", "Grafting"]])
def test_no_more_is_refunded_than_shown_when_a_pending_part_fails(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, titles: list[str]
) -> None:
    payment = sandbox.create_payment(4800)
    purchase, *others = [add_purchase(shop, payment, title) for title in titles]
    with sandbox.fault("pending"):
        assert shop.refund(purchase, json={"amount": 500, "refundable": 4800}).status_code == 202
    open_dialog(admin_page)
    admin_page.dialog.get_by_role("heading", name="Refund $43.00?").wait_for()
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    sandbox.wait_delivered()
    admin_page.submit_button.click()
    admin_page.wait_for_result("refundable_changed")
    assert sandbox.money_refunded(payment) == 0
    admin_page.submit_button.click()
    admin_page.dialog.get_by_role("heading", name="Refund $48.00?").wait_for()
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert sandbox.money_refunded(payment) == 4800
    assert [shop.status_of(each) for each in (purchase, *others)] == ["refunded"] * len(titles)


@pytest.mark.usefixtures("stripe_webhook")
def test_rest_beside_a_pending_part_refunds_all_purchases(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800)
    both = [add_purchase(shop, payment, title) for title in ("Pruning", "Grafting")]
    with sandbox.fault("pending"):
        assert shop.refund(both[0], json={"amount": 500, "refundable": 4800}).status_code == 202
    open_dialog(admin_page)
    admin_page.dialog.get_by_role("heading", name="Refund $43.00?").wait_for()
    admin_page.dialog.get_by_text("All of them will be refunded.").wait_for()
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    [pending] = [each["id"] for each in sandbox.refunds(payment) if each["status"] == "pending"]
    sandbox.settle(pending, "succeeded")
    sandbox.wait_delivered()
    assert [shop.status_of(each) for each in both] == ["refunded", "refunded"]


def test_part_whose_answer_was_lost_is_refunded_once(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    open_dialog(admin_page)
    amount_field(admin_page).fill("5.00")
    with admin_page.losing_responses():
        admin_page.submit_button.click()
        admin_page.wait_for_result("no_response")
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert [each["amount"] for each in sandbox.refunds(payment)] == [500]


@pytest.mark.parametrize("answer", [None, 503])
def test_part_of_a_closed_dialog_is_repeated_as_it_was_sent(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, answer: int | None
) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    held: list[Any] = []

    def hold(route: Any) -> None:
        if route.request.method == "POST" and not held:
            held.append(route)
        else:
            route.continue_()

    open_dialog(admin_page)
    admin_page.page.route("**/admin/refund/*", hold)
    amount_field(admin_page).fill("5.00")
    admin_page.note.fill("One leaf was torn.")
    admin_page.submit_button.click()
    admin_page.dialog.get_by_text("Waiting for Stripe").wait_for()
    close_dialog(admin_page)
    admin_page.row("Pruning").get_by_role("button", name="Refund").click()
    admin_page.dialog.get_by_role("heading", name="Refund in progress").wait_for()
    assert amount_field(admin_page).count() == 0
    if answer:
        held[0].fulfill(status=answer, json={"error": "Stripe is busy", "code": "stripe_unavailable"})
    else:
        held[0].abort()
    admin_page.wait_for_result("stripe_unavailable" if answer else "no_response")
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert [each["amount"] for each in sandbox.refunds(payment)] == [500]
    assert shop.records()[0]["note"] == "One leaf was torn."


def test_lost_answer_of_a_closed_dialog_does_not_promise_that_another_part_is_safe(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    open_dialog(admin_page)
    amount_field(admin_page).fill("5.00")
    sandbox.latency = 0.5
    with admin_page.losing_responses():
        admin_page.submit_button.click()
        admin_page.dialog.get_by_text("Waiting for Stripe").wait_for()
        close_dialog(admin_page)
        log = admin_page.page.get_by_role("log")
        log.get_by_text("Open the refund dialog again: it shows what was refunded.").wait_for()
    assert "is safe" not in log.inner_text()
    admin_page.row("Pruning").get_by_role("button", name="Refund").click()
    admin_page.dialog.get_by_text("$5.00 already refunded").wait_for()


def test_part_with_an_unknown_outcome_is_resumed_from_a_new_dialog(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    open_dialog(admin_page)
    sandbox.inject("request_lost", times=None)
    amount_field(admin_page).fill("5.00")
    admin_page.note.fill("One leaf was torn.")
    admin_page.submit_button.click()
    admin_page.wait_for_result("processing")
    close_dialog(admin_page)
    sandbox.clear_faults()
    admin_page.open()
    admin_page.row("Pruning").get_by_role("button", name="Refund").click()
    admin_page.dialog.get_by_role("heading", name="Refund in progress").wait_for()
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert [each["amount"] for each in sandbox.refunds(payment)] == [500]
    assert len(shop.records()) == 1


def test_rest_can_be_refunded_beside_a_pending_part(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800, card=CARD_PENDING)
    purchase = add_purchase(shop, payment)
    assert shop.refund(purchase, json={"amount": 500, "refundable": 4800}).status_code == 202
    open_dialog(admin_page)
    assert amount_field(admin_page).input_value() == "43.00"
    amount_field(admin_page).fill("3.00")
    admin_page.submit_button.click()
    admin_page.wait_for_result("pending")
    assert sorted(each["amount"] for each in sandbox.refunds(payment)) == [300, 500]


@pytest.mark.parametrize("view", ["", "#/payment/{payment}"])
def test_pending_part_is_shown_beside_one_that_succeeded(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, view: str
) -> None:
    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    with sandbox.fault("pending"):
        assert shop.refund(purchase, json={"amount": 500, "refundable": 4800}).status_code == 202
    admin_page.open(view.replace("{payment}", payment))
    admin_page.open_refund_dialog("Pruning")
    refund_part(admin_page, "3.00")
    close_dialog(admin_page)
    row = admin_page.row("Pruning")
    row.get_by_text("$3.00 refunded").wait_for()
    row.get_by_text("refund pending").wait_for()


def test_list_shows_what_a_refund_in_the_dashboard_left(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800, card=CARD_PENDING)
    add_purchase(shop, payment)
    sandbox.dashboard_refund(payment, 700)
    shop.flask("reconcile", "--full")
    admin_page.open(f"#/payment/{payment}")
    admin_page.page.get_by_role("article").get_by_text("$7.00").wait_for()
    admin_page.open("#/purchases")
    admin_page.row("Pruning").get_by_text("refund pending").wait_for()
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    shop.flask("reconcile")
    row = admin_page.row("Pruning")
    row.get_by_text("$7.00 refunded").wait_for()
    row.get_by_role("button", name="Refund").wait_for()
    row.locator("[data-status=completed]").wait_for()


def test_sign_in_keeps_the_amount(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    open_dialog(admin_page)
    amount_field(admin_page).fill("7.50")
    admin_page.dialog.get_by_label("Close the purchase").check()
    expired = shop.headers(expires_in=-10)["Authorization"].removeprefix("Bearer ")
    admin_page.page.evaluate("token => sessionStorage.setItem('flask_refunds.token', token)", expired)
    admin_page.submit_button.click()
    admin_page.page.get_by_text("Your session expired. Your input is kept.").wait_for()
    admin_page.sign_in()
    admin_page.wait_for_result("not_authenticated")
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert (sandbox.money_refunded(payment), shop.status_of(purchase)) == (750, "refunded")

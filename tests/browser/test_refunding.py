"""From the search to the refund, and every way in which it may end."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.console import Console
from tests.shop import Shop

PENDING = "4000000000007726"
LOST = "the answer was lost"


def add_purchase(shop: Shop, payment: str, title: str = "Pruning", name: str = "Ada Okafor") -> Any:
    user = shop.db.users.find_one({"name": name})
    user_id = (
        user["_id"] if user else shop.add_user(name=name, email=f"{name.split()[0].lower()}@shop.example")
    )
    content = shop.db.contents.insert_one({"title": title, "type": "course"}).inserted_id
    return shop.add_purchase(payment, user=user_id, content=content)


def ask_for_one(console: Console, shop: Shop, sandbox: StripeSandbox) -> tuple[str, Any, Any]:
    """A payment, its purchase for $48.00, and the button in the window that asks whether to refund it."""
    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    console.open()
    return payment, purchase, console.ask("Pruning")


def test_from_the_search_to_refunded(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4800, "usd")
    both = [add_purchase(shop, payment, title) for title in ("Pruning", "Grafting")]
    add_purchase(shop, sandbox.create_payment(100), "Bonsai", "Ben Sato")

    console.search("ada@shop.example")
    console.page.get_by_text("2 purchases").wait_for()
    button = console.ask("Pruning")

    said = console.dialog.inner_text()
    for words in (
        "Refund $48.00?",
        "Ada Okafor, ada@shop.example",
        "Visa •••• 4242",
        "All of them are refunded",
    ):
        assert words in said
    console.dialog.get_by_label("Reason").select_option("fraudulent")
    console.dialog.get_by_text("Stripe will block this card").wait_for()
    console.dialog.get_by_label("Reason").select_option("duplicate")
    console.dialog.get_by_label("Note for the books").fill("Bought it twice.")
    assert sandbox.refunds() == []
    button.click()

    assert "Refunded. $48.00 is on its way back." in console.answer()
    link = console.dialog.get_by_role("link", name="Payment at Stripe")
    assert link.get_attribute("href") == f"https://dashboard.stripe.com/test/payments/{payment}"
    console.dialog.get_by_role("button", name="Close").click()
    for title in ("Pruning", "Grafting"):
        console.row(title).get_by_text("refunded").wait_for()
    assert [shop.status_of(each) for each in both] == ["refunded", "refunded"]
    [row] = shop.rows()
    assert (row["reason"], row["note"]) == ("duplicate", "Bought it twice.")
    assert sandbox.money_refunded(payment) == 4800


@pytest.mark.usefixtures("hearing")
def test_a_pending_refund_that_succeeds_by_webhook(
    console: Console, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800, card=PENDING)
    add_purchase(shop, payment)
    console.open()
    console.ask("Pruning").click()
    assert "Pending at Stripe." in console.answer()
    console.dialog.get_by_role("button", name="Close").click()
    console.row("Pruning").get_by_text("refund pending").wait_for()

    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")

    console.page.get_by_role("log").get_by_text("Refund of $48.00 succeeded.").wait_for()
    console.row("Pruning").get_by_text("refunded").wait_for()


def test_a_pending_refund_is_not_asked_for_anew(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4800, card=PENDING)
    shop.refund(add_purchase(shop, payment))
    console.open()
    console.row("Pruning").get_by_role("button", name="Refund").click()
    console.dialog.get_by_role("heading", name="A refund is under way").wait_for()
    console.dialog.get_by_role("button", name="Ask again").click()
    assert "Pending at Stripe." in console.answer()
    assert len(sandbox.refunds(payment)) == 1


@pytest.mark.parametrize(
    ("fault", "words", "button"),
    [
        ("insufficient_balance", "Stripe refused the refund. ", "Try again"),
        ("failed", "Stripe refused the refund.", "Try again"),
        ("requires_action", "Waiting for the customer.", None),
        ("drop_after", "the outcome is not known yet. Stripe's answer did not come", "Ask again"),
        ("key_rejected", "The server has a fault. Stripe does not accept this server's key", "Try again"),
    ],
)
def test_every_answer_has_its_words(
    console: Console, shop: Shop, sandbox: StripeSandbox, fault: str, words: str, button: str | None
) -> None:
    _, _, refund = ask_for_one(console, shop, sandbox)
    sandbox.inject(fault, times=2)
    refund.click()
    assert words in console.answer().replace("\n", " ")
    if button is None:
        assert console.dialog.locator("button[type=submit]").count() == 0
    else:
        console.dialog.get_by_role("button", name=button).wait_for()


def test_a_refused_refund_may_be_tried_again(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase, refund = ask_for_one(console, shop, sandbox)
    sandbox.inject("insufficient_balance")
    refund.click()
    assert "Nothing went back to the customer." in console.answer()
    assert shop.status_of(purchase) == "completed"
    console.dialog.get_by_role("button", name="Try again").click()
    console.dialog.get_by_text("Refunded.").wait_for()
    assert sandbox.money_refunded(payment) == 4800


def test_stripe_is_busy(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    _, _, refund = ask_for_one(console, shop, sandbox)
    sandbox.inject("rate_limited", times=None)
    refund.click()
    assert "Stripe is busy. Stripe is receiving too many requests. Nothing was refunded" in console.answer()


@pytest.mark.parametrize("fault", ["drop_before", "rate_limited"])
def test_stripe_cannot_say_what_a_refund_would_do(
    console: Console, shop: Shop, sandbox: StripeSandbox, fault: str
) -> None:
    add_purchase(shop, sandbox.create_payment(4800))
    console.open()
    sandbox.inject(fault, method="GET", path="/v1/payment_intents", times=1)
    console.row("Pruning").get_by_role("button", name="Refund").click()
    console.dialog.get_by_text("Nothing was refunded").wait_for()
    assert console.dialog.locator("button[type=submit]").count() == 0
    console.dialog.get_by_role("button", name="Try again").click()
    console.dialog.get_by_role("heading", name="Refund $48.00?").wait_for()


def test_the_network_fails_before_the_server_hears(
    console: Console, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _, refund = ask_for_one(console, shop, sandbox)
    console.page.route("**/admin/refund/*", lambda route: route.abort())
    refund.click()
    assert "The answer was lost. The refund may have been made, or not." in console.answer()
    console.page.unroute("**/admin/refund/*")
    console.dialog.get_by_role("button", name="Ask again").click()
    console.dialog.get_by_text("Refunded.").wait_for()
    assert len(sandbox.refunds(payment)) == 1


def test_the_network_fails_after_the_server_has_refunded(
    console: Console, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, _, refund = ask_for_one(console, shop, sandbox)

    def lose_the_answer(route: Any) -> None:
        route.fetch()
        route.abort()

    console.page.route("**/admin/refund/*", lose_the_answer)
    refund.click()
    assert "The answer was lost." in console.answer()
    console.page.unroute("**/admin/refund/*")
    console.dialog.get_by_role("button", name="Ask again").click()
    console.dialog.get_by_text("Already refunded.").wait_for()
    assert sandbox.money_refunded(payment) == 4800


def test_a_proxy_answers_in_the_server_s_place(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    _, _, refund = ask_for_one(console, shop, sandbox)
    page = {"status": 504, "content_type": "text/html", "body": "<h1>504</h1>"}
    console.page.route("**/admin/refund/*", lambda route: route.fulfill(**page))
    refund.click()
    assert "The answer was lost." in console.answer()


def test_a_double_click_is_one_call(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _, refund = ask_for_one(console, shop, sandbox)
    sandbox.latency = 0.3
    calls: list[str] = []
    console.page.on("request", lambda request: request.method == "POST" and calls.append(request.url))
    refund.dblclick(force=True)
    assert "Refunded." in console.answer()
    assert len(calls) == 1
    assert len(sandbox.refunds(payment)) == 1


def test_a_second_tab_is_told_that_another_is_at_it(
    console: Console, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    console.open()
    other = console.another_tab()
    first, second = console.ask("Pruning"), other.ask("Pruning")
    sandbox.latency = 3.5
    first.click()
    console.dialog.get_by_text("Asking Stripe…").wait_for()
    second.click()
    assert "Already being refunded. Another window or a colleague is at it right now" in other.answer()
    assert "Refunded." in console.answer()
    sandbox.latency = 0.0
    other.dialog.get_by_role("button", name="Look again").click()
    other.dialog.get_by_text("Already refunded. $48.00 went back").wait_for()
    assert len(sandbox.refunds(payment)) == 1
    other.assert_clean()


def test_a_slow_answer_may_be_left_alone(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    _, _, refund = ask_for_one(console, shop, sandbox)
    sandbox.latency = 7.0
    refund.click()
    console.dialog.get_by_text("You may close this: the refund goes on").wait_for()
    assert console.dialog.locator("button[type=submit]").is_disabled()
    console.page.keyboard.press("Escape")
    console.dialog.wait_for(state="hidden")
    console.page.get_by_role("log").get_by_text("Refunded.").wait_for()
    console.row("Pruning").get_by_text("refunded").wait_for()


def test_an_expired_token_loses_nothing(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    _, _, refund = ask_for_one(console, shop, sandbox)
    console.dialog.get_by_label("Note for the books").fill("A long story.")
    expired = shop.headers(expires_in=-10)["Authorization"].removeprefix("Bearer ")
    console.page.evaluate("token => sessionStorage.setItem('flask_refunds.token', token)", expired)
    refund.click()
    console.page.get_by_text("Your sign-in has expired. Nothing you wrote is lost.").wait_for()
    assert sandbox.refunds() == []
    console.sign_in()
    assert "Your sign-in has expired. Nothing was sent to Stripe" in console.answer()
    console.dialog.get_by_role("button", name="Refund now").click()
    console.dialog.get_by_text("Refunded.").wait_for()
    assert shop.rows()[0]["note"] == "A long story."


def test_no_admin(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = add_purchase(shop, sandbox.create_payment(4800))
    console.open()
    refund = console.ask("Pruning")
    shop.db.users.update_one({"_id": shop.admin_id}, {"$set": {"role": "user"}})
    refund.click()
    assert "Only admins may refund." in console.answer()
    assert shop.status_of(purchase) == "completed"

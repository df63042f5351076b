"""Finding purchases and refunds, and what is known of one payment."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from bson import ObjectId

from flask_refunds.testing import StripeSandbox
from tests.browser.console import Console
from tests.browser.test_accessible import fill
from tests.browser.test_refunding import add_purchase
from tests.shop import Shop


def test_endless_scrolling(console: Console, shop: Shop) -> None:
    shop.db.purchases.insert_many(
        [{"_id": ObjectId(), "status": "completed", "stripePaymentIntentId": f"pi_{n}"} for n in range(120)]
    )
    console.open()
    console.page.get_by_text("120 purchases").wait_for()
    rows = console.page.locator("tbody tr")
    for _ in range(4):
        rows.last.scroll_into_view_if_needed()
        console.page.wait_for_load_state("networkidle")
    assert rows.count() == 120
    hrefs = console.page.locator("tbody th a").evaluate_all("links => links.map((link) => link.href)")
    assert len(set(hrefs)) == 120


def test_filters_stand_in_the_address_and_survive_a_reload(console: Console, shop: Shop) -> None:
    shop.add_purchase("pi_1", status="failed")
    shop.add_purchase("pi_2")
    console.open()
    console.page.get_by_label("Status").select_option("failed")
    console.page.get_by_text("1 purchase", exact=True).wait_for()
    assert console.page.url.endswith("#/purchases?status=failed")
    console.page.reload()
    console.page.get_by_text("1 purchase", exact=True).wait_for()
    console.search("pi_2")
    console.page.get_by_text("No purchase fits.").wait_for()


def test_a_day_is_the_viewer_s_own(console: Console, shop: Shop) -> None:
    # 23:30 in UTC is the next day in Berlin, where the tests' viewer is.
    late = ObjectId.from_datetime(datetime(2026, 7, 7, 23, 30, tzinfo=timezone.utc))
    shop.add_purchase("pi_1", _id=late)
    console.open()
    for day, found in (("2026-07-07", "0 purchases"), ("2026-07-08", "1 purchase")):
        console.page.get_by_label("From", exact=True).fill(day)
        console.page.get_by_label("To", exact=True).fill(day)
        console.page.get_by_text(found, exact=True).wait_for()


@pytest.mark.usefixtures("hearing")
def test_one_payment_and_what_became_of_it(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = fill(shop, sandbox)
    console.open()
    console.page.get_by_role("link", name="A failed refund").click()
    console.page.get_by_role("heading", name=payment).wait_for()
    refund = console.page.get_by_role("article")
    refund.get_by_text("Failed after it had succeeded.").wait_for()
    said = refund.inner_text()
    for words in ("$48.00", "Fraudulent", "Called twice.", f"endpoint:{shop.admin_id}"):
        assert words in said
    assert refund.locator(".history .what").all_inner_texts() == ["asked for", "succeeded", "failed"]


@pytest.mark.usefixtures("hearing")
def test_what_asks_for_attention_may_be_refunded_again(
    console: Console, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = fill(shop, sandbox)
    console.open("#/attention")
    case = console.page.get_by_role("listitem").filter(has_text=payment)
    case.get_by_text("refund the purchase again").wait_for()
    console.page.get_by_role("link", name="Attention 1 open").wait_for()
    case.get_by_role("button", name="Refund again").click()
    console.dialog.get_by_role("heading", name="Refund $48.00?").wait_for()


def test_a_refund_of_a_currency_without_decimals(
    console: Console, shop: Shop, sandbox: StripeSandbox
) -> None:
    for amount, currency in ((6800, "jpy"), (6800, "kwd"), (6800, "ugx"), (6800, "isk")):
        shop.refund(add_purchase(shop, sandbox.create_payment(amount, currency)))
    console.open("#/refunds")
    console.page.get_by_text("4 refunds").wait_for()
    amounts = console.page.locator("tbody .number").all_inner_texts()
    assert [text.replace("\xa0", " ") for text in amounts] == [
        "ISK 68.00",
        "UGX 68.00",
        "KWD 6.800",
        "¥6,800",
    ]


def test_the_server_is_away(console: Console, shop: Shop) -> None:
    shop.add_purchase("pi_1")
    console.page.route("**/admin/all?*", lambda route: route.abort())
    console.open("#/refunds")
    console.open("#/purchases")
    console.page.get_by_text("The server does not answer.").wait_for()
    console.page.unroute("**/admin/all?*")
    console.page.get_by_role("button", name="Try again").click()
    console.page.get_by_text("1 purchase", exact=True).wait_for()


def test_names_are_text_and_never_markup(console: Console, shop: Shop) -> None:
    evil: Any = '<img src=x onerror="document.title=1">'
    user = shop.add_user(name=evil, email=evil)
    shop.add_purchase(
        "pi_1", user=user, content=shop.db.contents.insert_one({"title": evil, "type": evil}).inserted_id
    )
    console.open()
    console.row("onerror").get_by_text(evil).nth(2).wait_for()
    assert console.page.locator("main img").count() == 0

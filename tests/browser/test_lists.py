"""The lists of purchases and refunds, and the payment view."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.browser.sample_data import CARD_PENDING, add_purchase, add_samples
from tests.live_server import serving
from tests.shop import Shop, make_app


@pytest.mark.parametrize("kind", ["JWT ", ""])
def test_page_sends_the_token_in_the_apps_own_header(
    context: Any, database: Any, sandbox: StripeSandbox, kind: str
) -> None:
    config = {"JWT_HEADER_NAME": "X-Access-Token", "JWT_HEADER_TYPE": kind.strip()}
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, **config)
    shop = Shop(app, database)
    shop.add_purchase("pi_1")
    with serving(app) as url:
        page = AdminPage(context, f"{url}/api/payments/admin/", shop)
        page.open()
        token = shop.headers()["Authorization"].removeprefix("Bearer ")
        page.page.get_by_label("Admin bearer token").fill(f"{kind}{token}")
        page.page.get_by_role("button", name="Continue").click()
        page.wait_for_count(1)


def test_scrolling_loads_all_pages_without_duplicates(admin_page: AdminPage, shop: Shop) -> None:
    shop.db.purchases.insert_many(
        [{"_id": ObjectId(), "status": "completed", "stripePaymentIntentId": f"pi_{n}"} for n in range(120)]
    )
    admin_page.open()
    admin_page.wait_for_count(120)
    rows = admin_page.page.locator("tbody tr")
    for _ in range(4):
        rows.last.scroll_into_view_if_needed()
        admin_page.page.wait_for_load_state("networkidle")
    assert rows.count() == 120
    hrefs = admin_page.page.locator("tbody th a").evaluate_all("links => links.map((link) => link.href)")
    assert len(set(hrefs)) == 120


def test_filters_are_in_the_url_and_survive_a_reload(admin_page: AdminPage, shop: Shop) -> None:
    shop.add_purchase("pi_1", status="failed")
    shop.add_purchase("pi_2")
    admin_page.open()
    admin_page.page.get_by_label("Status").select_option("failed")
    admin_page.wait_for_count(1)
    assert admin_page.page.url.endswith("#/purchases?status=failed")
    admin_page.page.reload()
    admin_page.wait_for_count(1)
    admin_page.search("pi_2")
    admin_page.page.get_by_text("No purchases match.").wait_for()


def test_date_filters_use_the_browsers_time_zone(admin_page: AdminPage, shop: Shop) -> None:
    # 23:30 UTC is the next day in Berlin, the browser's time zone.
    purchase_id = ObjectId.from_datetime(datetime(2026, 7, 7, 23, 30, tzinfo=timezone.utc))
    shop.add_purchase("pi_1", _id=purchase_id)
    admin_page.open()
    for day, count in (("2026-07-07", 0), ("2026-07-08", 1)):
        admin_page.page.get_by_label("From", exact=True).fill(day)
        admin_page.page.get_by_label("To", exact=True).fill(day)
        admin_page.wait_for_count(count)


@pytest.mark.usefixtures("stripe_webhook")
def test_payment_view_shows_its_refund_and_the_history(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = add_samples(shop, sandbox)
    urls: list[str] = []
    admin_page.page.on("request", lambda request: urls.append(request.url))
    admin_page.open()
    admin_page.page.get_by_role("link", name="A failed refund").click()
    admin_page.page.get_by_role("heading", name=payment).wait_for()
    refund = admin_page.page.get_by_role("article")
    refund.wait_for()
    text = refund.inner_text()
    for detail in (
        "$48.00",
        "Fraudulent",
        "Called twice.",
        "Failed after it succeeded",
        "Requested by Ann, admin page",
    ):
        assert detail in text
    statuses = refund.locator(".history [data-status]")
    assert statuses.evaluate_all("all => all.map((each) => each.dataset.status)") == [
        "processing",
        "succeeded",
        "failed",
    ]
    assert len([url for url in urls if "/admin/refunds" in url and payment in url]) == 1


@pytest.mark.usefixtures("stripe_webhook")
def test_refund_that_needs_review_can_be_refunded_again(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = add_samples(shop, sandbox)
    admin_page.open("#/reviews")
    review = admin_page.page.get_by_role("listitem").filter(has_text=payment)
    review.get_by_text("Contact the customer, then refund again").wait_for()
    admin_page.page.get_by_role("link", name="Reviews 1 open").wait_for()
    review.get_by_role("button", name="Refund again").click()
    admin_page.dialog.get_by_role("heading", name="Refund $48.00?").wait_for()


def test_amounts_have_the_decimals_of_their_currency(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    for currency in ("jpy", "kwd", "ugx", "isk"):
        shop.refund(add_purchase(shop, sandbox.create_payment(6800, currency)))
    admin_page.open("#/refunds")
    admin_page.wait_for_count(4)
    amounts = admin_page.page.locator("tbody .number").all_inner_texts()
    assert [text.replace("\xa0", " ") for text in amounts] == [
        "ISK 68.00",
        "UGX 68.00",
        "KWD 6.800",
        "¥6,800",
    ]


def test_list_loads_again_after_the_server_was_unreachable(admin_page: AdminPage, shop: Shop) -> None:
    shop.add_purchase("pi_1")
    admin_page.page.route("**/admin/all?*", lambda route: route.abort())
    admin_page.open("#/refunds")
    admin_page.page.get_by_role("heading", name="Refunds", exact=True).wait_for()
    admin_page.open("#/purchases")
    admin_page.page.get_by_role("alert").get_by_text("The server isn't responding.").wait_for()
    admin_page.page.unroute("**/admin/all?*")
    admin_page.page.get_by_role("button", name="Try again").click()
    admin_page.wait_for_count(1)


def test_list_keeps_a_refund_when_its_next_page_cannot_be_loaded(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    for number in range(60):
        shop.add_purchase(f"pi_{number}")
    add_purchase(shop, sandbox.create_payment(4800))
    held: list[Any] = []
    admin_page.page.route("**/admin/all?*after=*", lambda route: held.append(route))
    admin_page.open()
    admin_page.row("Pruning").wait_for()
    admin_page.page.locator("tbody tr").last.scroll_into_view_if_needed()
    admin_page.page.get_by_text("Loading").wait_for()
    admin_page.open_refund_dialog("Pruning")
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    admin_page.dialog.get_by_role("button", name="Close").click()
    held[0].abort()
    admin_page.page.get_by_role("alert").get_by_text("The server isn't responding.").wait_for()
    admin_page.wait_for_status("Pruning", "refunded")


def test_payment_view_of_a_checkout_session_shows_a_new_refund(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    add_purchase(shop, sandbox.create_checkout_session(sandbox.create_payment(4800)))
    admin_page.open()
    admin_page.page.get_by_role("link", name="Pruning").click()
    admin_page.page.get_by_text("This payment has no refunds.").wait_for()
    admin_page.open_refund_dialog("Pruning")
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    admin_page.dialog.get_by_role("button", name="Close").click()
    admin_page.page.get_by_role("article").get_by_text("$48.00").wait_for()
    assert admin_page.page.get_by_role("button", name="Refund:").count() == 0


@pytest.mark.parametrize("address", ["#/payment", "#/payment/", "#/constructor", "#/nothing"])
def test_address_without_a_view_shows_the_purchases(admin_page: AdminPage, shop: Shop, address: str) -> None:
    shop.add_purchase("pi_1")
    admin_page.open("#/reports")
    admin_page.open(address)
    admin_page.page.get_by_role("heading", name="Purchases", exact=True).wait_for()
    admin_page.wait_for_count(1)


@pytest.mark.parametrize("params", ["from=2026-0", "to=x"])
def test_day_of_a_cut_address_can_be_corrected(admin_page: AdminPage, shop: Shop, params: str) -> None:
    shop.add_purchase("pi_1")
    admin_page.open(f"#/purchases?{params}")
    admin_page.page.get_by_role("alert").get_by_text("must be a day").wait_for()
    admin_page.page.get_by_label("From", exact=True).fill("2000-01-01")
    admin_page.page.get_by_label("To", exact=True).fill("2099-01-01")
    admin_page.wait_for_count(1)
    admin_page.errors.clear()  # Chromium warns of a field's text that isn't a date


def test_html_in_names_is_shown_as_text(admin_page: AdminPage, shop: Shop) -> None:
    html: Any = '<img src=x onerror="document.title=1">'
    user = shop.add_user(name=html, email=html)
    content = shop.db.contents.insert_one({"title": html, "type": html}).inserted_id
    shop.add_purchase("pi_1", user=user, content=content)
    admin_page.open()
    admin_page.row("onerror").get_by_text(html).nth(2).wait_for()
    assert admin_page.page.locator("main img").count() == 0


def test_reports_show_charts_and_percentiles_only_of_enough_refunds(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    main = admin_page.page.locator("main")
    admin_page.open("#/reports")
    main.get_by_text("No refunds yet in these months.").wait_for()
    for count in (3, 6, 20):
        while len(shop.records()) < count:
            assert shop.refund(add_purchase(shop, sandbox.create_payment(4800))).status_code == 200
        admin_page.page.reload()
        main.get_by_text("Refunds per month").wait_for()
        assert main.get_by_text("95% within", exact=False).first.is_visible() is (count == 20)
        assert main.get_by_text("shown from 5 refunds on").is_visible() is (count == 3)
        assert main.get_by_text("Shown from 5 refunds a month on.").is_visible() is (count == 3)


@pytest.mark.parametrize("fault", ["pending", "requires_action", "response_lost"])
def test_purchase_with_an_open_refund_has_no_refund_button(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox, fault: str
) -> None:
    payment = sandbox.create_payment(4800, card=CARD_PENDING if fault == "pending" else "4242424242424242")
    if fault != "pending":
        sandbox.inject(fault, times=None)
    shop.refund(add_purchase(shop, payment))
    sandbox.clear_faults()
    admin_page.open()
    row = admin_page.row("Pruning")
    if fault == "response_lost":
        row.get_by_role("button", name="Check refund").wait_for()
        return
    waiting = {"pending": "Refund pending", "requires_action": "Refund waiting for the customer"}
    row.get_by_role("link", name=waiting[fault]).click()
    admin_page.page.get_by_role("heading", name=payment).wait_for()
    assert admin_page.page.get_by_role("button", name="Refund:").count() == 0


def test_refund_in_an_unknown_currency_or_time_has_a_dash(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    for _ in range(2):
        shop.refund(add_purchase(shop, sandbox.create_payment(6800)))
    shop.db.flask_refunds.update_one({}, {"$set": {"currency": "bit coin"}})
    admin_page.open("#/refunds")
    admin_page.wait_for_count(2)
    assert sorted(admin_page.page.locator("tbody .number").all_inner_texts()) == ["$68.00", "—"]


def test_refunds_are_found_by_customer(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    for title, name in (("Pruning", "Ada Okafor"), ("Bonsai", "Ben Sato")):
        shop.refund(add_purchase(shop, sandbox.create_payment(4800), title, name))
    admin_page.open("#/refunds")
    admin_page.wait_for_count(2)
    admin_page.search("ADA@shop.example")
    admin_page.wait_for_count(1)
    row = admin_page.row("Ada Okafor")
    for text in ("Pruning", "ada@shop.example", "$48.00", "Ann, admin page"):
        row.get_by_text(text).wait_for()
    admin_page.search("ada@")
    admin_page.page.get_by_text("whole e-mail address").wait_for()
    admin_page.search(shop.records()[0]["paymentIntent"])
    admin_page.wait_for_count(1)


def download(admin_page: AdminPage) -> list[list[str]]:
    """Download the list, and return its rows as a spreadsheet reads them."""
    with admin_page.page.expect_download() as info:
        admin_page.page.get_by_role("button", name="Download CSV").click()
    content = Path(info.value.path()).read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_refunds_are_downloaded_as_csv(admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    note = '=HYPERLINK("http://evil.example")\nsecond line'
    for currency in ("jpy", "kwd"):
        payment = sandbox.create_payment(6800, currency)
        shop.refund(add_purchase(shop, payment, "@SUM(1)"), json={"note": note})
    admin_page.open("#/refunds")
    admin_page.wait_for_count(2)
    header, *rows = download(admin_page)
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(each["amount"], each["currency"]) for each in found] == [("6.800", "KWD"), ("6800", "JPY")]
    for each in found:
        assert (each["item"], each["note"]) == ("'@SUM(1)", f"'{note}")
        assert (each["customer"], each["email"]) == ("Ada Okafor", "ada@shop.example")
        assert each["requestedBy"] == "Ann, admin page"


def test_downloads_have_no_formula_where_the_spreadsheet_splits_at_other_characters(
    admin_page: AdminPage, shop: Shop
) -> None:
    texts = ["a;=1+1", 'a;"=1+1"', "a\t@x", "a\n-1", "a\r\n+1", "\n=1", "a;\uff1d1", "=1;=2"]
    for text in texts:
        content = shop.db.contents.insert_one({"title": text, "type": "course"}).inserted_id
        shop.add_purchase("pi_1", user=shop.add_user(name=text, email=text), content=content)
    admin_page.open()
    admin_page.wait_for_count(len(texts))
    with admin_page.page.expect_download() as info:
        admin_page.page.get_by_role("button", name="Download CSV").click()
    content = Path(info.value.path()).read_bytes().decode("utf-8-sig")
    for delimiter in ",;\t":
        rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)
        cells = [cell for row in rows for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\uff1d"))]


def test_all_pages_of_the_filtered_list_are_downloaded(admin_page: AdminPage, shop: Shop) -> None:
    documents = [
        {"status": "completed", "amount": 19.5, "currency": "eur", "stripePaymentIntentId": f"pi_{number}"}
        for number in range(230)
    ]
    shop.db.purchases.insert_many([*documents, {"status": "failed"}])
    admin_page.open("#/purchases?status=completed")
    admin_page.wait_for_count(230)
    header, *rows = download(admin_page)
    assert len(rows) == 230
    assert {row[header.index("payment")] for row in rows} == {f"pi_{number}" for number in range(230)}
    assert {(row[header.index("amount")], row[header.index("currency")]) for row in rows} == {
        ("19.50", "EUR")
    }


@pytest.mark.parametrize(
    ("pattern", "address"),
    [
        ("/orders/{id}?from={id}", "{url}/orders/a%2F..%2Fb%3F%22?from=a%2F..%2Fb%3F%22"),
        ("https://shop.example/o#{id}", "https://shop.example/o#a%2F..%2Fb%3F%22"),
    ],
)
def test_purchases_link_to_their_page_in_the_app(
    context: Any, database: Any, sandbox: StripeSandbox, pattern: str, address: str
) -> None:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_ORDER_URL=pattern)
    shop = Shop(app, database)
    purchase = {"_id": 'a/../b?"', "status": "completed", "stripePaymentIntentId": "pi_1"}
    shop.db.purchases.insert_one(purchase)
    with serving(app) as url:
        page = AdminPage(context, f"{url}/api/payments/admin/", shop)
        page.open()
        page.sign_in()
        link = page.page.get_by_role("link", name="Open order")
        link.wait_for()
        assert link.evaluate("(link) => link.href") == address.replace("{url}", url)
        page.assert_no_errors()

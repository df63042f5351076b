"""Accessibility: axe, keyboard navigation, and no horizontal scrolling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.browser.sample_data import add_purchase, add_samples
from tests.shop import Shop

AXE = (Path(__file__).parent / "vendor" / "axe.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
VIEWS = ["#/purchases", "#/refunds", "#/reviews", "#/reports"]
WINDOWS = [(1440, "light"), (1440, "dark"), (360, "light"), (360, "dark")]


def assert_accessible(page: Any) -> None:
    """Check that axe finds no violation and that nothing is wider than the screen."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE)
    found = page.evaluate("rules => axe.run({runOnly: rules}).then(({violations}) => violations)", RULES)
    assert [f"{each['id']}: {each['help']}: {each['nodes'][0]['html']}" for each in found] == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def assert_accessible_in_every_window(page: Any) -> None:
    for width, scheme in WINDOWS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.evaluate("() => scrollTo(0, 0)")  # the header covers a part of what is scrolled
        assert_accessible(page)


def test_sign_in_dialog_is_accessible(context: Any, shop: Shop, url: str) -> None:
    admin_page = AdminPage(context, f"{url}/api/payments/admin/", shop)
    admin_page.open()
    admin_page.dialog.get_by_role("heading", name="Sign in").wait_for()
    assert_accessible(admin_page.page)
    admin_page.assert_no_errors()


@pytest.mark.usefixtures("stripe_webhook")
def test_views_are_accessible_at_each_width_and_color_scheme(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = add_samples(shop, sandbox)
    for view in [*VIEWS, f"#/payment/{payment}"]:
        admin_page.open(view)
        admin_page.page.get_by_role("heading", level=1).wait_for()
        admin_page.page.wait_for_load_state("networkidle")
        assert_accessible_in_every_window(admin_page.page)


def test_long_names_and_addresses_fit_at_each_width(admin_page: AdminPage, shop: Shop) -> None:
    address = "maximiliane.von-und-zu-hohenschwangau@verwaltung.example"
    user = shop.add_user(name="Maximiliane von und zu Hohenschwangau", email=address)
    content = shop.db.contents.insert_one({"title": "Pruning of pear trees", "type": "course"}).inserted_id
    shop.add_purchase("pi_1", user=user, content=content)
    admin_page.open()
    admin_page.row(address).wait_for()
    for width in (360, 840, 1000):
        admin_page.page.set_viewport_size({"width": width, "height": 800})
        assert_accessible(admin_page.page)


@pytest.mark.parametrize("width", [1000, 360])
def test_header_does_not_cover_what_has_the_focus(admin_page: AdminPage, shop: Shop, width: int) -> None:
    for number in range(30):
        add_purchase(shop, f"pi_{number}", f"Item {number}")
    admin_page.page.set_viewport_size({"width": width, "height": 600})
    admin_page.open()
    admin_page.row("Item 9").get_by_role("button").focus()
    for _ in range(30):
        admin_page.page.keyboard.press("Shift+Tab")
        assert admin_page.page.evaluate("""() => {
            const bar = document.querySelector(".bar");
            const focused = document.activeElement;
            const covered = bar.getBoundingClientRect().bottom - focused.getBoundingClientRect().bottom;
            return bar.contains(focused) || focused.className === "skip" || covered < 0;
        }""")


@pytest.mark.usefixtures("stripe_webhook")
def test_refund_dialog_and_its_result_are_accessible(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    add_samples(shop, sandbox)
    admin_page.open()
    admin_page.open_refund_dialog("The second of two")
    admin_page.dialog.get_by_label("Reason").select_option("fraudulent")
    assert_accessible_in_every_window(admin_page.page)
    admin_page.submit_button.click()
    admin_page.wait_for_result("succeeded")
    assert_accessible(admin_page.page)


def test_keyboard_refunds_a_purchase_and_keeps_the_focus(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    add_purchase(shop, sandbox.create_payment(4800), "Bonsai")
    admin_page.open()
    button = admin_page.row("Bonsai").get_by_role("button", name="Refund: Bonsai, Ada Okafor")
    button.focus()
    admin_page.page.keyboard.press("Enter")
    admin_page.note.wait_for()
    admin_page.page.keyboard.press("Escape")
    admin_page.dialog.wait_for(state="hidden")
    assert button.evaluate("(element) => element === document.activeElement")

    admin_page.page.keyboard.press("Enter")
    admin_page.note.focus()
    for key in ("Tab", "Tab", "Enter"):
        admin_page.page.keyboard.press(key)
    admin_page.wait_for_result("succeeded")
    assert admin_page.page.evaluate("() => document.activeElement.className") == "result"
    admin_page.page.keyboard.press("Escape")
    assert admin_page.page.evaluate("() => document.activeElement.tagName") == "H1"

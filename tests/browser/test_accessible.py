"""axe finds nothing, the keyboard is enough, and nothing is wider than the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.console import Console
from tests.browser.test_refunding import PENDING, add_purchase
from tests.shop import Shop

AXE = (Path(__file__).parent / "vendor" / "axe.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FAILS = "4000000000005126"
VIEWS = ["#/purchases", "#/refunds", "#/attention", "#/figures"]


WINDOWS = [(1440, "light"), (1440, "dark"), (360, "light"), (360, "dark")]


def assert_accessible(page: Any) -> None:
    """What axe says of the page as it is now, and that it needs no scrolling sideways."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE)
    found = page.evaluate("rules => axe.run({runOnly: rules}).then(({violations}) => violations)", RULES)
    told = [f"{each['id']}: {each['help']}: {each['nodes'][0]['html']}" for each in found]
    assert told == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def fill(shop: Shop, sandbox: StripeSandbox) -> str:
    """Purchases in every state, a refund that failed after its success, and a payment of two.

    Needs the fixture ``hearing``: that a refund failed after all, only Stripe's event tells.

    :return: the failed one's payment.
    """
    failing = sandbox.create_payment(4800, card=FAILS)
    purchase = add_purchase(shop, failing, "A failed refund")
    shop.refund(purchase, json={"reason": "fraudulent", "note": "Called twice."})
    sandbox.settle(sandbox.refunds(failing)[0]["id"], "failed")
    sandbox.wait_delivered()
    shop.refund(add_purchase(shop, sandbox.create_payment(4800, "jpy", card=PENDING), "A pending refund"))
    shop.refund(add_purchase(shop, sandbox.create_payment(4800, "kwd"), "Refunded"))
    two = sandbox.create_payment(9600)
    add_purchase(shop, two, "The first of two")
    add_purchase(shop, two, "The second of two")
    shop.add_purchase(None, status="failed")
    return failing


def test_signing_in(context: Any, shop: Shop, url: str) -> None:
    console = Console(context, f"{url}/api/payments/admin/", shop)
    console.open()
    console.page.get_by_role("heading", name="Sign in").wait_for()
    assert_accessible(console.page)
    console.assert_clean()


@pytest.mark.usefixtures("hearing")
def test_every_view_at_every_width_in_both_schemes(
    console: Console, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = fill(shop, sandbox)
    for view in [*VIEWS, f"#/payment/{payment}"]:
        console.open(view)
        console.page.get_by_role("heading", level=1).wait_for()
        console.page.wait_for_load_state("networkidle")
        for width, scheme in WINDOWS:
            console.page.set_viewport_size({"width": width, "height": 800})
            console.page.emulate_media(color_scheme=scheme)
            assert_accessible(console.page)


@pytest.mark.usefixtures("hearing")
def test_the_window_and_its_answer(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    fill(shop, sandbox)
    console.open()
    refund = console.ask("The second of two")
    console.dialog.get_by_label("Reason").select_option("fraudulent")
    for width, scheme in WINDOWS:
        console.page.set_viewport_size({"width": width, "height": 800})
        console.page.emulate_media(color_scheme=scheme)
        assert_accessible(console.page)
    refund.click()
    assert "Refunded. $96.00 is on its way back." in console.answer()
    assert_accessible(console.page)


def test_by_keyboard_alone(console: Console, shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment, "Bonsai")
    console.open()
    button = console.row("Bonsai").get_by_role("button", name="Refund: Bonsai, Ada Okafor")
    button.focus()
    console.page.keyboard.press("Enter")
    console.dialog.get_by_text("5 to 10 business days").wait_for()
    console.page.keyboard.press("Escape")
    console.dialog.wait_for(state="hidden")
    assert button.evaluate("(element) => element === document.activeElement")

    console.page.keyboard.press("Enter")
    console.dialog.get_by_text("5 to 10 business days").wait_for()
    console.dialog.get_by_label("Note for the books").focus()
    for key in ("Tab", "Tab", "Enter"):
        console.page.keyboard.press(key)
    console.dialog.get_by_text("Refunded.").wait_for()
    focused = console.page.evaluate("() => document.activeElement.className")
    assert focused == "answer"
    console.page.keyboard.press("Escape")
    assert console.page.evaluate("() => document.activeElement.tagName") == "H1"

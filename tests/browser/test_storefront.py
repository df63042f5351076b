"""The storefront example in a browser, up to a refunded purchase."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.examples.storefront import Storefront


@pytest.fixture
def storefront() -> Iterator[Storefront]:
    process = Storefront("--port", "0")
    yield process
    process.kill()


def test_admin_signs_in_and_refunds_a_purchase(context: Any, storefront: Storefront) -> None:
    page = context.new_page()
    page.goto(f"{storefront.url}/api/payments/admin/")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("button", name="Ines Admin").click()
    page.wait_for_url("**/api/payments/admin/")
    row = page.get_by_role("row").filter(has_text="The Compost Handbook").filter(has_text="Ada Okafor")
    row.get_by_role("button", name="Refund").click()
    page.get_by_role("dialog").get_by_role("button", name="Refund €19.50").click()
    page.get_by_role("dialog").locator("[data-code=succeeded]").wait_for()


def test_sign_in_buttons_are_disabled_until_their_script_runs(context: Any, storefront: Storefront) -> None:
    """Without the script, the form would put the password into the URL."""
    page = context.new_page()
    page.route("**/sign_in.js", lambda route: route.abort())
    page.goto(f"{storefront.url}/sign-in")
    buttons = page.locator(".narrow button")
    assert buttons.count() > 1
    assert all(button.is_disabled() for button in buttons.all())


def test_refund_form_keeps_its_input_during_a_new_sign_in(context: Any, storefront: Storefront) -> None:
    page = context.new_page()
    page.goto(f"{storefront.url}/api/payments/admin/#/purchases?q=ada%40shop.example")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("button", name="Ines Admin").click()
    page.get_by_role("row").filter(has_text="Compost").get_by_role("button", name="Refund").click()
    page.get_by_label("Internal note").fill("A long story.")
    page.evaluate("() => sessionStorage.setItem('flask_refunds.token', 'expired.token.value')")
    page.get_by_role("dialog").get_by_role("button", name="Refund €").click()
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("button", name="Ines Admin").click()
    page.get_by_role("dialog").get_by_role("heading", name="Refund €19.50?").wait_for()
    assert page.get_by_label("Internal note").input_value() == "A long story."
    assert page.url.endswith("#/purchases?q=ada%40shop.example")

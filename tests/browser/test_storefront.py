"""The example from its first line to a refunded purchase, as somebody new would do it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.examples.storefront import Storefront


@pytest.fixture
def storefront() -> Iterator[Storefront]:
    running = Storefront("--port", "0")
    yield running
    running.kill()


def test_four_clicks(context: Any, storefront: Storefront) -> None:
    page = context.new_page()
    page.goto(f"{storefront.url}/api/payments/admin/")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("button", name="Ines Admin").click()
    page.wait_for_url("**/api/payments/admin/")
    row = page.get_by_role("row").filter(has_text="The Compost Handbook").filter(has_text="Ada Okafor")
    row.get_by_role("button", name="Refund").click()
    page.get_by_role("dialog").get_by_role("button", name="Refund €19.50").click()
    page.get_by_role("dialog").get_by_text("€19.50 is on its way back").wait_for()


def test_nothing_can_be_clicked_before_its_script_is_there(context: Any, storefront: Storefront) -> None:
    """Enter in a form without one would put the password into the address."""
    page = context.new_page()
    page.route("**/sign_in.js", lambda route: route.abort())
    page.goto(f"{storefront.url}/sign-in")
    buttons = page.locator(".narrow button")
    assert buttons.count() > 1
    assert all(button.is_disabled() for button in buttons.all())


def test_what_was_written_outlives_signing_in_again(context: Any, storefront: Storefront) -> None:
    page = context.new_page()
    page.goto(f"{storefront.url}/api/payments/admin/#/purchases?q=ada%40shop.example")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("button", name="Ines Admin").click()
    page.get_by_role("row").filter(has_text="Compost").get_by_role("button", name="Refund").click()
    page.get_by_label("Note for the books").fill("A long story.")
    page.evaluate("() => sessionStorage.setItem('flask_refunds.token', 'worn.out.token')")
    page.get_by_role("dialog").get_by_role("button", name="Refund €").click()
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("button", name="Ines Admin").click()
    page.get_by_role("dialog").get_by_role("heading", name="Refund €19.50?").wait_for()
    assert page.get_by_label("Note for the books").input_value() == "A long story."
    assert page.url.endswith("#/purchases?q=ada%40shop.example")

"""Data that the page can't show: the rest stays, and the reader can try again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.browser.sample_data import add_purchase
from tests.browser.test_accessibility import assert_accessible
from tests.shop import Shop


def change_answers(admin_page: AdminPage, path: str, change: Callable[[Any], Any]) -> None:
    """Change what the server answers to GET requests."""

    def answer(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=json.dumps(change(response.json())))

    admin_page.page.route(f"**/admin/{path}*", answer)


@pytest.fixture(autouse=True)
def reported(admin_page: AdminPage) -> Any:
    """The page tells developers what failed, on the console."""
    yield
    assert admin_page.errors
    admin_page.errors.clear()


def test_purchase_that_cannot_be_shown_leaves_the_other_rows(admin_page: AdminPage, shop: Shop) -> None:
    for title in ("Pruning", "Bonsai", "Grafting"):
        add_purchase(shop, f"pi_{title}", title)

    def change(body: Any) -> Any:
        body["purchases"][1]["_refunds"] = None
        return body

    change_answers(admin_page, "all", change)
    admin_page.page.reload()
    admin_page.row("Pruning").wait_for()
    admin_page.row("Grafting").wait_for()
    cells = admin_page.page.locator("tbody tr").nth(1).locator("th, td").all_inner_texts()
    assert cells == ["—"] * len(cells)
    assert_accessible(admin_page.page)


def test_view_that_fails_says_so_and_can_be_shown_again(admin_page: AdminPage, shop: Shop) -> None:
    change_answers(admin_page, "refunds/metrics", lambda body: body | {"total": None})
    admin_page.open("#/reports")
    alert = admin_page.page.get_by_role("alert").filter(has_text="This view can't be shown.")
    alert.wait_for()
    assert_accessible(admin_page.page)
    admin_page.page.unroute("**/admin/refunds/metrics*")
    alert.get_by_role("button", name="Show again").click()
    admin_page.page.get_by_text("No refunds yet").first.wait_for()
    admin_page.page.get_by_role("link", name="Purchases").click()
    admin_page.wait_for_count(0)


def test_refund_that_cannot_be_shown_leaves_the_other_refunds(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    for amount in (700, 900):
        sandbox.dashboard_refund(payment, amount)
    shop.flask("reconcile", "--full")

    def change(body: Any) -> Any:
        for refund in body["refunds"]:
            refund["history"] = 7 if refund["amount"] == 700 else refund["history"]
        return body

    change_answers(admin_page, "refunds?", change)
    admin_page.open(f"#/payment/{payment}")
    admin_page.page.get_by_role("article").get_by_text("$9.00").wait_for()
    admin_page.page.get_by_role("alert").get_by_text("This refund can't be shown.").wait_for()


def test_refund_dialog_that_fails_can_be_closed(
    admin_page: AdminPage, shop: Shop, sandbox: StripeSandbox
) -> None:
    add_purchase(shop, sandbox.create_payment(4800))
    change_answers(admin_page, "refund/", lambda body: body | {"purchases": [None]})
    admin_page.open()
    admin_page.row("Pruning").get_by_role("button", name="Refund").click()
    admin_page.dialog.get_by_text("This dialog can't be shown.").wait_for()
    assert_accessible(admin_page.page)
    admin_page.dialog.get_by_role("button", name="Close").click()
    admin_page.dialog.wait_for(state="hidden")
    admin_page.row("Pruning").wait_for()

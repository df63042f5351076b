"""Who is signed in, and what the page says about tokens that the server doesn't accept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flask_refunds.testing import make_token
from tests.browser.admin_page import AdminPage
from tests.shop import JWT_SECRET, Shop


@pytest.fixture
def tab(context: Any, shop: Shop, url: str) -> Iterator[AdminPage]:
    """A tab that asks for a token."""
    tab = AdminPage(context, f"{url}/api/payments/admin/", shop)
    tab.open()
    yield tab
    tab.assert_no_errors()


def paste(tab: AdminPage, token: str) -> None:
    tab.page.get_by_label("Admin bearer token").fill(token)
    tab.page.get_by_role("button", name="Continue").click()


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"name": "Ines Admin"}, "Ines Admin"),
        ({"name": None, "email": "ines@shop.example"}, "ines@shop.example"),
    ],
)
def test_page_says_who_is_signed_in(tab: AdminPage, shop: Shop, fields: Any, shown: str) -> None:
    shop.db.users.update_one({"_id": shop.admin_id}, {"$set": fields})
    tab.sign_in()
    tab.page.get_by_role("banner").get_by_text(f"Signed in as {shown}").wait_for()
    tab.page.get_by_role("button", name="Sign out").click()
    assert tab.page.get_by_role("banner").get_by_text(shown).count() == 0


def test_expired_token_is_called_expired(tab: AdminPage) -> None:
    tab.sign_in(expires_in=-10)
    tab.dialog.get_by_text("Your session expired.").wait_for()


def test_sign_in_stays_open(tab: AdminPage) -> None:
    heading = tab.dialog.get_by_role("heading", name="Sign in")
    heading.wait_for()
    for _ in range(3):
        tab.page.keyboard.press("Escape")
    tab.page.wait_for_timeout(100)
    assert heading.is_visible()
    tab.sign_in()
    tab.page.get_by_role("banner").get_by_text("Signed in as Ann").wait_for()
    assert tab.dialog.count() == 0


@pytest.mark.parametrize("kind", ["text", "cut", "quoted", "other_key", "deleted_user"])
def test_wrong_token_is_called_invalid(tab: AdminPage, shop: Shop, kind: str) -> None:
    tokens = {
        "text": "abc",
        "cut": "eyJhbGciOiJIUzI1NiIs\u2026",
        "quoted": "\u201ceyJhbGciOiJIUzI1NiIs\u201d",
        "other_key": make_token(str(shop.admin_id), secret=JWT_SECRET[::-1]),
        "deleted_user": make_token("64b5f2c8a1d2e3f405162738", secret=JWT_SECRET),
    }
    paste(tab, tokens[kind])
    tab.dialog.get_by_text("This token isn't valid.").wait_for()
    assert tab.page.get_by_text("expired").count() == 0
    tab.sign_in()
    tab.page.get_by_role("banner").get_by_text("Signed in as Ann").wait_for()


def test_token_of_another_user_is_said_not_to_be_an_admins(tab: AdminPage, shop: Shop) -> None:
    tab.sign_in(user_id=shop.add_user())
    tab.page.get_by_role("alert").get_by_text("not as an admin").wait_for()
    assert tab.dialog.count() == 0

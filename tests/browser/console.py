"""The page as a person sees it: words, buttons, and what must never show."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.shop import Shop

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def a_browser() -> Iterator[Any]:
    """The Chromium on PATH, headless: Playwright's own download is not to be had everywhere."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        yield browser
        browser.close()


class Console:
    """One tab on the page.

    :param context: the browser's, which all tabs of one test share.
    :param url: the page's own.
    """

    def __init__(self, context: Any, url: str, shop: Shop) -> None:
        self.context = context
        self.url = url
        self.shop = shop
        self.faults: list[str] = []
        self.page = context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        self.page.add_init_script(
            "document.addEventListener('securitypolicyviolation', "
            "(event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`))"
        )

    def _hear(self, message: Any) -> None:
        # That a status is 4xx or 5xx, or an answer is missing, Chromium says by itself.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.faults.append(f"{message.type}: {message.text}")

    def another_tab(self) -> Console:
        """A second tab, signed in."""
        tab = Console(self.context, self.url, self.shop)
        tab.open()
        tab.sign_in()
        return tab

    def open(self, view: str = "") -> None:
        """Go to a view, as by a link: ``#/refunds``."""
        self.page.goto(self.url + view)

    def sign_in(self, **token: Any) -> None:
        """Paste a token: the admin's, unless made otherwise."""
        authorization = self.shop.headers(**token)["Authorization"]
        self.page.get_by_label("An admin's bearer token").fill(authorization.removeprefix("Bearer "))
        self.page.get_by_role("button", name="Go on").click()

    def search(self, text: str) -> None:
        """Type into the field for a customer or a payment."""
        self.page.get_by_label("Customer or payment").fill(text)

    def row(self, text: str) -> Any:
        """A row of the list."""
        return self.page.get_by_role("row").filter(has_text=text)

    @property
    def dialog(self) -> Any:
        """The window that is open."""
        return self.page.get_by_role("dialog")

    def ask(self, text: str) -> Any:
        """Open the window that refunds the purchase in a row, and wait for what it says.

        :return: the button that refunds.
        """
        self.row(text).get_by_role("button", name="Refund").click()
        self.dialog.get_by_text("5 to 10 business days").wait_for()
        return self.dialog.locator("button[type=submit]")

    def answer(self) -> str:
        """What the window says of the refund."""
        self.dialog.locator(".answer .note").wait_for()
        text: str = self.dialog.locator(".answer .note").inner_text()
        return text

    def assert_clean(self) -> None:
        """No exception, no error or warning, no violation of the Content-Security-Policy."""
        assert self.faults == []

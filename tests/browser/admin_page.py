"""The admin page in a browser tab."""

from __future__ import annotations

import re
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
def launch_browser() -> Iterator[Any]:
    """Launch the Chromium on PATH, headless. Playwright's own download isn't available everywhere."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        yield browser
        browser.close()


class AdminPage:
    """One tab with the admin page.

    :param context: the browser context, which all tabs of a test share.
    :param url: the URL of the page.
    """

    def __init__(self, context: Any, url: str, shop: Shop) -> None:
        self.context = context
        self.url = url
        self.shop = shop
        self.errors: list[str] = []
        self.page = context.new_page()
        self.page.on("console", self._record)
        self.page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        self.page.add_init_script(
            "document.addEventListener('securitypolicyviolation', "
            "(event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`))"
        )

    def _record(self, message: Any) -> None:
        # Chromium itself logs each 4xx or 5xx response and each failed request.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.errors.append(f"{message.type}: {message.text}")

    def new_tab(self) -> AdminPage:
        """Open a second tab, signed in."""
        tab = AdminPage(self.context, self.url, self.shop)
        tab.open()
        tab.sign_in()
        return tab

    def open(self, view: str = "") -> None:
        """Go to a view by its route: ``#/refunds``."""
        self.page.goto(self.url + view)

    def sign_in(self, **token: Any) -> None:
        """Paste a token, the admin's by default."""
        authorization = self.shop.headers(**token)["Authorization"]
        self.page.get_by_label("Admin bearer token").fill(authorization.removeprefix("Bearer "))
        self.page.get_by_role("button", name="Continue").click()

    def search(self, text: str) -> None:
        """Type into the search field of the purchases view."""
        self.page.get_by_role("searchbox").fill(text)

    def row(self, text: str) -> Any:
        """Find a table row by its text."""
        return self.page.get_by_role("row").filter(has_text=text)

    def wait_for_count(self, count: int) -> None:
        """Wait until a list shows how many items it found."""
        self.page.get_by_text(re.compile(rf"^{count} (purchase|refund)s?$")).wait_for()

    def wait_for_status(self, text: str, status: str) -> None:
        """Wait until a table row shows a status."""
        self.row(text).locator(f"[data-status={status}]").wait_for()

    @property
    def dialog(self) -> Any:
        """The open dialog."""
        return self.page.get_by_role("dialog")

    @property
    def submit_button(self) -> Any:
        """The dialog's button that sends the refund request."""
        return self.dialog.locator("button[type=submit]")

    @property
    def note(self) -> Any:
        """The dialog's field for the internal note."""
        return self.dialog.get_by_label("Internal note")

    def open_refund_dialog(self, text: str) -> None:
        """Open the dialog for the purchase in a row, and wait for its form."""
        self.row(text).get_by_role("button", name="Refund").click()
        self.note.wait_for()

    @contextmanager
    def losing_responses(self) -> Iterator[None]:
        """Let the server handle refund requests, and lose its responses."""

        def lose(route: Any) -> None:
            route.fetch()
            route.abort()

        self.page.route("**/admin/refund/*", lose)
        yield
        self.page.unroute("**/admin/refund/*")

    def wait_for_result(self, code: str) -> None:
        """Wait until the dialog shows a result: an error code, the refund's status, or ``no_response``."""
        self.dialog.locator(f"[data-code={code}]").wait_for()

    def assert_no_errors(self) -> None:
        """Check for exceptions, errors, warnings and violations of the Content-Security-Policy."""
        assert self.errors == []

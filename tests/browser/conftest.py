"""A real browser with the admin page of a shop on a real server and a real MongoDB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage, launch_browser
from tests.live_server import serving
from tests.shop import Shop, make_app

WEBHOOK_SECRET = "whsec_of_the_browser_tests"


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Chromium, for this package only: Playwright's event loop would break async views in other tests."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not on PATH (Debian: apt-get install chromium)")
    pytest.importorskip("playwright.sync_api")
    with launch_browser() as browser:
        yield browser


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET)
    return Shop(app, database)


@pytest.fixture
def url(shop: Shop) -> Iterator[str]:
    """The URL of the running shop."""
    with serving(shop.app) as url:
        yield url


@pytest.fixture
def stripe_webhook(sandbox: StripeSandbox, url: str) -> None:
    """The sandbox sends its events to the shop."""
    sandbox.add_webhook(f"{url}/api/payments/webhook/refunds", WEBHOOK_SECRET)


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(locale="en-US", timezone_id="Europe/Berlin", reduced_motion="reduce")
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def admin_page(context: Any, shop: Shop, url: str) -> Iterator[AdminPage]:
    """The admin page, signed in. The test fails if the browser reports an error."""
    admin_page = AdminPage(context, f"{url}/api/payments/admin/", shop)
    admin_page.open()
    admin_page.sign_in()
    yield admin_page
    admin_page.assert_no_errors()

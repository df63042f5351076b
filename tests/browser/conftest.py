"""A real browser on the page, served by a real server, on a real MongoDB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.browser.console import Console, a_browser
from tests.serving import serving
from tests.shop import Shop, make_app

WEBHOOK_SECRET = "whsec_of_the_browser_tests"


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """For this folder alone: while it lasts its event loop runs in this thread, and no async view can."""
    if shutil.which("chromium") is None:
        pytest.skip("NO CHROMIUM: put one on PATH as chromium (Debian: apt-get install chromium)")
    pytest.importorskip("playwright.sync_api")
    with a_browser() as browser:
        yield browser


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET)
    return Shop(app, database)


@pytest.fixture
def url(shop: Shop) -> Iterator[str]:
    """Where the shop is served."""
    with serving(shop.app) as url:
        yield url


@pytest.fixture
def hearing(sandbox: StripeSandbox, url: str) -> None:
    """The shop hears of what happens at Stripe."""
    sandbox.add_webhook(f"{url}/api/payments/webhook/refunds", WEBHOOK_SECRET)


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(locale="en-US", timezone_id="Europe/Berlin", reduced_motion="reduce")
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def console(context: Any, shop: Shop, url: str) -> Iterator[Console]:
    """The page, signed in; what it must never do is checked at the end."""
    console = Console(context, f"{url}/api/payments/admin/", shop)
    console.open()
    console.sign_in()
    yield console
    console.assert_clean()

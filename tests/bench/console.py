"""How long somebody waits for the admin's page: its first paint, its list, and the answer to a search."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from tests.bench.figure import Figure
from tests.bench.listing import seed
from tests.bench.places import a_database
from tests.browser.admin_page import AdminPage, launch_browser
from tests.live_server import serving
from tests.shop import Shop, make_app

ROUNDS = 15
PAINT_SECONDS = 1.0
SEARCH_SECONDS = 0.3
_PAINTED = """() => performance.getEntriesByName("first-contentful-paint")[0].startTime / 1000"""


def run(purchases: int) -> list[Figure]:
    """Seed a shop, and look at it with a real browser."""
    with a_database("refunds_bench_console") as database:
        seed(database, purchases)
        shop = Shop(make_app(REFUNDS_MONGO=database), database)
        assert shop.app.test_cli_runner().invoke(args=["refunds", "init-db"]).exit_code == 0
        customer = database.users.find_one({"email": {"$exists": True}})["email"]
        payment = database.purchases.find_one()["stripePaymentIntentId"]
        with serving(shop.app) as base, launch_browser() as browser:
            url = f"{base}/api/payments/admin/"
            return [
                _figure("first paint of the page", PAINT_SECONDS, _paints(browser, url, shop), purchases),
                _figure(
                    "search by e-mail", SEARCH_SECONDS, _searches(browser, url, shop, customer), purchases
                ),
                _figure(
                    "search by payment", SEARCH_SECONDS, _searches(browser, url, shop, payment), purchases
                ),
            ]


def _paints(browser: Any, url: str, shop: Shop) -> list[float]:
    """With nothing cached, each time."""

    def paint() -> float:
        context = browser.new_context()
        admin_page = AdminPage(context, url, shop)
        admin_page.open()
        admin_page.page.wait_for_function(
            "() => performance.getEntriesByName('first-contentful-paint').length"
        )
        seconds: float = admin_page.page.evaluate(_PAINTED)
        context.close()
        return seconds

    return _times(paint)


def _searches(browser: Any, url: str, shop: Shop, text: str) -> list[float]:
    """From pressing Enter to what was found, on the screen."""
    context = browser.new_context()
    admin_page = AdminPage(context, url, shop)
    admin_page.open()
    admin_page.sign_in()
    field, count = admin_page.page.get_by_label("Customer or payment"), admin_page.page.locator(".count")

    def search() -> float:
        field.fill("")
        field.press("Enter")
        everything = f"{shop.db.purchases.estimated_document_count():,} purchases"
        count.get_by_text(everything).wait_for()
        field.fill(text)
        began = time.perf_counter()
        field.press("Enter")
        admin_page.page.wait_for_function(
            "all => ![all, ''].includes(document.querySelector('.count').textContent.trim())", arg=everything
        )
        return time.perf_counter() - began

    times = _times(search)
    context.close()
    return times


def _times(once: Callable[[], float]) -> list[float]:
    once()
    return [once() for _ in range(ROUNDS)]


def _figure(what: str, budget: float, times: list[float], purchases: int) -> Figure:
    median, worst = statistics.median(times), max(times)
    detail = f"median {median * 1000:.0f} ms, worst {worst * 1000:.0f} ms"
    return Figure(f"{what}, {purchases:,} purchases / {budget:g} s", median / budget, 1.0, detail)

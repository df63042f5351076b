"""How long an admin waits for the admin page: its first paint, and the result of a search."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from tests.bench.listing import seed
from tests.bench.measurement import Measurement
from tests.bench.servers import empty_database
from tests.browser.admin_page import AdminPage, launch_browser
from tests.live_server import serving
from tests.shop import Shop, make_app

ROUNDS = 15
PAINT_SECONDS = 1.0
SEARCH_SECONDS = 0.3
_PAINTED = """() => performance.getEntriesByName("first-contentful-paint")[0].startTime / 1000"""


def run(purchases: int) -> list[Measurement]:
    """Fill a database, and measure in a real browser."""
    with empty_database("refunds_bench_admin_page") as database:
        seed(database, purchases)
        shop = Shop(make_app(REFUNDS_MONGO=database), database)
        assert shop.app.test_cli_runner().invoke(args=["refunds", "init-db"]).exit_code == 0
        customer = database.users.find_one({"email": {"$exists": True}})["email"]
        payment = database.purchases.find_one()["stripePaymentIntentId"]
        with serving(shop.app) as base, launch_browser() as browser:
            url = f"{base}/api/payments/admin/"
            times = (
                ("first paint of the page", PAINT_SECONDS, _paints(browser, url, shop)),
                ("search by e-mail", SEARCH_SECONDS, _searches(browser, url, shop, customer)),
                ("search by payment", SEARCH_SECONDS, _searches(browser, url, shop, payment)),
            )
            return [_measurement(*each, purchases) for each in times]


def _paints(browser: Any, url: str, shop: Shop) -> list[float]:
    """The seconds to the first paint with an empty cache."""

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
    """The seconds from pressing Enter until the page shows the result."""
    context = browser.new_context()
    admin_page = AdminPage(context, url, shop)
    admin_page.open()
    admin_page.sign_in()
    field, count = admin_page.page.get_by_label("Customer or payment"), admin_page.page.locator(".count")

    def search() -> float:
        field.fill("")
        field.press("Enter")
        all_purchases = f"{shop.db.purchases.estimated_document_count():,} purchases"
        count.get_by_text(all_purchases).wait_for()
        field.fill(text)
        started = time.perf_counter()
        field.press("Enter")
        admin_page.page.wait_for_function(
            "all => ![all, ''].includes(document.querySelector('.count').textContent.trim())",
            arg=all_purchases,
        )
        return time.perf_counter() - started

    times = _times(search)
    context.close()
    return times


def _times(measure: Callable[[], float]) -> list[float]:
    measure()  # warm up
    return [measure() for _ in range(ROUNDS)]


def _measurement(name: str, budget: float, times: list[float], purchases: int) -> Measurement:
    median, worst = statistics.median(times), max(times)
    detail = f"median {median * 1000:.0f} ms, worst {worst * 1000:.0f} ms"
    return Measurement(f"{name}, {purchases:,} purchases / {budget:g} s", median / budget, 1.0, detail)

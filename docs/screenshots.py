"""Take the documentation's screenshots of the admin page: ``python docs/screenshots.py``.

Requires the extras ``demo`` and ``test``, and ``chromium`` on PATH. The page is the demo shop's.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"
ADMIN = {"email": "admin@shop.example", "password": "demo-admin"}


def main() -> None:
    """Take all screenshots."""
    IMAGES.mkdir(exist_ok=True)
    with demo_shop() as url, sync_playwright() as playwright:
        token = sign_in(url)
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (width, height), scheme, action in SCREENSHOTS:
            page = chromium.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
            )
            page.add_init_script(f"sessionStorage.setItem('flask_refunds.token', '{token}')")
            action(page, f"{url}/api/payments/admin/")
            page.wait_for_load_state("networkidle")
            page.screenshot(path=IMAGES / f"{name}.png")
            page.close()
        chromium.close()


@contextmanager
def demo_shop() -> Iterator[str]:
    """Run the demo shop, and yield its URL when it is ready."""
    command = [sys.executable, str(DOCS.parent / "examples" / "storefront"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:  # noqa: S603
        try:
            printed = ""
            while "Press Ctrl-C" not in printed:
                line = process.stdout.readline() if process.stdout else ""
                if not line:
                    sys.exit("The demo shop didn't start.")
                printed += line
            yield re.findall(r"Shop +(http://\S+)/", printed)[0]
        finally:
            process.terminate()


def sign_in(url: str) -> str:
    """Return the admin's token."""
    request = urllib.request.Request(f"{url}/api/sign-in", json.dumps(ADMIN).encode())  # noqa: S310
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as response:  # noqa: S310
        token: str = json.load(response)["token"]
    return token


def take_purchases(page: Page, url: str) -> None:
    yesterday = (datetime.now(timezone.utc) - timedelta(days=1)).date()
    page.goto(f"{url}#/purchases?to={yesterday}")
    page.get_by_role("button", name="Refund:").first.wait_for()


def take_dialog(page: Page, url: str) -> None:
    page.goto(f"{url}#/purchases?q=ada%40shop.example")
    row = page.get_by_role("row").filter(has_text="Pruning Fruit Trees")
    row.get_by_role("button", name="Refund:").click()
    page.get_by_label("Internal note").wait_for()
    page.get_by_label("Reason").select_option("requested_by_customer")
    page.get_by_label("Internal note").fill("Bought the wrong course and contacted us on Monday.")


def take_result(page: Page, url: str) -> None:
    take_dialog(page, url)
    page.locator("dialog button[type=submit]").click()
    page.locator("[data-code=succeeded]").wait_for()


def take_payment(page: Page, url: str) -> None:
    weeks_ago = (datetime.now(timezone.utc) - timedelta(days=30)).date()
    page.goto(f"{url}#/refunds?status=succeeded&to={weeks_ago}")
    page.locator("tbody th a").first.click()
    page.get_by_text("arrived").first.wait_for()


def take_reviews(page: Page, url: str) -> None:
    page.goto(f"{url}#/reviews")
    page.get_by_text("What to do").first.wait_for()


def take_reports(page: Page, url: str) -> None:
    page.goto(f"{url}#/reports")
    page.get_by_text("Refunds per month").wait_for()


WIDE, PHONE = (1280, 800), (360, 780)
SCREENSHOTS = [
    ("purchases", WIDE, "light", take_purchases),
    ("refund", WIDE, "light", take_dialog),
    ("payment", (1280, 1060), "light", take_payment),
    ("reviews", WIDE, "light", take_reviews),
    ("reports", (1280, 900), "dark", take_reports),
    ("phone", PHONE, "dark", take_result),
]

if __name__ == "__main__":
    main()

"""Take the documentation's screenshots of the admin page: ``python docs/screenshots.py``.

Requires the extra ``test`` and ``chromium`` on PATH. The page is real, and its data is invented.
"""

from __future__ import annotations

import logging
import random
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import mongomock
from bson import ObjectId
from flask import Flask
from playwright.sync_api import Page, sync_playwright
from werkzeug.serving import make_server

from flask_refunds import refunds_bp
from flask_refunds.testing import StripeSandbox, make_token, signed_event

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "examples"))

from seed import seed  # noqa: E402

IMAGES = DOCS / "images"
SECRET = "a-secret-for-screenshots-only-0123456789"
WEBHOOK_SECRET = "whsec_for_screenshots_only"
NAMES = ("Ada Okafor", "Ben Sato", "Chidi Eze", "Dolores Ibárruri", "Emre Demir", "Freya Lind", "Gita Rao")
TITLES = ("Pruning Fruit Trees", "Saving Your Own Seed", "The Compost Handbook", "Bonsai for Beginners")
PAYMENTS = (
    ("4242424242424242", 4800, "usd"),
    ("5555555555554444", 1250, "eur"),
    ("378282246310005", 6800, "jpy"),
)
CARD_FAILS_LATER = "4000000000005126"


def main() -> None:
    """Take all screenshots."""
    logging.disable(logging.CRITICAL)
    database = mongomock.MongoClient(tz_aware=True).shop
    IMAGES.mkdir(exist_ok=True)
    with StripeSandbox() as stripe, sync_playwright() as playwright:
        app = make_app(database, stripe.url)
        add_data(database, stripe, app)
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        with live_server(app) as url:
            for name, (width, height), scheme, action in SCREENSHOTS:
                page = chromium.new_page(
                    viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
                )
                token = make_token(str(database.users.find_one({"role": "admin"})["_id"]), secret=SECRET)
                page.add_init_script(f"sessionStorage.setItem('flask_refunds.token', '{token}')")
                action(page, f"{url}/api/payments/admin/")
                page.wait_for_load_state("networkidle")
                page.screenshot(path=IMAGES / f"{name}.png")
                page.close()
        chromium.close()


def make_app(database: Any, stripe_url: str) -> Flask:
    """Make an app with flask_refunds."""
    app = Flask("shop")
    app.config.update(
        REFUNDS_MONGO=database,
        STRIPE_API_BASE=stripe_url,
        STRIPE_SECRET_KEY="sk_test_screenshots",
        STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET,
        JWT_SECRET_KEY=SECRET,
    )
    app.register_blueprint(refunds_bp)
    return app


def add_data(database: Any, stripe: StripeSandbox, app: Flask) -> None:
    """Add three years of seeded data, and one week of purchases whose payments exist at Stripe."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    seed(database, 4000, 0.06, now - timedelta(days=8))
    admin = database.users.insert_one({"name": "Ines", "role": "admin"}).inserted_id
    headers = {"Authorization": f"Bearer {make_token(str(admin), secret=SECRET)}"}
    client = app.test_client()
    rng = random.Random(7)
    users = [_insert(database.users, name=name, email=_email(name)) for name in NAMES]
    contents = [_insert(database.contents, title=title, type="course") for title in TITLES]
    for number in range(14):
        card, amount, currency = PAYMENTS[number % 3]
        if number == 4:
            card = CARD_FAILS_LATER
        payment, user = stripe.create_payment(amount, currency, card), rng.choice(users)
        created_at = now - timedelta(hours=11 * (14 - number))
        ids = [
            _add_purchase(
                database,
                created_at,
                user,
                content,
                payment,
                amount if currency == "jpy" else amount / 100,
                currency,
            )
            for content in rng.sample(contents, 2 if number == 12 else 1)
        ]
        if number in (4, 6, 9):
            client.post(f"/api/payments/admin/refund/{ids[0]}", headers=headers)
        if number == 4:
            stripe.settle(stripe.refunds(payment)[0]["id"], "failed")
        if number == 9:
            stripe.assign_reference(stripe.refunds(payment)[0]["id"])
        if number in (4, 9):
            body, signed = signed_event(stripe.events[-1], secret=WEBHOOK_SECRET)
            client.post("/api/payments/webhook/refunds", data=body, headers=signed)


def _insert(collection: Any, **fields: Any) -> Any:
    return collection.insert_one(fields).inserted_id


def _email(name: str) -> str:
    return f"{name.split()[0].lower()}@shop.example"


def _add_purchase(
    database: Any, created_at: datetime, user: Any, content: Any, payment: str, amount: float, currency: str
) -> ObjectId:
    purchase: ObjectId = _insert(
        database.purchases,
        _id=ObjectId(ObjectId.from_datetime(created_at).binary[:4] + ObjectId().binary[4:]),
        user=user,
        content=content,
        amount=amount,
        currency=currency,
        stripePaymentIntentId=payment,
        status="completed",
        createdAt=created_at,
    )
    return purchase


@contextmanager
def live_server(app: Flask) -> Iterator[str]:
    """Serve the app, one request at a time because mongomock isn't atomic under threads."""
    lock, wsgi_app = threading.Lock(), app.wsgi_app

    def serialized(environ: Any, start_response: Any) -> Any:
        with lock:
            return wsgi_app(environ, start_response)

    app.wsgi_app = serialized  # type: ignore[method-assign]
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def take_purchases(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_text("purchases", exact=False).first.wait_for()


def take_dialog(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("row").filter(has=page.get_by_role("button")).nth(1).get_by_role("button").click()
    page.get_by_label("Internal note").wait_for()
    page.get_by_label("Reason").select_option("requested_by_customer")
    page.get_by_label("Internal note").fill("Bought the wrong course and contacted us on Monday.")


def take_result(page: Page, url: str) -> None:
    take_dialog(page, url)
    page.locator("dialog button[type=submit]").click()
    page.locator("[data-code=succeeded]").wait_for()


def take_payment(page: Page, url: str) -> None:
    page.goto(f"{url}#/refunds?status=succeeded")
    page.locator("tbody th a").first.click()
    page.get_by_text("arrived").wait_for()


def take_reviews(page: Page, url: str) -> None:
    page.goto(f"{url}#/reviews")
    page.get_by_text("Close this review").wait_for()


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

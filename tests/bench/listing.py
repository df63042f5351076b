"""The time of the first and the last page of ``GET /admin/all``, by cursor and by number."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bson import ObjectId

from flask_refunds.schemas.cursors import write_purchase_cursor
from flask_refunds.storage.search import PurchaseCursor
from tests.bench.measurement import Measurement, median_times
from tests.bench.servers import empty_database
from tests.shop import Shop, make_app

LIMIT = 20
ROUNDS = 60
ROOT = Path(__file__).parents[2]


def run(purchases: int) -> list[Measurement]:
    """Fill a database, and measure."""
    with empty_database("refunds_bench_listing") as database:
        seed(database, purchases)
        return _measure(Shop(make_app(REFUNDS_MONGO=database), database), purchases)


def seed(database: Any, purchases: int) -> None:
    """Fill a database with ``examples/seed.py``, and create the index of the list."""
    spec = importlib.util.spec_from_file_location("seed", ROOT / "examples" / "seed.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.seed(database, purchases, 0.1, datetime.now(timezone.utc).replace(microsecond=0))
    database.purchases.create_index([("status", 1), ("_id", -1)])


def _measure(shop: Shop, purchases: int) -> list[Measurement]:
    oldest = [each["_id"] for each in shop.db.purchases.find({}, {"_id": 1}).sort("_id", 1).limit(LIMIT + 1)]
    last = {"after": write_purchase_cursor(PurchaseCursor(oldest[-1])) or ""}
    deep = {"page": purchases // LIMIT}
    calls = {
        "first": _page(shop, {}),
        "last by cursor": _page(shop, last),
        "last by number": _page(shop, deep),
        "first, completed": _page(shop, {"status": "completed"}),
        "last by cursor, completed": _page(shop, {"status": "completed"} | last),
    }
    medians = median_times(ROUNDS, calls)
    return [
        _measurement(medians, "last by cursor", "first", 1.2, purchases),
        _measurement(medians, "first, completed", "first", 3.0, purchases),
        _measurement(medians, "last by cursor, completed", "first, completed", 1.2, purchases),
        _measurement(medians, "last by number", "first", None, purchases),
    ]


def _page(shop: Shop, query: dict[str, Any]) -> Callable[[], None]:
    headers = shop.headers()

    def get() -> None:
        response = shop.client.get(
            "/api/payments/admin/all", query_string={"limit": LIMIT, **query}, headers=headers
        )
        assert response.status_code == 200, response.text
        assert ObjectId.is_valid(response.json["purchases"][0]["_id"])

    return get


def _measurement(
    medians: dict[str, float], name: str, base: str, budget: float | None, purchases: int
) -> Measurement:
    detail = f"{medians[name] * 1000:.1f} ms / {medians[base] * 1000:.1f} ms"
    title = f"GET /admin/all, {purchases:,} purchases: {name} / {base}"
    return Measurement(title, medians[name] / medians[base], budget, detail)

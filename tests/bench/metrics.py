"""The time of a report, and of the same in a shop ten times as large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask_refunds.extension import get_refunds
from tests.bench.listing import seed
from tests.bench.measurement import Measurement, median_times
from tests.bench.servers import empty_database
from tests.shop import Shop, make_app

ROUNDS = 9
FACTOR = 10


def run(purchases: int) -> list[Measurement]:
    """Compare the reports of twelve months of two shops. A tenth of their purchases is refunded."""
    small, large = purchases, purchases * FACTOR
    with empty_database("refunds_bench_metrics") as database:
        calls = {f"{size:,}": _report(database, size) for size in (small, large)}
        medians = median_times(ROUNDS, calls)
    first, second = (medians[name] * 1000 for name in calls)
    name = f"report, {large:,} purchases / {small:,}"
    return [Measurement(name, second / first, 1.5, f"{second:.0f} ms / {first:.0f} ms")]


def _report(database: Any, purchases: int) -> Callable[[], Any]:
    name = f"{database.name}_{purchases}"
    database.client.drop_database(name)
    shop_database = database.client.get_database(name, codec_options=database.codec_options)
    seed(shop_database, purchases)
    shop = Shop(make_app(REFUNDS_MONGO=shop_database), shop_database)
    assert shop.flask("init-db").exit_code == 0
    return get_refunds(shop.app).metrics_query.report

"""The time of a report, and of the same in a shop ten times as large."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from flask_refunds.extension import get_refunds
from tests.bench.listing import seed
from tests.bench.measurement import Measurement, median_times
from tests.bench.servers import empty_database
from tests.shop import Shop, make_app

ROUNDS = 9
FACTOR = 10


def run(purchases: int) -> list[Measurement]:
    """Compare the reports of twelve months of two shops, from stored days and counted entirely.

    A tenth of their purchases is refunded. With 1,000,000 purchases, the other shop has 10,000,000.
    """
    small, large = purchases, purchases * FACTOR
    with empty_database("refunds_bench_metrics") as database:
        reports = {size: _report(database, size) for size in (small, large)}
        calls: dict[str, Callable[[], Any]] = {f"{size}": report for size, report in reports.items()}
        calls |= {f"{size} fresh": partial(report, fresh=True) for size, report in reports.items()}
        medians = {name: 1000 * each for name, each in median_times(ROUNDS, calls).items()}
    return [
        _compare("report", medians, f"{large}", f"{small}", 2.0 if small >= 1_000_000 else 1.5),
        _compare("report, everything counted", medians, f"{large} fresh", f"{small} fresh", None),
        Measurement(f"report, {large:,} purchases / 100 ms", medians[f"{large}"] / 100, 1.0, ""),
    ]


def _compare(
    title: str, medians: dict[str, float], large: str, small: str, budget: float | None
) -> Measurement:
    name = f"{title}, {int(large.split()[0]):,} purchases / {int(small.split()[0]):,}"
    detail = f"{medians[large]:.0f} ms / {medians[small]:.0f} ms"
    return Measurement(name, medians[large] / medians[small], budget, detail)


def _report(database: Any, purchases: int) -> Callable[..., Any]:
    name = f"{database.name}_{purchases}"
    database.client.drop_database(name)
    shop_database = database.client.get_database(name, codec_options=database.codec_options)
    seed(shop_database, purchases)
    shop = Shop(make_app(REFUNDS_MONGO=shop_database), shop_database)
    assert shop.flask("init-db").exit_code == 0
    return get_refunds(shop.app).metrics_query.report

"""What the figures cost, and what they cost when the shop is ten times as large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask_refunds.extension import get_refunds
from tests.bench.figure import Figure, in_turns
from tests.bench.listing import seed
from tests.bench.places import a_database
from tests.shop import Shop, make_app

ROUNDS = 9
TIMES = 10


def run(purchases: int) -> list[Figure]:
    """Twelve months' figures of two shops, a tenth of whose purchases were refunded."""
    small, large = purchases, purchases * TIMES
    with a_database("refunds_bench_metrics") as database:
        calls = {f"{size:,}": _computing(database, size) for size in (small, large)}
        medians = in_turns(ROUNDS, calls)
    taken = [medians[name] * 1000 for name in calls]
    name = f"the figures, {large:,} purchases / {small:,}"
    return [Figure(name, taken[1] / taken[0], 1.5, f"{taken[1]:.0f} ms / {taken[0]:.0f} ms")]


def _computing(database: Any, purchases: int) -> Callable[[], Any]:
    own = database.client.get_database(f"{database.name}_{purchases}", codec_options=database.codec_options)
    database.client.drop_database(own.name)
    seed(own, purchases)
    shop = Shop(make_app(REFUNDS_MONGO=own), own)
    assert shop.flask("init-db").exit_code == 0
    return get_refunds(shop.app).metrics_query.compute

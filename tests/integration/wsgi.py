"""The app of the tests' worker processes, configured by environment variables."""

from __future__ import annotations

import os

from flask import Flask, Response

from tests.shop import Shop, make_app

app: Flask = make_app(
    MONGO_URI=os.environ["MONGO_URI"],
    STRIPE_API_BASE=os.environ["STRIPE_API_BASE"],
    REFUNDS_ALLOW_PARTIAL="ALLOW_PARTIAL" in os.environ,
)


@app.after_request
def add_worker_header(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response


def warm_up() -> None:
    """Make a refund in this process, so that every connection is open before it forks."""
    import pymongo

    with pymongo.MongoClient(os.environ["MONGO_URI"]) as client:
        shop = Shop(app, client.get_default_database())
        purchase = shop.db.purchases.find_one({"warmUp": True})
        response = shop.refund(purchase["_id"])
    assert response.status_code == 200, response.text


if os.environ.get("WARM_UP"):
    warm_up()

if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    from tests.integration.metrics_page import add_metrics_page

    add_metrics_page(app)

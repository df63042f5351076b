"""``examples/minimal.py`` with mongomock and a Stripe sandbox."""

from __future__ import annotations

import importlib.util
from typing import Any

import mongomock
import pytest
from flask import Flask

from flask_refunds.testing import StripeSandbox
from tests.examples.storefront import EXAMPLES
from tests.shop import JWT_SECRET, STRIPE_KEY, Shop


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setenv("MONGO_URI", "mongodb://127.0.0.1:1/shop")
    monkeypatch.setenv("STRIPE_SECRET_KEY", STRIPE_KEY)
    monkeypatch.setenv("JWT_SECRET_KEY", JWT_SECRET)
    spec = importlib.util.spec_from_file_location("minimal", EXAMPLES / "minimal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app: Flask = module.app
    return app


def test_minimal_app_refunds_and_protects_its_own_view(app: Flask, sandbox: StripeSandbox) -> None:
    database: Any = mongomock.MongoClient(tz_aware=True).shop
    app.config.update(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url)
    shop = Shop(app, database)
    assert shop.client.get("/admin/me").status_code == 401
    response = shop.client.get("/admin/me", headers=shop.headers())
    assert response.get_json() == {"id": str(shop.admin_id), "name": "Ann"}

    purchase_id = shop.add_purchase(sandbox.create_payment(1999))
    response = shop.refund(purchase_id)
    assert (response.status_code, response.get_json()["refund"]["status"]) == (200, "succeeded")
    assert shop.status_of(purchase_id) == "refunded"

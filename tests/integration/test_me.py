"""``GET /admin/me``: who is signed in, for the admin page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.shop import Shop, make_app


def show_me(shop: Shop, **options: Any) -> Any:
    response = shop.client.get("/api/payments/admin/me", **({"headers": shop.headers()} | options))
    assert response.status_code == 200, response.json
    return response.json["user"]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"name": "Ines", "email": "ines@shop.example"}, {"name": "Ines", "email": "ines@shop.example"}),
        ({"name": {"first": "Ines"}, "email": 7}, {"name": None, "email": None}),
        ({}, {"name": "Ann", "email": None}),
    ],
)
def test_admin_with_a_token_is_shown(database: Any, fields: dict[str, Any], shown: dict[str, Any]) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database), database)
    shop.db.users.update_one({"_id": shop.admin_id}, {"$set": fields})
    assert show_me(shop) == {"id": str(shop.admin_id), **shown}


def test_admin_of_an_app_with_other_fields_is_shown(database: Any) -> None:
    config = {"REFUNDS_USER_FIELDS": {"name": "profile.label", "email": "contact.mail"}}
    shop = Shop(make_app(REFUNDS_MONGO=database, **config), database)
    other = {"profile": {"label": "Ines"}, "contact": {"mail": "ines@shop.example"}}
    shop.db.users.update_one({"_id": shop.admin_id}, {"$set": other})
    assert show_me(shop) == {"id": str(shop.admin_id), "name": "Ines", "email": "ines@shop.example"}


def test_admin_with_a_session_is_shown(database: Any) -> None:
    user = SimpleNamespace(id=7, name="Ines", role="admin")
    app = make_app(REFUNDS_MONGO=database, JWT_SECRET_KEY=None, REFUNDS_CURRENT_USER=lambda: user)
    shop = Shop(app, database)
    assert show_me(shop, headers={}) == {"id": "7", "name": "Ines", "email": None}
